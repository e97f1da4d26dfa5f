"""Autoregressive distributions of binary vectors: any ordering, mixtures, exact filling in."""

import abc
import math
from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.tasks.kinds import Pixels
from throughtime.tasks.seeding import permutation

_MOST_FREE = 12  # unknown inputs before a known one: 4,096 completions are enumerated


class BinaryDensity(nn.Module, abc.ABC):
    """A distribution of binary vectors, a product of conditional probabilities in some ordering.

        p_o(x) = prod_i p(x_{o_i} | x_{o_1} ... x_{o_{i-1}})    p(x) = 1/K sum_k p_{o_k}(x)

    With K > 1 this is a mixture over orderings. It averages probabilities, never logits, so its
    probabilities sum to 1. All orderings share the weights.

    Arguments:
        kind: The kind of the vectors, with two levels.
        orderings: K, the number of random orderings; 0 for the inputs' own order.

    Attributes:
        orderings: (K, D) places of the inputs in the order of the conditionals.
        any_order: If True, the model is trained for all orderings, and known inputs come first
            where some are given.

    Raises:
        ConfigurationError: More than two levels, or a negative number of orderings.
    """

    any_order = False
    orderings: Int[Tensor, "orderings inputs"]

    def __init__(self, kind: Pixels, orderings: int = 0):
        super().__init__()
        if kind.levels != 2:
            raise ConfigurationError(
                "a model of binary vectors",
                got=f"{kind.levels} levels",
                expected="2",
                fix="Choose a task of binary values, or a model of images such as pixelcnn.",
            )
        if orderings < 0:
            raise ConfigurationError("orderings", got=orderings, expected="0 or more")
        self.kind = kind
        self.size = kind.channels * kind.height * kind.width
        drawn = [
            torch.from_numpy(permutation(self.size, 0, "pixel order", k)) for k in range(orderings)
        ]
        self.register_buffer("orderings", torch.stack(drawn or [torch.arange(self.size)]))

    @abc.abstractmethod
    def logits(
        self, x: Float[Tensor, "batch inputs"], ordering: Int[Tensor, " inputs"]
    ) -> Float[Tensor, "batch inputs"]:
        """Return the logit of each input, given the inputs before it in an ordering.

        Arguments:
            x: Vectors of zeros and ones.
            ordering: Places of the inputs in the order of the conditionals.
        """

    @abc.abstractmethod
    def _conditionals(
        self, ordering: Int[Tensor, " inputs"], columns: Float[Tensor, "inputs batch"]
    ) -> Iterator[Float[Tensor, " batch"]]:
        """Yield the logit of each input in turn. The caller then fills the input's row in."""

    @abc.abstractmethod
    def _estimate(
        self, x: Float[Tensor, "batch inputs"], random: torch.Generator | None
    ) -> Float[Tensor, " batch"]:
        """Return the log-probability in a random ordering, or an unbiased estimate of it."""

    @final
    def log_prob(
        self, x: Num[Tensor, "batch *item"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Return the natural logarithm of the probability of each vector.

        Arguments:
            x: Zeros and ones, (batch, channels, height, width) or (batch, inputs).
            lengths: Unused: vectors have no axis of time.

        Raises:
            ShapeError: Vectors of another size.
            ConfigurationError: A value other than 0 and 1.
        """
        del lengths
        return self._mixed(self.vectors(x), self.orderings)

    @final
    def estimate(
        self, x: Num[Tensor, "batch *item"], *, random: torch.Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """Return what training maximises: the log-probability in one random ordering.

        Its mean over the orderings is at most `log_prob`, and equal to it for one ordering.

        Arguments:
            x: Zeros and ones, (batch, channels, height, width) or (batch, inputs).
            random: Source of the random numbers, on the CPU; None for torch's own.

        Raises:
            ShapeError: Vectors of another size.
            ConfigurationError: A value other than 0 and 1.
        """
        return self._estimate(self.vectors(x), random)

    @final
    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        known: Int[Tensor, "*item"] | None = None,
        random: torch.Generator | None = None,
    ) -> Int[Tensor, "count channels height width"]:
        """Return vectors from the distribution, exactly.

        With `known`, they come from the distribution of the unknown inputs given the known ones.
        This is exact, too: known inputs that come first in the ordering are read; of the unknown
        inputs before a known one, up to 12, all values are weighed. A model of any order puts the
        known inputs first.

        The first vectors are the same for a larger count.

        Arguments:
            count: The number of vectors.
            known: Zeros and ones, and -1 where an input is unknown: one vector, or `count`.
            random: Source of the random numbers, on the CPU; None for torch's own.

        Raises:
            ShapeError: Known vectors of another size or number.
            ConfigurationError: A negative count; another value; or too many unknown inputs before
                a known one.
        """
        return self._shaped(self._draw(count, known, random)[0])

    @final
    @torch.no_grad()
    def sample_and_log_prob(
        self,
        count: int,
        *,
        known: Int[Tensor, "*item"] | None = None,
        random: torch.Generator | None = None,
    ) -> tuple[Int[Tensor, "count channels height width"], Float[Tensor, " count"]]:
        """Return vectors and the logarithm of their probability, given the known inputs.

        Arguments:
            count: The number of vectors.
            known: Zeros and ones, and -1 where an input is unknown: one vector, or `count`.
            random: Source of the random numbers, on the CPU; None for torch's own.

        Raises:
            ShapeError: Known vectors of another size or number.
            ConfigurationError: As for `sample`.
        """
        x, log_prob = self._draw(count, known, random)
        return self._shaped(x), log_prob

    @final
    def _mixed(
        self, x: Float[Tensor, "batch inputs"], orderings: Int[Tensor, "orderings inputs"]
    ) -> Float[Tensor, " batch"]:
        each = [self._in_order(x, ordering).sum(1) for ordering in orderings]
        return each[0] if len(each) == 1 else torch.stack(each).logsumexp(0) - math.log(len(each))

    @final
    def _in_order(
        self, x: Float[Tensor, "batch inputs"], ordering: Int[Tensor, " inputs"]
    ) -> Float[Tensor, "batch inputs"]:
        """Return the log-probability of each input, given those before it."""
        return -F.binary_cross_entropy_with_logits(self.logits(x, ordering), x, reduction="none")

    @final
    def _in_drawn_order(
        self, x: Float[Tensor, "batch inputs"], random: torch.Generator | None
    ) -> Float[Tensor, " batch"]:
        """Return the log-probability in one of the orderings, drawn for the whole batch."""
        count = len(self.orderings)
        k = int(torch.randint(count, (), generator=random)) if count > 1 else 0
        return self._in_order(x, self.orderings[k]).sum(1)

    @final
    def _draw(
        self, count: int, known: Tensor | None, random: torch.Generator | None
    ) -> tuple[Float[Tensor, "count inputs"], Float[Tensor, " count"]]:
        if count < 0:
            raise ConfigurationError("count", got=count, expected="0 or more")
        weight = next(self.parameters())
        uniform = torch.rand(count, self.size + 2, generator=random, dtype=weight.dtype)
        uniform = uniform.to(weight.device)
        given = self._known(known).to(weight)
        if len(given) not in (1, count):
            raise ShapeError("known", got=f"{len(given)} vectors", expected=f"1 or {count}")
        masks, group = torch.unique(given >= 0, dim=0, return_inverse=True)
        x = given.clamp(min=0).expand(count, -1).clone()
        log_prob, group = x.new_zeros(count), group.expand(count)
        for number, mask in enumerate(masks):
            rows = (group == number).nonzero()[:, 0]
            orderings = self.orderings
            if self.any_order and bool(mask.any()):
                orderings = _known_first(orderings, mask)
            x[rows], log_prob[rows] = self._draw_group(x[rows], mask, uniform[rows], orderings)
        return x, log_prob

    @final
    def _draw_group(
        self,
        x: Float[Tensor, "rows inputs"],
        mask: Bool[Tensor, " inputs"],
        uniform: Float[Tensor, "rows inputs+2"],
        orderings: Int[Tensor, "orderings inputs"],
    ) -> tuple[Float[Tensor, "rows inputs"], Float[Tensor, " rows"]]:
        """Return draws of rows with the same known inputs, and their log-probabilities."""
        first = [self._begun(x, mask, uniform[:, -1], ordering) for ordering in orderings]
        weights = torch.stack([log_known for _, log_known in first], 1)
        which = _chosen(weights, uniform[:, -2])
        drawn = x.clone()
        for k, ordering in enumerate(orderings):
            rows = (which == k).nonzero()[:, 0]
            if len(rows):
                begun = ordering[: _reach(mask, ordering)]
                own = first[k][0][rows]
                drawn[rows] = self._ancestral(own, begun, uniform[rows], ordering)
        log_known = weights.logsumexp(1) - math.log(len(orderings))
        return drawn, self._mixed(drawn, orderings) - log_known

    @final
    def _begun(
        self,
        x: Float[Tensor, "rows inputs"],
        mask: Bool[Tensor, " inputs"],
        uniform: Float[Tensor, " rows"],
        ordering: Int[Tensor, " inputs"],
    ) -> tuple[Float[Tensor, "rows inputs"], Float[Tensor, " rows"]]:
        """Fill in the inputs up to the last known one; return log p(known), too."""
        begun = ordering[: _reach(mask, ordering)]
        if not len(begun):
            return x, x.new_zeros(len(x))
        free = begun[~mask[begun]]
        if len(free) > _MOST_FREE:
            raise ConfigurationError(
                "known inputs",
                got=f"{len(free)} unknown ones before a known one in the ordering",
                expected=f"at most {_MOST_FREE}",
                fix="Give inputs that come first in the ordering, or train nade:orderless=true, "
                "which takes any.",
            )
        codes = torch.arange(2 ** len(free), device=x.device)
        bits = (codes[:, None] >> torch.arange(len(free), device=x.device)) & 1
        filled = x[:, None].repeat(1, len(codes), 1)
        filled[:, :, free] = bits.to(x.dtype)
        logs = self._in_order(filled.flatten(0, 1), ordering)[:, begun].sum(1)
        logs = logs.view(len(x), len(codes))
        chosen = _chosen(logs, uniform)
        return filled[torch.arange(len(x), device=x.device), chosen], logs.logsumexp(1)

    @final
    def _ancestral(
        self,
        x: Float[Tensor, "rows inputs"],
        given: Int[Tensor, " given"],
        uniform: Float[Tensor, "rows inputs+2"],
        ordering: Int[Tensor, " inputs"],
    ) -> Float[Tensor, "rows inputs"]:
        """Draw the inputs after the given ones, one at a time."""
        columns, chances = x.T.contiguous(), uniform.T.logit().contiguous()
        logits = self._conditionals(ordering, columns)
        for step, (place, logit) in enumerate(zip(ordering.tolist(), logits, strict=True)):
            if step >= len(given):
                torch.lt(chances[place], logit, out=columns[place])
        return columns.T

    @final
    def vectors(self, x: Num[Tensor, "batch *item"]) -> Float[Tensor, "batch inputs"]:
        """Return vectors as floating-point numbers, (batch, inputs).

        Arguments:
            x: Zeros and ones, (batch, channels, height, width) or (batch, inputs).

        Raises:
            ShapeError: Vectors of another size.
            ConfigurationError: A value other than 0 and 1.
        """
        self._check_shape("x", x)
        if not bool(((x == 0) | (x == 1)).all()):
            raise ConfigurationError(
                "x", got="a value that is not binary", expected="zeros and ones"
            )
        return x.flatten(1).to(next(self.parameters()).dtype)

    @final
    def _known(self, known: Tensor | None) -> Int[Tensor, "rows inputs"]:
        """Return the known inputs, a row for all vectors or for each."""
        if known is None:
            return torch.full((1, self.size), -1)
        one = tuple(known.shape) in (self._shape, (self.size,))
        known = known[None] if one else known
        self._check_shape("known", known)
        if not bool(((known == -1) | (known == 0) | (known == 1)).all()):
            raise ConfigurationError(
                "known", got="another value", expected="0, 1, and -1 for an unknown input"
            )
        return known.flatten(1)

    @final
    def _check_shape(self, name: str, x: Tensor) -> None:
        if tuple(x.shape[1:]) not in (self._shape, (self.size,)):
            raise ShapeError(
                name,
                got=f"shape {tuple(x.shape)}",
                expected=f"(batch, {', '.join(map(str, self._shape))}) or (batch, {self.size})",
            )

    @property
    @final
    def _shape(self) -> tuple[int, int, int]:
        return self.kind.channels, self.kind.height, self.kind.width

    @final
    def _shaped(self, x: Float[Tensor, "count inputs"]) -> Int[Tensor, "count *item"]:
        return x.long().view(len(x), *self._shape)


def earlier(ordering: Int[Tensor, " inputs"]) -> Int[Tensor, " inputs"]:
    """Return the position of each input in an ordering: the number of inputs before it."""
    return torch.empty_like(ordering).scatter_(
        0, ordering, torch.arange(len(ordering), device=ordering.device)
    )


def uniform(shape: tuple[int, ...], inputs: int) -> Float[Tensor, "..."]:
    """Return weights drawn uniformly from +-1/sqrt(inputs)."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(shape).uniform_(-bound, bound)


def _reach(mask: Bool[Tensor, " inputs"], ordering: Int[Tensor, " inputs"]) -> int:
    """Return the number of inputs up to the last known one in an ordering."""
    found = mask[ordering].nonzero()
    return int(found[-1]) + 1 if len(found) else 0


def _known_first(
    orderings: Int[Tensor, "orderings inputs"], mask: Bool[Tensor, " inputs"]
) -> Int[Tensor, "orderings inputs"]:
    return torch.stack([torch.cat([o[mask[o]], o[~mask[o]]]) for o in orderings])


def _chosen(
    logs: Float[Tensor, "rows choices"], uniform: Float[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    """Return a choice for each row, with probabilities proportional to exp(logs)."""
    sums = logs.softmax(1).cumsum(1)
    return (sums <= uniform[:, None] * sums[:, -1:]).sum(1).clamp(max=logs.shape[1] - 1)
