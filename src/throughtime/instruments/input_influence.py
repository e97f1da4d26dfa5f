"""Influence of old inputs: what the loss and the output make of those beyond k steps."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.student import student_tail
from throughtime.engines import Request
from throughtime.foreign.sites import find_recurrent, replaced_forward
from throughtime.foreign.unchanged import unchanged
from throughtime.foreign.watching import Watched, watch
from throughtime.results.record import Record

SIGNIFICANCE = 0.01
"""Largest chance, after Holm's correction, at which a rise of the loss is taken as one."""


@dataclasses.dataclass(frozen=True, eq=False)
class InputInfluence(Record):
    """The change when all inputs older than k steps are those of other sequences.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: level of the cell whose inputs were scrambled, from the bottom.
        direction: 0 forward, 1 reverse.
        lags: k, increasing: inputs more than k steps before the last valid one were scrambled.
        loss: the loss on the true inputs.
        scrambled: mean loss by lag.
        standard_error: standard error of that mean; NaN of a single permutation.
        output_change: ||h' - h|| / ||h|| of the layer's last output by lag, over the sequences that
            have older inputs, mean over permutations.
        output_change_error: its standard error.
        p_values: p-values of the hypothesis that the loss is no higher, by lag, after Holm's
            correction for their number; NaN of a single permutation.
        permutations: number of permutations that were drawn.
    """

    layer: str
    level: int
    direction: int
    lags: Int[Tensor, " lags"]
    loss: float
    scrambled: Float[Tensor, " lags"]
    standard_error: Float[Tensor, " lags"]
    output_change: Float[Tensor, " lags"]
    output_change_error: Float[Tensor, " lags"]
    p_values: Float[Tensor, " lags"]
    permutations: int

    @property
    def used_lag(self) -> int | None:
        """The largest k beyond which inputs lower the loss: p < 0.01; None if there is none."""
        used = self.lags[self.p_values < SIGNIFICANCE]
        return int(used.max()) if len(used) else None


def input_influence(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    layer: str | None = None,
    level: int = 0,
    direction: int = 0,
    lags: Sequence[int] | None = None,
    repeats: int = 10,
    seed: int = 0,
) -> InputInfluence:
    """Replace a recurrent layer's old inputs by those of other sequences, and run the loss again.

        x'_t = x_t of sequence p(b) where t < last valid step of b - k, else x_t of b

    p is a random permutation of the batch without fixed points; a shorter sequence is read from its
    start again. The model runs 2 + repeats * lags times, each time from the same random state, and
    is as it was afterwards. The initial state, resets and streams stay.

    A rise of the loss is significant by a one-sided t test of the loss as it is, one draw, against
    those of the permutations, `repeats` draws:

        t = (mean - loss) / (deviation * sqrt(1 + 1 / repeats)),   repeats - 1 degrees of freedom

    The 1 is there since the loss of one batch has chance in it as that of each permutation has,
    which does not vanish with the number of permutations. Holm (1979) corrects for all lags.

    Arguments:
        model: any module that holds a recurrent layer or cell.
        loss: runs the model on the same batch at each call and returns a scalar.
        layer: the recurrent layer's name within the model, needed if there are several.
        level: level of the cell whose inputs are scrambled; 0, the bottom: above it, inputs already
            contain the older ones, which then leak.
        direction: 0 forward, 1 the reverse cell, with time as it sees it; the other one of a
            bidirectional layer goes on seeing the true inputs.
        lags: k from 0 to steps - 2; 0, powers of 2, and steps - 2 if None.
        repeats: permutations, at least 2; fewer where the batch has fewer of them. With few, only a
            rise of many deviations is significant: 4.5 of them for 10 lags and 10 permutations.
        seed: seed of the permutations.

    Returns:
        Loss and change of the output by lag, on the CPU, in float64.

    Raises:
        ConfigurationError: as `gradient_flow`, or fewer than two sequences or steps, several calls
            with lengths, lags out of range, a loss that is not finite or not the same twice.
        UnknownNameError: no recurrent layer of that name.

    Example:
        >>> model, x = nn.GRU(1, 8), torch.randn(20, 16, 1)
        >>> influence = input_influence(model, lambda: model(x)[0][-1].sum(), lags=[1, 10])
        >>> influence.scrambled.shape, bool(influence.output_change[0] > influence.output_change[1])
        (torch.Size([2]), True)

    Source: feature permutation as Breiman (2001) has it, on stretches of time.
    """
    if repeats < 2:
        raise ConfigurationError("repeats", got=repeats, expected="at least 2")
    _, module = find_recurrent(model, layer)

    def run(change: Callable[[Request, int], Request] | None) -> tuple[Watched, Tensor]:
        ends: list[Tensor] = []

        def tapped() -> Tensor:
            forward = module.forward  # of the engine that watches

            def keeping(*arguments: Any, **options: Any) -> Any:
                result = forward(*arguments, **options)
                ends.append(_last_output(module, result, direction))
                return result

            with replaced_forward(module, keeping):
                return loss()

        with unchanged(model):
            watched = watch(
                model,
                tapped,
                layer=layer,
                level=level,
                direction=direction,
                change=change,
                gradients=False,
            )
        return watched, ends[-1].double().cpu()

    watched, h = run(None)
    lengths = _lengths(watched)
    batch, time = len(lengths), int(lengths.max())
    again = float(run(None)[0].loss)
    plain = float(watched.loss)
    if not math.isfinite(plain) or not math.isclose(plain, again, rel_tol=1e-4, abs_tol=1e-12):
        raise ConfigurationError(
            "loss", got=f"{plain}, then {again}", expected="the same finite number at each call"
        )
    at = _checked_lags(lags, time)
    permutations = _derangements(batch, repeats, torch.Generator().manual_seed(seed))
    losses = torch.zeros(len(permutations), len(at), dtype=torch.float64)
    changes = torch.zeros_like(losses)
    for i, permutation in enumerate(permutations):
        for j, lag in enumerate(at):
            changed, end = run(exchange_older(permutation, lengths, lag))
            losses[i, j] = float(changed.loss)
            old = lengths - 1 > lag
            changes[i, j] = (end - h)[old].norm() / h[old].norm()
    rounding = 8 * torch.finfo(watched.loss.dtype).eps * abs(plain)
    root = math.sqrt(len(permutations))
    return InputInfluence(
        layer=watched.layer,
        level=watched.level,
        direction=direction,
        lags=torch.tensor(at),
        loss=plain,
        scrambled=losses.mean(0),
        standard_error=_deviation(losses) / root,
        output_change=changes.mean(0),
        output_change_error=_deviation(changes) / root,
        p_values=_holm([_p_value(c.tolist(), rounding) for c in (losses - plain).unbind(1)]),
        permutations=len(permutations),
    )


def _lengths(watched: Watched) -> Tensor:
    """Valid steps of each sequence over all calls."""
    requests = [call.request for call in watched.calls]
    batch = requests[0].inputs.shape[1]
    if len(requests) > 1 and any(request.lengths is not None for request in requests):
        raise ConfigurationError(
            "loss", got="several calls of the layer, with lengths", expected="one call"
        )
    if batch < 2 or any(request.inputs.shape[1] != batch for request in requests):
        raise ConfigurationError(
            "loss",
            got="a batch of one sequence" if batch < 2 else "calls with other numbers of sequences",
            expected="the same two sequences or more in every call",
        )
    return watched.lengths


def _last_output(module: nn.Module, result: Any, direction: int) -> Tensor:
    """h after each sequence's last valid step, of the top cell: (batch, output)."""
    if not hasattr(module, "num_layers"):  # a cell: h or (h, c)
        return result[0] if isinstance(result, tuple) else result
    final = result[1]
    h = final[0] if isinstance(final, tuple) else final
    return h[h.shape[0] - (2 if module.bidirectional else 1) + direction]


def _checked_lags(lags: Sequence[int] | None, time: int) -> list[int]:
    if time < 2:
        raise ConfigurationError("loss", got="sequences of one step", expected="two or more")
    if lags is None:
        return sorted({0, *(2**i for i in range(time.bit_length()) if 2**i < time - 2), time - 2})
    at = sorted(set(lags))
    if not at or at[0] < 0 or at[-1] > time - 2:
        raise ConfigurationError(
            "lags", got=list(lags), expected=f"from 0 to {time - 2}: older steps must be left"
        )
    return at


def _derangements(batch: int, count: int, generator: torch.Generator) -> list[Tensor]:
    """Different permutations without fixed points: `count`, or all where there are fewer."""
    possible = [1, 0]  # D_n = (n - 1) (D_{n-1} + D_{n-2})
    for n in range(2, min(batch, 12) + 1):
        possible.append((n - 1) * (possible[-1] + possible[-2]))
    found: dict[tuple[int, ...], Tensor] = {}
    while len(found) < min(count, possible[-1]):
        drawn = torch.randperm(batch, generator=generator)
        if bool((drawn != torch.arange(batch)).all()):
            found[tuple(drawn.tolist())] = drawn
    return list(found.values())


def exchange_older(
    permutation: Int[Tensor, " batch"], lengths: Int[Tensor, " batch"], lag: int
) -> Callable[[Request, int], Request]:
    """A change for `watch`: inputs more than so many steps before the last are other sequences'.

    Arguments:
        permutation: the sequence whose inputs each sequence gets.
        lengths: valid steps of each, over all calls.
        lag: k, at least 0.
    """

    def change(request: Request, start: int) -> Request:
        x = request.inputs
        steps = torch.arange(x.shape[0])[:, None]
        # padding is never read: a shorter sequence begins again
        source = steps if request.lengths is None else steps % request.lengths.cpu()[permutation]
        other = x[source.to(x.device), permutation.to(x.device)]
        old: Bool[Tensor, "time batch"] = (start + steps < lengths - 1 - lag).to(x.device)
        return dataclasses.replace(request, inputs=torch.where(old[..., None], other, x))

    return change


def _deviation(rows: Float[Tensor, "n lags"]) -> Float[Tensor, " lags"]:
    return rows.std(0) if len(rows) > 1 else torch.full_like(rows[0], math.nan)


def _p_value(rises: list[float], rounding: float) -> float:
    """Chance of such a rise, by the test in `input_influence`."""
    n = len(rises)
    if n < 2:
        return math.nan
    mean = math.fsum(rises) / n
    variance = math.fsum((r - mean) ** 2 for r in rises) / (n - 1) + rounding**2
    if not math.isfinite(mean):
        return 0.0 if mean > 0 else 1.0
    if variance == 0:
        return 0.0 if mean > 0 else 1.0
    return student_tail(mean / math.sqrt(variance * (1 + 1 / n)), n - 1)


def _holm(p_values: list[float]) -> Float[Tensor, " lags"]:
    """Holm's correction: the i-th smallest of m times m - i, never below a smaller one's."""
    values, order = torch.tensor(p_values, dtype=torch.float64).sort()
    factors = torch.arange(len(p_values), 0, -1, dtype=torch.float64)
    adjusted = (values * factors).cummax(0).values.clamp(max=1.0)
    return torch.empty_like(adjusted).index_copy(0, order, adjusted)
