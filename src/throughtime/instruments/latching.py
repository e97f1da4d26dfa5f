"""How long one unit holds a sign against noise, by simulation."""

import dataclasses
import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError, UnknownNameError

LatchNoise: TypeAlias = Literal["gaussian", "uniform", "constant"]
"""N(0, size^2) at every step; uniform in [-size, size]; -size against the held sign at every step,
the worst that a bounded input can do."""


@dataclasses.dataclass(frozen=True, eq=False)
class LatchSurvival:
    """How many runs of one unit still hold their sign. In float64, on the CPU.

    Attributes:
        weight: w.
        noise: what was added at every step.
        size: standard deviation of Gaussian noise, or the bound of the others.
        runs: how many there were; 1 under a constant input, where all are alike.
        kept: share of runs whose sign after each step is the first one; it may have come back.
        held: share of runs whose sign has never changed up to each step.
    """

    weight: float
    noise: LatchNoise
    size: float
    runs: int
    kept: Float[Tensor, " steps"]
    held: Float[Tensor, " steps"]

    @property
    def standard_error(self) -> Float[Tensor, " steps"]:
        """Of `kept`: sqrt(p (1 - p) / runs)."""
        return (self.kept * (1 - self.kept) / self.runs).sqrt()


def latch_survival(
    weight: float,
    noise: LatchNoise,
    size: float,
    steps: int,
    *,
    start: float = 1.5,
    runs: int = 20_000,
    seed: int = 0,
) -> LatchSurvival:
    """Simulate a_t = w tanh(a_{t-1}) + u_t and count the runs that keep the sign of a_0.

    Noise bounded by `robust_latching_bound(w)` never flips the sign of a unit that starts beyond
    its unstable point; Gaussian noise, which has no bound, flips it sooner or later.

    Arguments:
        weight: w.
        noise: what u_t is; see `LatchNoise`.
        size: standard deviation, or bound, zero or more.
        steps: how many, at least 1.
        start: a_0, not 0.
        runs: how many, at least 1.
        seed: of the noise.

    Returns:
        Shares of runs after each step.

    Raises:
        ConfigurationError: an option out of range.
        UnknownNameError: an unknown kind of noise.

    Example:
        >>> survival = latch_survival(1.5, "gaussian", 0.2, 20, runs=1000)
        >>> bool(survival.kept[-1] > 0.99)
        True

    Source:
        Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is
        difficult", IEEE Transactions on Neural Networks 5(2), 1994. The starting value of 1.5 is
        our choice.
    """
    if noise not in ("gaussian", "uniform", "constant"):
        raise UnknownNameError("noise", str(noise), ("gaussian", "uniform", "constant"))
    if not size >= 0:
        raise ConfigurationError("size", got=size, expected="zero or more")
    for name, count in (("steps", steps), ("runs", runs)):
        if count < 1:
            raise ConfigurationError(name, got=count, expected="at least 1")
    if start == 0 or not math.isfinite(start) or not math.isfinite(weight):
        raise ConfigurationError(
            "start and weight", got=(start, weight), expected="finite, and a start with a sign"
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    runs = 1 if noise == "constant" else runs
    sign = math.copysign(1.0, start)
    a = torch.full((runs,), float(start), dtype=torch.float64, device="cpu")
    never = torch.ones(runs, dtype=torch.bool, device="cpu")
    kept = torch.empty(steps, dtype=torch.float64, device="cpu")
    held = torch.empty_like(kept)
    for t in range(steps):
        if noise == "gaussian":
            u = size * torch.randn(runs, generator=generator, dtype=torch.float64, device="cpu")
        elif noise == "uniform":
            u = torch.rand(runs, generator=generator, dtype=torch.float64, device="cpu")
            u = size * (2 * u - 1)
        else:
            u = torch.full_like(a, -sign * size)
        a = weight * torch.tanh(a) + u
        same = a * sign > 0
        never &= same
        kept[t], held[t] = same.double().mean(), never.double().mean()
    return LatchSurvival(float(weight), noise, float(size), runs, kept, held)
