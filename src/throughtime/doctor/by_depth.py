"""The examination of a deep network without a recurrent layer: the gradient by depth."""

import math
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor import verdict
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.evidence import Evidence
from throughtime.doctor.fresh_copies import UPDATES
from throughtime.doctor.intervals import difference, estimate, mean
from throughtime.doctor.options import Options
from throughtime.doctor.remedies import Condition, Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.instruments.depth import gradient_by_depth, layers_in_depth
from throughtime.reports import curves
from throughtime.results.diagnosis import (
    Cause,
    Diagnosis,
    Estimate,
    Finding,
    Remedy,
)

FEWEST = 4  # layers of a network that is examined by depth
BOUND = 3.0  # |log10| of the gradient at the first layer over that at the last, beyond which
_BATCHES = 4
_SHARE = 0.3  # of the budget, a training
_WORTH = 0.1  # of the loss: the least that shortcuts have to gain
_EFFECT = "log10 of the gradient at the first layer over that at the last"
_SHORTCUTS = """\
def shortcut(module, inputs, output):
    return inputs[0] + output / {count} ** 0.5 if inputs[0].shape == output.shape else output

for layer in {blocks}:
    if any(p.dim() > 1 for p in layer.parameters()):
        layer.register_forward_hook(shortcut)"""


def is_deep(model: nn.Module) -> bool:
    """Return whether a model holds a list of at least four layers."""
    try:
        return len(layers_in_depth(model)) >= FEWEST
    except ConfigurationError:
        return False


@final
class ByDepth:
    """Examination of a deep network: does the gradient arrive at its first layers?

    Arguments:
        subject: The model, data and loss.
        clock: The clock of the diagnosis.
        options: The user's options.
    """

    def __init__(self, subject: Subject, clock: Clock, options: Options):
        self.subject, self.clock, self.options = subject, clock, options
        copy = subject.copy()
        self.layers = layers_in_depth(copy)
        self.evidence = Evidence(f"{type(copy).__name__}, {len(self.layers)} layers in depth")
        self.where = f"{len(self.layers)} layers, {min(_BATCHES, len(subject.held_out))} batches"

    def run(self) -> Diagnosis:
        """Examine, and put the diagnosis together."""
        try:
            cause = self._examine()
        except Exception as error:  # noqa: BLE001 what the model raises in an experiment
            self.evidence.findings.insert(0, verdict.stopped_finding(error, self.where))
            cause = Cause.INCONCLUSIVE
        return self.evidence.diagnosis(cause, self.clock)

    def _examine(self) -> Cause:
        subject, evidence = self.subject, self.evidence
        losses = subject.held_out_losses(subject.copy())
        evidence.note("held-out loss of the model", f"{mean(losses):.4g}")
        if not all(map(math.isfinite, losses)):
            evidence.findings.append(verdict.overflow_finding(losses, self.where))
            return Cause.EXPLODING
        self.clock.at("measuring the gradient by depth")
        model = subject.copy(training=True)
        flows = [
            gradient_by_depth(model, lambda batch=batch: subject.loss(model, batch))
            for batch in subject.held_out[:_BATCHES]
        ]
        arriving = estimate([_log10(flow.arriving) for flow in flows])
        evidence.note("gradient at the first layer over that at the last", _power(arriving.value))
        evidence.pictures.append(curves.gradient_by_depth(flows[0]))
        cause = (
            Cause.VANISHING
            if arriving.value < -BOUND
            else Cause.EXPLODING
            if arriving.value > BOUND
            else None
        )
        learns = self._tried(cause) if self.options.remedies else None
        if cause is None or learns:
            severity = None if cause is None else "note"
            judged = Cause.INCONCLUSIVE if learns is False else Cause.HEALTHY
        else:
            severity, judged = ("warning" if learns is None else "fault"), cause
        if cause is not None and severity is not None:
            evidence.findings.append(self._finding(cause, arriving, severity))
        if judged is not cause:
            evidence.findings.append(self._arrives(judged, arriving, learns))
        return judged

    def _tried(self, cause: Cause | None) -> bool | None:
        """Train a copy as it is, and one with shortcuts; return whether the former learns as well.

        None if the time is too short.
        """
        plain = self._trained("training a copy as it is", shortcuts=False)
        words = f"{mean(plain.before):.4g} → {mean(plain.after):.4g}"
        self.evidence.note(f"loss of a copy over {plain.updates} updates", words)
        learns = _lower(plain.after, plain.before)
        if cause is None:
            return learns
        trial = self._trained("training a copy with shortcuts", shortcuts=True)
        if not (plain.updates and trial.updates):
            self.evidence.missing.append("time to train copies: a larger budget=")
            return None
        helped = _lower(trial.after, plain.after)
        name = next(iter(self.layers)).rpartition(".")[0]
        blocks = f"model.{name}" if name else "model"
        self.evidence.remedies.append(
            Remedy(
                name="shortcuts around all blocks, which add their inputs to their results",
                code=_SHORTCUTS.format(blocks=blocks, count=len(self.layers)) if helped else "",
                how="trained",
                quantity="validation loss",
                before=estimate(plain.after),
                after=estimate(trial.after),
                updates=trial.updates,
                helped=helped,
            )
        )
        return learns and not helped

    def _trained(self, stage: str, *, shortcuts: bool) -> Trial:
        self.clock.at(stage)
        subject = self.subject
        model = subject.copy(training=True)
        if shortcuts:
            add_shortcuts(model, lambda: subject.loss(model, subject.held_out[0]))

        def loss(batch: Any) -> Tensor:
            return subject.loss(model, batch)

        def parameters() -> list[nn.Parameter]:
            return [p for p in model.parameters() if p.requires_grad]

        trainer = Trainer(subject, self.options.seed)
        seconds = max(1.0, min(_SHARE * self.clock.budget, self.clock.left()))
        return trainer.train(Condition(model, loss, parameters), seconds=seconds, updates=UPDATES)

    def _finding(self, cause: Cause, arriving: Estimate, severity: Any) -> Finding:
        first, last = next(iter(self.layers)), list(self.layers)[-1]
        does = "vanishes" if cause is Cause.VANISHING else "explodes"
        by_layer = 10 ** (-arriving.value / (len(self.layers) - 1))
        return Finding(
            cause=cause,
            severity=severity,
            certainty="measured" if abs(arriving.value) > BOUND else "suspected",
            statement=f"The gradient {does} by depth: from {last} to {first} its norm becomes "
            f"{_power(arriving.value)} times as large, a factor of {1 / by_layer:.3g} a layer.",
            effect=arriving,
            effect_name=_EFFECT,
            threshold=-BOUND if cause is Cause.VANISHING else BOUND,
            measured_on=self.where,
            remedy="Add the input of each block to its result: residual blocks, best with the "
            "normalisation and the activation before the weights (pre-activation).",
        )

    def _arrives(self, cause: Cause, arriving: Estimate, learns: bool | None) -> Finding:
        words = {None: "", True: " A copy learns.", False: " A copy does not learn in the time."}
        return Finding(
            cause=cause,
            severity="note",
            certainty="measured",
            statement=f"The gradient at the first of {len(self.layers)} layers is "
            f"{_power(arriving.value)} times that at the last.{words[learns]}",
            effect=arriving,
            effect_name=_EFFECT,
            threshold=None,
            measured_on=self.where,
            remedy="",
        )


def add_shortcuts(model: nn.Module, run: Callable[[], Any]) -> int:
    """Add y = x + F(x) / sqrt(L) around each of the L layers that keep the shape.

    Arguments:
        model: The model, which is changed.
        run: A function that runs it.

    Returns:
        The number of shortcuts.
    """
    layers = layers_in_depth(model)
    keeping: list[nn.Module] = []

    def note(module: nn.Module, given: Any, result: Any) -> None:
        if given and isinstance(result, Tensor) and given[0].shape == result.shape:
            keeping.append(module)

    hooks = [each.register_forward_hook(note) for each in layers.values()]
    run()
    for hook in hooks:
        hook.remove()
    for each in keeping:
        each.register_forward_hook(lambda _, given, y: given[0] + y / len(layers) ** 0.5)
    return len(keeping)


def _lower(after: list[float], before: list[float]) -> bool:
    """Return whether losses are clearly lower, by a tenth at least."""
    gain = difference(after, before)
    return gain.high < 0 and -gain.value > _WORTH * abs(mean(before))


def _log10(ratio: float) -> float:
    if math.isnan(ratio):
        return -math.inf  # no gradient in any layer
    return math.log10(ratio) if 0 < ratio < math.inf else math.copysign(math.inf, ratio - 1)


def _power(logarithm: float) -> str:
    return f"10^{logarithm:.1f}" if math.isfinite(logarithm) else ("0" if logarithm < 0 else "inf")
