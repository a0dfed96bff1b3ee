"""Every method once more, from its equations alone: plain numpy, one class a method, nothing shared with the package.

Slow and literal on purpose. A worker's `pull` gives its point, `push` takes its gradient.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
RHO, EPS = 0.999, 1e-8


class Asgd:
    """Also the frame for the others: each overrides what it does otherwise."""

    def __init__(self, theta: Vector, workers: int, decay: float, gamma: float = 0.9) -> None:
        self.theta, self.n, self.decay, self.gamma = theta.copy(), workers, decay, gamma
        self.t = 0
        self.w = [theta.copy() for _ in range(workers)]
        self.pulled = [0] * workers
        self.eta_max = self.eta_last = 0.0
        self.v = np.zeros_like(theta)
        self.vs = np.zeros((workers, theta.size))
        self.R = np.zeros_like(theta)
        self.MS = np.zeros((workers, theta.size))

    def pull(self, i: int) -> Vector:
        self.w[i], self.pulled[i] = self.point(i), self.t
        return self.w[i].copy()

    def push(self, i: int, g: Vector, eta: float) -> None:
        self.eta_max = max(self.eta_max, eta)
        tau = self.t - self.pulled[i]
        g = self.correct(i, g) + self.decay * self.theta
        if tau > 0:
            g = g / self.penalty(i, tau)
        self.step(i, g, eta, tau)
        self.eta_last = eta
        self.t += 1

    def correct(self, i: int, g: Vector) -> Vector:
        return g

    def penalty(self, i: int, tau: int) -> Vector | float:
        return 1.0

    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.theta = self.theta - eta * g

    def point(self, i: int) -> Vector:
        return self.theta.copy()

    def average_step(self) -> Vector:
        return self.eta_max * (np.sqrt(self.R / (1 - RHO**self.t)) + EPS)

    def remember(self, v: Vector) -> None:
        self.R = RHO * self.R + (1 - RHO) * v**2


class HeavyBall(Asgd):
    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.v = self.gamma * self.v + g
        self.theta = self.theta - eta * self.v


class Nag(Asgd):
    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.v = self.gamma * self.v + g
        self.theta = self.theta - eta * (g + self.gamma * self.v)
        self.remember(self.v)


class Sa(Nag):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(max(1, tau))


class SaPlusOne(Nag):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(tau + 1)


class Ga(Nag):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return 1 + np.abs(self.theta - self.w[i]) / self.average_step()


class GaGlobal(Nag):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(1 + np.linalg.norm(self.theta - self.w[i]) / np.linalg.norm(self.average_step()))


class Dana(Asgd):
    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.vs[i] = self.gamma * self.vs[i] + g
        self.theta = self.theta - eta * self.vs[i]
        self.eta_last = eta
        self.remember(self.vs[i])

    def point(self, i: int) -> Vector:
        point: Vector = self.theta - self.eta_last * self.gamma * self.vs.sum(0)
        return point


class DanaSa(Dana):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(max(1, tau))


class DanaGa(Dana):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return 1 + np.abs(self.theta - self.w[i]) / self.average_step()


class DanaGaPrediction(Dana):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return 1 + np.abs(self.point(i) - self.w[i]) / self.average_step()


class DanaDc(Dana):
    def correct(self, i: int, g: Vector) -> Vector:
        return g + 2.0 * g**2 * (self.theta - self.w[i])


class MultiAsgd(Dana):
    def point(self, i: int) -> Vector:
        point: Vector = self.theta - self.eta_last * self.gamma * self.vs[i]
        return point


class DanaSlim(Asgd):
    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.vs[i] = self.gamma * self.vs[i] + g
        self.theta = self.theta - eta * (self.gamma * self.vs[i] + g)


class DcConstant(Asgd):
    def correct(self, i: int, g: Vector) -> Vector:
        return g + 0.04 * g**2 * (self.theta - self.w[i])


class DcAdaptive(Asgd):
    def correct(self, i: int, g: Vector) -> Vector:
        self.MS[i] = 0.95 * self.MS[i] + 0.05 * g**2
        corrected: Vector = g + 2.0 / np.sqrt(self.MS[i] + 1e-7) * g**2 * (self.theta - self.w[i])
        return corrected


class DelayAdaptive(Asgd):
    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.theta = self.theta - (eta if tau == 0 else eta * min(1.0, self.n / tau)) * g


class FedBuff(Asgd):
    """K = 10 contributions, each over √(1 + τ); t counts flushes."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.buffer: list[Vector] = []

    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(np.sqrt(1 + tau))

    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        self.buffer.append(g)
        self.t -= 1
        if len(self.buffer) == 10:
            self.theta = self.theta - eta * np.mean(self.buffer, axis=0)
            self.buffer.clear()
            self.t += 1


class Adam(Asgd):
    """Moments and bias corrections as Kingma and Ba's Algorithm 1 has them."""

    decoupled = False

    def __init__(self, theta: Vector, workers: int, decay: float) -> None:
        super().__init__(theta, workers, 0.0 if self.decoupled else decay)
        self.shrink = decay if self.decoupled else 0.0
        self.m, self.u, self.Q = (np.zeros_like(theta) for _ in range(3))

    def step(self, i: int, g: Vector, eta: float, tau: int) -> None:
        n = self.t + 1
        self.m = 0.9 * self.m + 0.1 * g
        self.u = 0.999 * self.u + 0.001 * g**2
        before = self.theta
        shrunk = before * (1 - eta * self.shrink)
        self.theta = shrunk - eta * (self.m / (1 - 0.9**n)) / (np.sqrt(self.u / (1 - 0.999**n)) + 1e-8)
        self.Q = 0.999 * self.Q + 0.001 * (self.theta - before) ** 2

    def average_step(self) -> Vector:
        step: Vector = np.sqrt(self.Q / (1 - 0.999**self.t)) + 1e-8
        return step


class AdamW(Adam):
    decoupled = True


class SaAdam(Adam):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(max(1, tau))


class SaAdamW(SaAdam):
    decoupled = True


class GaAdam(Adam):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return 1 + np.abs(self.theta - self.w[i]) / self.average_step()


class GaAdamW(GaAdam):
    decoupled = True


class GaAdamGlobal(Adam):
    def penalty(self, i: int, tau: int) -> Vector | float:
        return float(1 + np.linalg.norm(self.theta - self.w[i]) / np.linalg.norm(self.average_step()))


REFERENCES: dict[str, type[Asgd]] = {
    "asgd": Asgd,
    "heavy_ball_asgd": HeavyBall,
    "nag_asgd": Nag,
    "sa": Sa,
    "sa(plus_one=True)": SaPlusOne,
    "ga": Ga,
    "ga(per=model)": GaGlobal,
    "dana": Dana,
    "dana_sa": DanaSa,
    "dana_ga": DanaGa,
    "dana_ga(reference=prediction)": DanaGaPrediction,
    "multi_asgd": MultiAsgd,
    "dana_slim": DanaSlim,
    "dc_asgd": DcAdaptive,
    "dc_asgd(variant=c)": DcConstant,
    "dana_dc": DanaDc,
    "delay_adaptive": DelayAdaptive,
    "fedbuff": FedBuff,
    "adam": Adam,
    "adam(decoupled=True)": AdamW,
    "sa_adam": SaAdam,
    "sa_adam(decoupled=True)": SaAdamW,
    "ga_adam": GaAdam,
    "ga_adam(decoupled=True)": GaAdamW,
    "ga_adam(per=model)": GaAdamGlobal,
}
