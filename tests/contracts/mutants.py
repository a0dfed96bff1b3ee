"""Wrong methods and wrong servers, as people have written them; each must break a contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unstale import methods
from unstale.desk import Desk
from unstale.memory import Memory
from unstale.methods import Block, Method, Step, per_worker, vector
from unstale.methods.block import Writes
from unstale.methods.scale import LEAST_RATE
from unstale.methods.steps import Outcome, Steps
from unstale.server import Server
from unstale.stepper import Stepper
from unstale.testing import Subject
from unstale.tickets import Entry

MUTANTS: dict[str, Subject] = {}


def mutant(name: str, method: Method, server: type[Server] = Server) -> None:
    assert name not in MUTANTS
    MUTANTS[name] = Subject(method, server)


# --- the average step ---


class CurrentRate(methods.AverageStep):
    def size(self, x: Block) -> Tensor:
        return x.lr.clamp_min(LEAST_RATE) * ((x.R / (1 - self.rho**x.updates)).sqrt() + self.eps)


class Biased(methods.AverageStep):
    def size(self, x: Block) -> Tensor:
        return x.lr_max.clamp_min(LEAST_RATE) * (x.R.sqrt() + self.eps)


class NotSquared(methods.AverageStep):
    def observe(self, x: Block, step: Step) -> Writes:
        return {"R": self.rho * x.R + (1 - self.rho) * step.velocity.abs()}


class RawGradient(methods.Sgd):
    def step(self, x: Block, g: Tensor) -> Step:
        return Step(change=-x.lr * g, velocity=x.grad)


def with_scale(scale: methods.AverageStep) -> Method:
    return methods.ga().replace(penalty=methods.Gap(scale=scale))


mutant("current η instead of η_max", with_scale(CurrentRate()))
mutant("missing bias correction", with_scale(Biased()))
mutant("R without the square", with_scale(NotSquared()))
mutant("raw g in R", Method(update=RawGradient(), penalty=methods.Gap()))


# --- penalties ---


@dataclass(frozen=True)
class GapToPrediction(methods.Gap):
    needs = frozenset({"sent", "average_step", "prediction"})

    def divisor(self, x: Block) -> Tensor:
        return 1 + (x.prediction - x.sent).abs() / x.average_step


class GapWithoutOne(methods.Gap):
    def divisor(self, x: Block) -> Tensor:
        return x.drift.abs() / x.average_step


class GapSigned(methods.Gap):
    def divisor(self, x: Block) -> Tensor:
        return 1 + x.drift / x.average_step


class SilentPlusOne(methods.Delay):
    def divisor(self, x: Block) -> Tensor:
        return x.delay + 1


class GapToItself(methods.Gap):
    def divisor(self, x: Block) -> Tensor:
        return 1 + (x.theta - x.theta).abs() / x.average_step


class RootOfTau(methods.RootDelay):
    def divisor(self, x: Block) -> Tensor:
        return x.delay.clamp_min(1) ** self.power


class NormOfAll(methods.NormGap):
    @property
    def over(self) -> Literal["element", "layer", "model"]:
        return "model"


mutant("FedBuff with √τ", methods.fedbuff(3).replace(penalty=RootOfTau()))
mutant("layer-wise penalty with norms of everything", methods.ga().replace(penalty=NormOfAll("layer")))
mutant("gap to the wrong point", methods.dana_ga().replace(penalty=GapToPrediction()))
mutant("gap penalty without the one", methods.ga().replace(penalty=GapWithoutOne()))
mutant("gap with its sign", methods.ga().replace(penalty=GapSigned()))
mutant("delay penalty off by one", methods.sa().replace(penalty=SilentPlusOne()))
mutant("a gap that compares a weight with itself", methods.ga().replace(penalty=GapToItself()))


# --- corrections ---


class SelfCompensation(methods.DelayCompensation):
    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        return g + self.c * g * g * (x.theta - x.theta), {}


class BackwardCompensation(methods.DelayCompensation):
    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        return g - self.c * g * g * x.drift, {}


class LateMeanSquare(methods.AdaptiveDelayCompensation):
    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        new = self.m * x.MS + (1 - self.m) * g * g
        return g + self.c / (x.MS + self.eps).sqrt() * g * g * x.drift, {"MS": new}


mutant("a correction that compares a weight with itself", methods.dc_asgd("c").replace(correction=SelfCompensation()))
mutant("a correction of the wrong sign", methods.dana_dc().replace(correction=BackwardCompensation(2.0)))
mutant("mean square updated after use", methods.dc_asgd("a").replace(correction=LateMeanSquare()))


class FrozenMeanSquare(methods.AdaptiveDelayCompensation):
    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        corrected, writes = super().correct(x, g)
        return corrected, {"MS": torch.where(x.delay > 0, writes["MS"], x.MS)}


mutant("mean square not updated by fresh gradients", methods.dc_asgd("a").replace(correction=FrozenMeanSquare()))


# --- updates and predictions ---


class NoLookAhead(methods.Nesterov):
    def step(self, x: Block, g: Tensor) -> Step:
        v = self.momentum * x.v + g
        return Step(change=-x.lr * v, velocity=v, writes={"v": v})


class Dampened(methods.Nesterov):
    def step(self, x: Block, g: Tensor) -> Step:
        v = self.momentum * x.v + (1 - self.momentum) * g
        return Step(change=-x.lr * (g + self.momentum * v), velocity=v, writes={"v": v})


class ForgottenSum(methods.MomentumPerWorker):
    state = {"v": per_worker(), "S": vector(sum_of="v"), "own": per_worker()}

    def step(self, x: Block, g: Tensor) -> Step:
        v = self.momentum * x.own + g
        return Step(change=-x.lr * v, velocity=v, writes={"own": v})


class AlongOne(methods.AlongAllMomenta):
    def point(self, x: Block) -> Tensor:
        return x.theta - x.lr * x.momentum * x.v


class WithoutGamma(methods.AlongAllMomenta):
    def point(self, x: Block) -> Tensor:
        return x.theta - x.lr * x.S


class AlongAll(methods.AlongOwnMomentum):
    state = {"S": vector(sum_of="v")}

    def point(self, x: Block) -> Tensor:
        return x.theta - x.lr * x.momentum * x.S


class EagerAdaption(methods.DelayAdaptive):
    def rate(self, x: Block) -> Tensor:
        return x.lr / x.delay.clamp_min(1)


class OneMomentum(methods.MomentumPerWorker):
    state = {"v": per_worker(), "shared": vector()}

    def step(self, x: Block, g: Tensor) -> Step:
        v = self.momentum * x.shared + g
        return Step(change=-x.lr * v, velocity=v, writes={"v": v, "shared": v})


def dana(**parts: Any) -> Method:
    return methods.dana_ga().replace(**parts)


mutant("Nesterov without γv", methods.nag_asgd().replace(update=NoLookAhead()))
mutant("momentum with dampening", methods.nag_asgd().replace(update=Dampened()))
mutant("momentum kept where S does not see it", dana(update=ForgottenSum()))
mutant("predicted point along the own v only", dana(predict=AlongOne()))
mutant("own prediction along all momenta", methods.multi_asgd().replace(predict=AlongAll()))
mutant("predicted point without γ", dana(predict=WithoutGamma()))
mutant("delay-adaptive steps below τ = N", methods.delay_adaptive().replace(step_size=EagerAdaption()))
mutant("one momentum where each worker needs its own", dana(update=OneMomentum()))


# --- Adam ---


class MomentsUncorrected(methods.Adam):
    def step(self, x: Block, g: Tensor) -> Step:
        m = self.beta1 * x.m + (1 - self.beta1) * g
        s = self.beta2 * x.s + (1 - self.beta2) * g * g
        direction = m / (s.sqrt() + self.eps)
        return Step(change=-x.lr * direction, velocity=direction, writes={"m": m, "s": s})


class EpsilonInTheRoot(methods.Adam):
    def step(self, x: Block, g: Tensor) -> Step:
        done, n = super().step(x, g), x.updates + 1
        m, s = done.writes["m"] / (1 - self.beta1**n), done.writes["s"] / (1 - self.beta2**n)
        direction = m / (s + self.eps).sqrt()
        return Step(change=-x.lr * direction, velocity=direction, writes=done.writes)


class RawSecondMoment(methods.Adam):
    def step(self, x: Block, g: Tensor) -> Step:
        s = self.beta2 * x.s + (1 - self.beta2) * x.grad * x.grad
        return Step(**{**vars(super().step(x, g)), "writes": {**super().step(x, g).writes, "s": s}})


class DecayOfBothKinds(methods.AdamW):
    decoupled = False


class DecayForgotten(methods.Adam):
    decoupled = True


class DecayWithoutRate(methods.AdamW):
    def step(self, x: Block, g: Tensor) -> Step:
        done = super().step(x, g)
        return Step(done.change + (x.lr - 1) * x.decay * x.theta, done.velocity, done.writes)


class WatchesTheMoment(methods.AppliedStep):
    def observe(self, x: Block, step: Step) -> Writes:
        return {"Q": self.beta * x.Q + (1 - self.beta) * step.writes["m"] ** 2}


class WatchesTheDirection(methods.AppliedStep):
    def observe(self, x: Block, step: Step) -> Writes:
        return {"Q": self.beta * x.Q + (1 - self.beta) * step.velocity * step.velocity}


class UncorrectedQ(methods.AppliedStep):
    def size(self, x: Block) -> Tensor:
        return x.Q.sqrt() + self.eps


def adam_with_scale(scale: methods.AppliedStep) -> Method:
    return methods.ga_adam().replace(penalty=methods.Gap(scale=scale))


mutant("Adam without bias correction", methods.adam().replace(update=MomentsUncorrected()))
mutant("Adam with ε in the root", methods.adam().replace(update=EpsilonInTheRoot()))
mutant("Adam's s from raw gradients", methods.ga_adam().replace(update=RawSecondMoment()))
mutant("AdamW whose decay enters the gradient, too", methods.sa_adam().replace(update=DecayOfBothKinds()))
mutant("AdamW whose decay η does not scale", methods.adam().replace(update=DecayWithoutRate()))
mutant("Adam without weight decay", methods.adam().replace(update=DecayForgotten()))
mutant("Q of the first moment", adam_with_scale(WatchesTheMoment()))
mutant("Q without η", adam_with_scale(WatchesTheDirection()))
mutant("Q without bias correction", adam_with_scale(UncorrectedQ()))


# --- gates and gathers ---


class AddsUp(methods.Mean):
    def mean(self, x: Block, total: Tensor) -> Tensor:
        return total


class DividesByAll(methods.Mean):
    def mean(self, x: Block, total: Tensor) -> Tensor:
        return total / x.workers


class KeepsTheLast(methods.Mean):
    def add(self, x: Block, g: Tensor) -> Tensor:
        return g


class NeverShut(methods.Barrier):
    def open(self, standing: methods.Standing) -> bool:
        return True


class OneLate(methods.MaxDelay):
    def admit(self, delay: int) -> bool:
        return delay <= self.limit + 1


mutant("backup that admits the previous round", methods.backup().replace(admission=OneLate(0)))
mutant("gather that adds up", methods.sync().replace(gather=AddsUp()))
mutant("gather that divides by all workers", methods.backup().replace(gather=DividesByAll("workers", 1)))
mutant("gather that keeps only the last", methods.fedbuff(3).replace(gather=KeepsTheLast(3)))
mutant("barrier that lets through", methods.sync().replace(gate=NeverShut()))


# --- the order of the steps ---


class DecayOutside(Steps):
    def contribution(self, x: Block) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        g, writes, sums = super().contribution(x.replaced({"decay": torch.zeros_like(x.decay)}))
        return g + x.decay * x.theta, writes, sums


class DecayAtSent(Steps):
    def contribution(self, x: Block) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        moved = x.replaced({"grad": x.grad + x.decay * x.sent, "decay": torch.zeros_like(x.decay)})
        return super().contribution(moved)


class AlwaysPenalised(Steps):
    def contribution(self, x: Block) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        return super().contribution(x.replaced({"delay": x.delay.clamp_min(1e-9)}))


class StatisticsFirst(Steps):
    def contribution(self, x: Block) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        step = self.method.update.step(x, x.grad)
        return super().contribution(x.replaced(self.scale.observe(x, step)))


class PenalisedStep(Steps):
    """Divides the step instead of the gradient."""

    def apply(self, x: Block) -> Outcome:
        plain = Steps(self.method.replace(penalty=methods.NoPenalty()), measured=self.measured)
        done, sums = plain.apply(x), self.contribution(x)[2]
        change = (done.writes["theta"] - x.theta) / sums["penalty"]
        return Outcome({**done.writes, "theta": x.theta + change}, sums)


class PreviousRate(Steps):
    def apply_and_reply(self, x: Block) -> Outcome:
        done = self.apply(x)
        return Outcome({**done.writes, "sent": self.point(x.replaced({**done.writes, "lr": x.lr_last}))}, done.sums)


class StaleReply(Steps):
    def apply_and_reply(self, x: Block) -> Outcome:
        done = self.apply(x)
        return Outcome({**done.writes, "sent": self.point(x)}, done.sums)


class QuietFlush(Steps):
    def flush(self, x: Block) -> Outcome:
        done = super().flush(x)
        return Outcome({name: value for name, value in done.writes.items() if name != "R"}, done.sums)


class PresentPrediction(Steps):
    def derived(self, x: Block) -> Block:
        return super().derived(x.replaced({"lr_last": x.lr}))


class SumForgotten(Steps):
    def sums(self, x: Block, writes: Writes) -> dict[str, Tensor]:
        return {}


class SumAddsUp(Steps):
    def sums(self, x: Block, writes: Writes) -> dict[str, Tensor]:
        return {name: getattr(x, name) + writes[addend] for name, addend in self.running.items()}


def server_with(**seams: Any) -> type[Server]:
    return type("MutantServer", (Server,), seams)


mutant("statistics forgotten at a flush", methods.sync(), server_with(steps_type=QuietFlush))
mutant(
    "reference predicted with the η of this push",
    methods.dana_ga(reference="prediction"),
    server_with(steps_type=PresentPrediction),
)
mutant("S not updated", methods.dana(), server_with(steps_type=SumForgotten))
mutant("S without taking the old momentum out", methods.dana_ga(), server_with(steps_type=SumAddsUp))
mutant("decay outside the penalty", methods.sa(), server_with(steps_type=DecayOutside))
mutant("decay at w_i", methods.nag_asgd(), server_with(steps_type=DecayAtSent))
mutant("penalty on τ = 0", methods.dana_ga(), server_with(steps_type=AlwaysPenalised))
mutant("statistics before the step", methods.ga(), server_with(steps_type=StatisticsFirst))
mutant("statistics before Adam's step", methods.ga_adam(), server_with(steps_type=StatisticsFirst))
mutant("a penalty on Adam's step", methods.sa_adam(), server_with(steps_type=PenalisedStep))
mutant("prediction with the η of the push before", methods.dana(), server_with(steps_type=PreviousRate))
mutant("reply from before the update", methods.asgd(), server_with(steps_type=StaleReply))


# --- memory and books ---


class Aliased(Memory):
    def point(self, worker: int) -> Tensor:
        self.points[worker] = self.theta.data  # .data: past the server's own check for points that were written over
        return self.points[worker]


class OnePreviousWeight(Memory):
    def point(self, worker: int) -> Tensor:
        self.points[worker] = super().point(0).data
        return self.points[worker]


class GhostMomentum(Memory):
    def leave(self, worker: int) -> None:
        self.rows.pop(worker)
        self.points.pop(worker, None)


class LateDelay(Desk):
    def issue(self, worker: int, version: int) -> Entry:
        return super().issue(worker, version - 1)


class DelayPlusOne(Stepper):
    def push(self, *args: Any, delay: int, **named: Any) -> tuple[dict[str, Any], Tensor | None]:
        return super().push(*args, delay=delay + 1, **named)


class LatePeak(Stepper):
    def push(self, *args: Any, lr: float, **named: Any) -> tuple[dict[str, Any], Tensor | None]:
        self._late = self.lr_max
        return super().push(*args, lr=lr, **named)

    def _fill(self, *, lr: float, **named: Any) -> float:
        peak, self.lr_max = self.lr_max, getattr(self, "_late", self.lr_max)
        rate = super()._fill(lr=lr, **named)
        self.lr_max = peak
        return rate


class ForgetfulState(Stepper):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "lr_max": 0.0})


mutant("snapshot aliasing the live parameters", methods.asgd(), server_with(memory_type=Aliased))
mutant("one shared previous weight", methods.ga(), server_with(memory_type=OnePreviousWeight))
mutant("a departed worker's momentum stays in S", methods.dana(), server_with(memory_type=GhostMomentum))
mutant("delay off by one", methods.asgd(), server_with(desk_type=LateDelay))
mutant("penalty sees the delay off by one", methods.sa(), server_with(stepper_type=DelayPlusOne))
mutant("η_max raised after C is formed", methods.ga(), server_with(stepper_type=LatePeak))
mutant("η_max lost on restart", methods.ga(), server_with(stepper_type=ForgetfulState))
