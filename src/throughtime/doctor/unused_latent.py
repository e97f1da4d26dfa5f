"""Posterior collapse: latent variables that tell nothing about the data."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from throughtime.core.density import Bound, LatentDensity, LatentLaws
from throughtime.core.latent import Latents, active_units
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import difference, estimate, mean
from throughtime.doctor.remedies import LEAST_SECONDS, Condition, Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.foreign.unchanged import evaluating
from throughtime.results.diagnosis import Cause, Fact, Finding, Remedy

_LEAST_KL = 0.05  # nats of one vector of latent variables: less is collapse
_SHARE = 0.05  # of the budget: the most that the measurement takes
_TRIAL = 0.15  # of the budget: the most that each of two copies is trained for
_UPDATES = 300
_RISE = 0.6  # of the updates: the part in which the weight of the KL part rises from 0 to 1
_FEWEST = 3  # batches, for an interval that is of use

_CODE = """\
weight = min(1.0, update / (0.6 * updates))  # rises from 0 to 1; of a task: annealing=...
bound = model.bound(x, lengths)
loss = (weight * bound.kl - bound.reconstruction).sum() / frames
"""


class _Items(NamedTuple):
    """The items of a batch, and the source of their draws."""

    x: Tensor
    lengths: Tensor | None
    random: Any


@final
class LatentUse:
    """The KL part of a model with latent variables, its active units, and a remedy.

    A model is one if it has `bound`. Each batch begins with its items and their lengths.

    Arguments:
        subject: model, data and loss.
        seed: seed of the draws.

    Attributes:
        facts: lines about what was measured.
        remedies: remedies that were tried.
    """

    def __init__(self, subject: Subject, seed: int):
        self.subject, self.seed = subject, seed
        self.kl: list[float] = []
        self.units: tuple[int, int] | None = None
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

        It is a fault where a copy whose KL part was annealed has a better bound, else a note: the
        data may need no latent variable.

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
            before, after = helped[0].before.value, helped[0].after.value
            statement += (
                f" A copy whose KL part was annealed has the negative bound {after:.4g}, and "
                f"{before:.4g} without."
            )
        elif self.remedies:
            statement += " A copy whose KL part was annealed did no better: none may be needed."
        return Finding(
            cause=Cause.POSTERIOR_COLLAPSE,
            severity="fault" if helped else "note",
            certainty="measured",
            statement=statement,
            effect=estimate(self.kl),
            effect_name="KL of a vector of latent variables in nats",
            threshold=_LEAST_KL,
            measured_on=where,
            remedy="Let the weight of the KL part rise from 0 (annealing=... of a task), or let a "
            "few nats of it cost nothing.",
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
        """Train two copies, one of which gets the KL part little by little."""
        clock.at("training copies with an annealed KL part")
        plain = self._trained(trainer, clock, lambda update: 1.0)
        annealed: Trial | None = None
        if plain is not None:
            rise = max(1.0, _RISE * plain.updates)
            annealed = self._trained(trainer, clock, lambda update: min(1.0, update / rise))
        if plain is None or annealed is None:
            self.facts.append(Fact("not tried", "KL annealing: the time went to others"))
            return
        helped = difference(annealed.after, plain.after).high < 0
        self.remedies.append(
            Remedy(
                name="KL annealing",
                code=_CODE if helped else "",
                how="trained",
                quantity="negative bound",
                before=estimate(plain.after),
                after=estimate(annealed.after),
                updates=annealed.updates,
                helped=helped,
            )
        )

    def _trained(
        self, trainer: Trainer, clock: Clock, weight: Callable[[int], float]
    ) -> Trial | None:
        seconds = min(_TRIAL * clock.budget, clock.left())
        if seconds < LEAST_SECONDS:
            return None
        model, steps = self.subject.copy(training=True), itertools.count()
        numbers = {id(batch): k for k, batch in enumerate(self.subject.held_out)}

        def loss(batch: Any) -> Tensor:
            if not model.training:
                return self._loss(model, batch, numbers.get(id(batch), 0), 1.0)
            step = next(steps)
            return self._loss(model, batch, step, weight(step))

        def parameters() -> list[nn.Parameter]:
            return [p for p in model.parameters() if p.requires_grad]

        condition = Condition(model, loss, parameters)
        trial = trainer.train(condition, seconds=seconds, updates=_UPDATES, longest=clock.longest())
        return trial if trial.updates else None


def _items(batch: Any, seed: int) -> _Items | None:
    """Return the items, lengths and seeds of a batch; None for a batch of another form."""
    if isinstance(batch, Tensor):
        return _Items(batch, None, torch.Generator().manual_seed(seed))
    parts: list[Any] = list(batch) if isinstance(batch, tuple | list) else []
    if not parts or not isinstance(parts[0], Tensor):
        return None
    second = parts[1] if len(parts) > 1 else None
    lengths = second if isinstance(second, Tensor) and not second.is_floating_point() else None
    if lengths is not None and lengths.dim() > 1:  # dialogues, whose lengths have two axes
        return None
    return _Items(parts[0], lengths, torch.Generator().manual_seed(seed))
