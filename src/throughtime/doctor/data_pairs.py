"""Inputs and targets of the user's batches, aligned in time."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.doctor.dependence import Dependence, Pairs, find_dependence
from throughtime.doctor.sample_axes import SampleAxes, change_tensor
from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.foreign.sites import find_recurrent, kept_outputs
from throughtime.foreign.watching import watch

RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions of the user's code where it gets changed data."""
_MOST_SEQUENCES, _MOST_WATCHED = 2048, 16
_MOST_FEATURES = 64
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Roles of the tensors of a batch, by their index.

    Attributes:
        read: tensors that change the model's outputs.
        targets: tensors that change the loss alone.
    """

    read: tuple[int, ...]
    targets: tuple[int, ...]


def roles_of(subject: Subject, layer: str, axes: SampleAxes | None) -> Roles:
    """Exchange samples in one tensor at a time, and compare outputs and loss.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer, whose outputs are compared if the loss does not call the
            model itself.
        axes: sample axes of the tensors; the first axis where they are not known.
    """
    batch = subject.held_out[0]
    outputs, loss = outputs_of(subject, layer, batch)
    read: list[int] = []
    targets: list[int] = []
    for k, tensor in enumerate(batch_tensors(batch)):
        axis = 0 if axes is None else axes.axes[k]
        if tensor.dim() == 0 or axis is None:
            continue

        def shifted(leaf: Tensor, axis: int = axis) -> Tensor:
            return leaf.roll(1, axis)

        try:
            other, other_loss = outputs_of(subject, layer, change_tensor(batch, k, shifted))
        except RAISED:  # such as lengths that are out of order
            read.append(k)
            continue
        if len(other) != len(outputs) or not all(map(_equal, outputs, other)):
            read.append(k)
        elif other_loss != loss:
            targets.append(k)
    return Roles(tuple(read), tuple(targets))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def outputs_of(subject: Subject, layer: str, batch: Any) -> tuple[list[Tensor], float]:
    """Return the model's outputs, or the layer's if the loss calls no model, and the loss.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        batch: batch that a fresh copy runs on.
    """
    model = subject.copy()
    torch.manual_seed(0)
    with (
        torch.no_grad(),
        kept_outputs(find_recurrent(model, layer)[1]) as inner,
        kept_outputs(model) as outer,
    ):
        loss = float(subject.loss(model, batch))
    return [t for t in pytree.tree_leaves(outer or inner) if isinstance(t, Tensor)], loss


def dependence_of(
    subject: Subject,
    layer: str,
    answered: Tensor,
    axes: SampleAxes | None,
    seed: int,
    *,
    to_the_end: bool = False,
) -> Dependence | None:
    """Find the dependence of the targets on the inputs by lag.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        answered: (time, batch) True at the steps of the first held-out batch that the loss reads.
        axes: sample axes of the tensors, where they are known.
        seed: seed of the permutations.
        to_the_end: If True, the lag of one answer a sequence counts from the last step, also where
            the answer is read before.

    Returns:
        The dependence, of several tensors of targets that with the longest lag; None where it
        cannot be measured.
    """
    answered = answered.cpu()
    if to_the_end:
        answered = torch.arange(len(answered))[:, None].eq(len(answered) - 1).expand_as(answered)
    found = (find_dependence(pairs, seed) for pairs in pairs_of(subject, layer, answered, axes))
    measured = [each for each in found if each is not None]
    return max(measured, key=lambda each: -1 if each.lag is None else each.lag, default=None)


def pairs_of(
    subject: Subject, layer: str, answered: Tensor, axes: SampleAxes | None
) -> list[Pairs]:
    """Return inputs and targets of up to 2048 sequences, for each tensor of targets.

    Inputs are tensors of the batch that the model reads and that have an axis of the layer's time,
    or else the inputs that the layer receives. Where the model reads all tensors, as with one of
    tokens, the derivative of the loss by the model's outputs, at outputs of 0, stands for the
    targets: it is linear in them for squared errors and cross-entropies.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        answered: (time, batch) True at the steps of the first held-out batch that the loss reads.
        axes: sample axes of the tensors, where they are known.

    Returns:
        Pairs; an empty list where inputs and targets cannot be brought together.
    """
    time, count = answered.shape
    if axes is not None and axes.count != count:
        axes = None  # of a layer that runs over other sequences than the batch holds
    roles = roles_of(subject, layer, axes)
    first = batch_tensors(subject.held_out[0])
    reader = _Reader(subject, layer, time, count, axes, _inputs(roles, first, time, count, axes))
    last = time - 1 - answered.flip(0).int().argmax(0)
    ends = reader.ends(last)
    steps = answered.any(1).nonzero()[:, 0]
    kinds = [k for k in roles.targets if reader.sample_axis(first[k]) is not None]
    # beside others, numbers that are all 0 or 1 are weights
    numbers = [k for k in kinds if not _is_mask(first[k])]
    whole = [k for k in kinds if first[k].dtype in _WHOLE]
    pairs = [reader.pairs(k, steps, ends) for k in numbers or whole or kinds]
    if not roles.targets:
        pairs = [reader.pairs(None, steps, ends)]
    return [pair for pair in pairs if pair is not None]


def _is_mask(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all())


def _sample_axis(shape: torch.Size, count: int, time: int | None) -> int | None:
    """Return the axis of the samples among the first two, by sizes; None if there is none."""
    if len(shape) == 0:
        return None
    if time is None:
        return next((a for a in range(min(2, len(shape))) if shape[a] == count), None)
    if len(shape) < 2 or {shape[0], shape[1]} != {count, time}:
        return None
    return 0 if shape[0] == count else 1


def _inputs(
    roles: Roles, tensors: list[Tensor], time: int, count: int, axes: SampleAxes | None
) -> tuple[int, ...]:
    """List the tensors that the model reads step by step, none if they are too wide."""
    if time == count and axes is None:
        return ()
    found = [k for k in roles.read if _sample_axis(tensors[k].shape, count, time) is not None]
    width = sum(tensors[k][0, 0].numel() for k in found)
    return () if width > _MOST_FEATURES else tuple(found)


@final
class _Reader:
    """Reads inputs and targets of one batch after the other.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        time, count: steps and sequences of the first held-out batch.
        axes: sample axes of the tensors, where they are known.
        inputs: tensors of the batch that hold inputs; none to take those that the layer receives.
    """

    def __init__(
        self,
        subject: Subject,
        layer: str,
        time: int,
        count: int,
        axes: SampleAxes | None,
        inputs: tuple[int, ...],
    ):
        self.subject, self.layer, self.time, self.count = subject, layer, time, count
        self.axes, self.inputs = axes, inputs
        self.model = subject.copy()
        own = subject.held_out
        others = [b for b in subject.training if all(b is not each for each in own)]
        self.batches = [*own, *others]
        self._watched: dict[int, tuple[Tensor, Tensor]] = {}

    def watched(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the inputs that the layer receives, and the lengths of the sequences."""
        if number not in self._watched:
            batch = self.batches[number]
            seen = watch(
                self.model,
                lambda: self.subject.loss(self.model, batch),
                layer=self.layer,
                level=0,
                gradients=False,
            )
            x = torch.cat([call.request.inputs for call in seen.calls])
            self._watched[number] = x.cpu().float(), seen.lengths
        return self._watched[number]

    def sample_axis(self, tensor: Tensor, time: int | None = None) -> int | None:
        """Return the axis of the samples of a tensor of the first held-out batch."""
        if self.axes is not None:
            first = batch_tensors(self.subject.held_out[0])
            for k, each in enumerate(first):
                if each is tensor:
                    return self.axes.axes[k]
        return _sample_axis(tensor.shape, self.count, time)

    def ends(self, last: Tensor) -> Callable[[int], Tensor] | None:
        """Return a function from a batch's number to the step at which each answer is read.

        Arguments:
            last: last step that the loss reads, of each sequence of the first held-out batch.
        """
        if bool((last == last[0]).all()):
            return lambda number: last[:1]
        for k, tensor in enumerate(batch_tensors(self.batches[0])):
            for shift in (1, 0):
                if tensor.shape == last.shape and torch.equal(tensor.cpu().long() - shift, last):
                    return lambda number, k=k, shift=shift: (
                        batch_tensors(self.batches[number])[k].cpu().long() - shift
                    )
        if torch.equal(self.watched(0)[1] - 1, last):
            return lambda number: self.watched(number)[1] - 1
        return None

    def pairs(
        self, target: int | None, steps: Tensor, ends: Callable[[int], Tensor] | None
    ) -> Pairs | None:
        """Return the pairs for one tensor of targets; None where they do not fit.

        Arguments:
            target: index of the tensor; None for the derivative of the loss.
            steps: steps that the loss reads.
            ends: function from a batch's number to the steps of its answers.
        """
        first = self._target(0, target)
        if first is None:
            return None
        axis = self.sample_axis(first)
        per_step = (
            axis is not None
            and first.dim() >= 2
            and {first.shape[0], first.shape[1]} == {self.count, self.time}
            and len(steps) > 1
        )
        if axis is None or (ends is None and not per_step):
            return None
        whole = not first.is_floating_point()
        classes = whole and first.numel() == self.count * (self.time if per_step else 1)
        xs: list[Tensor] = []
        ys: list[Tensor] = []
        total = 0
        for number in range(len(self.batches)):
            if total >= _MOST_SEQUENCES or (not self.inputs and number >= _MOST_WATCHED):
                break
            y = self._target(number, target)
            x = self._input(number)
            if y is None or x is None or y.dim() != first.dim():
                continue
            y = y.detach().cpu().float().transpose(0, axis)
            if y.shape[0] != x.shape[1] or (per_step and y.shape[1:2] != x.shape[:1]):
                continue
            if per_step:
                if x.shape[0] != self.time:
                    continue
                y = y.reshape(*y.shape[:2], -1).transpose(0, 1)[steps]
            else:
                assert ends is not None
                last = ends(number).expand(x.shape[1])
                if int(last.max()) >= x.shape[0]:
                    continue  # a batch of shorter sequences than the one whose answers were found
                x = _ending(x, last)
                y = y.reshape(1, y.shape[0], -1)
            xs.append(x)
            ys.append(y)
            total += x.shape[1]
        if not xs:
            return None
        time = max(x.shape[0] for x in xs)
        x = torch.cat([F.pad(x, (0, 0, 0, 0, time - x.shape[0], 0), value=math.nan) for x in xs], 1)
        y = torch.cat(ys, 1)
        valid = y.isfinite().all(2) & (~_ignored(y, classes=classes)).all(2)
        kept = valid.all(0) if not per_step else valid.double().mean(0) > 0
        x, y = x[:, kept][:, :_MOST_SEQUENCES], y[:, kept][:, :_MOST_SEQUENCES]
        if y.shape[1] == 0:
            return None
        y = torch.where(valid[:, kept][:, :_MOST_SEQUENCES, None], y, math.nan)
        return Pairs(x, y, steps if per_step else torch.tensor([time - 1]), classes)

    def _input(self, number: int) -> Tensor | None:
        """Return the inputs of a batch, (time, sequences, features)."""
        if not self.inputs:
            return _widest(self.watched(number)[0])
        tensors = batch_tensors(self.batches[number])
        first = batch_tensors(self.batches[0])
        parts: list[Tensor] = []
        for k in self.inputs:
            axis = self.sample_axis(first[k], self.time)
            part = tensors[k].cpu().float()
            part = part.transpose(0, 1) if axis == 0 else part
            parts.append(part.reshape(*part.shape[:2], -1))
        if len({part.shape[:2] for part in parts}) != 1:
            return None
        return torch.cat(parts, -1)

    def _target(self, number: int, target: int | None) -> Tensor | None:
        if target is not None:
            return batch_tensors(self.batches[number])[target]
        return _derivative(self.subject, self.model, self.batches[number])


def _ignored(y: Tensor, *, classes: bool) -> Tensor:
    return (y < 0) if classes else torch.zeros_like(y, dtype=torch.bool)


def _widest(x: Tensor) -> Tensor:
    """Return the features of largest variance, 64 at most."""
    if x.shape[2] <= _MOST_FEATURES:
        return x
    return x[..., x.flatten(0, 1).std(0).argsort(descending=True)[:_MOST_FEATURES].sort().values]


def _ending(x: Tensor, ends: Tensor) -> Tensor:
    """Return inputs shifted so that the step `ends` of each sequence is the last one."""
    time = int(ends.max()) + 1
    at = ends - (time - 1) + torch.arange(time)[:, None]  # (time, sequences)
    moved = x.gather(0, at.clamp_min(0)[..., None].expand(-1, -1, x.shape[2]))
    return moved.masked_fill((at < 0)[..., None], math.nan)


def _derivative(subject: Subject, model: nn.Module, batch: Any) -> Tensor | None:
    """Return minus the derivative of the loss by the model's output, at an output of 0."""
    leaves: list[Tensor] = []

    def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
        def zero(tensor: Any) -> Any:
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                return tensor
            leaves.append(torch.zeros_like(tensor).requires_grad_())
            return leaves[-1]

        return pytree.tree_map(zero, output)

    handle = model.register_forward_hook(replace)
    try:
        loss = subject.loss(model, batch)
        if not leaves or not loss.requires_grad:
            return None
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
    except RAISED:  # a loss that is not defined at outputs of 0
        return None
    finally:
        handle.remove()
    given = [-g for g in found if g is not None and bool((g != 0).any())]
    return given[0] if len(given) == 1 else None
