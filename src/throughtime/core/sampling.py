"""The draw of a symbol from its logits, with one random number for each sequence."""

import dataclasses
from typing import NoReturn, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError, ThroughtimeError


@final
@dataclasses.dataclass(frozen=True)
class Sampling:
    """A draw from a softmax at a temperature, of the likeliest symbols only where asked for.

        p = softmax(z / temperature)    over the symbols that are kept
        symbol = the first v with p_0 + ... + p_v > u    u uniform in [0, 1)

    The filters apply in the order of the arguments. Of equally likely symbols they keep the first
    ones, and they always keep one. A result depends on its own logits and number alone.

    Arguments:
        temperature: The divisor of the logits; 0 for the likeliest symbol.
        top_k: The number of symbols that are kept; None for all.
        top_p: The probability that the kept symbols have together, at least; they are the fewest,
            from the likeliest on.
        min_p: The least probability of a kept symbol, relative to that of the likeliest one.

    Raises:
        ConfigurationError: An argument is out of range.

    Example:
        >>> logits, u = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([0.9])
        >>> Sampling().draw(logits, u), Sampling(top_k=1).draw(logits, u)
        (tensor([2]), tensor([1]))
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            _refuse("temperature", self.temperature, "a number of at least 0")
        k = self.top_k
        if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
            _refuse("top_k", k, "None, or a whole number of at least 1")
        if not 0 < self.top_p <= 1:
            _refuse("top_p", self.top_p, "a number above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            _refuse("min_p", self.min_p, "a number from 0 to 1")

    def draw(
        self, logits: Float[Tensor, "batch alphabet"], uniform: Float[Tensor, " batch"]
    ) -> Int[Tensor, " batch"]:
        """Return a symbol for each sequence.

        Arguments:
            logits: The logits of each symbol.
            uniform: A random number in [0, 1) for each sequence.

        Raises:
            ThroughtimeError: A logit is NaN or infinite.
        """
        if not bool((logits < float("inf")).all()):
            refuse_logits()
        best = logits.argmax(-1)
        if self.temperature == 0:
            return best
        z = logits.double()
        weights = ((z - z.gather(-1, best[:, None])) / self.temperature).exp()
        order = weights.argsort(stable=True, dim=-1, descending=True)
        ranked = weights.gather(-1, order)
        kept = torch.ones_like(ranked, dtype=torch.bool)
        if self.top_k is not None:
            kept[:, self.top_k :] = False
        if self.top_p < 1:
            ranked = ranked * kept
            before = ranked.cumsum(-1) - ranked
            kept &= before < self.top_p * ranked.sum(-1, keepdim=True)
            kept[:, 0] = True
        weights = weights * torch.zeros_like(kept).scatter(-1, order, kept)
        weights = weights * (weights >= self.min_p)
        sums = weights.cumsum(-1)
        found = (sums > uniform.double()[:, None] * sums[:, -1:]) & (weights > 0)
        return torch.where(found.any(-1), found.int().argmax(-1), best)


def refuse_logits() -> NoReturn:
    """Raise ThroughtimeError for logits of which nothing can be drawn."""
    raise ThroughtimeError(
        "the logits of a symbol",
        got="NaN or infinity",
        expected="numbers, or minus infinity for a symbol that is excluded",
        fix="The weights or the state may have diverged: train with a smaller learning rate.",
    )


def _refuse(name: str, got: object, expected: str) -> None:
    raise ConfigurationError(name, got=repr(got), expected=expected)
