"""Check that no target is among the inputs that its answer sees."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.dependence import Pairs, find_dependence
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.intervals import exactly
from throughtime.doctor.loss_calls import OF_VALUES, LossCall, loss_calls
from throughtime.doctor.made_features import Made, made_features
from throughtime.doctor.sample_axes import SampleAxes, change_tensor
from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.foreign.recording import Recording, record
from throughtime.foreign.sites import find_recurrent, site_of
from throughtime.results.diagnosis import Cause, Finding, Severity

_BATCHES = 16
_MOST_FEATURES = 16  # of inputs whose dependence on earlier ones is measured
_LEAST = 32  # pairs of a target and an input: fewer may agree by chance
_CHANGED = 8  # targets of one batch that change with an input: fewer may be equal by chance
_AHEAD = 8  # steps by which a target may be an input of later on, or of before
_EQUAL = 0.99  # of whole numbers, and of each but the most frequent one
_AFFINE = 1e-9  # 1 - |correlation| of numbers that are equal up to an affine map
_SAME = 1e-5  # a change below this part of the largest value is the arithmetic's


@dataclasses.dataclass(frozen=True)
class _Equal:
    """Targets that are inputs: targets[:, t] is inputs[:, t + shift].

    Attributes:
        targets, inputs: numbers of the tensors in a batch.
        step: a step of the targets; None where there is one target a sample.
        at: the step of the inputs that the target at that step equals.
        shift: difference of the two; 0 where there is one target a sample.
        features: features of the inputs that the targets are; None for tokens.

    Where both are one tensor, targets are made within the loss: step and shift are not theirs.
    """

    targets: int
    inputs: int
    step: int | None
    at: int
    shift: int
    features: tuple[int, ...] | None


def check_target_seen(subject: Subject, layer: str, axes: SampleAxes) -> Finding | None:
    """Check that no target equals an input that the layer has got where the answer is read.

    Equal up to an affine map, for real numbers. An input of an earlier step is no fault where
    inputs do not depend on each other: to recall it is a task. Nor is the target of the step
    before, as a decoder gets it. Where inputs depend on earlier ones, the next one is to be
    forecast; a target that is the one before is a shift to the wrong side.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        axes: axis of the samples in each tensor.
    """
    batch = subject.held_out[0]
    calls = loss_calls(subject, subject.copy(), batch)[1]
    if not calls:
        return None
    both = site_of(find_recurrent(subject.copy(), layer)[1]).directions > 1
    for equal in _equal_tensors(subject, axes):
        found = _seen(subject, layer, axes, calls, equal, both)
        if found is None:
            continue
        back = found.effect is not None and found.effect.value < 0
        x = _grid(subject, axes, equal.inputs) if back else None
        if x is None or _predictable(x):
            return found
    return _made(subject, layer, axes, calls)


def _made(
    subject: Subject, layer: str, axes: SampleAxes, calls: Sequence[LossCall]
) -> Finding | None:
    """Return the finding that a feature is made of values that come later, targets among them."""
    if any(call.name not in OF_VALUES for call in calls):
        return None
    grids = [_grid(subject, axes, k) for k in range(len(axes.axes))]
    for k, y in enumerate(grids):
        for j, x in enumerate(grids):
            if k == j or y is None or x is None or x.dim() != 3 or len(x) != len(y):
                continue
            y = y.squeeze(-1) if y.dim() > 1 and y.shape[-1] == 1 else y
            if y.dim() > 2 or (y.dim() == 2 and y.shape != x.shape[:2]):
                continue
            for made in made_features(x, y):
                return _made_finding(subject, layer, (k, j), made)
    return None


def _made_finding(subject: Subject, layer: str, tensors: tuple[int, int], made: Made) -> Finding:
    targets, inputs = (_name(subject.held_out[0], k) for k in tensors)
    steps = "a step" if made.later == 1 else f"{made.later} steps"
    return Finding(
        cause=Cause.TARGET_SEEN,
        severity="fault",
        certainty="proved",
        statement=f"The target is among the inputs: feature {made.feature} of {inputs} is at each "
        f"step an average of feature {made.series} up to {steps} later, without error, and "
        f"{targets} goes on with feature {made.series}. To solve it for the target is enough.",
        effect=exactly(float(made.later)),
        effect_name="steps by which a feature is ahead",
        threshold=None,
        measured_on=f"layer {layer!r}, up to {_BATCHES} batches",
        remedy=f"Make feature {made.feature} of values up to its own step alone: a moving average "
        "that is not centred (center=False), no shift by a negative number.",
    )


def _grid(subject: Subject, axes: SampleAxes, tensor: int) -> Tensor | None:
    """Return a tensor of all batches of one length, samples first."""
    axis = axes.axes[tensor]
    if axis is None:
        return None
    every = [*subject.held_out, *subject.training][:_BATCHES]
    parts = [batch_tensors(batch)[tensor].transpose(0, axis) for batch in every]
    return torch.cat([part for part in parts if part.shape[1:] == parts[0].shape[1:]])


def _equal_tensors(subject: Subject, axes: SampleAxes) -> Iterator[_Equal]:
    grids = [_grid(subject, axes, k) for k in range(len(axes.axes))]
    for k, y in enumerate(grids):
        for j, x in enumerate(grids):
            if y is None or x is None or x.dim() < 2 or x.shape[1] < 2 or len(x) != len(y):
                continue
            if y.dim() >= 2 and y.shape[1] > 1:
                yield from _every_step(y, x, k, j)
                yield from _step_before(y, x, k, j) if k != j else ()
            if k != j and (y.dim() == 1 or y.dim() == 2) and y[0].numel() < x.shape[1]:
                yield from _once(y, x, k, j)


def _every_step(y: Tensor, x: Tensor, k: int, j: int) -> Iterator[_Equal]:
    for shift in range(_AHEAD + 1) if k != j else (0,):
        steps = min(y.shape[1], x.shape[1] - shift)
        if steps < max(2, y.shape[1] // 2):
            continue
        a, b = y[:, :steps], x[:, shift : shift + steps]
        features = _features(a.flatten(0, 1), b.flatten(0, 1))
        if features is not None:
            middle = steps // 2
            yield _Equal(k, j, middle, middle + shift, shift, features or None)


def _step_before(y: Tensor, x: Tensor, k: int, j: int) -> Iterator[_Equal]:
    """Yield targets that are an input of before."""
    for shift in range(1, _AHEAD + 1):
        steps = min(y.shape[1], x.shape[1]) - shift
        if steps < max(2, y.shape[1] // 2):
            return
        features = _features(y[:, shift : shift + steps].flatten(0, 1), x[:, :steps].flatten(0, 1))
        if features is None:
            continue
        # over more than a step, to recall is a task too, but not what comes from the end
        rolled = y.shape == x.shape and torch.equal(y[:, :shift], x[:, -shift:])
        if shift == 1 or rolled:
            at = steps // 2
            yield _Equal(k, j, at + shift, at, -shift, features or None)
        return


def _predictable(x: Tensor) -> bool:
    """Return whether inputs (sequences, time, ...) depend on those of before."""
    values = x.detach().cpu().float().reshape(*x.shape[:2], -1).transpose(0, 1)
    values = values[..., :_MOST_FEATURES]
    pairs = Pairs(values, values[1:], torch.arange(len(values) - 1), not x.is_floating_point())
    found = find_dependence(pairs)
    return found is not None and found.found


def _once(y: Tensor, x: Tensor, k: int, j: int) -> Iterator[_Equal]:
    for at in range(x.shape[1] - 1, max(-1, x.shape[1] - 4), -1):
        features = _features(y, x[:, at])
        if features is not None:
            yield _Equal(k, j, None, at, 0, features or None)


def _features(y: Tensor, x: Tensor) -> tuple[int, ...] | None:
    """Return the features of the inputs that the targets are, () for tokens; None if they are not.

    Arguments:
        y: targets (entries, ...).
        x: inputs (entries, ...).
    """
    if len(y) < _LEAST:
        return None
    y, x = y.reshape(len(y), -1), x.reshape(len(x), -1)
    if not y.is_floating_point() and not x.is_floating_point():
        return () if y.shape == x.shape and _same_tokens(y, x) else None
    found: list[int] = []
    for column in y.T:
        counts = column.isfinite() & (column != -100)
        if int(counts.sum()) < _LEAST:
            return None
        a, b = column[counts].double(), x[counts].double()
        a, b = a - a.mean(), b - b.mean(0)
        size = (b.square().sum(0) * a.square().sum()).sqrt()
        alike = (a @ b).abs() / size.clamp_min(1e-300)
        # a column of zeros has no correlation
        best = int(torch.where(size > 1e-12 * len(a), alike, 0.0).argmax())
        if not float(size[best]) > 1e-12 * len(a) or float(alike[best]) < 1 - _AFFINE:
            return None
        found.append(best)
    return tuple(found)


def _same_tokens(y: Tensor, x: Tensor) -> bool:
    counts = y >= 0
    if int(counts.sum()) < _LEAST:
        return False
    y, same = y[counts].long(), (y == x)[counts]
    kinds = y.bincount()
    others = y != int(kinds.argmax())
    if int(others.sum()) < _LEAST // 4:
        return False
    return float(same.double().mean()) > _EQUAL and float(same[others].double().mean()) > _EQUAL


def _exchanged(batch: Any, axes: SampleAxes, tensor: int, at: int | None) -> Any:
    """Return a batch with one step of a tensor, or all of it, from the next sample."""
    axis = axes.axes[tensor]
    assert axis is not None

    def change(leaf: Tensor) -> Tensor:
        grid = leaf.transpose(0, axis).clone()
        if at is None:
            grid = grid.roll(1, 0)
        else:
            grid[:, at] = grid[:, at].roll(1, 0)
        return grid.transpose(0, axis).contiguous()

    return change_tensor(batch, tensor, change)


def _seen(
    subject: Subject,
    layer: str,
    axes: SampleAxes,
    calls: Sequence[LossCall],
    equal: _Equal,
    both: bool,
) -> Finding | None:
    """Follow equal targets and inputs to the loss and to the layer."""
    batch = subject.held_out[0]
    moved = loss_calls(subject, subject.copy(), _exchanged(batch, axes, equal.targets, equal.step))[
        1
    ]
    inputs = _recording(subject, layer, batch)
    other = _exchanged(batch, axes, equal.inputs, equal.at)
    changed = _changed_steps(inputs, _recording(subject, layer, other))
    after = loss_calls(subject, subject.copy(), other)[1]
    if not changed or not len(calls) == len(moved) == len(after):
        return None
    for k, (call, target, answer) in enumerate(zip(calls, moved, after, strict=True)):
        if call.targets.shape != target.targets.shape or call.answers.shape != answer.answers.shape:
            continue
        here = call.targets != target.targets
        if not bool(here.any()):
            continue
        before, then = call.answers.detach(), answer.answers.detach()
        reacts = (then - before).abs() > _SAME * before.abs().max()
        if equal.targets == equal.inputs and not _copied(
            _grid_of(batch, axes, equal), _grid_of(other, axes, equal), target.targets[here]
        ):
            continue
        answers, targets = call.pairs(reacts, here)
        if float((answers & targets).sum() / targets.sum()) < 0.5:
            continue
        read = _read_steps(subject, layer, batch, k, here)
        if len(read) != 1:
            continue
        if equal.targets == equal.inputs:
            equal = dataclasses.replace(equal, shift=max(-1, min(changed) - read[0]))
        first = read[0] + min(0, equal.shift)  # the step that may change
        if min(changed) < first or (not both and first not in changed):
            continue
        narrow = inputs.cell.output_size < inputs.inputs.shape[-1] and call.name in OF_VALUES
        meant = narrow or len(calls) > 1  # an autoencoder; a task beside the main one
        return _finding(subject, layer, equal, both, "warning" if meant else "fault")
    return None


def _grid_of(batch: Any, axes: SampleAxes, equal: _Equal) -> Tensor:
    """Return the step of the inputs in question, samples first."""
    axis, tensor = axes.axes[equal.inputs], batch_tensors(batch)[equal.inputs]
    assert axis is not None
    return tensor.transpose(0, axis)[:, equal.at]


def _copied(before: Tensor, after: Tensor, targets: Tensor) -> bool:
    """Return whether the targets that changed with an input are its new values."""
    values = after[before != after]
    same = values.numel() == targets.numel() >= _CHANGED
    return same and torch.allclose(values.double(), targets.double())


def _recording(subject: Subject, layer: str, batch: Any) -> Recording:
    torch.manual_seed(0)
    model = subject.copy()
    return record(model, lambda: subject.loss(model, batch), layer=layer, level=0)


def _changed_steps(one: Recording, two: Recording) -> list[int]:
    if one.inputs.shape != two.inputs.shape:
        return []
    change = (one.inputs - two.inputs).abs().amax((1, 2))
    return (change > _SAME * one.inputs.abs().max()).nonzero()[:, 0].tolist()


def _read_steps(subject: Subject, layer: str, batch: Any, number: int, here: Tensor) -> list[int]:
    """List the steps of the layer that the answers to some targets are read from."""

    def answers(model: nn.Module, batch: Any) -> Tensor:
        call = loss_calls(subject, model, batch)[1][number]
        marks = here.unsqueeze(call.class_axis) if call.indexed else here
        # unequal weights: a softmax of equal ones has no gradient
        weights = torch.arange(1, call.answers.numel() + 1).cos().reshape(call.answers.shape)
        return (call.answers * weights.to(call.answers) * marks).sum()

    try:
        flow = flow_in_double(subject, layer, batch, loss=answers)
    except ConfigurationError:
        return []  # no way from the layer to these answers
    by_step = flow.answer.amax(1)
    return (by_step > 1e-9 * by_step.max()).nonzero()[:, 0].tolist()


def _finding(
    subject: Subject, layer: str, equal: _Equal, both: bool, severity: Severity
) -> Finding:
    batch = subject.held_out[0]
    targets, inputs = _name(batch, equal.targets), _name(batch, equal.inputs)
    features = "" if equal.features is None else f", feature {', '.join(map(str, equal.features))}"
    if equal.step is None:
        what = f"{targets} is {inputs} at step {equal.at}{features}"
    else:
        later = f" {'+' if equal.shift > 0 else '-'} {abs(equal.shift)}" if equal.shift else ""
        targets = "the target" if equal.targets == equal.inputs else targets
        what = f"{targets} at step t is {inputs} at step t{later}{features}"
    if equal.targets == equal.inputs and not equal.shift:
        what = f"{targets} at step t is both the input and the target of step t"
    reading = (
        f"{layer!r} runs backwards too, so that the answer sees it"
        if both and equal.shift > 0
        else f"{layer!r} has got it where the answer is read"
    )
    return Finding(
        cause=Cause.TARGET_SEEN,
        severity=severity,
        certainty="proved",
        statement=f"The target is among the inputs: {what}, and {reading}. To copy it is enough.",
        effect=exactly(float(equal.shift)),
        effect_name="steps by which the target is ahead among the inputs",
        threshold=None,
        measured_on=f"layer {layer!r}, up to {_BATCHES} batches",
        remedy=_remedy(layer, equal, both, targets, inputs),
    )


def _remedy(layer: str, equal: _Equal, both: bool, targets: str, inputs: str) -> str:
    if both and equal.shift > 0:
        return (
            f"Make {layer!r} bidirectional=False: a forecast must not see what it forecasts. (A "
            "tagger may: if so, take the target out of the inputs.)"
        )
    if equal.shift < 0:
        return (
            f"Shift {targets} to the other side: the target of step t is {inputs} at step "
            f"t + {-equal.shift}. torch.roll and pandas' shift do it by {equal.shift}; the last "
            "steps have no target then."
        )
    if equal.targets == equal.inputs:
        return f"Shift them by a step: {targets}[:, :-1] goes in, {targets}[:, 1:] is the target."
    if equal.step is None:
        return f"End {inputs} a step earlier, or take the target from the step after its last."
    return (
        f"If {targets} is to be forecast, shift it: the target of step t is the input of step "
        f"t + 1. Otherwise take it out of {inputs}."
    )


def _name(batch: Any, tensor: int) -> str:
    paths, _ = pytree.tree_flatten_with_path(
        batch, is_leaf=lambda leaf: isinstance(leaf, PackedSequence)
    )
    names = [pytree.keystr(path) for path, leaf in paths if isinstance(leaf, Tensor)]
    return f"batch{names[tensor]}"
