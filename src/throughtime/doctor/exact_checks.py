"""Exact checks: one sample, step or batch is replaced, and what changes is compared."""

import contextlib
import dataclasses
import functools
import re
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from throughtime.core.state import state_tensors
from throughtime.doctor.answers import SOLVED, solved
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.intervals import difference, exactly, mean
from throughtime.doctor.sample_axes import SampleAxes, change_tensor
from throughtime.doctor.subject import Subject, batch_tensors, redraw
from throughtime.doctor.verdict import stopped_finding
from throughtime.engines import Request, Result, unroll
from throughtime.foreign.recording import Recording, record
from throughtime.foreign.sites import Place, kept_outputs, run_by, site_of
from throughtime.foreign.watching import Watched, watch
from throughtime.instruments.gradient_flow import UnreachedError
from throughtime.results.diagnosis import Cause, Finding

_MOST_BATCHES = 16
_FLOOR = 0.1  # of the loss with the inputs of others: the most that a model has which has learned
_FLAT = (
    "Clamp",
    "Elu",
    "Gelu",
    "Hardtanh",
    "Relu",
    "Sigmoid",
    "Silu",
    "Softmax",
    "Softplus",
    "Tanh",
)
"""Functions with flat parts, as autograd names them."""
SAME = 1e-5  # a change below this part of the largest value is the arithmetic's


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Inputs of the recurrent layer, if there is one, and the answer of the model."""

    recording: Recording | None
    answer: Tensor | None


def view(subject: Subject, layer: str | None, batch: Any) -> View:
    """Run a fresh copy on a batch, the same random numbers each time."""
    model = subject.copy()
    torch.manual_seed(0)
    recording = None
    with kept_outputs(model) as outputs, torch.no_grad():
        if layer is None:
            subject.loss(model, batch)
        else:
            recording = record(model, lambda: subject.loss(model, batch), layer=layer, level=0)
    answers: list[Tensor] = []
    for output in outputs:
        tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
        answers.extend(t.detach() for t in tensors[:1] if t.is_floating_point())
    return View(recording, answers[-1] if len(answers) == 1 else None)


def never_run(subject: Subject, layers: list[str]) -> list[str]:
    """Return the layers that the loss of the first batch does not run."""
    model = subject.copy()
    modules = dict(model.named_modules())
    with contextlib.ExitStack() as stack, torch.no_grad():
        outputs = {name: stack.enter_context(kept_outputs(modules[name])) for name in layers}
        subject.loss(model, subject.training[0])
    return [name for name, kept in outputs.items() if not kept]


def check_reached(subject: Subject, layer: str) -> Finding | None:
    """Check that the loss runs the layer, and that its gradient reaches the layer's parameters.

    Arguments:
        subject: the model and its data.
        layer: name of the recurrent layer.
    """
    model = subject.copy(training=True)
    module = dict(model.named_modules())[layer]
    with kept_outputs(module) as outputs:
        loss = subject.loss(model, subject.training[0])
    parameters = list(module.parameters())
    trained = [p for p in parameters if p.requires_grad]
    if not outputs:
        return _not_trained(
            layer,
            f"The loss does not run layer {layer!r}: forward never calls it.",
            f"Call {layer or 'the layer'} in forward and use its output, or remove it.",
        )
    if not trained and any(layer == n or layer.startswith(f"{n}.") for n in subject.registered):
        return None  # see check_registered
    if not trained and parameters:
        return _not_trained(
            layer,
            f"None of the {len(parameters)} parameters of layer {layer!r} requires a gradient: the "
            "layer is frozen.",
            f"Call requires_grad_(True) on {layer or 'the model'}, and give its parameters to the "
            "optimiser.",
        )
    if loss.requires_grad:
        found = torch.autograd.grad(loss, trained, allow_unused=True)
        if not trained or any(gradient is not None for gradient in found):
            return None
    results = [t for t in pytree.tree_leaves(outputs) if isinstance(t, Tensor)]
    graph = any(t.requires_grad for t in results)
    finding = _not_trained(
        layer,
        f"No gradient of the loss reaches layer {layer!r}: "
        + (
            "its outputs lose their graph on the way to the loss."
            if graph
            else "it runs without a graph."
        ),
        "Remove the detach(), .data, numpy() or argmax() between the layer and the loss."
        if graph
        else "Remove the no_grad() or inference_mode() around the layer, or what detaches its "
        "inputs and freezes it.",
    )
    return dataclasses.replace(finding, cause=Cause.GRADIENT_CUT)


def no_flow_finding(error: Exception, subject: Subject, layer: str, where: str) -> Finding:
    """Return the finding where the gradient flow cannot be measured.

    That no state has a gradient is a fault, unless the model has learned: fixed states with a
    trained read-out may suffice.

    Arguments:
        error: error of the measurement.
        subject: model, data and loss.
        layer: name of the recurrent layer.
        where: layer and batches, in words.
    """
    gained = solved(subject, subject.copy())
    if not isinstance(error, UnreachedError) or gained is None or gained > SOLVED:
        return stopped_finding(error, where)
    return Finding(
        cause=Cause.GRADIENT_CUT,
        severity="fault",
        certainty="proved",
        statement="The graph has no way back from the loss to any state of the layer: what the "
        "answers are made from is computed without a gradient.",
        effect=exactly(0.0),
        effect_name="states that the gradient reaches",
        threshold=0.0,
        measured_on=f"layer {layer!r}, one batch",
        remedy="Look for a comparison such as x > 0, round(), sign() or detach() on each state: "
        "give it a gradient (of spikes, a surrogate in a torch.autograd.Function), or remove it.",
    )


def check_stopped(subject: Subject, layer: str) -> Finding | None:
    """Check why the gradient of the loss is 0 at every output of the layer: code, or weights.

    A copy with fresh weights tells the two apart.

    Arguments:
        subject: model whose loss has no gradient at the layer's outputs.
        layer: name of the recurrent layer.

    Returns:
        The fault of the code. Where fresh weights have a gradient, None; or that the
        model has learned, if its loss is 0. None too where the gradient ends in the flat part of
        a nonlinearity: that is a matter of values, not of code.
    """
    fresh, batch = subject.altered(lambda model: redraw(model, 0)), subject.held_out[0]
    if bool((flow_in_double(fresh, layer, batch).answer > 0).any()):
        return _at_the_floor(subject, layer)
    model = fresh.copy()
    if _flat(fresh, layer, batch):
        return None

    def run(factor: float) -> Watched:
        torch.manual_seed(0)
        return watch(
            model,
            lambda: subject.loss(model, batch),
            layer=layer,
            level=0,
            change=lambda request, _: dataclasses.replace(request, inputs=factor * request.inputs),
            gradients=False,
        )

    runs = [run(factor) for factor in (1.0, -1.0, 10.0, -10.0)]
    losses = [float(one.loss) for one in runs]
    changes = len(set(losses)) > 1
    packed = any(call.request.lengths is not None for call in runs[0].calls)
    why, remedy = (
        "The loss changes with the inputs of the layer: a function between the two has no "
        "gradient.",
        "Take rounding, comparisons and argmax out of what the loss reads; give it the scores.",
    )
    if not changes:
        why, remedy = (
            "The loss does not change with the inputs of the layer either: it reads none of its "
            "outputs.",
            "Look for a mask that is inverted, or an index of other steps, between the layer and "
            "the loss.",
        )
    if not changes and packed:
        why = (
            "The loss does not change with the inputs of the layer either: of packed sequences it "
            "reads only what lies after their ends, which is always 0."
        )
    return Finding(
        cause=Cause.PADDING_READ if packed and not changes else Cause.NOT_TRAINED,
        severity="fault",
        certainty="proved",
        statement="The gradient of the loss is exactly 0 at every output of the layer, with fresh "
        f"weights too. {why}",
        effect=exactly(max(losses) - min(losses)),
        effect_name="change of the loss with other inputs of the layer",
        threshold=0.0,
        measured_on=f"layer {layer!r} with fresh weights, one batch",
        remedy=remedy,
    )


def _flat(subject: Subject, layer: str, batch: Any) -> bool:
    """Return whether the gradient ends in the flat part of a nonlinearity behind the layer."""
    model = subject.copy()
    seen = watch(model, lambda: subject.loss(model, batch), layer=layer, level=-1)
    results = [
        tensor
        for call in seen.calls
        for tensor in (call.result.outputs, *state_tensors(call.result.state))
        if tensor.requires_grad
    ]
    flat: list[str] = []

    def see(name: str, after: Any, before: Any) -> None:
        if any(map(_nonzero, before)) and not any(map(_nonzero, after)):
            flat.append(name)

    left, known = [seen.loss.grad_fn], {seen.loss.grad_fn}
    with contextlib.ExitStack() as stack:
        while left:
            node = left.pop()
            if node is None:
                continue
            name = re.sub(r"Backward\d*$", "", node.name())
            if name in _FLAT:
                stack.callback(node.register_hook(functools.partial(see, name)).remove)
            more = {one for one, _ in node.next_functions} - known
            known |= more
            left += more
        if results:
            torch.autograd.grad(seen.loss, results, allow_unused=True)
    return bool(flat)


def _nonzero(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())


def _at_the_floor(subject: Subject, layer: str) -> Finding | None:
    """Find that the model has learned, where its loss is 0, or nearly so, and has no gradient."""
    model = subject.copy()
    module = dict(model.named_modules())[layer]

    def exchanged(request: Request, place: Place) -> Result:
        if place[1] == 0:
            request = dataclasses.replace(request, inputs=request.inputs.roll(1, 1))
        return unroll(request)

    plain = subject.held_out_losses(model)
    with run_by(module, exchanged, site_of(module)):
        others = subject.held_out_losses(model)
    rise = difference(others, plain)
    if rise.low <= 0 or not all(0 <= loss <= _FLOOR * mean(others) for loss in plain):
        return None
    return Finding(
        cause=Cause.HEALTHY,
        severity="note",
        certainty="measured",
        statement=f"The model has learned: its loss is {mean(plain):.3g}, without a gradient that "
        f"is left. With the inputs of other samples it is {mean(others):.3g}.",
        effect=rise,
        effect_name="rise of the loss with the inputs of other samples",
        threshold=0.0,
        measured_on=f"layer {layer!r}, {len(plain)} held-out batches",
        remedy="",
    )


def _not_trained(layer: str, statement: str, remedy: str) -> Finding:
    return Finding(
        cause=Cause.NOT_TRAINED,
        severity="fault",
        certainty="proved",
        statement=statement,
        effect=exactly(0.0),
        effect_name="parameters of the layer that the loss trains",
        threshold=0.0,
        measured_on=f"layer {layer!r}, one batch",
        remedy=remedy,
    )


def check_state(subject: Subject, layer: str) -> Finding | None:
    """Check that no batch starts from the state of the one before, unless that lowers the loss.

    The loss of each batch is compared after the batch before it, and after another batch: a state
    that is worth having is that of the batch before.

    Arguments:
        subject: the model and its data.
        layer: name of the recurrent layer.
    """
    held_out = [] if subject.held_out[0] is subject.training[0] else subject.held_out
    batches = [*subject.training, *held_out][-_MOST_BATCHES:]  # in the user's order
    kept = _graph_kept(subject, layer, batches)
    if kept is not None:
        return kept
    with torch.no_grad():
        model = subject.copy()
        once, twice = (_seeded_loss(subject, model, batches[0], 0) for _ in range(2))
        if abs(once - twice) <= SAME * max(abs(once), 1e-12):
            return None
        carried: list[float] = []
        other: list[float] = []
        for k in range(1, len(batches)):
            for before, losses in ((k - 1, carried), ((k + 1) % len(batches), other)):
                model = subject.copy()
                _seeded_loss(subject, model, batches[before], 0)
                losses.append(_seeded_loss(subject, model, batches[k], k))
    gain = difference(carried, other) if len(batches) > 2 else exactly(0.0)
    if gain.high < 0:
        return None  # the batches follow each other, and the state is worth having
    return Finding(
        cause=Cause.STATE_LEAK,
        severity="fault",
        certainty="proved",
        statement=f"The same batch gives another loss the second time ({once:.4g}, then "
        f"{twice:.4g}), with the same random numbers: the model keeps a state between calls. The "
        "state of the batch before is worth no more than that of another batch.",
        effect=exactly(abs(once - twice)),
        effect_name="change of the loss on a second call",
        threshold=0.0,
        measured_on=f"layer {layer!r}, {len(batches)} batches",
        remedy="Start each batch from a fresh state: drop the stored state at the start of "
        "forward, or pass it in and out explicitly where batches do follow each other.",
    )


def _seeded_loss(subject: Subject, model: Any, batch: Any, seed: int) -> float:
    torch.manual_seed(seed)
    return float(subject.loss(model, batch))


def _graph_kept(subject: Subject, layer: str, batches: list[Any]) -> Finding | None:
    """Check that the second backward pass does not run into the graph of the first."""
    model = subject.copy(training=True)
    try:
        first = subject.loss(model, batches[0])
        if not first.requires_grad:
            return None
        first.backward()
    except RuntimeError:
        return None  # not the fault that is looked for
    try:
        subject.loss(model, batches[-1]).backward()
    except RuntimeError as error:
        if "backward through the graph a second time" not in str(error):
            return None
        return Finding(
            cause=Cause.STATE_LEAK,
            severity="fault",
            certainty="proved",
            statement="The state of one batch is kept, with its graph, for the next batch: the "
            "second backward pass raises 'Trying to backward through the graph a second time'.",
            effect=exactly(1.0),
            effect_name="batches after which backward raises",
            threshold=0.0,
            measured_on=f"layer {layer!r}, two batches",
            remedy="Start each batch from a fresh state; or, where batches follow each other, keep "
            "state.detach().",
        )
    return None


def reads_all_at_once(subject: Subject, layer: str, answered: Tensor) -> bool:
    """Return whether one answer a sequence is read from many steps: by a mean, attention ...

    Then a predictor of recent inputs has every input at one of the steps. Its success is no
    evidence about the age of the inputs that the answer needs.

    Arguments:
        answered: (time, batch) True at the steps of the first held-out batch that the loss reads.
    """
    if int(answered.sum(0).max()) <= 1:
        return False
    answer = view(subject, layer, subject.held_out[0]).answer
    time, batch = answered.shape
    return answer is None or tuple(answer.shape[:2]) not in ((time, batch), (batch, time))


def check_future(
    subject: Subject, layer: str, axes: SampleAxes, answered: Tensor
) -> Finding | None:
    """Check that answers at early steps do not change with later inputs, for forward layers.

    A tensor of the batch takes part if the inputs of the layer change with it, and its first state
    does not: the source of an encoder is not the future of its decoder. What reads all steps on
    purpose looks the same (attention, a convolution), hence a warning.
    """
    batch = subject.held_out[0]
    model = subject.copy()
    if site_of(dict(model.named_modules())[layer]).directions > 1 or int(answered.sum()) < 2:
        return None
    time = len(answered)
    middle = int(answered.nonzero()[:, 0].double().median().round())
    if not 0 < middle < time:
        return None
    first = view(subject, layer, batch)
    if first.answer is None:
        return None
    for k, tensor in enumerate(batch_tensors(batch)):
        axis = axes.axes[k]
        if axis is None or tensor.dim() < 2 or tensor.shape[1 - axis] != time:
            continue
        second = view(subject, layer, _late_replaced(batch, k, axis, middle))
        if second.answer is None or second.answer.shape != first.answer.shape:
            return None
        before, after = first.recording, second.recording
        if before is None or after is None or not _changed_inputs_alone(before, after, middle):
            continue
        early = _time_first(first.answer, second.answer, time, axes.count)
        if early is None or float(early[middle:].max()) == 0:
            continue
        changed = early[:middle].amax(dim=tuple(range(1, early.dim())))
        if float(changed.max()) <= SAME * float(early[middle:].max()):
            continue
        return Finding(
            cause=Cause.STATE_LEAK,
            severity="warning",
            certainty="proved",
            statement=f"Answers before step {middle} change when inputs from step {middle} on are "
            "changed, although the recurrent layer runs forwards only: they depend on the future.",
            effect=exactly(float(changed.max() / early[middle:].max())),
            effect_name="change of early answers by late inputs, relative to that of late answers",
            threshold=SAME,
            measured_on=f"layer {layer!r}, one batch",
            remedy="Look for what mixes time steps around the recurrent layer: a normalisation, a "
            "convolution or an average over time, a flip, or targets that are shifted.",
        )
    return None


def _changed_inputs_alone(first: Recording, second: Recording, middle: int) -> bool:
    """Return whether the layer's inputs change from a step on, and its first state does not."""
    a, b = first.inputs, second.inputs
    if a.shape != b.shape or len(first.calls) != len(second.calls):
        return False
    starts = zip(state_tensors(first.initial), state_tensors(second.initial), strict=True)
    return all(torch.equal(x, y) for x, y in starts) and not torch.equal(a[middle:], b[middle:])


def _late_replaced(batch: Any, tensor: int, axis: int, start: int) -> Any:
    """Return a batch whose inputs from a step on are the next sample's."""

    def change(leaf: Tensor) -> Tensor:
        grid = leaf.transpose(0, axis)  # (samples, time, ...)
        changed = grid.clone()
        changed[:, start:] = grid.roll(1, 0)[:, start:]
        return changed.transpose(0, axis).contiguous()

    return change_tensor(batch, tensor, change)


def _time_first(first: Tensor, second: Tensor, time: int, count: int) -> Tensor | None:
    """Return |second - first| as (time, ...), where one reading of the answer has such an axis."""
    spread = (second.double() - first.double()).abs()
    if spread.dim() < 2:
        return None
    if spread.shape[0] == time and spread.shape[1] == count:
        return spread
    if spread.shape[0] == count and spread.shape[1] == time:
        return spread.transpose(0, 1)
    return None
