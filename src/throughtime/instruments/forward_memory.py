"""Forward memory: how long the state keeps a difference."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.cell import advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.jacobian import Dynamics
from throughtime.foreign.recording import Recording, cast_cell
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class PerturbationSurvival(Record):
    """The part of a small change of the state that is left after k steps; all by lag k, from 0.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: level of the cell, from the bottom.
        direction: 0 forward, 1 reverse.
        geometric_mean: mean of ||ds_{t+k}|| / ||ds_t||, over those that are not erased; 0 where all
            are.
        quantiles: quantiles of the same ratio at 10, 50 and 90 %, over all, zeros among them.
        erased: share of the changes of which exactly nothing is left, as after a reset.
        count: number of changes that were followed so far.
    """

    layer: str
    level: int
    direction: int
    geometric_mean: Float[Tensor, " lags"]
    quantiles: Float[Tensor, "3 lags"]
    erased: Float[Tensor, " lags"]
    count: Int[Tensor, " lags"]

    @property
    def median(self) -> Float[Tensor, " lags"]:
        """The ratio that half of the changes exceed."""
        return self.quantiles[1]

    def half_life(self) -> float:
        """Steps until the median ratio is first one half, its logarithm taken as linear between.

        Returns:
            Steps; infinite where it never is within the run.
        """
        median = self.median
        halved = (median <= 0.5).nonzero()[:, 0]
        if len(halved) == 0:
            return math.inf
        k = int(halved[0])
        before, after = float(median[k - 1]), float(median[k])
        if after == 0:
            return float(k)
        return k - 1 + math.log(2 * before) / math.log(before / after)

    def survives(self, fraction: float = 0.01) -> int:
        """The longest lag at which the median ratio is at least this fraction.

        Arguments:
            fraction: above 0.

        Returns:
            Steps, from 0 to the longest that was followed.
        """
        reached = self.median >= fraction
        return int(reached.nonzero().max()) if bool(reached.any()) else 0


def perturbation_survival(
    recording: Recording,
    *,
    size: float = 1e-3,
    directions: int = 8,
    starts: int | Sequence[int] = 4,
    sequences: int = 8,
    longest: int | None = None,
    seed: int = 0,
) -> PerturbationSurvival:
    """Change the state a little at some steps and follow the change under the same inputs.

        ||F^k(s_t + ds) - F^k(s_t)|| / ||ds||,   F^k: steps t+1, ..., t+k

    s holds all fields of the state, as in `Dynamics`; ds has a random direction. Both runs are in
    float64, whatever the recording's precision, so that what is small is not lost in rounding.
    Ratios below 1e-15 / size are rounding all the same: where none is above, the lags end. A change
    that is exactly zero stays so.

    Arguments:
        recording: recording of any cell. Only valid steps are run.
        size: size of the change, above 0, relative to the root mean square of ||s_t||, or to 1 if
            the state is always zero.
        directions: changes of each state.
        starts: number of steps t of each sequence, evenly spaced over its first half, or the steps.
        sequences: largest number of sequences of the batch, drawn at random.
        longest: lag, at least 1; as long as the sequences last if None.
        seed: seed of directions and sequences.

    Returns:
        Ratios by lag, on the CPU, in float64. One that overflows counts as the largest number.

    Raises:
        ConfigurationError: a size that is not positive or lost in rounding, a number below 1, no
            step to follow a change from, or states or inputs that are not finite.

    Example:
        >>> from throughtime.foreign.recording import record
        >>> model = torch.nn.GRU(1, 8)
        >>> recording = record(model, lambda: model(torch.ones(20, 2, 1))[0].sum())
        >>> survival = perturbation_survival(recording)
        >>> float(survival.median[0]), survival.half_life() > 0
        (1.0, True)
    """
    numbers = {"directions": directions, "sequences": sequences}
    numbers |= {"starts": starts} if isinstance(starts, int) else {}
    numbers |= {} if longest is None else {"longest": longest}
    for name, number in numbers.items():
        if number < 1:
            raise ConfigurationError(name, got=number, expected="at least 1")
    if not 0 < size < math.inf:
        raise ConfigurationError("size", got=size, expected="a positive number")
    generator = torch.Generator().manual_seed(seed)
    cell = cast_cell(recording.cell, torch.float64)
    dynamics = Dynamics(cell)
    lengths = recording.valid_lengths()
    chosen = torch.randperm(recording.batch, generator=generator)[:sequences].sort().values
    t, b = _start_pairs(lengths, chosen.tolist(), starts)
    remaining = lengths[b] - 1 - t
    order = remaining.argsort(descending=True, stable=True)  # those still followed are the first
    t, b, remaining = t[order], b[order], remaining[order]
    most = int(remaining[0]) if longest is None else min(longest, int(remaining[0]))

    valid = torch.arange(recording.time)[:, None] < lengths
    flat = dynamics.flatten(recording.states).double()
    rms = float(flat[valid.to(flat.device)].square().sum(-1).mean().sqrt())
    if not math.isfinite(rms):
        raise ConfigurationError("recording", got="states that are not finite", expected="finite")
    noise = torch.randn(directions, len(t), dynamics.size, generator=generator, dtype=torch.float64)
    unit = (noise / noise.norm(dim=-1, keepdim=True)).to(flat.device)
    base = flat[t.to(flat.device), b.to(flat.device)]
    # the first is the run without a change
    s = torch.cat([base[None], base + size * (rms if rms > 0 else 1.0) * unit])
    whole = tuple(
        v[t.to(v.device), b.to(v.device)].expand(1 + directions, *([-1] * (v.dim() - 1)))
        for v in dynamics.layout.whole(recording.states)
    )
    start = (s[1:] - s[0]).norm(dim=-1)
    if bool((start == 0).any()):
        raise ConfigurationError("size", got=size, expected="more than rounding of the state")
    ratios = torch.full((most + 1, directions, len(t)), math.nan, dtype=torch.float64)
    ratios[0] = 1
    alive = torch.ones(directions, len(t), dtype=torch.bool, device=flat.device)
    with torch.no_grad():
        for k in range(1, most + 1):
            n = int((remaining >= k).sum())
            at = ((t[:n] + k).to(flat.device), b[:n].to(flat.device))

            def repeated(rows: Tensor) -> Tensor:
                return rows.expand(1 + directions, *rows.shape).flatten(0, 1)

            x = recording.inputs[at].double()
            if not bool(x.isfinite().all()):
                raise ConfigurationError("recording", got="inputs that are not finite", expected="")
            # projected once and then repeated: equal states shall stay equal to the last bit
            streams = tuple(
                repeated(v[at].double() if v.is_floating_point() else v[at])
                for v in recording.streams
            )
            counts = tuple(v[:, :n].flatten(0, 1) for v in whole)
            state = dynamics.unflatten(s[:, :n].flatten(0, 1), counts)
            _, state = advance(cell, repeated(cell.project(x)), state, streams)
            whole = tuple(v.unflatten(0, (1 + directions, n)) for v in dynamics.layout.whole(state))
            s = dynamics.flatten(state).unflatten(0, (1 + directions, n))
            difference = (s[1:] - s[0]).norm(dim=-1)
            alive = alive[:, :n] & (difference != 0)
            if recording.resets is not None:
                alive = alive & ~recording.resets[at]
            ratio = torch.where(alive, difference / start[:, :n], 0.0)
            ratios[k, :, :n] = ratio.nan_to_num(nan=math.inf).clamp(max=1e300).cpu()
            if float(ratios[k, :, :n].max()) * size < 1e-15:
                ratios = ratios[: k + 1]
                break
    rows = ratios.flatten(1)
    positive = rows > 0
    logs = torch.where(positive, rows, 1.0).log().sum(1) / positive.sum(1)
    count = (~rows.isnan()).sum(1)
    return PerturbationSurvival(
        layer=recording.layer,
        level=recording.level,
        direction=recording.direction,
        geometric_mean=torch.where(positive.any(1), logs.exp(), 0.0),
        quantiles=torch.nanquantile(
            rows, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=1
        ),
        erased=(rows == 0).sum(1) / count.double(),
        count=count,
    )


def _start_pairs(
    lengths: Tensor, chosen: list[int], starts: int | Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Steps and sequences whose state is to be changed: a step must follow."""
    pairs: list[tuple[int, int]] = []
    for b in chosen:
        last = int(lengths[b]) - 1
        times = (
            [i * max(1, last) // (2 * starts) for i in range(starts)]
            if isinstance(starts, int)
            else starts
        )
        pairs += [(t, b) for t in sorted(set(times)) if 0 <= t < last]
    if not pairs:
        raise ConfigurationError(
            "starts", got=starts, expected="a step of some sequence with another step after it"
        )
    t, b = torch.tensor(pairs).unbind(1)
    return t, b
