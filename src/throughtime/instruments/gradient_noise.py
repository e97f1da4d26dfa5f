"""The gradient's norm over batches: its distribution, its tail, and what clipping would do."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.instruments.unchanged import unchanged


@dataclasses.dataclass(frozen=True, eq=False)
class GradientNorms:
    """||dL/dtheta|| of several batches, over all trained parameters together, in float64.

    Attributes:
        norm: of each batch, in the order in which they came; infinite or NaN where a gradient is.
        loss: of each batch.
    """

    norm: Float[Tensor, " batches"]
    loss: Float[Tensor, " batches"]

    @property
    def batches(self) -> int:
        """How many there were."""
        return len(self.norm)

    @property
    def not_finite(self) -> int:
        """Of how many batches the norm is not finite."""
        return int((~self.norm.isfinite()).sum())

    @property
    def tail_ratio(self) -> float:
        """The largest norm over the median one, of those that are finite.

        About 1 where all batches are alike; in the hundreds where a few of them meet a cliff. NaN
        if none is finite or the median is zero.
        """
        finite = self._sorted()
        if len(finite) == 0 or float(finite.quantile(0.5)) == 0:
            return math.nan
        return float(finite[-1] / finite.quantile(0.5))

    def quantiles(self, at: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> list[float]:
        """Quantiles of the finite norms, interpolated linearly; NaN if none is finite.

        Arguments:
            at: in [0, 1].
        """
        finite = self._sorted()
        return [float(finite.quantile(p)) if len(finite) else math.nan for p in at]

    def tail_index(self, fraction: float = 0.1) -> float | None:
        """Hill's estimate of alpha, where P(norm > x) falls as x^-alpha in its tail.

            1 / alpha = mean over i = 1 .. k of log(x_(i) / x_(k+1)),  x_(1) >= x_(2) >= ...

        Below 2 the variance is infinite: averages over batches converge slowly, and clipping is
        what keeps them useful. The standard error is alpha / sqrt(k).

        Arguments:
            fraction: of the finite norms that is taken for the tail, in (0, 1).

        Returns:
            alpha; None where it is not well defined: fewer than 10 norms in the tail, or a tail
            without spread.

        Raises:
            ConfigurationError: a fraction outside (0, 1).

        Source:
            Hill, 1975.
        """
        if not 0 < fraction < 1:
            raise ConfigurationError("fraction", got=fraction, expected="in (0, 1)")
        falling = self._sorted().flip(0)
        k = int(fraction * len(falling))
        if k < 10 or float(falling[k]) <= 0:
            return None
        spread = float((falling[:k] / falling[k]).log().mean())
        return 1 / spread if spread > 0 else None

    def clip_rate(self, threshold: float) -> float:
        """What part of the batches clipping at this norm would change; those not finite count.

        Arguments:
            threshold: the largest norm that is left alone.
        """
        return float((~(self.norm <= threshold)).double().mean())

    def threshold_for(self, rate: float) -> float:
        """The smallest norm to clip at that changes at most this part of the batches.

        Arguments:
            rate: in [0, 1].

        Returns:
            One of the norms; infinite if more than this part is not finite; 0 if all may be
            changed.

        Raises:
            ConfigurationError: a rate outside [0, 1].
        """
        if not 0 <= rate <= 1:
            raise ConfigurationError("rate", got=rate, expected="in [0, 1]")
        allowed = math.floor(rate * self.batches + 1e-9)
        if allowed >= self.batches:
            return 0.0
        return float(self.norm.nan_to_num(math.inf, math.inf).sort(descending=True)[0][allowed])

    def _sorted(self) -> Tensor:
        return self.norm[self.norm.isfinite()].sort()[0]


def gradient_norms(model: nn.Module, losses: Iterable[Callable[[], Tensor]]) -> GradientNorms:
    """Measure ||dL/dtheta|| on several batches without training on any.

    Random numbers, buffers and hidden states go on from one batch to the next as in training, and
    are put back in the end.

    Arguments:
        model: any module. It is left as it was.
        losses: for each batch, what runs the model on it and returns a scalar.

    Returns:
        The norm of each batch, of all parameters that require a gradient, as
        `torch.nn.utils.clip_grad_norm_` takes it before clipping.

    Raises:
        ConfigurationError: no losses, none of the parameters is trained, or a loss is no scalar or
            has no gradient.

    Example:
        >>> rnn = nn.RNN(1, 8)
        >>> batches = [torch.randn(20, 4, 1) for _ in range(5)]
        >>> norms = gradient_norms(rnn, [lambda x=x: rnn(x)[0].square().mean() for x in batches])
        >>> norms.batches, norms.not_finite, norms.clip_rate(norms.threshold_for(0.2))
        (5, 0, 0.2)
    """
    values: list[float] = []
    norms: list[float] = []
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigurationError("model", got="no trained parameters", expected="some")
    with unchanged(model):
        for loss in losses:
            value = loss()
            if value.dim() != 0 or not value.requires_grad:
                raise ConfigurationError(
                    "losses",
                    got=f"shape {tuple(value.shape)}, requires_grad={value.requires_grad}",
                    expected="scalars that depend on the parameters",
                )
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            # in float64: squares overflow long before the gradient itself does
            squares = [float(g.double().square().sum()) for g in gradients if g is not None]
            values.append(float(value.detach()))
            norms.append(math.sqrt(math.fsum(squares)) if _all_finite(squares) else sum(squares))
    if not values:
        raise ConfigurationError("losses", got="none", expected="at least one")
    return GradientNorms(
        norm=torch.tensor(norms, dtype=torch.float64, device="cpu"),
        loss=torch.tensor(values, dtype=torch.float64, device="cpu"),
    )


def _all_finite(values: list[float]) -> bool:
    return all(math.isfinite(value) for value in values)
