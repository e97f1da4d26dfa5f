"""Check of what lies before the layer: the layer's inputs change with those of the model."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from throughtime.doctor.intervals import exactly
from throughtime.doctor.subject import Subject
from throughtime.foreign.recording import Recording
from throughtime.foreign.sites import find_recurrent
from throughtime.results.diagnosis import Cause, Finding

_ROUNDING = 4  # units in the last place: the most by which equal inputs differ
_MOST = 8  # batches


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """Call of a module before the layer.

    Attributes:
        name: name of the module.
        module: the module.
        varied: True if its inputs differ between samples.
        output: its output, with a graph.
    """

    name: str
    module: nn.Module
    varied: bool
    output: Tensor


def check_inputs_vary(subject: Subject, layer: str, recording: Recording) -> Finding | None:
    """Check that the layer does not get one and the same input for all samples and steps.

    It is a fault where modules before the layer get inputs that differ, and make constants of them,
    and where the derivative of the layer's inputs by all their parameters is 0, so that training
    does not change it. What is in the weights shows in the given ones alone, not in fresh ones.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        recording: recording of the bottom level on the first held-out batch.
    """
    time = torch.arange(recording.time)[:, None]
    valid = (time < recording.valid_lengths()).to(recording.inputs.device)
    if recording.time * recording.batch < 2 or not _same(recording.inputs[valid]):
        return None
    outputs = (recording.outputs[t][valid[t]] for t in range(recording.time))
    if not all(_same(rows) for rows in outputs):
        return None  # it has a state, or weights, that the model's inputs change
    found: list[_Call] = []
    for batch in [*subject.held_out, *subject.training][:_MOST]:
        inputs, calls = _before(subject, layer, batch)
        if not inputs or not _same(torch.cat([x.flatten(0, -2) for x in inputs])):
            return None
        total = sum((x.double() * torch.rand_like(x, dtype=torch.float64)).sum() for x in inputs)
        found = _connected(total, calls)
        if not any(call.varied for call in found):
            return None
        parameters = [p for call in found for p in call.module.parameters() if p.requires_grad]
        if parameters and isinstance(total, Tensor) and total.requires_grad:
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
            if any(g is not None and bool(g.any()) for g in gradients):
                return None
    return _constant_finding(layer, found)


def _same(rows: Tensor) -> bool:
    """Return whether all rows are equal, up to rounding."""
    if len(rows) < 2:
        return True
    wide = rows.detach().double()
    limit = _ROUNDING * torch.finfo(rows.dtype).eps * wide.abs().amax(0)
    return bool((wide.amax(0) - wide.amin(0) <= limit).all())


def _before(subject: Subject, layer: str, batch: Any) -> tuple[list[Tensor], list[_Call]]:
    """Run a copy, and return the inputs of each call of the layer, and what was called before."""
    model = subject.copy(training=True)
    _, target = find_recurrent(model, layer)
    inputs: list[Tensor] = []
    calls: list[_Call] = []

    def enter(module: nn.Module, given: Any) -> None:
        del module
        first = given[0] if given else None
        first = first.data if isinstance(first, PackedSequence) else first
        inputs.extend([first] if isinstance(first, Tensor) and first.dim() > 1 else [])

    def leave(name: str, module: nn.Module, given: Any, output: Any) -> Any:
        if inputs or not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        varied = any(
            isinstance(x, Tensor) and x.dim() > 0 and not bool((x == x[:1]).all())
            for x in pytree.tree_leaves(given)
        )
        if not output.requires_grad:  # frozen: the graph shows what the layer's inputs are made of
            output = output.detach().requires_grad_().clone()
        calls.append(_Call(name, module, varied, output))
        return output

    handles = [target.register_forward_pre_hook(enter)]
    for name, module in model.named_modules():
        if any(module.children()) or module is target:
            continue

        def after(module: nn.Module, given: Any, output: Any, name: str = name) -> Any:
            return leave(name, module, given, output)

        handles.append(module.register_forward_hook(after))
    try:
        torch.manual_seed(0)
        subject.loss(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return inputs, calls


def _connected(total: Any, calls: list[_Call]) -> list[_Call]:
    """List the calls whose outputs the layer's inputs are made of."""
    if not calls or not isinstance(total, Tensor) or not total.requires_grad:
        return []
    gradients = torch.autograd.grad(
        total, [call.output for call in calls], allow_unused=True, retain_graph=True
    )
    return [call for call, g in zip(calls, gradients, strict=True) if g is not None]


def _constant_finding(layer: str, calls: list[_Call]) -> Finding:
    last = max(k for k, call in enumerate(calls) if call.varied)
    weighted = [call for call in calls[: last + 1] if [*call.module.parameters()]]
    name = (weighted or calls[last:])[-1].name
    trained = any(p.requires_grad for call in calls for p in call.module.parameters())
    words = (
        f"Layer {layer!r} gets one and the same input for all samples and steps, although the "
        f"inputs of {name!r}, which is before it, differ. "
    )
    if trained:
        values = (weighted or calls)[-1].output.detach()
        cause = Cause.DEAD_UNITS
        words += (
            f"All units after {name!r} are dead: its outputs lie from {float(values.min()):.3g} to "
            f"{float(values.max()):.3g}, where the function that follows is flat, so that no "
            "gradient changes its weights."
        )
        remedy = (
            f"Draw the weights and biases of {name} anew, with biases of 0, or use "
            "nn.LeakyReLU in place of the nonlinearity."
        )
    else:
        cause = Cause.NOT_TRAINED
        words += f"{name!r} gives the same for each, and no parameter before the layer is trained."
        remedy = (
            f"Print the weights of {name}: give it weights that differ (for an embedding, rows), "
            f"or call {name}.requires_grad_(True) and give its parameters to the optimiser."
        )
    return Finding(
        cause=cause,
        severity="fault",
        certainty="measured",
        statement=words,
        effect=exactly(0.0),
        effect_name="derivative of the layer's inputs by the parameters before it",
        threshold=0.0,
        measured_on=f"layer {layer!r}, given weights",
        remedy=remedy,
    )
