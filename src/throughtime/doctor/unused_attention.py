"""Attention that is not used: uniform weights in its place leave the loss as it is."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.doctor.intervals import difference, mean
from throughtime.doctor.need import Need
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.verdict import is_far
from throughtime.foreign.unchanged import evaluating
from throughtime.layers import RecurrentLayer
from throughtime.memory.attention import Attention
from throughtime.results.diagnosis import Cause, Fact, Finding

_KINDS = (Attention, nn.MultiheadAttention)
_SHARE = 0.05  # of the budget: the most that the measurement takes
_FEWEST = 3  # batches, for an interval that is of use
_SMALL = 0.05  # of the loss without inputs: the largest rise that the interval may leave open


@final
class UnusedAttention:
    """The loss with all weights of attention uniform over what is not masked.

    Arguments:
        subject: model, data and loss.

    Attributes:
        names: modules of attention that the loss runs over two positions or more.
        facts: lines about what was measured.
    """

    def __init__(self, subject: Subject):
        self.subject = subject
        self.names: list[str] = []
        self.given: list[float] = []
        self.uniform: list[float] = []
        self.facts: list[Fact] = []

    def measure(self, clock: Clock) -> None:
        """Measure both losses, where there is attention.

        Arguments:
            clock: clock of the diagnosis.
        """
        model = self.subject.copy()
        if not attention_modules(model) or clock.left() == 0:
            return
        clock.at("making attention uniform")
        changed = self.subject.copy()
        seen = make_uniform(changed)
        end = clock.spent() + _SHARE * clock.budget
        with evaluating(model), evaluating(changed):
            for batch in self.subject.held_out:
                if clock.left() == 0 or (len(self.given) >= _FEWEST and clock.spent() > end):
                    break
                self.uniform.append(float(self.subject.loss(changed, batch)))
                self.given.append(float(self.subject.loss(model, batch)))
        self.names = [name for name, positions in seen.items() if positions > 1]
        if self.names and self.given:
            rise = f"{mean(self.given):.4g} -> {mean(self.uniform):.4g}"
            self.facts.append(Fact("loss with uniform attention", rise))

    def finding(self, needs: Sequence[Need], where: str) -> Finding | None:
        """Return the finding that attention is not used.

        It is a fault of a model that is far from what a predictor learns, else a note.

        Arguments:
            needs: losses of the reference predictors, by layer; none where they were not trained.
            where: batches, in words.
        """
        if not self.names or len(self.given) < _FEWEST:
            return None
        rise = difference(self.uniform, self.given)
        scale = max([mean(need.constant) for need in needs], default=mean(self.given))
        if rise.low > 0 or rise.high > _SMALL * abs(scale):
            return None
        far = any(need.learned and self._is_far(need) for need in needs)
        names = ", ".join(name or "the model" for name in self.names)
        return Finding(
            cause=Cause.ATTENTION_UNUSED,
            severity="fault" if far else "note",
            certainty="measured",
            statement=f"The weights of the attention ({names}) do not matter: with uniform weights "
            f"the loss is {mean(self.uniform):.3g}, with its own {mean(self.given):.3g}.",
            effect=rise,
            effect_name="rise of the loss with uniform weights",
            threshold=_SMALL * abs(scale),
            measured_on=where,
            remedy=_remedy(far=far, known=any(need.learned for need in needs)),
        )

    def _is_far(self, need: Need) -> bool:
        """Return whether the model is far from a predictor, on the batches that were measured."""
        count = len(self.given)
        parts = (need.constant, need.short, need.full)
        constant, short, full = (losses[:count] for losses in parts)
        need = dataclasses.replace(need, constant=constant, short=short, full=full)
        return is_far(need, self.given)


def _remedy(*, far: bool, known: bool) -> str:
    if far:
        return (
            "Train on; if the weights stay uniform, compare the scales of queries and keys, the "
            "axis of the softmax, and the mask."
        )
    if known:
        return "The model needs no attention: a mean over the positions does as well."
    return "No predictor has learned more, so that the need for attention is open. Train on."


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of attention of a model by name, those in cells of its layers too.

    Arguments:
        model: any module.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):  # in each of their places
        if isinstance(module, _KINDS):
            found[name] = module
        elif isinstance(module, RecurrentLayer):
            for cell in module.cells():
                for own, part in attention_modules(cell).items():
                    found[f"{name}.{own}"] = part
    return found


def make_uniform(model: nn.Module) -> dict[str, int]:
    """Make all attention of a model uniform over what is not masked.

    Scores are 0. Those of torch are so with queries of 0, to which a mask is added.

    Arguments:
        model: copy of a model, which is changed in place.

    Returns:
        The largest number of positions of each module, by name, filled when the model runs.
    """
    seen: dict[str, int] = {}
    for name, module in attention_modules(model).items():
        seen[name] = 0
        if isinstance(module, nn.MultiheadAttention):
            _zero_queries(module)
            _count_positions(name, module, seen)
    for name, module in [*model.named_modules(remove_duplicate=False)]:
        if isinstance(module, RecurrentLayer):
            _replace_in_cells(name, module, seen)
        else:
            _replace(f"{name}." if name else "", module, seen)
    return seen


def _replace(path: str, parent: nn.Module, seen: dict[str, int]) -> None:
    """Replace the attention that a module holds."""
    for own, module in [*parent.named_children()]:
        if isinstance(module, Attention) and not isinstance(module, _Uniform):
            setattr(parent, own, _Uniform(module, f"{path}{own}", seen))


def _replace_in_cells(name: str, layer: RecurrentLayer, seen: dict[str, int]) -> None:
    """Replace the attention in the cells of a layer, which binds them anew for each call."""
    bound = layer.cells

    def cells() -> tuple[Cell, ...]:
        made = bound()
        for cell in made:
            for own, part in [*cell.named_modules()]:
                _replace(f"{name}.{own}." if own else f"{name}.", part, seen)
        return made

    vars(layer)["cells"] = cells


@final
class _Uniform(Attention):
    """Attention with the keys of another one, and scores of 0."""

    def __init__(self, of: Attention, name: str, seen: dict[str, int]):
        super().__init__()
        self.query_size, self.memory_size = of.query_size, of.memory_size
        self.key_size, self.coverage = of.key_size, of.coverage
        self.of, self.name, self.seen = of, name, seen

    def keys(
        self, values: Float[Tensor, "batch source memory"]
    ) -> Float[Tensor, "batch source key"]:
        """Return the keys of the other one."""
        self.seen[self.name] = max(self.seen[self.name], values.shape[1])
        return self.of.keys(values)

    def scores(
        self,
        query: Float[Tensor, "*steps batch query"],
        keys: Float[Tensor, "batch source key"],
        coverage: Float[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "*steps batch source"]:
        """Return 0 for each position."""
        del coverage
        return query.new_zeros(*query.shape[:-1], keys.shape[1])


def _zero_queries(module: nn.MultiheadAttention) -> None:
    width = module.embed_dim
    with torch.no_grad():
        if module.in_proj_weight is None:
            module.q_proj_weight.zero_()
        else:
            module.in_proj_weight[:width].zero_()
        if module.in_proj_bias is not None:
            module.in_proj_bias[:width].zero_()


def _count_positions(name: str, module: nn.MultiheadAttention, seen: dict[str, int]) -> None:
    def count(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        key = options.get("key", arguments[1] if len(arguments) > 1 else None)
        if isinstance(key, Tensor):
            axis = 1 if module.batch_first and key.dim() == 3 else 0
            seen[name] = max(seen[name], key.shape[axis])

    module.register_forward_pre_hook(count, with_kwargs=True)
