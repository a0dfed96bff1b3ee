"""What a server does around its method: arguments, gradients, learning rates, modules, NaN."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from unstale import methods
from unstale.errors import ArgumentError, GradientError, NonFiniteError, UnknownNameError
from unstale.flat import Group, decay_matrices_only
from unstale.memory import REFRESH
from unstale.methods import names
from unstale.server import Server
from unstale.testing import Drive, round_robin
from unstale.tickets import Ticket


def pulled(server: Server, worker: int = 0) -> Ticket:
    ticket = server.pull(worker)
    assert ticket is not None
    return ticket


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
        ({"workers": 2.0}, "workers must be"),
        ({"workers": True}, "workers must be"),
        ({"weight_decay": -1}, "weight_decay must be a finite number of at least 0, got -1"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"lr": -0.1}, "lr must be a finite number"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of reject, raise, apply"),
        ({"batch_norm": "mine"}, "batch_norm must be one of shared"),
        ({"executor": "gpu"}, "executor must be one of auto, blocks, compiled"),
        ({"batches": 0}, "batches must be"),
        ({"batches_per_epoch": 0}, "batches_per_epoch must be"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Server(torch.zeros(3), "asgd", **{"workers": 1, **options})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (torch.zeros(2, 2), r"params must be a module or a vector of shape \(d,\)"),
        (torch.zeros(0), "params must be a module or a vector"),
        (torch.zeros(3, dtype=torch.int64), "floating-point"),
        ([1.0, 2.0], "params must be a module or a"),
        (nn.ReLU(), "at least one parameter"),
    ],
)
def test_bad_parameters_are_named(params: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Server(params, "asgd", 1)


def test_mixed_precision_parameters_are_refused() -> None:
    with pytest.raises(ArgumentError, match="must share one dtype and device"):
        Server(nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1).double()]), "asgd", 1)


def test_unknown_methods_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'dana_gap'; did you mean dana_ga"):
        Server(torch.zeros(3), "dana_gap", 1)


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (torch.zeros(4), r"shape \(3,\) like the parameters, got \(4,\)"),
        (torch.zeros(3, 1), "shape"),
        (torch.zeros(3, dtype=torch.float64), "dtype torch.float32 like the parameters, got torch.float64"),
        (torch.zeros(3, device="meta"), "on cpu like the parameters, got meta"),
        ([0.0, 0.0, 0.0], "must be a tensor or a module"),
    ],
)
def test_gradients_that_do_not_fit_change_nothing(gradient: Any, message: str) -> None:
    server = Server(torch.ones(3), "asgd", 1, lr=0.1)
    ticket = pulled(server)
    with pytest.raises(GradientError, match=message):
        server.push(ticket, gradient)
    assert server.push(ticket, torch.ones(3)).applied, "the ticket still counts"


@pytest.mark.parametrize("lr", [-1.0, float("nan"), float("inf"), "fast", True])
def test_bad_rates_change_nothing(lr: Any) -> None:
    server = Server(torch.ones(3), "asgd", 1)
    ticket = pulled(server)
    with pytest.raises(ArgumentError, match="lr must be a finite number of at least 0"):
        server.push(ticket, torch.ones(3), lr=lr)
    assert server.version == 0
    assert server.push(ticket, torch.ones(3), lr=0.0).applied


def test_a_rate_must_come_from_somewhere() -> None:
    server = Server(torch.ones(3), "asgd", 1)
    with pytest.raises(ArgumentError, match="lr must be given to push"):
        server.push(pulled(server), torch.ones(3))


def test_schedules_see_epochs_of_accepted_batches() -> None:
    seen: list[float] = []
    server = Server(torch.ones(1), "asgd", 1, lr=lambda progress: seen.append(progress) or 0.1, batches_per_epoch=4)  # type: ignore[func-returns-value]
    receipts = [server.push(pulled(server), torch.ones(1)) for _ in range(5)]
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [r.progress for r in receipts] == seen


def test_nonfinite_gradients_are_rejected_raised_or_applied() -> None:
    bad = torch.tensor([1.0, float("nan")])
    server = Server(torch.ones(2), "nag_asgd", 1, lr=0.1)
    receipt = server.push(pulled(server), bad)
    assert (receipt.outcome, receipt.finite, server.version) == ("rejected", False, 0)

    server = Server(torch.ones(2), "nag_asgd", 1, lr=0.1, on_nonfinite="raise")
    ticket = pulled(server)
    with pytest.raises(NonFiniteError, match="worker 0 on batch 0 has NaN or Inf"):
        server.push(ticket, bad)
    assert server.push(ticket, torch.ones(2)).applied

    server = Server(torch.ones(2), "nag_asgd", 1, lr=0.1, on_nonfinite="apply")
    receipt = server.push(pulled(server), bad)
    assert (receipt.outcome, receipt.finite) == ("applied", False)
    assert math.isnan(float(server.params[1]))


def test_large_finite_gradients_are_finite() -> None:
    """Their sum overflows; they do not."""
    server = Server(torch.ones(4), "asgd", 1, lr=0.0)
    assert server.push(pulled(server), torch.full((4,), 3e38)).finite


def test_points_must_not_be_written_over() -> None:
    server = Server(torch.ones(2), "ga", 1, lr=0.1)
    ticket = pulled(server)
    ticket.params.mul_(2)
    with pytest.raises(ArgumentError, match="must not be changed in place"):
        server.push(ticket, torch.ones(2))


def test_unmeasured_plain_methods_keep_no_points() -> None:
    server = Server(torch.ones(2), "asgd", 2, lr=0.1, measure=False)
    ticket = pulled(server)
    assert server._memory.points == {}
    assert "R" not in server._memory.shared
    receipt = server.push(ticket, torch.ones(2))
    assert (receipt.gap, receipt.normalised_gap, receipt.penalty, receipt.delay) == (None, None, 1.0, 0)


@pytest.mark.parametrize("name", names())
def test_measuring_changes_no_parameter(name: str) -> None:
    ends = []
    for measure in (True, False):
        server = Server(torch.ones(5, dtype=torch.float64), name, 3, lr=0.05, measure=measure)
        for push in range(20):
            ticket = server.pull(push % 3)
            if ticket is not None:
                server.push(ticket, ticket.params * 0.5 + push)
        ends.append(server.params)
    assert torch.equal(*ends)


def test_extreme_penalties_are_counted() -> None:
    """θ moved from outside: the gap is no multiple of any step."""
    server = Server(torch.zeros(3, dtype=torch.float64), "ga", 2, lr=1e-3)
    tickets = [pulled(server, worker) for worker in range(2)]
    server.push(tickets[0], torch.ones(3, dtype=torch.float64))
    server.params = server.params + torch.tensor([0.0, 1e6, 1e6], dtype=torch.float64)
    receipt = server.push(tickets[1], torch.ones(3, dtype=torch.float64))
    assert receipt.extreme == 2
    assert receipt.penalty is not None
    assert receipt.penalty > 1e6


def test_params_are_a_copy() -> None:
    server = Server(torch.ones(2), "asgd", 1, lr=0.1)
    server.params.zero_()
    assert server.params.tolist() == [1.0, 1.0]


def test_sums_are_made_anew_now_and_then() -> None:
    """In float32 S drifts from the sum of the momenta; after REFRESH updates it is that sum again, exactly."""
    generator = torch.Generator().manual_seed(0)
    server = Server(torch.zeros(64), "dana", 8, lr=1e-4)
    tickets = [pulled(server, worker) for worker in range(8)]

    def drift() -> float:
        total = server.state("v", 0)
        for worker in range(1, 8):
            total += server.state("v", worker)
        return float((server.state("S") - total).abs().max())

    for push in range(REFRESH):
        gradient = torch.randn(64, generator=generator) * (1e3 if push < 100 else 1.0)
        if push == REFRESH - 1:
            assert drift() > 0
        _, answer = server.exchange(tickets[push % 8], gradient)
        assert answer is not None
        tickets[push % 8] = answer
    assert drift() == 0


# Modules.


def test_a_module_goes_in_and_out() -> None:
    model = net()
    server = Server(model, "nag_asgd", 2, lr=0.1, weight_decay=1e-2)
    mine = net()
    optimiser = torch.optim.SGD(mine.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2)
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    for _ in range(5):
        ticket = pulled(server)
        ticket.load(model)
        nn.functional.mse_loss(model(x), y).backward()
        server.push(ticket, model)
        optimiser.zero_grad()
        nn.functional.mse_loss(mine(x), y).backward()
        optimiser.step()
    server.load_into(model)
    for one, other in zip(model.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_module_without_gradients_is_refused() -> None:
    model = net()
    server = Server(model, "asgd", 1, lr=0.1)
    ticket = pulled(server)
    ticket.load(model)
    with pytest.raises(GradientError, match=r"call loss.backward\(\)"):
        server.push(ticket, model)
    with pytest.raises(GradientError, match=r"has no '0\.weight'"):
        server.push(ticket, nn.Linear(2, 2))


def test_groups_take_decay_off_norms_and_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    server = Server(model, "asgd", 1, lr=1.0, weight_decay=0.5, groups=decay_matrices_only(), batch_norm="recalibrate")
    server.push(pulled(server), torch.zeros(server.layout.size))
    server.load_into(model)
    for name, p in model.named_parameters():
        factor = 0.5 if p.ndim > 1 else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


def test_groups_scale_the_rate_of_a_slice() -> None:
    groups = [Group(slice(2, 4), lr_scale=0.5), Group(slice(5, 6), lr_scale=0.0)]
    server = Server(torch.zeros(6), "asgd", 1, lr=1.0, groups=groups)
    server.push(pulled(server), torch.ones(6))
    assert server.params.tolist() == [-1, -1, -0.5, -0.5, -1, 0]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (Group(slice(0, 3)), "must not overlap"),
        (Group(slice(3, 3)), "non-empty slice"),
        (Group(slice(0, 6, 2)), "non-empty slice of step 1"),
        (Group(lambda name, parameter: True), "must be a slice for a vector"),
    ],
)
def test_bad_groups_are_refused(group: Group, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Server(torch.zeros(6), "asgd", 1, groups=[Group(slice(2, 4)), group])


def test_shared_and_frozen_parameters() -> None:
    """A shared parameter is one stretch of θ; a frozen one is none."""
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    model["b"].bias.requires_grad_(False)
    assert Server(model, "asgd", 1).layout.size == 4


def test_unknown_workers_are_named() -> None:
    server = Server(torch.ones(2), "asgd", 2)
    with pytest.raises(ArgumentError, match=r"one of those alive \(0, 1\), got 2"):
        server.pull(2)
    with pytest.raises(ArgumentError, match="not in use"):
        server.join(1)
    with pytest.raises(ArgumentError, match="state that this method keeps"):
        server.state("S")


def test_states_of_another_method_or_model_are_refused() -> None:
    saved = Server(torch.ones(2), "ga", 1).state_dict()
    for other, what in (
        (Server(torch.ones(2), "sa", 1), "method"),
        (Server(torch.ones(3), "ga", 1), "parameters"),
        (Server(torch.ones(2), "ga", 1, weight_decay=0.1), "parameters"),
        (Server(torch.ones(2).double(), "ga", 1), "dtype"),
        (Server(torch.ones(2), "ga", 1, batch_norm="per-worker"), "batch_norm"),
        (Server(torch.ones(2), "ga", 1, batches=7), "batches"),
    ):
        before = other.state_dict()["desk"]["workers"], other.params.tolist()
        with pytest.raises(ArgumentError, match=f"must be of the same {what}, "):
            other.load_state_dict(saved)
        assert (other.state_dict()["desk"]["workers"], other.params.tolist()) == before
    with pytest.raises(ArgumentError, match="must be of the same method"):
        Server(torch.ones(2), "ga", 1).load_state_dict({})
    Server(torch.ones(2), methods.ga().replace(), 1).load_state_dict(saved)


def test_rolling_back_a_live_server_makes_new_tickets() -> None:
    server = Server(torch.ones(2), "asgd", 2, lr=0.1)
    saved = server.state_dict()
    old = pulled(server, 1)
    server.load_state_dict(saved)
    new = pulled(server, 1)
    assert new.key != old.key
    assert server.push(old, torch.ones(2)).outcome == "spent"
    assert server.push(new, torch.ones(2)).applied


def test_half_precision_measures_gaps_exactly() -> None:
    """θ − w_i is far smaller than the rounding of θ in bfloat16: P must still tend to N."""
    for dtype in (torch.bfloat16, torch.float16):
        server = Server(torch.ones(4, dtype=dtype), "ga", 8, lr=1e-4, executor="blocks")
        drive = Drive(server, lambda point, push: torch.ones_like(point))
        penalties = [a.receipt.penalty for a in drive.run(round_robin(8), 800, 1e-4, look=False)]
        assert penalties[-1] == pytest.approx(8, rel=0.02)


def test_half_precision_compensation_does_not_overflow() -> None:
    server = Server(torch.zeros(2, dtype=torch.float16), "dana_dc", 1, lr=1e-6)
    server.push(pulled(server), torch.full((2,), 300.0, dtype=torch.float16))
    assert bool(server.params.isfinite().all())


def test_theta_is_moved_by_tensors_of_its_shape_only() -> None:
    server = Server(torch.ones(3), "asgd", 1, lr=0.1)
    for bad in (torch.ones(1), torch.ones(4), 2.0, [1.0, 2.0, 3.0]):
        with pytest.raises(ArgumentError, match=r"params must be a tensor of shape \(3,\)"):
            server.params = bad  # type: ignore[assignment]
    server.params = torch.zeros(3, requires_grad=True) * 2
    assert not server.params.requires_grad
    assert server.params.tolist() == [0, 0, 0]


def test_a_momentum_of_nan_leaves_with_its_worker() -> None:
    server = Server(torch.ones(2), "dana", 2, lr=0.1, on_nonfinite="apply")
    server.push(pulled(server, 0), torch.full((2,), float("nan")))
    server.depart(0)
    assert server.state("S").tolist() == [0.0, 0.0]


def test_a_dead_workers_gradient_counts_for_its_round() -> None:
    """It does not end the round early, nor does its number keep a newcomer waiting."""
    server = Server(torch.zeros(1), "sync", 3, lr=1.0)
    tickets = [pulled(server, worker) for worker in range(3)]
    assert server.push(tickets[0], torch.ones(1)).outcome == "held"
    server.depart(0)
    assert server.push(tickets[1], torch.ones(1)).outcome == "held"
    assert server.join() == 0
    assert server.pull(0) is not None
    assert server.push(tickets[2], torch.ones(1)).outcome == "held", "the newcomer's is still to come"


def test_a_gate_sees_who_lives_and_what_they_gave() -> None:
    """Stale-synchronous parallel, as a user would write it, survives a death and a newcomer."""

    class Within(methods.Part):
        def open(self, standing: methods.Standing) -> bool:
            return standing.given[standing.worker] <= 1 + min(standing.given[w] for w in standing.living)

    server = Server(torch.ones(1), methods.Method(gate=Within()), 2, lr=0.1)
    for _ in range(2):
        server.push(pulled(server, 0), torch.ones(1))
    assert server.pull(0) is None
    assert server.depart(1) == (0,)
    for _ in range(3):
        server.push(pulled(server, 0), torch.ones(1))
    joined = server.join()
    assert server.pull(joined) is not None
    assert server.pull(0) is not None


def test_modules_that_do_not_fit_are_named() -> None:
    server = Server(net(), "asgd", 1, lr=0.1)
    with pytest.raises(ArgumentError, match="must have a parameter '0.weight'".replace(".", r"\.")):
        pulled(server).load(nn.Linear(2, 2))


def test_sparse_gradients_are_taken() -> None:
    model = nn.Embedding(5, 2, sparse=True)
    server = Server(model, "asgd", 1, lr=1.0)
    before = server.params
    pulled(server).load(model)
    model(torch.tensor([1])).sum().backward()
    ticket = pulled(server)
    server.push(ticket, model)
    expected = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close((before - server.params).view(5, 2), expected)


def test_what_cannot_fit_is_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match=r"workers must be few enough to fit, got 1000000; .* GiB, and this"):
        Server(torch.zeros(1_000_000), "dana_ga", 1_000_000)


@pytest.mark.parametrize("worker", [[0], None, "0", True])
def test_workers_are_numbers(worker: Any) -> None:
    with pytest.raises(ArgumentError, match="worker must be one of those alive"):
        Server(torch.ones(2), "asgd", 2).pull(worker)


@pytest.mark.parametrize("groups", [Group(slice(0, 1)), [slice(0, 1)], 3])
def test_groups_are_a_list_of_groups(groups: Any) -> None:
    with pytest.raises(ArgumentError, match="groups must be a list of Group"):
        Server(torch.ones(2), "asgd", 1, groups=groups)


def test_a_group_that_selects_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="must select a parameter"):
        Server(net(), "asgd", 1, groups=[Group(lambda name, parameter: "typo" in name)])


def test_a_users_own_part_goes_wherever_a_name_does() -> None:
    class Signs(methods.Part):
        """θ ← θ − η·sign(g)."""

        def step(self, x: methods.Block, g: torch.Tensor) -> methods.Step:
            change = -x.lr * g.sign()
            return methods.Step(change=change, velocity=g.sign())

    server = Server(torch.zeros(2), methods.Method(update=Signs(), penalty=methods.Gap()), 1, lr=0.5)
    server.push(pulled(server), torch.tensor([3.0, -7.0]))
    assert server.params.tolist() == [-0.5, 0.5]
