"""The doctor: from a model, batches and a loss to a verdict with its evidence."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.by_depth import ByDepth, is_deep
from throughtime.doctor.conclusion import leading
from throughtime.doctor.exact_checks import never_run
from throughtime.doctor.examination import Examination
from throughtime.doctor.history import as_history
from throughtime.doctor.need import Need
from throughtime.doctor.options import Options
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.sample_axes import regroup
from throughtime.doctor.subject import Clock, Subject, check_finite, copy_model, not_finite, redraw
from throughtime.doctor.user_training import as_training, check_runs, holds_hidden
from throughtime.doctor.whole_model import WholeModel
from throughtime.doctor.without_layer import WithoutLayer, may_be_recurrent
from throughtime.foreign.found_cells import cells_found
from throughtime.foreign.loop_site import looped
from throughtime.foreign.sites import find_recurrent, recurrent_layers
from throughtime.foreign.unchanged import random_states_kept
from throughtime.results.diagnosis import Cause, Diagnosis, Fact, Picture

Report: TypeAlias = Callable[[str, float], None]
"""Function of the name of a stage, and of the share of the budget that is spent."""

_DIVERGES = (
    Cause.STEP_SIZE,
    Cause.EXPLODING,
    Cause.NOT_ZEROED,
    Cause.UNSCALED,
    Cause.ANSWERS_UNFIT,  # a loss without a lower bound
)
"""Verdicts on fresh weights that explain why a training ended in weights that are not finite."""
_EVALUATION = 0.02  # of the budget: the most that an evaluation of the held-out batches takes


def diagnose(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Any,
    *,
    budget: str | float = "60s",
    layer: str | None = None,
    lag: int | None = None,
    training_step: Callable[..., Any] | str | None = None,
    optimizer: torch.optim.Optimizer | Callable[[Any], Any] | None = None,
    history: Any = None,
    unseen: Iterable[Any] | None = None,
    free_running: Callable[[nn.Module, Any], torch.Tensor] | None = None,
    remedies: bool = True,
    progress: bool | Report = True,
    seed: int = 0,
) -> Diagnosis:
    """Find out why a recurrent network does not remember, and what helps.

    Everything is done on copies. The model, the optimiser and all random states are unchanged when
    it returns, raises or is interrupted. It proceeds in four stages. Exact checks: one sample or
    one step is changed, and all other changes are recorded; the graph is followed back. Reference
    predictors: they measure whether the data need old inputs, and their age. The model's own use of
    old inputs is measured. Then copies are trained briefly, as they are and with remedies.

    Arguments:
        model: any module that holds a recurrent layer or cell of torch or of throughtime, or a
            loop over time in its forward; or a deep network, whose `torch.nn.Sequential` or
            `ModuleList` has at least four layers: its gradient is examined by depth.
        batches: a list, a DataLoader or an endless iterator; up to 64 are taken, and the last
            quarter is held out. More sequences make a better diagnosis; a thousand are good.
        loss_fn: a function of (model, batch) that returns a scalar. Or a loss of torch.nn or
            torch.nn.functional, for batches (*inputs, target).
        budget: time, "60s", "2min" or seconds. Slow models are measured on fewer batches; checks
            that are begun are finished.
        layer: name of the recurrent layer to look at; if None, all are examined, and share the
            budget.
        lag: number of steps between the answer and the inputs that it depends on, where known; if
            None, it is sought in the data.
        training_step: the user's own step: a function of (model, optimizer, batch) or of (model,
            batch), or a method of the model of (batch) or (batch, batch_idx), or its name. It shows
            truncation, gradients that are not zeroed, and parameters that are not trained.
        optimizer: the user's optimiser; or a function that makes it of a model, or a class. It
            shows steps of the wrong size, weight decay, and parameters that it does not hold.
        history: record of the user's training: a list of losses, a `History` with gradient norms
            too, a dict of lists or Keras' History, or rows as Lightning's CSVLogger writes.
        unseen: batches like `batches` that the model was not trained on. Losses are then measured
            on these, so that memorised batches are not taken for a rule.
        free_running: a function of (model, batch) that returns the loss of a model that reads its
            own answers in place of the true ones, for targets that the inputs determine. It shows
            exposure bias. Models of this library on pairs need none.
        remedies: If True, copies with changes are trained.
        progress: If True, a terminal or notebook shows the stage; a script without one shows
            nothing. Or a function of the stage's name and the share of the budget that is spent.
        seed: seed of the doctor's own random numbers.

    Returns:
        The diagnosis: verdict, findings, remedies, pictures.

    Raises:
        ConfigurationError: no recurrent layer; no batches; a loss that is no scalar; weights that
            are not finite; a model that cannot be copied, or raises; a lag that is longer than the
            sequences; a training_step or optimizer that does not run on a copy.
        UnknownNameError: no recurrent layer of that name.
        DataError: batches that are not finite.

    Example:
        >>> model = nn.RNN(1, 4, batch_first=True)
        >>> data = [(torch.randn(8, 12, 1), torch.randn(8, 12, 4)) for _ in range(4)]
        >>> diagnosis = diagnose(model, data, nn.MSELoss(), budget="1s", remedies=False)
        >>> diagnosis.budget
        1.0
    """
    seconds = as_seconds(budget)
    if isinstance(model, torch.jit.ScriptModule):
        raise ConfigurationError(
            "model",
            got="a scripted or traced module",
            expected="the module that it was made from",
            fix="What torch.jit compiles can be neither examined nor changed.",
        )
    if lag is not None and (not isinstance(lag, int) or lag < 1):
        raise ConfigurationError("lag", got=repr(lag), expected="a number of steps, at least 1")
    step, maker = as_training(model, training_step, optimizer)
    record = None if history is None else as_history(history)
    options = Options(lag, step, maker, record, remedies, seed)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        random_states_kept(seed),
        contextlib.ExitStack() as stack,
    ):
        report = stack.enter_context(_reporting(progress, seconds))
        clock = Clock(seconds, report=report)
        clock.at("drawing batches")
        register = not holds_hidden(model, optimizer, maker)
        diverged = not_finite(model) if step is not None or maker is not None else ""
        examined = _fresh(model, seed) if diverged else model
        subject = Subject(examined, batches, loss_fn, seconds / 10, unseen, register=register)
        batch = subject.held_out[0]
        stack.enter_context(cells_found(subject.copy(), lambda m: subject.loss(m, batch)))
        copied = subject.copy()
        found = recurrent_layers(copied)
        try:
            one = [] if layer is None and len(found) > 1 else [find_recurrent(copied, layer)[0]]
        except ConfigurationError as error:
            if not found and layer is None and is_deep(copied) and not may_be_recurrent(subject):
                return ByDepth(subject, clock, options).run()
            if found or layer is not None or not may_be_recurrent(subject):
                raise
            check_runs(subject, model, step, maker)
            with looped({type(copied): 0}):
                return WithoutLayer(subject, clock, options, error).run()
        names = one or [*found]
        check_runs(subject, model, step, maker)
        regrouped = "" if subject.unseen else regroup(subject)
        subject.limit_held_out(_EVALUATION * seconds / len(names))
        idle = never_run(subject, names) if len(names) > 1 else []
        names = [name for name in names if name not in idle] or names
        trainer = Trainer(subject, seed) if remedies else None
        checks = WholeModel(subject, free_running, trainer, clock, seed)
        diagnoses: dict[str, Diagnosis] = {}
        examinations: list[Examination] = []
        for done, name in enumerate(names):
            share = clock
            if len(names) > 1:
                left = clock.left() / (len(names) - done)
                share = Clock(seconds / len(names), left, lambda s, n=name: report(f"{n}: {s}"))
            examinations.append(Examination(subject, name, share, options))
            diagnoses[name] = examinations[-1].run()
        diagnosis = diagnoses[names[0]] if len(names) == 1 else together(diagnoses)
        needs = [one.measured for one in examinations if one.measured is not None]
        diagnosis = with_checks(diagnosis, checks, needs)
        diagnosis = dataclasses.replace(diagnosis, seconds=clock.spent(), budget=seconds)
    if diverged:
        if diagnosis.verdict not in _DIVERGES:
            check_finite(model)  # raises
        words = f"not finite in {diverged}; all was measured on fresh weights"
        diagnosis = dataclasses.replace(
            diagnosis, facts=(Fact("weights of the model", words), *diagnosis.facts)
        )
    facts = [Fact("layer that the loss never runs", name) for name in idle]
    facts += [Fact("batches", regrouped)] if regrouped else []
    return dataclasses.replace(diagnosis, facts=(*diagnosis.facts, *facts))


def _fresh(model: nn.Module, seed: int) -> nn.Module:
    fresh = copy_model(model)
    redraw(fresh, seed)
    return fresh


@contextlib.contextmanager
def _reporting(progress: bool | Report, seconds: float) -> Iterator[Callable[[str], None]]:
    """Yield a function of a stage's name, which adds the share of the budget."""
    if progress is False:
        yield lambda stage: None
        return
    from throughtime.reports.progress import progress_shown

    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(progress_shown(seconds)) if progress is True else progress
        yield lambda stage: show(stage, min(1.0, (time.monotonic() - started) / seconds))


def as_seconds(budget: str | float) -> float:
    """Return a time in seconds from "60s", "2min", "1.5 min" or a number.

    Raises:
        ConfigurationError: no time, or none above 0.
    """
    units = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(budget).lower())
    if match is None or match[2] not in units or float(match[1]) <= 0:
        raise ConfigurationError("budget", got=repr(budget), expected='a time such as "60s"')
    return float(match[1]) * units[match[2]]


_ORDER = (
    Cause.NOT_TRAINED,
    Cause.ONE_STEP,
    Cause.TIME_BATCH_SWAPPED,
    Cause.SAMPLES_MIXED,
    Cause.STATE_LEAK,
    Cause.TARGETS_MISPAIRED,
    Cause.ANSWERS_UNFIT,
    Cause.TARGET_SEEN,
    Cause.WRONG_STEP,
    Cause.PADDING_READ,
    Cause.NOT_ZEROED,
    Cause.GRADIENT_CUT,
    Cause.STEP_SIZE,
    Cause.WEIGHT_DECAY,
    Cause.DROPOUT,
    Cause.UNSCALED,
    Cause.EXPLODING,
    Cause.DEAD_UNITS,
    Cause.SATURATED,
    Cause.FORGETTING,
    Cause.VANISHING,
    Cause.NO_DEPENDENCE,
    Cause.UNDERTRAINED,
    Cause.EXPOSURE_BIAS,
    Cause.ATTENTION_UNUSED,
    Cause.MEMORY_UNUSED,
    Cause.POSTERIOR_COLLAPSE,
    Cause.HEALTHY,
    Cause.NO_LONG_DEPENDENCY,
    Cause.INCONCLUSIVE,
)
"""The verdict is the first of these that a layer has: what is proved before what is measured."""


def together(diagnoses: dict[str, Diagnosis]) -> Diagnosis:
    """Return the worst verdict, with every layer's findings, pictures and facts under its name.

    One layer at fault is a fault of the model, even if all others are healthy. The model is healthy
    where one layer remembers and no other is at fault.

    Arguments:
        diagnoses: diagnosis of each layer, by its name; at least one.
    """
    order = sorted(diagnoses, key=lambda name: _ORDER.index(diagnoses[name].verdict))
    worst = diagnoses[order[0]]
    every = [diagnoses[name] for name in order]
    verdicts = (Fact(f"verdict on {name}", diagnoses[name].verdict.value) for name in order)
    return dataclasses.replace(
        worst,
        sentence=f"{order[0]}: {worst.sentence}",
        findings=tuple(finding for one in every for finding in one.findings),
        remedies=tuple(
            dataclasses.replace(remedy, name=f"{name}: {remedy.name}")
            for name in order
            for remedy in diagnoses[name].remedies
        ),
        pictures=tuple(
            _titled(picture, name) for name in order for picture in diagnoses[name].pictures
        ),
        facts=(
            *verdicts,
            *(
                Fact(f"{name}: {fact.name}", fact.value)
                for name in order
                for fact in diagnoses[name].facts
            ),
        ),
        missing_evidence=tuple(dict.fromkeys(m for one in every for m in one.missing_evidence)),
        seconds=sum(one.seconds for one in every),
        budget=sum(one.budget for one in every),
        model="; ".join(diagnoses[name].model for name in diagnoses),
    )


def with_checks(diagnosis: Diagnosis, checks: WholeModel, needs: Sequence[Need]) -> Diagnosis:
    """Return a diagnosis with what the checks of the whole model found.

    A fault is the verdict where the layers have none; else it becomes a warning.

    Arguments:
        diagnosis: diagnosis of the layers.
        checks: checks that have been run.
        needs: losses of the reference predictors, by layer.
    """
    found = checks.findings(needs)
    worse = [
        finding
        for finding in found
        if finding.severity == "fault"
        and _ORDER.index(finding.cause) < _ORDER.index(diagnosis.verdict)
    ]
    first = worse[:1]
    rest = [
        dataclasses.replace(f, severity="warning") if f.severity == "fault" else f
        for f in found
        if f not in first
    ]
    remedies = [
        *checks.free_running.remedies,
        *checks.memory.remedies,
        *checks.latent.remedies,
    ]
    facts = (
        *checks.free_running.facts,
        *checks.attention.facts,
        *checks.memory.facts,
        *checks.latent.facts,
    )
    diagnosis = dataclasses.replace(
        diagnosis,
        findings=(*first, *diagnosis.findings, *rest),
        remedies=(*remedies, *diagnosis.remedies),
        facts=(*diagnosis.facts, *facts),
        missing_evidence=(*diagnosis.missing_evidence, *checks.free_running.missing),
    )
    if not first:
        return diagnosis
    cause = first[0].cause
    own = checks.remedies_of(cause)
    sentence = leading(cause, first[0].statement, own)
    return dataclasses.replace(diagnosis, verdict=cause, sentence=sentence)


def _titled(picture: Picture, name: str) -> Picture:
    return dataclasses.replace(picture, title=f"{name}: {picture.title}")
