"""The examination of a model whose recurrence is not found: the checks that need no layer."""

import collections
import dataclasses
import math
from collections.abc import Callable
from typing import final

import torch
from torch import nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor import verdict
from throughtime.doctor.answers import check_answers
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.data_pairs import roles_of
from throughtime.doctor.evidence import Evidence
from throughtime.doctor.exact_checks import check_state
from throughtime.doctor.fresh_copies import UPDATES, FreshCopies
from throughtime.doctor.history import history_findings
from throughtime.doctor.intervals import mean
from throughtime.doctor.need import Need
from throughtime.doctor.options import Options
from throughtime.doctor.pairs import check_pairs
from throughtime.doctor.relearning import exchanged
from throughtime.doctor.remedies import Trainer, make_condition
from throughtime.doctor.sample_axes import SampleAxes, sample_axes
from throughtime.doctor.sample_checks import check_order, check_samples
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.taken_targets import check_taken
from throughtime.doctor.training_settings import check_training
from throughtime.doctor.training_step import check_registered, check_steps
from throughtime.foreign.hidden import made_in_forward
from throughtime.foreign.tape import Tape
from throughtime.layers import GridLayer
from throughtime.results.diagnosis import Cause, Diagnosis, Finding

_RECIPE = (
    "Move one step into a module of its own, forward(x, state) -> state: it is found where the "
    "loop calls it."
)
_FEWEST = 3  # uses of one parameter in one loss, of a model that is taken for recurrent
_SHARE = 0.25  # of the budget: the most that a training takes
_STEPS = 0.05  # of the budget: the most that calls of the user's step take


def may_be_recurrent(subject: Subject) -> bool:
    """Return whether one loss uses a parameter several times, as the steps of a recurrence do.

    Modules that forward makes may be recurrent too. Layers of images are.
    """
    model = subject.copy()
    if reads_images(model):
        return True
    try:
        if made_in_forward(model, lambda: subject.loss(model, subject.held_out[0]))[1]:
            return True
        with torch.no_grad(), Tape() as tape:
            subject.loss(model, subject.held_out[0])
    except Exception:  # noqa: BLE001 what a loss raises that does not fit the model
        return False
    uses = collections.Counter(ref.out for op in tape.ops for ref in op.refs() if ref.op < 0)
    weights = (k for k, leaf in enumerate(tape.leaves) if isinstance(leaf, nn.Parameter))
    return any(uses[k] >= _FEWEST for k in weights)


def reads_images(model: nn.Module) -> bool:
    """Return whether a model holds a layer of images, whose steps have no axis of time."""
    return any(isinstance(module, GridLayer) for module in model.modules())


@final
class WithoutLayer:
    """Examination of a model in which no recurrent layer is found.

    Arguments:
        subject: model, data and loss.
        clock: clock of the diagnosis.
        options: the user's options.
        why: the error that says what was not found.
    """

    def __init__(self, subject: Subject, clock: Clock, options: Options, why: ConfigurationError):
        self.subject, self.clock, self.options, self.why = subject, clock, options, why
        model = subject.copy()
        self.images = reads_images(model)
        title = "a model of images" if self.images else "in which no recurrent layer was found"
        self.evidence = Evidence(f"{type(model).__name__}, {title}")
        self.trainer = Trainer(subject, options.seed, options.training_step, options.optimizer)
        self.where = f"the whole model, {len(subject.held_out)} held-out batches"
        self.copies: FreshCopies | None = None

    def run(self) -> Diagnosis:
        """Examine, and put the diagnosis together."""
        try:
            cause = self._examine()
        except Exception as error:  # noqa: BLE001 what the model raises in an experiment
            self.evidence.findings.insert(0, verdict.stopped_finding(error, self.where))
            cause = Cause.INCONCLUSIVE
        if cause is not Cause.HEALTHY:
            self.evidence.findings.append(self._not_found())
        if not self.images:
            self.evidence.missing.append(f"a recurrent layer: {self.why}")
        return self.evidence.diagnosis(cause, self.clock)

    def _examine(self) -> Cause:
        subject, options, found = self.subject, self.options, self.evidence.findings
        if options.history is not None:
            found.extend(history_findings(options.history))
        losses = subject.held_out_losses(subject.copy())
        if not all(map(math.isfinite, losses)):
            found.append(verdict.overflow_finding(losses, self.where))
            return Cause.EXPLODING
        axes = sample_axes([*subject.training, *subject.held_out])
        constant = None if axes is None else self._constant(axes)
        if constant is None:
            self.evidence.missing.append("batches whose sample axis is clear, with targets")
            return Cause.INCONCLUSIVE
        self.evidence.note("held-out loss of the model", f"{mean(losses):.4g}")
        self.evidence.note("of an answer without its inputs", f"{mean(constant):.4g}")
        need = Need(constant, constant, constant, 1, None, None, {}, learned=False)
        self.copies = copies = FreshCopies(self.trainer, "", need, self.clock)
        assert axes is not None
        checks: list[Callable[[], Finding | None]] = [
            lambda: check_registered(subject),
            lambda: check_samples(subject, None, axes),
            lambda: check_order(subject, "", axes),
            lambda: check_state(subject, ""),
            lambda: check_pairs(subject, axes),
            lambda: check_answers(subject),
            lambda: check_taken(subject),
        ]
        self.clock.at("exact checks")
        for check in checks:
            fault = check()
            if fault is not None and fault.severity == "fault":
                if self._stands(fault):
                    found.append(fault)
                    return fault.cause
                fault = dataclasses.replace(fault, severity="warning")
            found += [] if fault is None else [fault]
        seconds = _STEPS * self.clock.budget
        own = check_steps(subject, "", options.training_step, options.optimizer, seconds)
        if copies.do_no_better(losses):
            found += verdict.as_good_findings(need, losses, [], self.where)
            return Cause.HEALTHY
        if own is None or own.severity != "fault":
            found += [] if own is None else [own]
            own = check_training(copies, self.where) if options.remedies else None
            self.evidence.remedies += copies.remedies
        if own is not None:
            found.append(own)
            return own.cause
        trial = self._trained()
        if verdict.learned(need, trial):
            found.append(verdict.undertrained_finding(trial, self.where))
            return Cause.UNDERTRAINED
        return Cause.INCONCLUSIVE

    def _constant(self, axes: SampleAxes) -> list[float] | None:
        """Train a copy on inputs of other samples, which is left with the best constant answer."""
        subject = self.subject
        roles = roles_of(subject, "", axes)
        if not roles.read or not roles.targets:
            return None
        generator = torch.Generator().manual_seed(self.options.seed)
        other = subject.altered(lambda model: None)
        other.training, other.held_out = (
            [exchanged(batch, roles.targets, axes, generator) for batch in batches]
            for batches in (subject.training, subject.held_out)
        )
        trainer = Trainer(other, self.options.seed)
        self.clock.at("training a copy on exchanged targets")
        condition = make_condition(other, "", None, 1, fresh=self.options.seed)
        return trainer.train(condition, seconds=_SHARE * self.clock.budget, updates=UPDATES).after

    def _stands(self, fault: Finding) -> bool:
        """Return whether a fresh copy does not learn in spite of a fault."""
        assert self.copies is not None
        trial = self.copies.plain()
        return trial is None or not self.copies.learns(trial)

    def _trained(self) -> Trial:
        self.clock.at("training a copy as it is")
        seconds = min(_SHARE * self.clock.budget, max(self.clock.left(), 1.0))
        condition = make_condition(self.subject, "", None, 1)
        return self.trainer.train(condition, seconds=seconds, updates=UPDATES)

    def _not_found(self) -> Finding:
        return Finding(
            cause=Cause.INCONCLUSIVE,
            severity="note",
            certainty="proved",
            statement=(
                "An image has no axis of time" if self.images else "No recurrent layer was found"
            )
            + ", so that the memory itself was not measured: gradients, gates, and the use of old "
            "inputs. What needs no layer was checked.",
            effect=None,
            effect_name="",
            threshold=None,
            measured_on=self.where,
            remedy="" if self.images else _RECIPE,
        )
