"""Posterior collapse: latent variables that tell nothing about the data."""

import itertools
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from throughtime.core.density import Bound, LatentDensity, LatentLaws
from throughtime.core.latent import Latents, active_units
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import difference, estimate, mean
from throughtime.doctor.remedies import LEAST_SECONDS, Condition, Trainer
from throughtime.doctor.sources import FlatDialogues
from throughtime.doctor.subject import Clock, Subject
from throughtime.foreign.unchanged import evaluating
from throughtime.models import EncoderDecoder
from throughtime.results.diagnosis import Cause, Fact, Finding, Remedy

_LEAST_KL = 0.05  # nats of one vector of latent variables: less is collapse
_SHARE = 0.05  # of the budget: the most that the measurement takes
_TRIALS = 0.3  # of the budget: the most that copies are trained for
_UPDATES = 300
_RISE = 0.6  # of the updates: the part in which the weight of the KL part rises from 0 to 1
_FEWEST = 3  # batches, for an interval that is of use

_DROPPED = 0.5  # of the words that a decoder reads: our choice

_ANNEALING_CODE = """\
weight = min(1.0, update / (0.6 * updates))  # rises from 0 to 1; of a task: annealing=...
bound = model.bound(x, lengths)
loss = (weight * bound.kl - bound.reconstruction).sum() / frames
"""

_WORD_DROPOUT_CODE = """\
model.decoder.word_dropout = 0.5  # of a model by name: word_dropout=0.5
"""


class _Change(NamedTuple):
    """A change of a copy or of its training that may keep latent variables in use."""

    name: str
    code: str
    annealed: bool = False
    dropped: bool = False


_AS_IS = _Change("no change", "")
_ANNEALING = _Change("KL annealing", _ANNEALING_CODE, annealed=True)
_WORD_DROPOUT = _Change(f"word dropout of {_DROPPED}", _WORD_DROPOUT_CODE, dropped=True)


class _Items(NamedTuple):
    """The items of a batch, and the source of their draws."""

    x: Tensor
    lengths: Tensor | None
    random: Any


@final
class LatentUse:
    """The KL part of a model with latent variables, its active units, and remedies.

    A model is one if it has `bound`. Each batch begins with its items and their lengths, or is one
    of dialogues.

    Arguments:
        subject: model, data and loss.
        seed: seed of the draws.

    Attributes:
        reads_words: If True, a decoder reads the words before, of which more may be dropped.
        facts: lines about what was measured.
        remedies: remedies that were tried.
    """

    def __init__(self, subject: Subject, seed: int):
        self.subject, self.seed = subject, seed
        self.kl: list[float] = []
        self.units: tuple[int, int] | None = None
        self.reads_words = False
        self.facts: list[Fact] = []
        self.remedies: list[Remedy] = []

    @property
    def collapsed(self) -> bool:
        """True if the latent variables tell clearly less than 0.05 nats, and no unit is active."""
        if len(self.kl) < _FEWEST or (self.units is not None and self.units[0] > 0):
            return False
        return estimate(self.kl).high < _LEAST_KL

    def measure(self, trainer: Trainer | None, clock: Clock) -> None:
        """Measure the KL part, and try a remedy where it is close to 0.

        Arguments:
            trainer: trainer of copies; None where none are to be trained.
            clock: clock of the diagnosis.
        """
        model = self.subject.copy()
        held_out = self.subject.held_out
        if not isinstance(model, LatentDensity) or _items(held_out[0], 0) is None:
            return
        clock.at("measuring latent variables")
        self.reads_words = bool(_word_decoders(model))
        end, laws = clock.spent() + _SHARE * clock.budget, list[Latents]()
        with evaluating(model):
            for number, batch in enumerate(held_out):
                if clock.left() == 0 or (len(self.kl) >= _FEWEST and clock.spent() > end):
                    break
                items = self._of(batch, number)
                kl = model.bound(items.x, items.lengths, random=items.random).kl
                variables = len(kl)
                if isinstance(model, LatentLaws):
                    laws.append(model.latents(items.x, items.lengths, random=items.random))
                    variables = len(laws[-1].posterior.mean)
                self.kl.append(float(kl.sum()) / max(1, variables))
        self.facts.append(Fact("KL of a vector of latent variables", f"{mean(self.kl):.4g} nats"))
        if laws:
            joined = Latents.joined(laws)
            self.units = active_units(joined), joined.posterior.mean.shape[1]
            self.facts.append(Fact("active latent units", "{} of {}".format(*self.units)))
        if trainer is not None and self.collapsed:
            self._try(trainer, clock)

    def finding(self, where: str) -> Finding | None:
        """Return the finding that latent variables are not used.

        It is a fault where a copy with a remedy has a better bound, else a note: the data may need
        no latent variable.

        Arguments:
            where: batches, in words.
        """
        if not self.collapsed:
            return None
        helped = [remedy for remedy in self.remedies if remedy.helped]
        units = "" if self.units is None else " {} of {} units are active.".format(*self.units)
        statement = (
            f"The posterior of the latent variables is their prior: they tell {mean(self.kl):.2g} "
            f"nats.{units}"
        )
        if helped:
            best = min(helped, key=lambda remedy: remedy.after.value)
            statement += (
                f" A copy with {best.name} has the negative bound {best.after.value:.4g}, and "
                f"{best.before.value:.4g} without."
            )
        elif self.remedies:
            names = " or ".join(remedy.name for remedy in self.remedies)
            statement += f" A copy with {names} did no better: none may be needed."
        words = ", or drop words that the decoder reads" if self.reads_words else ""
        return Finding(
            cause=Cause.POSTERIOR_COLLAPSE,
            severity="fault" if helped else "note",
            certainty="measured",
            statement=statement,
            effect=estimate(self.kl),
            effect_name="KL of a vector of latent variables in nats",
            threshold=_LEAST_KL,
            measured_on=where,
            remedy="Let the weight of the KL part rise from 0 (annealing=... of a task), let a few "
            f"nats of it cost nothing (free_nats=...){words}.",
        )

    def _of(self, batch: Any, number: int) -> _Items:
        items = _items(batch, self.seed + number)
        assert items is not None
        return items

    def _loss(self, model: Any, batch: Any, number: int, weight: float) -> Tensor:
        """Return the negative bound of an item, with a weight of the KL part."""
        items = self._of(batch, number)
        bound: Bound = model.bound(items.x, items.lengths, random=items.random)
        return (weight * bound.kl - bound.reconstruction).mean()

    def _try(self, trainer: Trainer, clock: Clock) -> None:
        """Train a copy as it is, and one with each change."""
        changes = [_ANNEALING]
        if self.reads_words:
            changes.append(_WORD_DROPOUT)
        seconds = _TRIALS / (1 + len(changes)) * clock.budget
        plain = self._trained(trainer, clock, _AS_IS, seconds, _UPDATES)
        for change in changes:
            trial = None
            if plain is not None:
                trial = self._trained(trainer, clock, change, seconds, plain.updates)
            if plain is None or trial is None:
                self.facts.append(Fact("not tried", f"{change.name}: the time went to others"))
                continue
            helped = difference(trial.after, plain.after).high < 0
            self.remedies.append(
                Remedy(
                    name=change.name,
                    code=change.code if helped else "",
                    how="trained",
                    quantity="negative bound",
                    before=estimate(plain.after),
                    after=estimate(trial.after),
                    updates=trial.updates,
                    helped=helped,
                )
            )

    def _trained(
        self, trainer: Trainer, clock: Clock, change: _Change, seconds: float, updates: int
    ) -> Trial | None:
        """Return the trial of a copy with a change; None if the time is too short."""
        seconds = min(seconds, clock.left())
        if seconds < LEAST_SECONDS:
            return None
        clock.at(f"training a copy with {change.name}")
        model, steps = self.subject.copy(training=True), itertools.count()
        if change.dropped:
            for decoder in _word_decoders(model):
                decoder.word_dropout = _DROPPED
        rise = max(1.0, _RISE * updates) if change.annealed else 0.0
        numbers = {id(batch): k for k, batch in enumerate(self.subject.held_out)}

        def loss(batch: Any) -> Tensor:
            if not model.training:
                return self._loss(model, batch, numbers.get(id(batch), 0), 1.0)
            step = next(steps)
            weight = min(1.0, step / rise) if rise else 1.0
            return self._loss(model, batch, step, weight)

        def parameters() -> list[nn.Parameter]:
            return [p for p in model.parameters() if p.requires_grad]

        condition = Condition(model, loss, parameters)
        trial = trainer.train(condition, seconds=seconds, updates=_UPDATES, longest=clock.longest())
        return trial if trial.updates else None


def _word_decoders(model: nn.Module) -> list[EncoderDecoder]:
    """Return the decoders of words that drop fewer of them than the remedy does."""
    found = (m for m in model.modules() if isinstance(m, EncoderDecoder) and m.begin is not None)
    return [decoder for decoder in found if decoder.word_dropout < _DROPPED]


def _items(batch: Any, seed: int) -> _Items | None:
    """Return the items, lengths and seeds of a batch; None for a batch of another form."""
    random = torch.Generator().manual_seed(seed)
    if isinstance(batch, Tensor):
        return _Items(batch, None, random)
    if isinstance(batch, FlatDialogues):
        batch = batch.dialogues()
    parts: list[Any] = list(batch) if isinstance(batch, tuple | list) else []
    if not parts or not isinstance(parts[0], Tensor):
        return None
    x, second = parts[0], parts[1] if len(parts) > 1 else None
    lengths = second if isinstance(second, Tensor) and not second.is_floating_point() else None
    if lengths is not None and lengths.dim() > 1 and lengths.shape != x.shape[::2]:
        return None  # neither of sequences, nor of the utterances of dialogues
    return _Items(x, lengths, random)
