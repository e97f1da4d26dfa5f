"""Checks of the steps at which the layer's outputs are read, and of sequences of one step."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.answers import SOLVED, solved
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import difference, exactly, mean
from throughtime.doctor.loss_calls import loss_calls
from throughtime.doctor.pairs import replace_whole_sample
from throughtime.doctor.remedies import Condition, Trainer
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Clock, Subject, batch_tensors
from throughtime.foreign.recording import Recording, record
from throughtime.foreign.sites import find_recurrent, site_of
from throughtime.instruments.gradient_flow import GradientFlow, gradient_flow
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_TRIAL = 0.1  # of the budget, for each of two copies
_UPDATES = 300
_BETTER = 0.8  # of the loss as it is: below it, the halves matter
_OTHERS = 8  # samples that are replaced, beside the one that is read
_SAME = 1e-5  # a change below this part of the largest value is the arithmetic's


def check_one_step(subject: Subject, layer: str, recording: Recording) -> Finding | None:
    """Check that the layer's sequences have more than one step, or start from a state.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        recording: recording of the bottom level on the first held-out batch.
    """
    if recording.time > 1:
        return None
    model, batch = subject.copy(), subject.held_out[0]

    def again() -> Recording:
        return record(model, lambda: subject.loss(model, batch), layer=layer, level=0)

    if any(bool((one.initial.h != 0).any()) for one in (recording, again(), again())):
        return None  # it goes on from a state: of another layer, or of the batch before
    longer = [tuple(t.shape) for t in batch_tensors(batch) if t.dim() > 1 and t.shape[1] > 1]
    return Finding(
        cause=Cause.ONE_STEP,
        severity="warning" if (solved(subject) or 0.0) > SOLVED else "fault",
        certainty="proved",
        statement=f"The layer {layer!r} gets {recording.batch} sequences of one step: there is no "
        "past to remember, and its recurrent weights have no effect.",
        effect=exactly(1.0),
        effect_name="steps of a sequence",
        threshold=1.0,
        measured_on=f"layer {layer!r}, one batch",
        remedy=f"Give {layer!r} windows of several steps, (batch, time, features) with "
        "batch_first=True: "
        + (
            f"the batch has tensors of shape {', '.join(map(str, longer))}, whose steps must be on "
            "the layer's time axis, not among its features or its sequences."
            if longer
            else "series.unfold(0, steps, 1) makes them from a series."
        ),
    )


def check_read_steps(
    subject: Subject,
    layer: str,
    axes: SampleAxes | None,
    flow: GradientFlow,
    recording: Recording,
) -> Finding | None:
    """Check that answers are read where the layer has seen the sequence they belong to.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        axes: axis of the samples in each tensor, if known.
        flow: gradient flow of the top level's forward cell on the first held-out batch.
        recording: recording of the bottom level on the same batch.
    """
    time, batch = flow.answer.shape
    if time < 2 or "fresh" in flow.links[1:]:
        return None
    lengths, read = recording.valid_lengths(), flow.answer > 0
    if not bool(read.any()):
        return None
    unpacked = _unpacked(layer, lengths, read)
    if unpacked is not None:
        return unpacked
    if axes is not None and batch == axes.count >= 3 and int(read.any(0).sum()) == 1:
        return _one_sample(subject, layer, axes, int(read.any(0).nonzero()[0, 0]))
    ends = _last(read)
    long = (lengths > 1) & (ends >= 0)
    if not bool(long.any()):
        return None
    module = find_recurrent(subject.copy(), layer)[1]
    if site_of(module).directions == 1:
        if bool((ends[long] == 0).all()):
            return _first_step(subject, layer, module, flow)
        return None
    return _half(subject, layer, module, lengths, ends)


def _last(read: Tensor) -> Tensor:
    """Return the last step that is read of each sequence; -1 where none is."""
    steps = torch.arange(read.shape[0], device=read.device)[:, None]
    return torch.where(read, steps, -1).amax(0).cpu()


def _unpacked(layer: str, lengths: Tensor, read: Tensor) -> Finding | None:
    short, any_read = lengths < len(read), read.any(0).cpu()
    if not bool(short.any()) or bool(short.all()) or bool((~any_read & ~short).any()):
        return None
    share = float((~any_read[short]).double().mean())
    if share < 0.5:
        return None
    return Finding(
        cause=Cause.PADDING_READ,
        severity="fault",
        certainty="proved",
        statement=f"Of the {int(short.sum())} sequences that are shorter than {len(read)} steps, "
        f"{in_percent(share)} are read after their end only, where a packed layer's outputs are "
        "zeros: their answers do not depend on the inputs.",
        effect=exactly(share),
        effect_name="share of short sequences of which no output is read",
        threshold=0.5,
        measured_on=f"layer {layer!r}, one batch of {len(short)} sequences",
        remedy="Read the output at each sequence's last valid step: h_n of the packed batch, or "
        "gather the unpacked outputs at lengths - 1.",
    )


def _one_sample(subject: Subject, layer: str, axes: SampleAxes, only: int) -> Finding | None:
    """Return a finding if the answers of all samples change with the inputs of one alone."""
    batch = subject.held_out[0]
    first = loss_calls(subject, subject.copy(), batch)[1]

    def changed(sample: int) -> tuple[float, bool]:
        """Return the share of changed answers, and whether targets changed."""
        source = (sample + 1) % axes.count
        other = replace_whole_sample(batch, axes, sample, source)
        second = loss_calls(subject, subject.copy(), other)[1]
        shares, targets = [0.0], False
        for one, two in zip(first, second, strict=False):
            if one.answers.shape == two.answers.shape:
                a, b = one.answers.detach(), two.answers.detach()
                apart = (a - b).abs() > _SAME * a.abs().max()
                shares.append(float(apart.double().mean()))
            targets = targets or not torch.equal(one.targets, two.targets)
        return max(shares), targets

    others = [changed(k) for k in [*range(only), *range(only + 1, axes.count)][:_OTHERS]]
    if changed(only)[0] < 0.5 or max(share for share, _ in others) > 0:
        return None
    if not any(targets for _, targets in others):
        return None  # they do not count at all
    module = find_recurrent(subject.copy(), layer)[1]
    first_axis = bool(getattr(module, "batch_first", False))
    wrong, right = ("out[-1]", "out[:, -1]") if first_axis else ("out[:, -1]", "out[-1]")
    return Finding(
        cause=Cause.WRONG_STEP,
        severity="fault",
        certainty="proved",
        statement=f"All answers of a batch are read from sample {only + 1} of {axes.count} alone, "
        "one from each of its steps: no other sample's inputs change any answer.",
        effect=exactly(1.0),
        effect_name="samples of a batch that the answers depend on",
        threshold=1.0,
        measured_on=f"layer {layer!r}, one batch of {axes.count} samples",
        remedy=f"With batch_first={first_axis} the last step of out, the output of {layer!r}, is "
        f"{right}; {wrong} is the last sample.",
    )


def _first_step(subject: Subject, layer: str, module: nn.Module, flow: GradientFlow) -> Finding:
    first_axis = bool(getattr(module, "batch_first", False))
    wrong, right = ("out[:, 0]", "out[:, -1]") if first_axis else ("out[0]", "out[-1]")
    return Finding(
        cause=Cause.WRONG_STEP,
        severity="warning" if (solved(subject) or 0.0) > SOLVED else "fault",
        certainty="proved",
        statement=f"The answers are read at the first of {len(flow.answer)} steps of {layer!r}, "
        "where it has seen one input: no later input changes them.",
        effect=exactly(1.0),
        effect_name="steps that the layer has seen where it is read",
        threshold=1.0,
        measured_on=f"layer {layer!r}, one batch of {flow.answer.shape[1]} sequences",
        remedy=f"Read the last step: {right} in place of {wrong}, where out is the output of "
        f"{layer!r} with batch_first={first_axis}.",
    )


def _half(
    subject: Subject, layer: str, module: nn.Module, lengths: Tensor, forward: Tensor
) -> Finding | None:
    """Return a warning if one direction is read after its whole course, the other at its start."""
    model, batch = subject.copy(), subject.held_out[0]
    try:
        flow = gradient_flow(model, lambda: subject.loss(model, batch), layer=layer, direction=1)
    except ConfigurationError:
        return None  # the backward half is not read
    backward = _last(flow.answer > 0)
    both = (forward >= 0) & (backward >= 0) & (lengths > 1)
    if not bool(both.any()):
        return None
    starts = [bool((ends[both] == 0).all()) for ends in (forward, backward)]
    if starts not in ([True, False], [False, True]):
        return None
    half, other = ("forward", "backward") if starts[0] else ("backward", "forward")
    del module
    return Finding(
        cause=Cause.WRONG_STEP,
        severity="warning",
        certainty="proved",
        statement=f"The {half} half of {layer!r} is read at its first step, where it has seen one "
        f"input of {int(lengths.max())}; only the {other} half has seen the sequence.",
        effect=exactly(1.0),
        effect_name=f"steps that the {half} half has seen where it is read",
        threshold=1.0,
        measured_on=f"layer {layer!r}, one batch of {len(lengths)} sequences",
        remedy="Read each half after its own last step: torch.cat([h_n[-2], h_n[-1]], -1), where "
        f"h_n is the final state of {layer!r}.",
    )


@contextlib.contextmanager
def whole_halves(module: nn.Module) -> Iterator[None]:
    """Put both halves' outputs after their own last steps at both ends of a layer's output.

    Arguments:
        module: bidirectional layer of torch.nn; packed outputs are left as they are.
    """

    def join(module: Any, inputs: Any, output: Any) -> Any:
        del inputs
        outputs, *rest = output
        if not isinstance(outputs, Tensor) or outputs.dim() != 3:
            return output
        axis = 1 if module.batch_first else 0
        width = outputs.shape[-1] // 2
        start, end = outputs.narrow(axis, 0, 1), outputs.narrow(axis, -1, 1)
        whole = torch.cat([end[..., :width], start[..., width:]], -1)
        middle = outputs.narrow(axis, 1, outputs.shape[axis] - 2)
        return (torch.cat([whole, middle, whole], axis), *rest)

    handle = module.register_forward_hook(join)
    try:
        yield
    finally:
        handle.remove()


def try_whole_halves(trainer: Trainer, layer: str, finding: Finding, clock: Clock) -> Finding:
    """Train copies with halves as they are read and with whole ones, and compare them.

    Arguments:
        trainer: trainer of the copies.
        layer: name of the bidirectional layer.
        finding: warning about a half that is read at its start.
        clock: clock of the diagnosis.

    Returns:
        The finding: a fault where the copy with whole halves does better; else as it was.
    """
    subject = trainer.subject
    _, module = find_recurrent(subject.copy(), layer)
    if site_of(module).directions < 2 or (solved(subject) or 0.0) > SOLVED:
        return finding
    trials: list[Trial] = []
    for whole in (False, True):
        model = subject.copy(training=True)
        _, module = find_recurrent(model, layer)

        def loss(
            batch: Any, model: nn.Module = model, module: nn.Module = module, whole: bool = whole
        ) -> Tensor:
            with whole_halves(module) if whole else contextlib.nullcontext():
                return subject.loss(model, batch)

        condition = Condition(
            model, loss, lambda model=model: [p for p in model.parameters() if p.requires_grad]
        )
        seconds = min(_TRIAL * clock.budget, clock.left())
        trials.append(
            trainer.train(condition, seconds=seconds, updates=_UPDATES, longest=clock.left())
        )
    plain, better = trials
    gain = difference(better.after, plain.after)
    if gain.high >= 0 or mean(better.after) > _BETTER * mean(plain.after):
        return finding
    return dataclasses.replace(
        finding,
        severity="fault",
        certainty="measured",
        statement=f"{finding.statement} A copy in which both halves are read after their last "
        f"step reaches a held-out loss of {mean(better.after):.3g} in {better.updates} updates, "
        f"one as it is {mean(plain.after):.3g} in {plain.updates}.",
        effect=gain,
        effect_name="change of the held-out loss",
        threshold=0.0,
    )
