"""A log of events that a person can follow."""

from __future__ import annotations

from unstale.events import EventLog


def crashed(log: EventLog | None = None) -> EventLog:
    """Worker 0 has three jobs (1, 1.5 and 0.75 seconds) and waits before the last; worker 1 dies over its second one.

    Worker 1's last job is given up, and comes late; worker 2 never computes anything.
    """
    log = log or EventLog()
    for worker in (0, 1, 2):
        log.add(0.0, "join", worker=worker)
    log.add(0.5, "pull", worker=0, ticket=0, batch=0, outcome="issued")
    log.add(0.5, "pull", worker=1, ticket=1, batch=1, outcome="issued")
    log.add(1.5, "exchange", worker=0, ticket=0, batch=0, version=1, reply=2, got=0.625, began=0.75, ended=1.25)
    log.add(3.0, "push", worker=0, ticket=2, batch=2, version=2, got=1.75, began=2.0, ended=2.5, outcome="held")
    log.add(3.0, "pull", worker=0, outcome="waits")
    log.add(4.5, "exchange", worker=1, ticket=1, batch=1, version=3, reply=3, got=0.75, began=1.0, ended=4.0)
    log.add(5.0, "depart", worker=1, outcome="failed")
    log.add(5.25, "pull", worker=0, ticket=4, batch=3, outcome="issued")
    log.add(6.0, "join", worker=1)
    log.add(6.0, "pull", worker=1, ticket=5, batch=4, outcome="issued")
    log.add(6.0, "push", worker=0, ticket=4, batch=3, version=4, got=5.0, began=5.5, ended=6.25, outcome="applied")
    log.add(7.0, "expire", worker=1, ticket=5)
    log.add(8.0, "push", worker=1, ticket=5, batch=4, version=4, got=6.5, began=6.5, ended=7.5, outcome="late")
    log.add(8.0, "push", worker=1, ticket=5, batch=4, version=4, got=6.5, began=6.5, ended=7.5, outcome="spent")
    log.add(8.5, "pull", worker=1, ticket=6, batch=4, outcome="issued")
    return log
