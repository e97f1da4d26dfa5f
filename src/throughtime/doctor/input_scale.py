"""Check of the scale of inputs and targets, by training copies with standardised ones."""

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from throughtime.core.cell import Cell, bind
from throughtime.core.errors import EngineRefusalError
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import difference
from throughtime.doctor.loss_calls import OF_VALUES, loss_calls
from throughtime.doctor.remedies import LEAST_SECONDS, Condition
from throughtime.doctor.subject import Subject
from throughtime.engines import Place, Request, Result, run
from throughtime.foreign.sites import find_recurrent, run_by, site_of
from throughtime.foreign.watching import watch
from throughtime.results.diagnosis import Cause, Finding

_BATCHES = 8  # of which statistics are taken
_SECONDS = 0.02  # of the budget: the most that those of inputs or targets take
_FAR, _FAR_SATURATED = 10.0, 3.0  # of means and deviations
_TINY = 0.03  # of the root mean square of all features: the layer hardly gets an input
_UNEVEN = 2.0  # of deviations, and half of it for means, where nothing else is found
_TARGETS_FAR = 30.0  # of the mean or deviation of targets that are values
_IDS, _EMBEDDED = 10, 16  # least number of different ids; features of an embedding


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """Inputs of a layer, or targets.

    Attributes:
        mean: mean by feature.
        deviation: standard deviation by feature.
        values: different values, sorted, if they are whole numbers of one feature; None if not.
    """

    mean: Float[Tensor, " feature"]
    deviation: Float[Tensor, " feature"]
    values: Float[Tensor, " value"] | None

    @property
    def furthest(self) -> float:
        """The largest mean or deviation of a feature."""
        return float(torch.maximum(self.mean.abs(), self.deviation).max())

    @property
    def size(self) -> float:
        """Root mean square of all features."""
        return float((self.mean.square() + self.deviation.square()).mean().sqrt())

    def standardise(self, x: Tensor) -> Tensor:
        """Return values of mean 0 and deviation 1 by feature; of constant features, 0."""
        deviation = torch.where(self.deviation > 0, self.deviation, 1.0)
        return (x - self.mean.to(x)) / deviation.to(x)

    def restore(self, x: Tensor) -> Tensor:
        """Return values of this scale, from those of mean 0 and deviation 1."""
        return x * self.deviation.to(x) + self.mean.to(x)

    def words(self) -> str:
        """Return the scale in words: of the feature that is furthest away."""
        k = int(torch.maximum(self.mean.abs(), self.deviation).argmax())
        which = f"feature {k}: " if len(self.mean) > 1 else ""
        return f"{which}mean {float(self.mean[k]):.3g}, deviation {float(self.deviation[k]):.3g}"


def scale_of(values: Tensor) -> Scale:
    """Return the scale of values (samples, features)."""
    values = values.detach().double()
    distinct: Tensor | None = None
    if values.shape[1] == 1 and bool((values == values.round()).all()):
        distinct = values.unique()
    return Scale(values.mean(0), values.std(0, correction=0), distinct)


def input_scale(subject: Subject, layer: str, seconds: float = math.inf) -> Scale:
    """Return the scale of what the layer gets from the training batches, without padding.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        seconds: time after which no further batch is run.
    """
    model, end = subject.copy(), time.monotonic() + seconds
    parts: list[Tensor] = []
    for batch in subject.training[:_BATCHES]:
        if parts and time.monotonic() > end:
            break
        watched = watch(
            model,
            functools.partial(subject.loss, model, batch),
            layer=layer,
            level=0,
            gradients=False,
        )
        for call in watched.calls:
            x, lengths = call.request.inputs, call.request.lengths
            steps = torch.arange(x.shape[0], device=x.device)[:, None]
            inside = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            if lengths is not None:
                inside = steps < lengths.to(x.device)
            parts.append(x[inside].detach().double())
    return scale_of(torch.cat(parts))


def target_scale(subject: Subject, seconds: float = math.inf) -> Scale | None:
    """Return the scale of all targets together; None where they are no values.

    Arguments:
        subject: model, data and loss.
        seconds: time after which no further batch is run.
    """
    model, end = subject.copy(), time.monotonic() + seconds
    parts: list[Tensor] = []
    for batch in subject.training[:_BATCHES]:
        if parts and time.monotonic() > end:
            break
        calls = [c for c in loss_calls(subject, model, batch)[1] if c.name in OF_VALUES]
        if len(calls) != 1:
            return None
        parts.append(calls[0].targets[calls[0].where()].detach().reshape(-1, 1).double())
    values = torch.cat(parts)
    return scale_of(values) if len(values) else None


def check_scale(
    copies: FreshCopies, where: str, *, saturated: bool, mild: bool = False
) -> Finding | None:
    """Check the scale of inputs and targets: a fresh copy learns with standardised ones alone.

    Arguments:
        copies: trials of fresh copies.
        where: layer and batches, in words.
        saturated: If True, the layer is saturated, and scales count that are less far.
        mild: If True, scales count that are usually no obstacle.
    """
    subject, layer = copies.trainer.subject, copies.layer
    if copies.clock.left() < LEAST_SECONDS:
        return None
    seconds = _SECONDS * copies.clock.budget
    inputs, targets = input_scale(subject, layer, seconds), target_scale(subject, seconds)
    far_targets = targets if targets is not None and targets.furthest > _TARGETS_FAR else None
    far = inputs.furthest > (_FAR_SATURATED if saturated else _FAR) or inputs.size < _TINY
    if mild:
        uneven = (inputs.deviation > 0) & ((inputs.deviation - 1).abs() > 1 - 1 / _UNEVEN) | (
            inputs.mean.abs() > _UNEVEN / 4
        )
        far = far or bool(uneven.any())
    if not far and far_targets is None:
        return None
    ids = far and inputs.values is not None and len(inputs.values) >= _IDS
    usual = copies.plain()
    if usual is None:
        return None
    best: tuple[Trial, bool] | None = None
    for embedded in (False, True) if ids else (False,):

        def change(condition: Condition, embedded: bool = embedded) -> Condition:
            if embedded:
                assert inputs.values is not None
                return _with_embedding(condition, layer, inputs.values)
            return _standardised(condition, layer, inputs if far else None, far_targets)

        name = "an embedding of the inputs" if embedded else "standardised inputs"
        trial = copies.train(name, change)
        if trial is None or trial.diverged or not copies.clearly_better(trial, usual):
            continue
        if best is None or copies.gain(trial) > 1.1 * copies.gain(best[0]):
            best = trial, embedded
    if best is None:
        return None
    return _finding(copies, usual, *best, inputs if far else None, far_targets, where)


def check_ids(copies: FreshCopies, losses: Sequence[float], where: str) -> Finding | None:
    """Check whether the layer gets ids as numbers: a fresh copy learns with an embedding alone.

    The reference predictors get them as numbers too, so that a model that is as good as they are
    may have learned little.

    Arguments:
        copies: trials of fresh copies.
        losses: held-out losses of the model.
        where: layer and batches, in words.
    """
    subject, layer = copies.trainer.subject, copies.layer
    if copies.clock.left() < LEAST_SECONDS:
        return None
    inputs = input_scale(subject, layer, _SECONDS * copies.clock.budget)
    values = inputs.values
    if values is None or len(values) < _IDS or not inputs.furthest > _FAR:
        return None
    usual = copies.plain()
    if usual is None:
        return None
    trial = copies.train(
        "an embedding of the inputs", lambda one: _with_embedding(one, layer, values)
    )
    if trial is None or trial.diverged or not copies.clearly_better(trial, usual):
        return None
    if copies.as_good(losses, trial):
        return None
    return _finding(copies, usual, trial, True, inputs, None, where)


def _finding(
    copies: FreshCopies,
    usual: Trial,
    trial: Trial,
    embedded: bool,
    inputs: Scale | None,
    targets: Scale | None,
    where: str,
) -> Finding:
    layer = copies.layer or "the layer"
    parts: list[str] = []
    if embedded:
        assert inputs is not None
        assert inputs.values is not None
        values = inputs.values
        given = (
            f"Ids are fed as numbers: {len(values)} different whole numbers from "
            f"{float(values[0]):g} to {float(values[-1]):g} reach {layer} as one feature."
        )
        name = f"an embedding of {_EMBEDDED} features in place of the ids"
        code = f"nn.Embedding({int(values[-1]) + 1}, {_EMBEDDED})(x)  # x: whole numbers"
        remedy = (
            f"Put {code.split('  ')[0]} before {layer}, and give it {_EMBEDDED} input features."
        )
    else:
        if inputs is not None:
            parts.append(f"the inputs of {layer} ({inputs.words()})")
        if targets is not None:
            parts.append(f"the targets ({targets.words()})")
        given = f"Not scaled to mean 0 and deviation 1: {' and '.join(parts)}."
        what = "inputs" if targets is None else "targets" if inputs is None else "both"
        name = f"standardised {'inputs and targets' if what == 'both' else what}"
        lines = {
            "inputs": "x = (x - x_train.mean((0, 1))) / x_train.std((0, 1))",
            "targets": "y = (y - y_train.mean()) / y_train.std()",
        }
        code = "; ".join(line for key, line in lines.items() if what in (key, "both"))
        remedy = f"Standardise with the statistics of the training data: {code}."
    copies.add_remedy(name, code, usual, trial)
    return Finding(
        cause=Cause.ANSWERS_UNFIT if targets is not None and inputs is None else Cause.UNSCALED,
        severity="fault",
        certainty="measured",
        statement=f"{given} A fresh copy with {name} learns, an equal one as it is does not.",
        effect=difference(trial.after, usual.after),
        effect_name=f"change of the held-out loss with {name}",
        threshold=0.0,
        measured_on=where,
        remedy=remedy,
    )


def _standardised(
    condition: Condition, layer: str, inputs: Scale | None, targets: Scale | None
) -> Condition:
    """Return a condition whose layer gets standardised inputs, and whose answers are rescaled."""
    model = condition.model
    _, module = find_recurrent(model, layer)

    def before(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        del module
        assert inputs is not None
        name = next(iter(options), "") if not args else ""
        x = options[name] if name else args[0]
        x = (
            x._replace(data=inputs.standardise(x.data))
            if isinstance(x, PackedSequence)
            else inputs.standardise(x)
        )
        return (args, {**options, name: x}) if name else ((x, *args[1:]), options)

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        del module, args
        assert targets is not None
        leaves, spec = pytree.tree_flatten(output)
        leaves[0] = targets.restore(leaves[0])
        return pytree.tree_unflatten(leaves, spec)

    if inputs is not None:
        module.register_forward_pre_hook(before, with_kwargs=True)
    if targets is not None:
        model.register_forward_hook(after)
    return condition


def _with_embedding(condition: Condition, layer: str, values: Tensor) -> Condition:
    """Return a condition whose layer gets features of an embedding in place of whole numbers."""
    _, module = find_recurrent(condition.model, layer)
    substitute, site = _Embedded(values), site_of(module)

    def loss(batch: Any) -> Tensor:
        with run_by(module, substitute.run, site):
            return condition.loss(batch)

    return Condition(
        condition.model, loss, lambda: [*condition.parameters(), *substitute.parameters()]
    )


@final
class _Embedded:
    """Runs the cells of the lowest level on features of an embedding."""

    def __init__(self, values: Tensor):
        self.values = values
        self.table: nn.Parameter | None = None
        self.weights: dict[tuple[int, ...], nn.Parameter] = {}

    def parameters(self) -> Sequence[nn.Parameter]:
        """Return the embedding, and the input matrices of the cells on it."""
        return [*([] if self.table is None else [self.table]), *self.weights.values()]

    def run(self, request: Request, place: Place) -> Result:
        """Run with the first engine that serves.

        Raises:
            EngineRefusalError: the cell has no one input matrix.
        """
        if place.level > 0:
            return run(request, "auto")
        cell, x, key = request.cell, request.inputs, place[1:]
        own = dict(cell.named_parameters())
        if "weight_ih" not in own:
            raise EngineRefusalError(
                f"an embedding cannot be put before {type(cell).__name__}: it has no weight_ih"
            )
        weight = own["weight_ih"]
        if self.table is None:
            self.table = nn.Parameter(torch.randn(len(self.values), _EMBEDDED).to(weight))
        if key not in self.weights:
            bound = 1 / math.sqrt(cell.output_size)
            drawn = torch.empty(len(weight), _EMBEDDED).uniform_(-bound, bound)
            self.weights[key] = nn.Parameter(drawn.to(weight))
        wide: Cell = bind(cell, {**own, "weight_ih": self.weights[key]})
        wide.input_size = _EMBEDDED
        values = self.values.to(x)
        index = torch.searchsorted(values, x[..., 0].contiguous()).clamp_max(len(values) - 1)
        return run(dataclasses.replace(request, cell=wide, inputs=self.table[index]), "auto")
