"""Check of read-outs over all steps that take in padding, by training copies that leave it out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.exact_checks import reads_all_at_once
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import difference, exactly, mean
from throughtime.doctor.padding import given_lengths, lengths_of, read_shares, true_lengths
from throughtime.doctor.remedies import Condition
from throughtime.foreign.recording import Recording
from throughtime.foreign.sites import find_recurrent, replaced_forward
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_TAKEN_IN = 0.01  # of an answer: less of it from padding is the arithmetic's
_UPDATES = 128  # of a copy, which starts from the given weights
_WORTH = 0.05  # of the loss without inputs: the least gain that is worth a change
_NAME = "the padding left out of the read-out"
_CODE = """# output (batch, steps, units), lengths without the padding
mask = torch.arange(output.shape[1]) < lengths[:, None]
mean = (output * mask[..., None]).sum(1) / lengths[:, None]
largest = output.masked_fill(~mask[..., None], -torch.inf).amax(1)"""


def check_pooled_padding(
    copies: FreshCopies,
    recording: Recording,
    flow: GradientFlow,
    where: str,
) -> Finding | None:
    """Check whether a mean, a maximum or attention over all steps takes in padding, to its harm.

    It does harm if a copy that leaves the padding out learns clearly more than an equal one as it
    is. Otherwise the finding is a note.

    Arguments:
        copies: trials of fresh copies.
        recording: recording of the bottom level on the first held-out batch.
        flow: gradient flow of the top level on the same batch.
        where: layer and batches, in words.
    """
    subject, layer = copies.trainer.subject, copies.layer
    batch = subject.held_out[0]
    known = true_lengths(recording, batch)
    if known is None or not reads_all_at_once(subject, layer, flow.answer > 0):
        return None
    share = float(read_shares(known[0], flow).nanmean())
    if not share > _TAKEN_IN:
        return None
    usual = copies.train("as it is, trained on", updates=_UPDATES, given=True)
    trial: Trial | None = None
    if usual is not None:
        lengths = given_lengths(recording, batch)
        trial = copies.train(
            _NAME, lambda c: _left_out(c, layer, lengths), updates=usual.updates, given=True
        )
    words = ""
    effect, effect_name = exactly(share), "part of a short sequence's answer from padding"
    if trial is not None and usual is not None and _harms(copies, trial, usual):
        copies.add_remedy(_NAME, _CODE, usual, trial)
        words = " A copy without it learns clearly more than an equal one as it is."
        effect = difference(trial.after, usual.after)
        effect_name = f"change of the held-out loss with {_NAME}"
    return Finding(
        cause=Cause.PADDING_READ,
        severity="fault" if words else "note",
        certainty="measured" if words else "suspected",
        statement=f"The read-out takes in all steps, padding too: {in_percent(share)} of the "
        f"answer to a sequence that ends early comes from it ({known[1]}).{words}",
        effect=effect,
        effect_name=effect_name,
        threshold=0.0,
        measured_on=where,
        remedy="Leave the padded steps out: mask them in a mean, a maximum or attention.",
    )


def _harms(copies: FreshCopies, trial: Trial, usual: Trial) -> bool:
    """Return whether a copy without the padding learns clearly more, and what is worth it."""
    worth = mean(usual.after) - mean(trial.after)
    return copies.clearly_better(trial, usual) and worth > _WORTH * abs(mean(copies.need.constant))


def _left_out(
    condition: Condition, layer: str, lengths: Callable[[Any], Tensor] | None
) -> Condition:
    """Run the layer on the true steps; its outputs at them are spread over all steps.

    So each of them counts alike in a mean, a maximum or attention, and the last one comes last.

    Arguments:
        lengths: function from a batch to its lengths; None if the inputs show them.
    """
    _, module = find_recurrent(condition.model, layer)
    first = bool(getattr(module, "batch_first", False))

    def loss(batch: Any) -> Tensor:
        def forward(x: Tensor, hx: Any = None) -> Any:
            grid = x.transpose(0, 1) if first else x
            ends = lengths_of(grid) if lengths is None else lengths(batch)
            packed = pack_padded_sequence(x, ends, batch_first=first, enforce_sorted=False)
            result, state = type(module).forward(module, packed, hx)
            outputs, _ = pad_packed_sequence(result)
            index = torch.arange(len(grid))[:, None] * ends // len(grid)
            index = index.to(outputs.device)[..., None].expand(-1, -1, outputs.shape[-1])
            spread = outputs.gather(0, index)
            return (spread.transpose(0, 1) if first else spread), state

        with replaced_forward(module, forward):
            return condition.loss(batch)

    return Condition(condition.model, loss, condition.parameters)
