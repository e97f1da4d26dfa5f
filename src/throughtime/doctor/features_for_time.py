"""Features taken for time: a copy that runs over the other axis of its inputs, in training."""

from typing import Any

import torch
from torch import Tensor, nn

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import difference, mean
from throughtime.doctor.remedies import Condition, Trainer
from throughtime.doctor.subject import Clock, Subject, batch_tensors
from throughtime.foreign.recording import Recording
from throughtime.foreign.sites import find_recurrent
from throughtime.results.diagnosis import Cause, Finding

_SHARE = 0.15  # of the budget
_UPDATES = 500
_BETTER = 0.7  # of the loss as it is: below it, the other axis is that of time
_LEAST = 4  # entries of an axis


def try_other_axis(
    trainer: Trainer, layer: str, plain: Trial, recording: Recording, clock: Clock
) -> Finding | None:
    """Train a copy whose layer runs over the features of its inputs, and compare.

    Only where the layer gets the data as they are, with steps that differ more from each other than
    its features do: features have units of their own, the steps of a series are much alike.

    Arguments:
        trainer: trainer of the copy.
        layer: name of the recurrent layer.
        plain: training of a copy as it is.
        recording: recording of the bottom level on the first held-out batch.
        clock: clock of the diagnosis.
    """
    subject = trainer.subject
    _, module = find_recurrent(subject.copy(), layer)
    if not isinstance(module, nn.LSTM | nn.GRU | nn.RNN) or not _suspected(subject, recording):
        return None
    model = subject.copy(training=True)
    turned = _turned(model, layer, recording.time)

    def loss(batch: Any) -> Tensor:
        return subject.loss(model, batch)

    condition = Condition(model, loss, lambda: [p for p in model.parameters() if p.requires_grad])
    try:
        with torch.no_grad():
            loss(subject.held_out[0])
    except (RuntimeError, ValueError, IndexError):
        return None  # answers at every step, whose number is that of the targets
    trial = trainer.train(
        condition,
        seconds=min(_SHARE * clock.budget, clock.left()),
        updates=_UPDATES,
        longest=clock.longest(),
    )
    gain = difference(trial.after, plain.after)
    if gain.high >= 0 or mean(trial.after) > _BETTER * mean(plain.after):
        return None
    first = turned.batch_first
    swap = "x.transpose(1, 2)" if first else "x.transpose(0, 2)"
    return Finding(
        cause=Cause.TIME_BATCH_SWAPPED,
        severity="fault",
        certainty="measured",
        statement=f"{layer!r} takes features for time: it runs over {recording.time} steps of "
        f"{recording.inputs.shape[2]} features. A copy that runs over the axis of its features "
        f"reaches a held-out loss of {mean(trial.after):.3g}, one as it is "
        f"{mean(plain.after):.3g}.",
        effect=gain,
        effect_name="change of the held-out loss",
        threshold=0.0,
        measured_on=f"layer {layer!r}, {len(trial.after)} held-out batches, {trial.updates} "
        "updates",
        remedy=f"Turn its inputs: {swap} goes into {layer!r}, whose input_size is then "
        f"{recording.time}, the number of features.",
    )


def _suspected(subject: Subject, recording: Recording) -> bool:
    x = recording.inputs
    if recording.lengths is not None or len(recording.calls) > 1 or min(x.shape) < _LEAST:
        return False
    given = x.flatten().sort().values
    raw = any(
        tensor.numel() == x.numel() and torch.equal(tensor.to(x).flatten().sort().values, given)
        for tensor in batch_tensors(subject.held_out[0])
        if tensor.dim() == 3
    )
    times = {tuple(t.shape[1:]) for b in subject.training for t in batch_tensors(b) if t.dim() == 3}
    return raw and len(times) == 1 and _unlike(x, 0) > _unlike(x, 2)


def _unlike(x: Tensor, axis: int) -> float:
    """Return the deviation of the logarithms of the scales of the entries along an axis."""
    rows = x.double().movedim(axis, 0).flatten(1)
    return float(rows.std(1).clamp_min(1e-6).log().std())


def _turned(model: nn.Module, layer: str, features: int) -> Any:
    """Let a copy's layer run over the other axis: with weights of its own where sizes differ."""
    _, module = find_recurrent(model, layer)
    turned: Any = module
    if turned.input_size != features:
        options = {
            name: getattr(module, name)
            for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        }
        if isinstance(module, nn.LSTM):
            options["proj_size"] = module.proj_size
        if isinstance(module, nn.RNN):
            options["nonlinearity"] = module.nonlinearity
        parameter = next(module.parameters())
        turned = type(module)(features, module.hidden_size, **options)
        turned.to(parameter.device, parameter.dtype)
        if layer:
            model.set_submodule(layer, turned)
    axes = (1, 2) if turned.batch_first else (0, 2)

    def turn(module: nn.Module, inputs: Any) -> Any:
        del module
        return (inputs[0].transpose(*axes), *inputs[1:])

    turned.register_forward_pre_hook(turn)
    return turned
