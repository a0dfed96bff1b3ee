"""One clock of every kind, and some awkward ones: what the contract tests run over."""

from unstale.clocks import Clock, Constant, Gamma, Pareto, Preemption, ShiftedExponential, Trace

CLOCKS: list[Clock] = [
    Constant(),
    Constant(speeds=(1.0, 3.0, 100.0), communication=0.125),
    Gamma(),
    Gamma(cv=3.0),
    Gamma(heterogeneity=0.6, mean=128.0),
    ShiftedExponential(communication=0.5),
    ShiftedExponential(fraction=1.0),
    Pareto(),
    Pareto(shape=1.05),
    Preemption(),
    Preemption(uptime=0.5, downtime=3.0, mean=2.0),
    Trace(((1.0, 2.0, 1.0), (0.5,), (4.0, 0.25))),
    Trace(((1e-3,) * 300 + (1.0,) * 7,)),
]
