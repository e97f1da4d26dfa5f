"""Distributions of one frame: binary values, Gaussians and their mixtures, pen strokes, NADE."""

import abc
import math
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.gaussian import deviation_of
from throughtime.core.latent import Draws
from throughtime.engines.autoregression import autoregression

_FIRST_SCALE = 0.6  # softplus of it is near 1: the first bias of each scale
_LOG_TWO_PI = math.log(2 * math.pi)


class FrameOutput(nn.Module, abc.ABC):
    """The distribution of a frame, given features.

    Attributes:
        width: width of a frame.
        binary: If True, values are 0 and 1.
    """

    width: int
    binary: bool

    @abc.abstractmethod
    def log_prob(
        self, features: Float[Tensor, "rows feature"], x: Float[Tensor, "rows width"]
    ) -> Float[Tensor, " rows"]:
        """Return the log-probability or log-density of each frame in nats.

        Arguments:
            features: features of each frame.
            x: frames.
        """

    @abc.abstractmethod
    def sample(
        self, features: Float[Tensor, "rows feature"], draws: Draws
    ) -> Float[Tensor, "rows width"]:
        """Return a drawn frame for each row.

        Arguments:
            features: features of each frame.
            draws: random numbers of the rows.
        """


@final
class BernoulliOutput(FrameOutput):
    """Binary values, independent of each other given the features.

        p(x_i = 1) = sigmoid(w_i . features + b_i)

    Arguments:
        features: width of the features.
        width: width of a frame.

    Example:
        >>> output = BernoulliOutput(4, 2)
        >>> output.log_prob(torch.ones(3, 4), torch.tensor([[0.0, 1.0]] * 3)).shape
        torch.Size([3])
    """

    def __init__(self, features: int, width: int):
        super().__init__()
        self.width, self.binary = width, True
        self.logits = nn.Linear(features, width)

    def log_prob(
        self, features: Float[Tensor, "rows feature"], x: Float[Tensor, "rows width"]
    ) -> Float[Tensor, " rows"]:
        """Return sum_i ln p(x_i)."""
        return -_cross_entropy(self.logits(features), x).sum(-1)

    def sample(
        self, features: Float[Tensor, "rows feature"], draws: Draws
    ) -> Float[Tensor, "rows width"]:
        """Return drawn values."""
        p = self.logits(features).sigmoid()
        return (draws.uniform(self.width) < p).to(p.dtype)


@final
class GaussianOutput(FrameOutput):
    """A mixture of Gaussians with diagonal covariances; with one component, a Gaussian.

        p(x) = sum_k pi_k prod_i N(x_i; m_ki, s_ki)    s = softplus(.) + 1e-4

    Scales start near 1 (our choice).

    Arguments:
        features: width of the features.
        width: width of a frame.
        components: number of Gaussians.

    Example:
        >>> GaussianOutput(4, 2, components=3).log_prob(torch.ones(5, 4), torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, features: int, width: int, components: int = 1):
        super().__init__()
        self.width, self.binary, self.components = width, False, components
        self.parameters_of = nn.Linear(features, components * (2 * width + 1))
        with torch.no_grad():
            self.parameters_of.bias[-components * width :] = _FIRST_SCALE

    def mixture(
        self, features: Float[Tensor, "rows feature"]
    ) -> tuple[
        Float[Tensor, "rows components"],
        Float[Tensor, "rows components width"],
        Float[Tensor, "rows components width"],
    ]:
        """Return ln pi, m and s.

        Arguments:
            features: features of each frame.
        """
        k, width = self.components, self.width
        weights, means, scales = self.parameters_of(features).split([k, k * width, k * width], -1)
        shape = (-1, k, width)
        return weights.log_softmax(-1), means.view(shape), deviation_of(scales).view(shape)

    def log_prob(
        self, features: Float[Tensor, "rows feature"], x: Float[Tensor, "rows width"]
    ) -> Float[Tensor, " rows"]:
        """Return the log-density."""
        weights, means, scales = self.mixture(features)
        errors = (x[:, None] - means) / scales
        each = -0.5 * (errors.square() + _LOG_TWO_PI) - scales.log()
        return (weights + each.sum(-1)).logsumexp(-1)

    def sample(
        self, features: Float[Tensor, "rows feature"], draws: Draws
    ) -> Float[Tensor, "rows width"]:
        """Return drawn frames."""
        weights, means, scales = self.mixture(features)
        chosen = _component(weights, draws)
        rows = torch.arange(len(chosen), device=chosen.device)
        return means[rows, chosen] + scales[rows, chosen] * draws.normal(self.width)


@final
class PenOutput(FrameOutput):
    """A movement of a pen (dx, dy) and the pen itself, lifted (1) after the movement or not (0).

        p(dx, dy, pen) = p(pen) sum_k pi_k N(dx, dy; m_k, s_k, rho_k)    rho = 0.999 tanh(.)

    The two coordinates of a component are correlated. The bound of rho is our choice.

    Arguments:
        features: width of the features.
        components: number of Gaussians.

    Example:
        >>> PenOutput(4, components=2).log_prob(torch.ones(5, 4), torch.zeros(5, 3)).shape
        torch.Size([5])

    Source:
        Graves 2013, Generating sequences with recurrent neural networks.
    """

    def __init__(self, features: int, components: int = 1):
        super().__init__()
        self.width, self.binary, self.components = 3, False, components
        self.parameters_of = nn.Linear(features, 6 * components + 1)
        with torch.no_grad():
            self.parameters_of.bias[3 * components : 5 * components] = _FIRST_SCALE

    def mixture(
        self, features: Float[Tensor, "rows feature"]
    ) -> tuple[
        Float[Tensor, "rows components"],
        Float[Tensor, "rows components 2"],
        Float[Tensor, "rows components 2"],
        Float[Tensor, "rows components"],
        Float[Tensor, " rows"],
    ]:
        """Return ln pi, m, s and rho of the components, and the logits of a lifted pen.

        Arguments:
            features: features of each frame.
        """
        k = self.components
        weights, means, scales, rho, pen = self.parameters_of(features).split(
            [k, 2 * k, 2 * k, k, 1], -1
        )
        means, scales = means.view(-1, k, 2), deviation_of(scales).view(-1, k, 2)
        return weights.log_softmax(-1), means, scales, 0.999 * rho.tanh(), pen[:, 0]

    def log_prob(
        self, features: Float[Tensor, "rows feature"], x: Float[Tensor, "rows width"]
    ) -> Float[Tensor, " rows"]:
        """Return the log-density of the movement plus the log-probability of the pen."""
        weights, means, scales, rho, pen = self.mixture(features)
        a, b = ((x[:, None, :2] - means) / scales).unbind(-1)
        free = 1 - rho.square()
        exponent = (a.square() + b.square() - 2 * rho * a * b) / free
        each = -0.5 * (exponent + free.log()) - _LOG_TWO_PI - scales.log().sum(-1)
        return (weights + each).logsumexp(-1) - _cross_entropy(pen, x[:, 2])

    def sample(
        self, features: Float[Tensor, "rows feature"], draws: Draws
    ) -> Float[Tensor, "rows width"]:
        """Return drawn movements and pens."""
        weights, means, scales, rho, pen = self.mixture(features)
        chosen = _component(weights, draws)
        rows = torch.arange(len(chosen), device=chosen.device)
        mean, scale, rho = means[rows, chosen], scales[rows, chosen], rho[rows, chosen]
        a, b = draws.normal(2).unbind(-1)
        errors = torch.stack([a, rho * a + (1 - rho.square()).sqrt() * b], -1)
        lifted = draws.uniform(1)[:, 0] < pen.sigmoid()
        return torch.cat([mean + scale * errors, lifted[:, None].to(mean.dtype)], -1)


@final
class NADEOutput(FrameOutput):
    """Binary values, each given the features and the values before it (NADE).

        p(x_i = 1) = sigmoid(b_i + V_i . sigmoid(a_i))    a_{i+1} = a_i + x_i W_i
        a_0 and b are linear in the features

    On top of a recurrent layer this is RNN-NADE.

    Arguments:
        features: width of the features.
        width: width of a frame.
        units: width of a.

    Raises:
        ConfigurationError: fewer than one unit.

    Example:
        >>> output = NADEOutput(4, 2, units=5)
        >>> output.log_prob(torch.ones(3, 4), torch.zeros(3, 2)).shape
        torch.Size([3])

    Source:
        Larochelle and Murray 2011, The neural autoregressive distribution estimator;
        Boulanger-Lewandowski, Bengio and Vincent 2012, Modeling temporal dependencies in
        high-dimensional sequences. The first weights are our choice.
    """

    def __init__(self, features: int, width: int, units: int):
        super().__init__()
        if units < 1:
            raise ConfigurationError("units of NADE", got=units, expected="at least 1")
        self.width, self.binary = width, True
        self.initial = nn.Linear(features, units)
        self.logits = nn.Linear(features, width)
        bound = 1 / math.sqrt(units)
        self.weight = nn.Parameter(torch.empty(width, units).uniform_(-bound, bound))
        self.readout = nn.Parameter(torch.empty(width, units).uniform_(-bound, bound))

    def log_prob(
        self, features: Float[Tensor, "rows feature"], x: Float[Tensor, "rows width"]
    ) -> Float[Tensor, " rows"]:
        """Return sum_i ln p(x_i | x_<i)."""
        z = autoregression(x, self.initial(features), self.weight, self.readout)
        return -_cross_entropy(z + self.logits(features), x).sum(-1)

    def sample(
        self, features: Float[Tensor, "rows feature"], draws: Draws
    ) -> Float[Tensor, "rows width"]:
        """Return values that are drawn one after the other."""
        a, b, uniform = self.initial(features), self.logits(features), draws.uniform(self.width)
        values: list[Tensor] = []
        for i, (w, v) in enumerate(zip(self.weight, self.readout, strict=True)):
            p = (b[:, i] + a.sigmoid() @ v).sigmoid()
            values.append((uniform[:, i] < p).to(p.dtype))
            a = a + values[-1][:, None] * w
        return torch.stack(values, -1)


def _cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def _component(weights: Tensor, draws: Draws) -> Tensor:
    """Return the number of a component for each row, drawn from ln pi."""
    uniform = draws.uniform(1)
    passed = (weights.softmax(-1).cumsum(-1) <= uniform).sum(-1)
    return passed.clamp(max=weights.shape[1] - 1)
