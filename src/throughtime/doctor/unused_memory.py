"""A memory of words that is not used: the loss is as it is when nothing written is kept."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.state import State
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import difference, estimate, mean
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import LEAST_SECONDS, Condition, Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.verdict import is_far
from throughtime.foreign.unchanged import evaluating
from throughtime.layers import RecurrentLayer
from throughtime.memory.access import Accesses, MemoryCell
from throughtime.results.diagnosis import Cause, Fact, Finding, Remedy

_SHARE = 0.05  # of the budget: the most that the measurement takes
_TRIAL = 0.1  # of the budget: the most that each of two copies is trained for
_UPDATES = 300
_FEWEST = 3  # batches, for an interval that is of use
_SMALL = 0.02  # of the loss without inputs: the largest rise that the interval may leave open

_CODE = """\
for cell in model.get_submodule({layer!r}).cells():  # bound to the layer's own tensors
    bound = cell.hidden_size**-0.5
    for name in cell.head_parameters:
        if getattr(cell, name) is not None:
            torch.nn.init.uniform_(getattr(cell, name), -bound, bound)
"""


@final
class UnusedMemory:
    """The loss where each step starts from the initial memory, and a remedy.

    Nothing that is written is then read at a later step. All else of the state is kept.

    Arguments:
        subject: model, data and loss.

    Attributes:
        names: layers and cells with a memory of words.
        given: losses of the held-out batches.
        emptied: losses where nothing written is kept.
        facts: lines about what was measured.
        remedies: remedies that were tried.
    """

    def __init__(self, subject: Subject):
        self.subject = subject
        self.names: list[str] = []
        self.given: list[float] = []
        self.emptied: list[float] = []
        self.facts: list[Fact] = []
        self.remedies: list[Remedy] = []

    def measure(self, trainer: Trainer | None, clock: Clock) -> None:
        """Measure both losses, where there is a memory, and try a remedy where it is not used.

        Arguments:
            trainer: trainer of copies; None where none are to be trained.
            clock: clock of the diagnosis.
        """
        model, changed = self.subject.copy(), self.subject.copy()
        self.names = empty_memories(changed)
        if not self.names or clock.left() == 0:
            return
        clock.at("emptying the memory")
        for one in (model, changed):  # both by one engine: roundings shall be no difference
            for layer in _layers(one):
                layer.engine = "eager"
        end = clock.spent() + _SHARE * clock.budget
        with evaluating(model), evaluating(changed):
            for batch in self.subject.held_out:
                if clock.left() == 0 or (len(self.given) >= _FEWEST and clock.spent() > end):
                    break
                self.emptied.append(float(self.subject.loss(changed, batch)))
                self.given.append(float(self.subject.loss(model, batch)))
        if not self.given:
            return
        rise = f"{mean(self.given):.4g} -> {mean(self.emptied):.4g}"
        self.facts.append(Fact("loss where nothing written is kept", rise))
        if trainer is not None and self._unused(mean(self.given)):
            self._try(trainer, clock)

    def _unused(self, scale: float) -> bool:
        """Return True if the rise of the loss is clearly less than 2 % of a loss."""
        if len(self.given) < _FEWEST:
            return False
        rise = difference(self.emptied, self.given)
        return max(abs(rise.low), abs(rise.high)) <= _SMALL * abs(scale)

    def finding(self, needs: Sequence[Need], where: str) -> Finding | None:
        """Return the finding that a memory is not used.

        It is a fault where the model is far from what a predictor learns, or where a copy with
        other heads learns more; else a note.

        Arguments:
            needs: losses of the reference predictors, by layer; none where they were not trained.
            where: batches, in words.
        """
        if len(self.given) < _FEWEST:
            return None
        scale = max([mean(need.constant) for need in needs], default=mean(self.given))
        if not self._unused(scale):
            return None
        helped = any(remedy.helped for remedy in self.remedies)
        far = any(need.learned and self._is_far(need) for need in needs)
        names = ", ".join(name or "the model" for name in self.names)
        return Finding(
            cause=Cause.MEMORY_UNUSED,
            severity="fault" if far or helped else "note",
            certainty="measured",
            statement=f"What is written to the memory ({names}) does not matter: where each step "
            f"starts from an empty memory the loss is {mean(self.emptied):.3g}, with its own "
            f"{mean(self.given):.3g}.",
            effect=difference(self.emptied, self.given),
            effect_name="rise of the loss where nothing written is kept",
            threshold=_SMALL * abs(scale),
            measured_on=where,
            remedy=_remedy(far=far, helped=helped),
        )

    def _is_far(self, need: Need) -> bool:
        """Return whether the model is far from a predictor, on the batches that were measured."""
        count = len(self.given)
        parts = (need.constant, need.short, need.full)
        constant, short, full = (losses[:count] for losses in parts)
        need = dataclasses.replace(need, constant=constant, short=short, full=full)
        return is_far(need, self.given)

    def _try(self, trainer: Trainer, clock: Clock) -> None:
        """Train two copies, one of which has heads that are drawn anew."""
        clock.at("training copies with heads drawn anew")
        plain = self._trained(trainer, clock, fresh=False)
        fresh = None if plain is None else self._trained(trainer, clock, fresh=True)
        if plain is None or fresh is None:
            self.facts.append(Fact("not tried", "heads drawn anew: the time went to others"))
            return
        helped = difference(fresh.after, plain.after).high < 0
        model = self.subject.copy()
        layers = [n for n, m in model.named_modules() if isinstance(m, RecurrentLayer)]
        layer = next((name for name in layers if name in self.names), None)
        self.remedies.append(
            Remedy(
                name="heads of the memory drawn anew",
                code=_CODE.format(layer=layer) if helped and layer is not None else "",
                how="trained",
                quantity="validation loss",
                before=estimate(plain.after),
                after=estimate(fresh.after),
                updates=fresh.updates,
                helped=helped,
            )
        )

    def _trained(self, trainer: Trainer, clock: Clock, *, fresh: bool) -> Trial | None:
        seconds = min(_TRIAL * clock.budget, clock.left())
        if seconds < LEAST_SECONDS:
            return None
        model = self.subject.copy(training=True)
        if fresh:
            redraw_heads(model, trainer.seed)
        condition = Condition(
            model,
            lambda batch: self.subject.loss(model, batch),
            lambda: [p for p in model.parameters() if p.requires_grad],
        )
        trial = trainer.train(condition, seconds=seconds, updates=_UPDATES, longest=clock.longest())
        return trial if trial.updates else None


def _remedy(*, far: bool, helped: bool) -> str:
    if helped:
        return "Draw the heads anew and train on: theirs have no gradient, or do not write."
    if far:
        return (
            "Train on short sequences first and lengthen them (levels of a task); clip the "
            "gradient; let the answer be read from all of h, which ends with the vectors read."
        )
    return "The model needs no memory of words: its controller does as well, or no word is needed."


def _layers(model: nn.Module) -> Iterator[RecurrentLayer]:
    return (module for module in model.modules() if isinstance(module, RecurrentLayer))


def _memories(model: nn.Module) -> Iterator[MemoryCell]:
    """Yield all cells with a memory of words, those of layers bound to the layers' tensors."""
    for module in model.modules():
        if isinstance(module, RecurrentLayer):
            for cell in module.cells():
                yield from _memories(cell)
        elif isinstance(module, MemoryCell):
            yield module


def redraw_heads(model: nn.Module, seed: int) -> None:
    """Draw the parameters of all heads from U(-1/sqrt(hidden), 1/sqrt(hidden)), in place.

    Arguments:
        model: copy of a model with memories of words.
        seed: seed of the draws.
    """
    random = torch.Generator().manual_seed(seed)
    for cell in _memories(model):
        bound = cell.hidden_size**-0.5
        for name, parameter in cell.named_parameters():
            if name in cell.head_parameters:
                drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=random)
                parameter.data.copy_(drawn)


def empty_memories(model: nn.Module) -> list[str]:
    """Let each step of each memory of words start from its initial memory.

    Arguments:
        model: copy of a model, which is changed in place.

    Returns:
        The names of the layers and cells with such a memory.
    """
    found: list[str] = []
    for name, module in [*model.named_modules()]:
        if isinstance(module, RecurrentLayer):
            if any(True for _ in _memories(module)):
                found.append(name)
                _empty_in_layer(module)
        elif not isinstance(module, _Emptied):
            found += _empty(f"{name}." if name else "", module)
    return found


def _empty(path: str, parent: nn.Module) -> list[str]:
    """Replace the memory cells that a module holds."""
    found: list[str] = []
    for own, module in [*parent.named_children()]:
        if isinstance(module, MemoryCell) and not isinstance(parent, _Emptied):
            setattr(parent, own, _Emptied(module))
            found.append(f"{path}{own}")
    return found


def _empty_in_layer(layer: RecurrentLayer) -> None:
    """Replace the memory cells of a layer, which binds its cells anew for each call."""
    bound = layer.cells

    def cells() -> tuple[Cell, ...]:
        made: list[Cell] = []
        for cell in bound():
            for _, part in [*cell.named_modules()]:
                _empty("", part)
            made.append(_Emptied(cell) if isinstance(cell, MemoryCell) else cell)
        return tuple(made)

    vars(layer)["cells"] = cells


@final
class _Emptied(MemoryCell):
    """A cell with a memory of words, each step of which starts from the initial memory."""

    def __init__(self, of: MemoryCell):
        super().__init__()
        self.input_size, self.hidden_size = of.input_size, of.hidden_size
        self.output_size, self.read_heads = of.output_size, of.read_heads
        self.memory_words, self.memory_width = of.memory_words, of.memory_width
        self.of = of

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the initial state of the other one."""
        return self.of.initial_state(batch_size, dtype=dtype, device=device)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the projection of the other one."""
        return self.of.project(x)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return the step of the other one from the initial memory."""
        like = state.memory
        fresh = self.of.initial_state(len(like), dtype=like.dtype, device=like.device)
        return self.of.step(projected, state._replace(memory=fresh.memory))

    def accesses(self, before: State, after: State) -> Accesses:
        """Return those of the other one."""
        return self.of.accesses(before, after)
