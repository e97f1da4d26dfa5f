"""Checks of the state between steps, by copies: a state that is dropped, or is never reset."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.core.state import State, state_tensors
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.changes import Reattached, Substitute
from throughtime.doctor.data_pairs import outputs_of, roles_of
from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.gradient_cut import of_other_tensors
from throughtime.doctor.intervals import difference
from throughtime.doctor.remedies import Condition
from throughtime.doctor.sample_axes import SampleAxes, change_tensor
from throughtime.doctor.subject import batch_tensors
from throughtime.doctor.written_code import state_passed_on, written
from throughtime.engines import Place, Request, Result, run
from throughtime.foreign.recording import Recording
from throughtime.foreign.sites import find_recurrent, run_by, site_of
from throughtime.foreign.watching import Call, watch
from throughtime.results.diagnosis import Cause, Finding

_MOST_READINGS = 3  # of tensors that nothing reads, as marks of where episodes start


def check_dropped(copies: FreshCopies, losses: Sequence[float], where: str) -> Finding | None:
    """Check whether calls of the layer that do not get the state of the call before need it.

    A reference predictor in the layer's place does not get it either, and what is read before a
    decoder is not its input: so a model with this fault may be as good as the predictor.

    Arguments:
        copies: trials of copies.
        losses: held-out losses of the model.
        where: layer and batches, in words.

    Returns:
        The fault, if a copy that passes the state on learns clearly more than an equal one as
        it is, and than the model.
    """
    subject, layer = copies.trainer.subject, copies.layer
    model, batch = subject.copy(), subject.held_out[0]
    watched = watch(
        model, lambda: subject.loss(model, batch), layer=layer, level=0, gradients=False
    )
    count = len(dropped_calls(watched.calls))
    if count == 0 or of_other_tensors(subject, layer):
        return None
    name = "the state passed on between the calls of the layer"
    pair = _better(copies, losses, name, lambda condition: _passed_on(condition, layer))
    if pair is None:
        return None
    usual, trial = pair
    copies.add_remedy(name, written(state_passed_on, subject, layer, 1), usual, trial)
    return Finding(
        cause=Cause.FORGETTING,
        severity="fault",
        certainty="measured",
        statement=f"{count} of {len(watched.calls)} calls of the layer do not get the state of the "
        "call before: they start again from the state of the first call, or from zeros. "
        f"{_in_words(usual, trial, 'that passes the state on')}",
        effect=difference(trial.after, usual.after),
        effect_name="change of the held-out loss with the state passed on",
        threshold=0.0,
        measured_on=where,
        remedy="Assign the state that each call of the layer returns, and pass it to the next.",
    )


def graph_needed(copies: FreshCopies) -> bool:
    """Return whether a fresh copy learns that keeps the graph between calls, and one as it is not.

    The model's own losses do not count: it may have been trained on the same batches.

    Arguments:
        copies: trials of copies.
    """
    layer, usual = copies.layer, copies.plain()
    if usual is None:
        return False
    kept = Reattached(dropped=False, kept=True)
    trial = copies.train(
        "the graph kept between the calls of the layer",
        lambda condition: run_condition_by(condition, layer, kept),
        updates=usual.updates,
    )
    return trial is not None and copies.clearly_better(trial, usual)


def _passed_on(condition: Condition, layer: str) -> Condition:
    """Return a condition in which each call of the layer goes on from the end of the one before."""
    _, module = find_recurrent(condition.model, layer)
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return run_condition_by(condition, layer, Reattached(dropped=True, kept=True))
    end: Any = None

    def before(module: nn.Module, given: Any, options: Any) -> tuple[Any, Any] | None:
        del module
        start = options["hx"] if "hx" in options else (*given, None)[1]
        if end is None or (start is not None and _shapes(start) != _shapes(end)):
            return None
        return given[:1], {**options, "hx": end}

    def after(module: nn.Module, given: Any, output: Any) -> None:
        nonlocal end
        del given
        end = output[1] if isinstance(module, nn.RNNBase) else output

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after)

    def loss(batch: Any) -> Tensor:
        nonlocal end
        end = None
        return condition.loss(batch)

    return dataclasses.replace(condition, loss=loss)


def _shapes(state: Any) -> list[torch.Size]:
    return [part.shape for part in pytree.tree_leaves(state)]


def dropped_calls(calls: Sequence[Call]) -> list[int]:
    """List the calls of which a part of the state starts as that of the first call, or from zeros.

    The state of the call before had ended elsewhere.

    Arguments:
        calls: calls of a layer in one loss, in their order.
    """
    first = calls[0].request
    found: list[int] = []
    for k, (before, call) in enumerate(itertools.pairwise(calls), 1):
        request = call.request
        rows = request.inputs.shape[1]
        like = request.state.h
        fresh = request.cell.initial_state(rows, dtype=like.dtype, device=like.device)
        parts = zip(
            _parts(request.state),
            _parts(before.result.state),
            _parts(first.state),
            _parts(fresh),
            strict=True,
        )
        for start, end, of_first, zeros in parts:
            if not _same(start, end) and (_same(start, of_first) or _same(start, zeros)):
                found.append(k)
                break
    return found


def _parts(state: State) -> list[Tensor]:
    return [part for part in state_tensors(state) if part.is_floating_point()]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def check_resets(
    copies: FreshCopies,
    axes: SampleAxes | None,
    recording: Recording,
    losses: Sequence[float],
    where: str,
) -> Finding | None:
    """Check whether the state should start afresh where a tensor marks it that the model ignores.

    Such a tensor changes neither the answers nor the loss: a state that starts afresh where targets
    mark it would hold the targets. It marks starts or ends of episodes by the rarer of two values,
    and episodes by a number that changes.

    Arguments:
        copies: trials of copies.
        axes: sample axes of the tensors; None where they are not known.
        recording: recording of the bottom level on the first held-out batch.
        losses: held-out losses of the model.
        where: layer and batches, in words.

    Returns:
        The fault, if a copy whose state starts afresh there learns clearly more than an equal
        one as it is, and than the model.
    """
    subject, layer = copies.trainer.subject, copies.layer
    _, module = find_recurrent(subject.copy(), layer)
    if axes is None or axes.count != recording.batch or site_of(module).directions > 1:
        return None
    if recording.lengths is not None or recording.time < 2:
        return None
    tensors = batch_tensors(subject.held_out[0])
    sizes = {recording.time, recording.batch}
    marks = [
        k
        for k, tensor in enumerate(tensors)
        if {*tensor.shape} - {1} == sizes - {1} and tensor.dim() >= 2 and _readings_of(tensor)
    ]
    if not marks:
        return None
    roles = roles_of(subject, layer, axes)
    readings = [
        (k, words)
        for k in marks
        if k not in (*roles.read, *roles.targets) and _is_unread(copies, k, axes)
        for words in _readings_of(tensors[k])
    ]
    for k, words in readings[:_MOST_READINGS]:
        axis = axes.axes[k]
        assert axis is not None
        substitute = _Restarted(
            lambda tensor, of=_MARKS[words], at=axis: of(_over_time(tensor, at))
        )
        name = f"a state that starts afresh {words} tensor {k + 1} of the batch"

        def change(condition: Condition, k: int = k, by: "_Restarted" = substitute) -> Condition:
            if len(recording.calls) == recording.time:  # faster than an engine
                _, module = find_recurrent(condition.model, layer)
                module.register_forward_pre_hook(by.before_step, with_kwargs=True)
                changed = condition
            else:
                changed = run_condition_by(condition, layer, by)

            def loss(batch: Any) -> Tensor:
                by.begin(batch_tensors(batch)[k])
                return changed.loss(batch)

            return dataclasses.replace(changed, loss=loss)

        pair = _better(copies, losses, name, change)
        if pair is None:
            continue
        usual, trial = pair
        copies.add_remedy(name, "", usual, trial)
        return Finding(
            cause=Cause.STATE_LEAK,
            severity="fault",
            certainty="measured",
            statement=f"The state runs on from one episode into the next: the model does not read "
            f"tensor {k + 1} of the batch, which marks where they start or end. "
            f"{_in_words(usual, trial, f'whose state starts afresh {words} it')}",
            effect=difference(trial.after, usual.after),
            effect_name="change of the held-out loss with a state that starts afresh",
            threshold=0.0,
            measured_on=where,
            remedy="Set the state of these sequences to its start between the two steps: "
            "state = state * (1 - start)[:, None] before the cell is called.",
        )
    return None


def _is_unread(copies: FreshCopies, mark: int, axes: SampleAxes) -> bool:
    """Return whether no answer changes with the time of the marks, which all samples may share."""
    subject, axis = copies.trainer.subject, axes.axes[mark]
    if axis is None or axis > 1:
        return False
    batch = subject.held_out[0]
    moved = change_tensor(batch, mark, lambda leaf: leaf.roll(1, 1 - axis))
    before, after = (outputs_of(subject, copies.layer, each)[0] for each in (batch, moved))
    return len(before) == len(after) and all(map(_same, before, after))


def _over_time(tensor: Tensor, axis: int) -> Tensor:
    """Return a tensor as (time, samples)."""
    grid = tensor.transpose(0, 1) if axis == 0 else tensor
    return grid.reshape(grid.shape[:2])


def _rare(marks: Tensor) -> Bool[Tensor, "time samples"]:
    on = marks > 0
    return on if float(on.double().mean()) < 0.5 else ~on


def _after(marks: Bool[Tensor, "time samples"]) -> Bool[Tensor, "time samples"]:
    return torch.cat([torch.zeros_like(marks[:1]), marks[:-1]])


def _new(numbers: Tensor) -> Bool[Tensor, "time samples"]:
    return torch.cat([torch.zeros_like(numbers[:1], dtype=torch.bool), numbers[1:] != numbers[:-1]])


_MARKS: dict[str, Callable[[Tensor], Tensor]] = {
    "at the marks of": _rare,
    "after the marks of": lambda tensor: _after(_rare(tensor)),
    "at the changes of": _new,
}
"""Steps before which the state starts afresh, from a tensor (time, samples), by their words."""


def _readings_of(tensor: Tensor) -> list[str]:
    """List the readings that a tensor may have: of two values both of marks; else its changes."""
    values = tensor.unique()
    if len(values) == 2:
        return ["at the marks of", "after the marks of"]
    whole = not tensor.is_floating_point() or bool((tensor == tensor.round()).all())
    return ["at the changes of"] if whole and 2 < len(values) < tensor.numel() / 2 else []


@final
class _Restarted:
    """Runs each cell with states that start afresh at some steps.

    Arguments:
        starts: function from a tensor of the batch to these steps, (time, samples).
    """

    def __init__(self, starts: Callable[[Tensor], Tensor]):
        self.starts = starts
        self.at: Tensor | None = None
        self.time: dict[tuple[int, ...], int] = {}

    def begin(self, tensor: Tensor) -> None:
        """Take the tensor of the batch whose loss is computed next."""
        self.at, self.time = self.starts(tensor), {}

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameters."""
        return []

    def run(self, request: Request, place: Place) -> Result:
        """Run with the first engine that serves."""
        resets = self._next(place[1:], request.inputs.shape[0]).to(request.inputs.device)
        return run(dataclasses.replace(request, resets=resets), "auto")

    def before_step(self, module: nn.Module, given: Any, options: Any) -> tuple[Any, Any]:
        """Set rows of the state to 0 in the arguments of a cell that a loop calls once a step."""
        fresh = self._next((), 1)[0]
        axis = 1 if isinstance(module, nn.RNNBase) else 0

        def kept(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or leaf.dim() <= axis:
                return leaf
            rows = fresh.to(leaf.device).reshape(-1, *(1,) * (leaf.dim() - axis - 1))
            return leaf.masked_fill(rows, 0)

        x, *state = given
        return (x, *pytree.tree_map(kept, state)), pytree.tree_map(kept, options)

    def _next(self, cell: tuple[int, ...], steps: int) -> Tensor:
        assert self.at is not None
        start = self.time.get(cell, 0)
        self.time[cell] = start + steps
        return self.at[start : start + steps]


def run_condition_by(condition: Condition, layer: str, substitute: Substitute) -> Condition:
    """Return a condition whose layer is run by a substitute without parameters."""
    _, module = find_recurrent(condition.model, layer)
    site = site_of(module)

    def loss(batch: Any) -> Tensor:
        with run_by(module, substitute.run, site):
            return condition.loss(batch)

    return dataclasses.replace(condition, loss=loss)


def _better(
    copies: FreshCopies,
    losses: Sequence[float],
    name: str,
    change: Callable[[Condition], Condition],
) -> tuple[Trial, Trial] | None:
    """Train on with a change and without, if that is clearly better, and than the model.

    Both start from the given weights: what the layers around have learned needs no more time.
    """
    trial = copies.train(name, change, given=True)
    if trial is None or copies.as_good(losses, trial):
        return None
    usual = copies.train("as it is", given=True, updates=trial.updates)
    if usual is None or 2 * usual.updates < trial.updates:  # too little time was left
        return None
    if not copies.learns(trial) or copies.as_good(usual.after, trial):
        return None
    return (usual, trial) if difference(trial.after, usual.after).high < 0 else None


def _in_words(usual: Trial, trial: Trial, change: str) -> str:
    return (
        f"A copy {change} reaches a held-out loss of {in_words(trial.after)} when it is trained "
        f"on, an equal one as it is {in_words(usual.after)}."
    )
