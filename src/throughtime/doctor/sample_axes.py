"""The sample axis of each tensor of a batch."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.foreign.recording import Recording

# standard deviations of the null distribution; on the benchmark's development family wrong readings
# were seen at up to 6, right ones from 36 on
_CLEAR = 12.0
_PERMUTATIONS = 30
_MOST_SHIFTS = 32
_MOST_SAMPLES, _MOST_CLASSES = 512, 32
_LEAST_SAMPLES = 128  # that remain where the products of all pairs of features are too many
_LEAST_SHIFTS = 8  # likewise
_MOST_PRODUCTS = 2**26  # of features of inputs and of targets, for one set of correlations


@dataclasses.dataclass(frozen=True)
class SampleAxes:
    """The sample axis of each tensor of a batch.

    Attributes:
        axes: axis of each tensor in order; None for a tensor without one (a scalar, a constant).
        count: number of samples in the first batch.
        how: reason for this reading, in words.
    """

    axes: tuple[int | None, ...]
    count: int
    how: str


def sample_axes(batches: Sequence[Any]) -> SampleAxes | None:
    """Find the sample axis from sizes that agree; where two would do, from the data.

    Vectors (targets, lengths) and packed sequences have one entry a sample. Where sizes leave two
    readings, the reading under which the targets depend on the inputs is taken.

    Returns:
        The axes; None where they remain open.
    """
    shapes = [[tuple(t.shape) for t in batch_tensors(batch)] for batch in batches]
    if len({len(s) for s in shapes}) != 1 or not shapes[0]:
        return None
    counts = [_known_count(batch) for batch in batches]
    choices = [
        [None] if len(shape) == 0 else list(range(min(2, len(shape)))) for shape in shapes[0]
    ]
    readings = [axes for axes in itertools.product(*choices) if _agrees(axes, shapes, counts)]
    if not readings:
        return None
    size = _size(readings[0], shapes[0])
    if len(readings) == 1 and size is not None:
        return SampleAxes(readings[0], size, "the only sizes that agree")
    shifted = [axes for axes in readings if _shifted(batches, axes)]
    size = _size(shifted[0], shapes[0]) if len(shifted) == 1 else None
    if size is not None:
        return SampleAxes(shifted[0], size, "one tensor is another, shifted along the other axis")
    exchangeable = [axes for axes in readings if not _has_profile(batches, axes)]
    if 1 < len(exchangeable) < len(readings):  # tensors of a batch mostly agree on their order
        exchangeable = [axes for axes in exchangeable if len({*axes} - {None}) == 1]
    if len(exchangeable) == 1:
        size = _size(exchangeable[0], shapes[0])
        if size is not None:
            return SampleAxes(exchangeable[0], size, "the other axis is alike in all batches")
    scored = [(_dependence(batches, axes), axes) for axes in readings]
    best = max(scored, key=lambda pair: pair[0])
    others = [score for score, axes in scored if axes != best[1]]
    size = _size(best[1], shapes[0])
    if size is not None and best[0] > _CLEAR and all(best[0] > 2 * other for other in others):
        return SampleAxes(best[1], size, "targets depend on inputs that way alone")
    chained = [axes for axes in readings if len({*axes} - {None}) == 1 and _chained(batches, axes)]
    size = _size(chained[0], shapes[0]) if len(chained) == 1 else None
    if size is not None:
        return SampleAxes(chained[0], size, "neighbours depend on each other along the other axis")
    return None


def layer_axes(batch: Any, recording: Recording) -> SampleAxes | None:
    """Return the axes that have the size of the layer's batch; None where two or none have it.

    They are those of the samples if the layer does not take another axis for them.

    Arguments:
        batch: batch that was recorded.
        recording: recording of the bottom level.
    """
    axes: list[int | None] = []
    for tensor in batch_tensors(batch):
        fitting = [k for k, size in enumerate(tensor.shape[:2]) if size == recording.batch]
        if tensor.dim() and len(fitting) != 1:
            return None
        axes.append(fitting[0] if fitting else None)
    return SampleAxes(tuple(axes), recording.batch, "the batch of the layer")


def replace_sample(batch: Any, axes: SampleAxes, tensor: int, target: int, source: int) -> Any:
    """Return a batch in which, in one of its tensors, one sample is another's copy."""
    axis = axes.axes[tensor]
    assert axis is not None

    def change(leaf: Tensor) -> Tensor:
        changed = leaf.clone()
        changed.select(axis, target).copy_(leaf.select(axis, source))
        return changed

    return change_tensor(batch, tensor, change)


def change_tensor(batch: Any, index: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch with a function applied to one of the tensors that `batch_tensors` lists."""
    leaves, structure = pytree.tree_flatten(batch, is_leaf=lambda x: isinstance(x, PackedSequence))
    places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    leaves[places[index]] = change(leaves[places[index]])
    return pytree.tree_unflatten(leaves, structure)


_FEW, _GROUP, _PIECES = 4, 16, 16


def regroup(subject: Subject) -> str:
    """Split a single large batch into several; put batches of few samples together.

    Held-out batches give intervals, and samples of one batch are exchanged. Batches stay as they
    are if their sample axis is not known, or if the model does not run on the others.

    Arguments:
        subject: model and data; its batches are replaced.

    Returns:
        What was done, in words; "" for nothing.
    """
    batches = [*subject.training, *subject.held_out]
    if subject.held_out[0] is subject.training[0]:
        batches = subject.training
    axes = sample_axes(batches)
    if axes is None or any(map(_is_packed, batches)):
        return ""
    if len(batches) == 1 and axes.count >= 2 * _FEW:
        size = max(_FEW, -(-axes.count // _PIECES))
        pieces = [
            cut_batch(batches[0], axes, start, start + size)
            for start in range(0, axes.count - size + 1, size)
        ]
        words = f"one batch of {axes.count}, split into {len(pieces)}"
    elif len(batches) > 1 and axes.count < _FEW:
        group = min(_GROUP, max(1, len(batches) // _FEW))
        if len({tuple(t.shape for t in batch_tensors(batch)) for batch in batches}) > 1:
            return ""
        pieces = [
            _joined(batches[k : k + group], axes) for k in range(0, len(batches) - group + 1, group)
        ]
        words = f"{len(batches)} batches of {axes.count}, put together by {group}"
    else:
        return ""
    try:
        with torch.no_grad():
            subject.loss(subject.copy(), pieces[0])
    except Exception:  # noqa: BLE001 a model for one size of batch raises what it likes
        return ""
    subject.divide(pieces)
    return words


def _is_packed(batch: Any) -> bool:
    leaves = pytree.tree_leaves(batch, is_leaf=lambda x: isinstance(x, PackedSequence))
    return any(isinstance(leaf, PackedSequence) for leaf in leaves)


def cut_batch(batch: Any, axes: SampleAxes, start: int, end: int) -> Any:
    """Return the samples of a batch from one index to below another."""
    for k, axis in enumerate(axes.axes):
        if axis is not None:
            batch = change_tensor(
                batch, k, lambda t, axis=axis: t.narrow(axis, start, end - start).clone()
            )
    return batch


def _joined(batches: Sequence[Any], axes: SampleAxes) -> Any:
    joined = batches[0]
    every = [batch_tensors(batch) for batch in batches]
    for k, axis in enumerate(axes.axes):
        if axis is not None:
            whole = torch.cat([tensors[k] for tensors in every], axis)
            joined = change_tensor(joined, k, lambda t, whole=whole: whole)
    return joined


def _known_count(batch: Any) -> int | None:
    """Return the number of samples by vectors and packed sequences, if all agree."""
    leaves = pytree.tree_leaves(batch, is_leaf=lambda x: isinstance(x, PackedSequence))
    counts = {int(leaf.batch_sizes[0]) for leaf in leaves if isinstance(leaf, PackedSequence)}
    counts |= {leaf.shape[0] for leaf in leaves if isinstance(leaf, Tensor) and leaf.dim() == 1}
    return counts.pop() if len(counts) == 1 else None


def _size(axes: Sequence[int | None], shapes: Sequence[tuple[int, ...]]) -> int | None:
    sizes = {shape[axis] for axis, shape in zip(axes, shapes, strict=True) if axis is not None}
    return sizes.pop() if len(sizes) == 1 else None


def _agrees(
    axes: Sequence[int | None],
    shapes: Sequence[Sequence[tuple[int, ...]]],
    counts: Sequence[int | None],
) -> bool:
    for of_batch, count in zip(shapes, counts, strict=True):
        size = _size(axes, of_batch) if all(map(_has, axes, of_batch)) else None
        if size is None or (count is not None and size != count):
            return False
    return True


def _has(axis: int | None, shape: tuple[int, ...]) -> bool:
    return axis is None or axis < len(shape)


def _has_profile(batches: Sequence[Any], axes: Sequence[int | None]) -> bool:
    """Return whether means along an axis repeat from batch to batch, as samples' means do not.

    Steps of time may have a meaning of their own (a cue, a mask of the last step). Samples are
    drawn afresh. The sum of all batches' profiles is compared with that of permuted profiles.
    """
    generator = torch.Generator().manual_seed(0)
    for k, axis in enumerate(axes):
        profiles: list[Tensor] = []
        for batch in batches[:_MOST_SHIFTS]:
            tensor = batch_tensors(batch)[k]
            if axis is None or tensor.dim() < 2 or tensor.shape[1 - axis] < 2:
                break
            values = (
                tensor.detach().cpu().double().nan_to_num().transpose(0, axis)
            )  # (samples, other axis, ...)
            profile = values.mean(1).reshape(len(values), -1)
            profile = profile - profile.mean(0)
            profiles.append(profile / profile.square().mean().sqrt().clamp_min(1e-9))
        sizes = {profile.shape for profile in profiles}
        if len(profiles) < 4 or len(sizes) > 1 or len(profiles[0]) < 4:
            continue

        def alike(every: list[Tensor]) -> float:
            total = torch.stack(every).sum(0)
            return float(total.square().sum())

        real = alike(profiles)
        null = [
            alike([p[torch.randperm(len(p), generator=generator)] for p in profiles])
            for _ in range(_PERMUTATIONS)
        ]
        deviation = torch.tensor(null).std().clamp_min(1e-9)
        if (real - sum(null) / len(null)) / float(deviation) > _CLEAR:
            return True
    return False


def _shifted(batches: Sequence[Any], axes: Sequence[int | None]) -> bool:
    """Return whether a tensor is another one, shifted by a step along the axis of time."""
    tensors = batch_tensors(batches[0])
    for k, j in itertools.permutations(range(len(axes)), 2):
        if axes[k] is None or axes[j] is None or min(tensors[k].dim(), tensors[j].dim()) < 2:
            continue
        both = [
            (tensor.transpose(0, axes[k] or 0), other.transpose(0, axes[j] or 0))
            for tensor, other in ((batch_tensors(b)[k], batch_tensors(b)[j]) for b in batches)
        ]
        if any(y.shape != x.shape or y.shape[1] < 2 for y, x in both):
            continue
        pieces = [(y[:, :-1], x[:, 1:]) for y, x in both]
        # that are not constant: all constants are alike
        varied = any(bool((y != y.flatten()[0]).any()) for y, _ in pieces)
        if varied and all(torch.equal(y, x) for y, x in pieces):
            return True
    return False


def _chained(batches: Sequence[Any], axes: Sequence[int | None]) -> bool:
    """Return whether neighbours in time depend on each other in the first tensor that has time.

    The correlations of neighbours are compared with those in permuted orders of the steps.
    """
    wide = next((k for k, t in enumerate(batch_tensors(batches[0])) if t.dim() >= 2), None)
    if wide is None or axes[wide] is None:
        return False
    parts = [_features(batch_tensors(b)[wide], axes[wide] or 0) for b in batches[:_MOST_SHIFTS]]
    parts = [part[:_LEAST_SAMPLES] for part in parts if part.shape[1:] == parts[0].shape[1:]]
    parts = parts[: max(1, _MOST_SAMPLES // len(parts[0]))]
    x = torch.cat(parts)
    if x.shape[1] < 4:
        return False
    x = x - x.mean((0, 1))
    x = x[..., x.flatten(0, 1).std(0) > 0]
    x = x / x.flatten(0, 1).std(0)
    sizes = [len(part) for part in parts]
    generator = torch.Generator().manual_seed(0)

    def alike(*, permuted: bool) -> float:
        pieces = x.split(sizes)
        if permuted:
            pieces = [p[:, torch.randperm(p.shape[1], generator=generator)] for p in pieces]
        every = torch.cat(pieces)
        products = torch.einsum("nte,ntf->ef", every[:, :-1], every[:, 1:])
        return float(products.square().sum())

    null = torch.tensor([alike(permuted=True) for _ in range(_PERMUTATIONS)])
    return alike(permuted=False) > float(null.mean() + _CLEAR * null.std().clamp_min(1e-9))


def _dependence(batches: Sequence[Any], axes: Sequence[int | None]) -> float:
    """Measure the dependence of any other tensor on the first input tensor, under a reading.

    The largest correlation of any target feature with any input feature (and products of two) at
    any distance in time, in standard deviations of the same with samples permuted.
    """
    tensors = [batch_tensors(batch) for batch in batches]
    wide = next((k for k, tensor in enumerate(tensors[0]) if tensor.dim() >= 2), None)
    if wide is None or axes[wide] is None:
        return 0.0
    others = [k for k in range(len(axes)) if k != wide and axes[k] is not None]
    return max((_pair_dependence(tensors, axes, wide, k) for k in others), default=0.0)


def _pair_dependence(
    batches: Sequence[Sequence[Tensor]], axes: Sequence[int | None], wide: int, other: int
) -> float:
    """Return the dependence of one tensor of a batch on another, 0 where samples are too few."""
    x_axis, y_axis = axes[wide], axes[other]
    assert x_axis is not None
    assert y_axis is not None
    pairs = [
        (
            _features(batch[wide], x_axis),
            _targets(batch[other], y_axis, batch[wide].shape[1 - x_axis]),
        )
        for batch in batches
    ]
    times = {(x.shape[1], y.shape[1]) for x, y in pairs}
    if len(times) != 1 or len({(x.shape[2], y.shape[2]) for x, y in pairs}) != 1:
        return 0.0
    x, y = (torch.cat(parts)[:_MOST_SAMPLES] for parts in zip(*pairs, strict=True))
    if x.shape[0] < 8:
        return 0.0
    # classes that do not occur are constant
    x, y = (v[..., v.flatten(0, 1).std(0) > 0] for v in (x, y))
    if 0 in (x.shape[2], y.shape[2]):
        return 0.0
    x, y, shifts = _bounded(x, y)
    generator = torch.Generator().manual_seed(0)
    real = _strongest(x, y, shifts)
    null = torch.tensor(
        [
            _strongest(x, y[torch.randperm(len(y), generator=generator)], shifts)
            for _ in range(_PERMUTATIONS)
        ]
    )
    if float(null.std()) < 1e-9:  # the same for all samples, such as a mask: nothing to compare
        return 0.0
    return float((real - null.mean()) / null.std())


def _features(x: Tensor, axis: int) -> Tensor:
    """Return inputs as (samples, time, features); with products of two where there are few."""
    x = x.transpose(0, axis)
    if not x.is_floating_point():
        x = F.one_hot(x.long().clamp(0, _MOST_CLASSES - 1), _MOST_CLASSES).flatten(2)
    x = x.float().nan_to_num()
    x = x.flatten(2) if x.dim() > 2 else x[:, :, None]
    if x.shape[2] <= 6:
        x = torch.cat([x, *(x[:, :, [k]] * x[:, :, k:] for k in range(x.shape[2]))], 2)
    return x


def _targets(y: Tensor, axis: int, time: int) -> Tensor:
    """Return targets as (samples, time or 1, features)."""
    y = y.transpose(0, axis) if axis else y
    per_step = y.dim() >= 2 and y.shape[1] == time
    if not y.is_floating_point():
        y = F.one_hot(y.long().clamp(0, _MOST_CLASSES - 1), _MOST_CLASSES)
    y = y.float().nan_to_num()
    return y.flatten(2) if per_step and y.dim() > 2 else y.reshape(y.shape[0], 1, -1)


def _bounded(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return fewer samples, and fewer shifts in time, where there are too many products."""
    shifts = min(_MOST_SHIFTS, x.shape[1] - 1)
    products = x.shape[1] * x.shape[2] * y.shape[2] * (max(shifts, 1) if y.shape[1] > 1 else 1)
    count = min(len(x), max(_LEAST_SAMPLES, _MOST_PRODUCTS // products))
    shifts = min(shifts, max(_LEAST_SHIFTS, _MOST_PRODUCTS * shifts // (products * count)))
    return x[:count], y[:count], shifts


def _strongest(x: Tensor, y: Tensor, shifts: int) -> float:
    """Return the largest squared correlation over samples, of any two times or at any shift."""

    def standard(v: Tensor, axes: tuple[int, ...]) -> Tensor:
        v = v - v.mean(axes, keepdim=True)
        return v / v.square().mean(axes, keepdim=True).sqrt().clamp_min(1e-9)

    if y.shape[1] == 1:
        x, y = standard(x, (0,)), standard(y, (0,))
        return float((torch.einsum("nte,nsf->tef", x, y) / len(x)).square().max())
    x, y = standard(x, (0, 1)), standard(y, (0, 1))
    best = 0.0
    for shift in range(1, shifts + 1):
        a, b = x[:, :-shift], y[:, shift:]
        found = torch.einsum("nte,ntf->ef", a, b) / (len(a) * a.shape[1])
        best = max(best, float(found.square().max()))
    return best
