"""Check that the targets of each step do not depend on inputs that come after the answer."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.core.errors import EngineRefusalError
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.data_pairs import pairs_of, roles_of
from throughtime.doctor.dependence import Dependence, Pairs, Part, find_dependence
from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.intervals import difference, mean
from throughtime.doctor.remedies import LEAST_SECONDS, Condition
from throughtime.doctor.sample_axes import SampleAxes, change_tensor
from throughtime.doctor.subject import batch_tensors
from throughtime.engines import Place, Request, Result, run
from throughtime.foreign.sites import find_recurrent, run_by, site_of
from throughtime.results.diagnosis import Cause, Finding

_GAINED = 1 / 3  # of the loss without inputs: a model that gains more has what it needs
_TWICE = 2.0  # of the model's gain: the least gain of a copy that sees later inputs
_OLDER = 0.25  # of what later inputs explain: the most that inputs before the step may explain
_MOST_OF_IT = 0.5  # of what later inputs explain, by one of them: a shift brings it into view
_AHEAD = 32  # steps after which a target may be a forecast of an input
_PAIRS = 1000  # of which a forecast is told
_EQUAL = 0.99  # of pairs in order, by which targets are a function of one number that increases


def check_later(
    copies: FreshCopies,
    answered: Tensor,
    axes: SampleAxes | None,
    seen: Dependence | None,
    losses: Sequence[float],
    where: str,
) -> Finding | None:
    """Check whether targets depend on later inputs, and whether a copy learns that sees these.

    The dependence by lag is sought in reversed time. Targets that are later inputs themselves, or
    rise or fall with one, are forecasts. Else fresh copies are trained: as it is, and on targets
    that are moved to later steps; or, where no single step holds most, with a second direction.

    Arguments:
        copies: trials of fresh copies, of a layer of one direction.
        answered: (time, batch) True at the steps that the loss reads.
        axes: axis of the samples in each tensor.
        seen: dependence on inputs up to the answer's step; None where it cannot be measured.
        losses: held-out losses of the model.
        where: layer and batches, in words.
    """
    subject, layer = copies.trainer.subject, copies.layer
    constant = mean(copies.need.constant)
    if axes is None or int(answered.any(1).sum()) < 2 or copies.need.long:
        return None
    if copies.clock.left() < LEAST_SECONDS:
        return None
    if constant - mean(losses) > _GAINED * abs(constant):
        return None
    if not roles_of(subject, layer, axes).targets:
        return None  # they are made of the inputs
    known = seen.parts if seen is not None else ()
    older = sum(part.share for part in known if part.start > 0)
    for pairs in pairs_of(subject, layer, answered.cpu(), axes):
        parts = later_parts(pairs) if len(pairs.times) > 1 else []
        share = sum(part.share for part in parts)
        enough = share > sum(part.share for part in known) and older <= _OLDER * share
        steps = _steps(parts) if enough else None
        # numbers that sum up what comes, as returns do, are to be estimated beforehand
        if steps is None or (steps == 0 and not pairs.classes) or is_forecast(pairs):
            continue
        return _by_copies(copies, axes, parts, steps, losses, where)
    return None


def _steps(parts: Sequence[Part]) -> int:
    """Return how much later the input is that explains most; 0 where no single one does."""
    strongest = max(parts, key=lambda part: part.share)
    most = strongest.share >= _MOST_OF_IT * sum(part.share for part in parts)
    return strongest.start if most and strongest.start == strongest.end else 0


def later_parts(pairs: Pairs) -> list[Part]:
    """List what later inputs explain of the targets, beyond the input of the same step."""
    last = len(pairs.inputs) - 1
    reversed_pairs = dataclasses.replace(
        pairs,
        inputs=pairs.inputs.flip(0),
        targets=pairs.targets.flip(0),
        times=last - pairs.times.flip(0),
    )
    found = find_dependence(reversed_pairs)
    return [] if found is None else [part for part in found.parts if part.start > 0]


def is_forecast(pairs: Pairs) -> bool:
    """Return whether a column of the targets increases or decreases with one later number.

    The number is a feature of a later input, its difference to that of the answer's step, or the
    size of either. Classes may be the number of the feature that is 1 in a later input.
    """
    for ahead in range(1, min(_AHEAD, len(pairs.inputs) - 1) + 1):
        kept = pairs.times + ahead < len(pairs.inputs)
        x = pairs.inputs[pairs.times[kept] + ahead]
        change = x - pairs.inputs[pairs.times[kept]]
        y = pairs.targets[kept]
        valid = ~(x.isnan().any(2) | change.isnan().any(2) | y.isnan().any(2))
        some = valid.flatten().nonzero()[:, 0]
        some = some[torch.linspace(0, len(some) - 1, min(_PAIRS, len(some))).long()]
        x, change, y = (each.flatten(0, 1)[some] for each in (x, change, y))
        if len(y) < 2:
            continue
        if pairs.classes and _is_one_hot(x, y[:, 0]):
            return True
        for column in y.T:
            numbers = torch.cat([x, change, x.abs(), change.abs()], 1)
            if any(_in_order(number, column) for number in numbers.T):
                return True
    return False


def _is_one_hot(x: Tensor, y: Tensor) -> bool:
    """Return whether class c occurs just where feature c + k is 1 and the others are 0."""
    kinds = y.unique().long()
    first = (x == 1).double().argmax(1) - y.long()
    shift = int(first.mode().values)
    if int(kinds[0]) + shift < 0 or int(kinds[-1]) + shift >= x.shape[1]:
        return False
    marks = x[:, kinds + shift]
    return float((marks == (y[:, None] == kinds)).all(1).double().mean()) > _EQUAL


def _in_order(number: Tensor, column: Tensor) -> bool:
    """Return whether targets, in the order of a number, increase or decrease."""
    if float(number.std()) == 0 or float(column.std()) == 0:
        return False
    values = column[number.argsort(stable=True)]
    least = -1e-6 * float(column.std())
    return any(
        float((side - side.cummax(0).values >= least).double().mean()) > _EQUAL
        for side in (values, -values)
    )


def _by_copies(
    copies: FreshCopies,
    axes: SampleAxes,
    parts: Sequence[Part],
    steps: int,
    losses: Sequence[float],
    where: str,
) -> Finding | None:
    """Train a copy that sees the later inputs, and compare it with one as it is."""
    layer = copies.layer
    if steps:
        name = f"targets {_counted(steps)} later"
        code = f"loss(outputs[:, {steps}:], targets[:, :-{steps}])  # time on axis 1"
        better = copies.train(name, lambda one: later_targets(one, copies, axes, steps))
    else:
        name, code = "a second direction", f"{layer or 'the layer'}: bidirectional=True"
        better = copies.train(name, lambda one: both_ways(one, layer))
    gained = mean(copies.need.constant) - mean(losses)
    if better is None or not copies.learns(better) or copies.gain(better) < _TWICE * gained:
        return None
    plain = copies.plain()
    if plain is None or not copies.clearly_better(better, plain):
        return None
    copies.add_remedy(name, code, plain, better)
    return _finding(
        copies, max(parts, key=lambda part: part.share), steps, better, plain, losses, where
    )


def later_targets(
    condition: Condition, copies: FreshCopies, axes: SampleAxes, steps: int
) -> Condition:
    """Return a condition whose targets stand a number of steps later; the last ones come first."""
    targets = roles_of(copies.trainer.subject, copies.layer, axes).targets

    def loss(batch: Any) -> Tensor:
        for k in targets:
            axis, tensor = axes.axes[k], batch_tensors(batch)[k]
            if axis is not None and tensor.dim() >= 2 and tensor.shape[1 - axis] > steps:
                batch = change_tensor(batch, k, lambda leaf, axis=axis: leaf.roll(steps, 1 - axis))
        return condition.loss(batch)

    return dataclasses.replace(condition, loss=loss)


def both_ways(condition: Condition, layer: str) -> Condition:
    """Return a condition whose layer gets a second direction, which is added to its outputs."""
    _, module = find_recurrent(condition.model, layer)
    site = site_of(module)
    second = _SecondDirection(site.levels)

    def loss(batch: Any) -> Tensor:
        with run_by(module, second.run, site):
            return condition.loss(batch)

    return Condition(condition.model, loss, lambda: [*condition.parameters(), *second.parameters()])


@final
class _SecondDirection:
    """Adds the outputs of a GRU that reads the sequence backwards to those of the top level.

    Arguments:
        levels: number of levels of the layer.
    """

    def __init__(self, levels: int):
        self.levels = levels
        self.backward: nn.GRU | None = None
        self.inputs: Tensor | None = None

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the GRU; known after a first loss."""
        return [] if self.backward is None else list(self.backward.parameters())

    def run(self, request: Request, place: Place) -> Result:
        """Run one cell.

        Raises:
            EngineRefusalError: the layer is called several times, or sequences are packed.
        """
        if place.call > 0 or request.lengths is not None:
            raise EngineRefusalError("it takes one call of the layer for whole sequences")
        if place.level == 0:
            self.inputs = request.inputs
        result = run(request, "auto")
        if place.level < self.levels - 1:
            return result
        x = self.inputs
        assert x is not None
        if self.backward is None:
            width = result.outputs.shape[-1]
            self.backward = nn.GRU(x.shape[-1], width).to(x.device, x.dtype)
        outputs = result.outputs + self.backward(x.flip(0))[0].flip(0)
        return result._replace(outputs=outputs)


def _counted(steps: int) -> str:
    return "a step" if steps == 1 else f"{steps} steps"


def _finding(
    copies: FreshCopies,
    part: Part,
    steps: int,
    better: Trial,
    plain: Trial,
    losses: Sequence[float],
    where: str,
) -> Finding:
    later = f"t + {part.start}" if part.start == part.end else f"t + {part.start} to t + {part.end}"
    change = (
        f"whose targets stand {_counted(steps)} later"
        if steps
        else "with a second direction, which reads later inputs"
    )
    two = "If answers may wait for all inputs, make the layer bidirectional=True"
    return Finding(
        cause=Cause.WRONG_STEP,
        severity="fault",
        certainty="measured",
        statement=f"The target of step t depends on inputs of step {later} (correlation "
        f"{part.correlation:.2g}), which the answer of step t has not seen: the model's loss is "
        f"{in_words(losses)}, and without inputs it is {mean(copies.need.constant):.3g}. A fresh "
        f"copy {change} reaches a held-out loss of {in_words(better.after)}, an equal one as it is "
        f"{in_words(plain.after)}.",
        effect=difference(better.after, plain.after),
        effect_name=f"change of the held-out loss of a copy {change}",
        threshold=0.0,
        measured_on=where,
        remedy=f"Compare the answer of step t + {steps} with the target of step t: "
        f"loss(outputs[:, {steps}:], targets[:, :-{steps}]), time on axis 1. Look for a start "
        f"token, a shift or a slice that only inputs or only targets got. {two}."
        if steps
        else f"{two}; or answer later, when the inputs have been read.",
    )
