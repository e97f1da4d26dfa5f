"""Cuts of the gradient on its way back, in the model or in the training step."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.intervals import exactly
from throughtime.doctor.sample_axes import change_tensor
from throughtime.doctor.subject import Subject, batch_tensors, map_tensors
from throughtime.doctor.user_training import OptimizerOf, TrainingStep, optimizer_for
from throughtime.foreign.loop_site import LoopSite
from throughtime.foreign.site import AdaptedSite
from throughtime.foreign.sites import find_recurrent, run_by, site_of
from throughtime.foreign.watching import Watched, Watcher, watch
from throughtime.instruments.gradient_flow import GradientFlow, gradient_flow
from throughtime.instruments.input_influence import exchange_older
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_ERASED = 0.9  # of the answers: from there on a state that is set to 0 is no start of an episode


def flow_in_double(
    subject: Subject,
    layer: str,
    batch: Any,
    loss: Callable[[nn.Module, Any], Tensor] | None = None,
) -> GradientFlow:
    """Measure the gradient flow, in float64 if the model runs in it, so that little is not 0.

    Arguments:
        loss: function of (model, batch) that is differentiated; the subject's loss by default.
    """
    loss = subject.loss if loss is None else loss
    model = subject.copy()
    double = map_tensors(lambda t: t.double() if t.is_floating_point() else t, batch)
    try:
        return gradient_flow(model.double(), lambda: loss(model, double), layer=layer)
    except ConfigurationError:
        raise
    except (RuntimeError, TypeError, ValueError):  # a dtype is written out in the model
        model = subject.copy()
        return gradient_flow(model, lambda: loss(model, batch), layer=layer)


def check_cut(
    subject: Subject,
    layer: str,
    flow: GradientFlow,
    lag: int | None,
    erased_over: int | None = None,
) -> Finding | None:
    """Check that a gradient crosses every step that the state crosses, and that the state does.

    Arguments:
        lag: the dependency's length, None if it is not known: only shorter windows matter.
        erased_over: steps over which the model must not set the state to 0; None for no check.
    """
    cut = _check_graph(subject, layer, flow, lag)
    if cut is None and erased_over is not None:
        cut = check_erased(subject, layer, flow, erased_over)
    return cut


def _check_graph(
    subject: Subject, layer: str, flow: GradientFlow, lag: int | None
) -> Finding | None:
    window = _window(flow)
    if window is None or (lag is not None and window > lag):
        return None
    dropped, crosses = "fresh" in flow.links[1:], "detached" in flow.links
    _, module = find_recurrent(subject.copy(), layer)
    if not (dropped or crosses) and isinstance(site_of(module), AdaptedSite | LoopSite):
        crosses = _state_crosses(subject, layer, window)  # a step that is not ours may detach
    where = f"layer {layer!r}, one batch of {flow.answer.shape[1]} sequences"
    if not crosses and not dropped:
        return None  # zeros of rectified or dead units; or the loss reads nothing old
    if crosses:
        return Finding(
            cause=Cause.GRADIENT_CUT,
            severity="fault",
            certainty="proved",
            statement=f"No gradient goes further back than {window} steps, although the state "
            "does: the graph is cut there.",
            effect=exactly(float(window)),
            effect_name="steps that the gradient goes back",
            threshold=None if lag is None else float(lag),
            measured_on=where,
            remedy="Remove the detach() or no_grad() between steps, or cut less often: the window "
            "of truncated backpropagation must be longer than the dependency.",
        )
    if of_other_tensors(subject, layer):  # two sequences, such as the twins of a siamese network
        return _unread_call(flow, where)
    return Finding(
        cause=Cause.FORGETTING,
        severity="fault",
        certainty="proved",
        statement=f"What came more than {window} steps before the answer has no influence on it "
        "at all: the state starts afresh there.",
        effect=exactly(float(window)),
        effect_name="steps that the state goes on for",
        threshold=None if lag is None else float(lag),
        measured_on=where,
        remedy="Pass the state of one call of the layer on to the next: a call without a state "
        "starts from zeros.",
    )


def check_erased(subject: Subject, layer: str, flow: GradientFlow, lag: int) -> Finding | None:
    """Check that the model does not set the state to 0 between calls, over most of the lag.

    Arguments:
        flow: gradient flow on the first held-out batch.
        lag: steps between the answers and the inputs that they depend on.
    """
    if "changed" not in flow.links:
        return None
    model, batch = subject.copy(), subject.held_out[0]
    watched = watch(
        model, lambda: subject.loss(model, batch), layer=layer, level=0, gradients=False
    )
    calls = watched.calls
    if any(call.steps != 1 for call in calls) or len(calls) != len(flow.answer):
        return None
    gone = [torch.zeros(calls[0].request.state.h.shape[0], dtype=torch.bool)]
    for before, call in itertools.pairwise(calls):
        start, end = call.request.state.h.flatten(1), before.result.state.h.flatten(1)
        gone.append((~start.any(1) & end.any(1)).cpu())
    erased = torch.stack(gone).double()  # (time, batch)
    answered = (flow.answer > 0).cpu()
    answered[:lag] = False
    total = erased.cumsum(0)
    since = total - torch.cat([torch.zeros_like(total[:lag]), total[:-lag]])
    cut = since[answered] > 0
    share = float(cut.double().mean()) if len(cut) else 0.0
    if share < _ERASED:
        return None
    return Finding(
        cause=Cause.FORGETTING,
        severity="fault",
        certainty="proved",
        statement=f"Between its calls the model sets the state to 0, in "
        f"{in_percent(float(erased[1:].mean()))} of all steps of sequences: nothing of the inputs "
        f"{lag} steps back is left in {in_percent(share)} of the answers.",
        effect=exactly(share, len(cut)),
        effect_name=f"share of answers before which the state was 0 within {lag} steps",
        threshold=_ERASED,
        measured_on=f"layer {layer!r}, one batch of {erased.shape[1]} sequences",
        remedy="Look at the mask that the state is multiplied by: it may be inverted (1 - done "
        "keeps the state within an episode).",
    )


def of_other_tensors(subject: Subject, layer: str) -> bool:
    """Return whether the inputs of different calls come from different tensors of the batch."""
    batch, other = subject.held_out[0], subject.training[0]
    model = subject.copy()

    def calls(given: Any) -> list[Tensor]:
        torch.manual_seed(0)
        watched = watch(
            model, lambda: subject.loss(model, given), layer=layer, level=0, gradients=False
        )
        return [call.request.inputs for call in watched.calls]

    plain, replacements = calls(batch), batch_tensors(other)
    origins: dict[int, set[int]] = {}
    for k, tensor in enumerate(batch_tensors(batch)):
        if k >= len(replacements) or replacements[k].shape != tensor.shape or tensor.dim() < 2:
            continue
        changed = calls(change_tensor(batch, k, lambda _, new=replacements[k]: new))
        if len(changed) != len(plain):
            return False
        for call, (before, after) in enumerate(zip(plain, changed, strict=True)):
            if before.shape != after.shape or not torch.equal(before, after):
                origins.setdefault(call, set()).add(k)
    found = list(origins.values())
    return len(found) > 1 and not set.intersection(*found)


def _unread_call(flow: GradientFlow, where: str) -> Finding | None:
    """Return the finding that the loss does not read a call of the layer at all."""
    parts = flow.norm.split(list(flow.calls))
    unread = [k + 1 for k, part in enumerate(parts) if float(part.max()) == 0]
    if not unread or len(unread) == len(parts):
        return None
    return Finding(
        cause=Cause.FORGETTING,
        severity="fault",
        certainty="proved",
        statement=f"The loss does not depend on call {unread[0]} of the layer: its output and its "
        f"state are dropped, of {len(parts)} calls in all.",
        effect=exactly(float(len(unread)), len(parts)),
        effect_name="calls of the layer that the loss does not read",
        threshold=0.0,
        measured_on=where,
        remedy="Look for a variable that is overwritten, or is not used, after the layer.",
    )


def check_training_step(
    subject: Subject,
    layer: str,
    step: TrainingStep,
    optimizer: OptimizerOf | None,
    lag: int | None,
) -> Finding | None:
    """Run the user's own step on a copy, and check that gradients cross the layer's calls."""
    model = subject.copy(training=True)
    _, module = find_recurrent(model, layer)
    site = site_of(module)
    watcher = Watcher(site.levels - 1, 0)
    with run_by(module, watcher.run, site), torch.enable_grad():
        step(model, optimizer_for(model, optimizer), subject.training[0])
    calls = watcher.calls
    if len(calls) < 2 or all(call.link != "detached" for call in calls):
        return None
    windows: list[int] = []
    for call in calls:
        if call.link == "detached" or not windows:
            windows.append(0)
        windows[-1] += call.steps
    window = max(windows)
    if lag is not None and window > lag:
        return None
    return Finding(
        cause=Cause.GRADIENT_CUT,
        severity="fault",
        certainty="proved",
        statement=f"The training step backpropagates through {window} steps at a time and passes "
        "on the state without its graph"
        + ("." if lag is None else f", but the answer depends on inputs {lag} steps back."),
        effect=exactly(float(window)),
        effect_name="steps that the gradient goes back",
        threshold=None if lag is None else float(lag),
        measured_on=f"layer {layer!r}, one call of training_step",
        remedy="Make the window of truncated backpropagation longer than the dependency"
        + ("." if lag is None else f": more than {lag} steps."),
    )


def _window(flow: GradientFlow) -> int | None:
    """Return the most steps that the gradient goes back from an answer; None if to the first step.

    It ends where a call starts without the graph of the one before, and where it is zero. Where no
    gradient enters the layer at all, the last step is taken as the answer.
    """
    starts = [0]
    for steps in flow.calls[:-1]:
        starts.append(starts[-1] + steps)
    cuts = [s for s, link in zip(starts, flow.links, strict=True) if link in ("detached", "fresh")]
    answered = (flow.answer > 0).any(1).nonzero()[:, 0].tolist() or [len(flow.norm) - 1]
    window = max(t - max((cut for cut in cuts if cut <= t), default=0) + 1 for t in answered)
    reached = (flow.norm > 0).nonzero()[:, 0].tolist()
    if reached:
        window = min(window, max(answered) - min(reached) + 1)
    return None if window > max(answered) else window


def _state_crosses(subject: Subject, layer: str, window: int) -> bool:
    """Return whether the last state changes with inputs that are older than a window."""
    model = subject.copy()

    def run(change: Any) -> Watched:
        torch.manual_seed(0)
        return watch(
            model,
            lambda: subject.loss(model, subject.held_out[0]),
            layer=layer,
            level=0,
            change=change,
            gradients=False,
        )

    plain = run(None)
    if len(plain.lengths) < 2:
        return False
    others = torch.arange(len(plain.lengths)).roll(1)
    changed = run(exchange_older(others, plain.lengths, window - 1))
    ends = (one.calls[-1].result.state.h for one in (plain, changed))
    return not torch.equal(*ends)
