"""Multiplicative integration: products of the maps of the input and of the past."""

import abc
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from throughtime.core.errors import UnknownNameError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State

_NAMES = ("alpha", "beta1", "beta2", "offset")


class _Integrated(GatedCell, abc.ABC):
    """A gated cell whose gates have alpha, beta1, beta2 and b, and no other bias."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        alpha: float = 1.0,
        beta1: float = 0.5,
        beta2: float = 0.5,
        frozen: Sequence[str] = (),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=False, device=device, dtype=dtype)
        values = {"alpha": alpha, "beta1": beta1, "beta2": beta2}
        for name in frozen:
            if name not in _NAMES:
                raise UnknownNameError("parameter to freeze", name, _NAMES)
        for name in _NAMES:
            shape = (len(self.gate_names), hidden_size)
            first = torch.full(shape, values.get(name, 0.0), device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(first, requires_grad=name not in frozen))

    def integrated(self, x: Gates, u: Gates) -> list[Tensor]:
        """Return alpha * x * u + beta1 * u + beta2 * x + b of each gate."""
        a, b1, b2, b = (getattr(self, name) for name in _NAMES)
        return [a[k] * x[k] * u[k] + b1[k] * u[k] + b2[k] * x[k] + b[k] for k in range(len(x))]


@CELLS.register("mi-rnn")
@final
class MultiplicativeCell(_Integrated):
    """The tanh network with multiplicative integration (Wu et al. 2016).

        a = alpha * W x * U h + beta1 * U h + beta2 * W x + b        h_t = tanh(a)

    With alpha 0 and beta1 = beta2 = 1, all frozen, it is the plain network.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        alpha, beta1, beta2: first values.
        frozen: names among "alpha", "beta1", "beta2" and "offset" (b) that are not trained.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: no such parameter to freeze.

    Example:
        >>> cell = MultiplicativeCell(3, 5, alpha=0.0, frozen=("alpha",))
        >>> [name for name, p in cell.named_parameters() if p.requires_grad]
        ['weight_ih', 'weight_hh', 'beta1', 'beta2', 'offset']

    Source: Y. Wu et al., "On multiplicative integration with recurrent neural networks", NIPS 2016.
    """

    gates = ("hidden",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t; `state` is not read."""
        (a,) = self.integrated(x, u)
        return a.tanh()


@CELLS.register("mi-lstm")
@final
class MultiplicativeLSTMCell(_Integrated):
    """LSTM whose four gates have multiplicative integration (Wu et al. 2016).

        i, f, o = sigmoid(a)   g = tanh(a)        a as in `MultiplicativeCell`, for each gate
        c_t = f * c_{t-1} + i * g        h_t = o * tanh(c_t)

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        alpha, beta1, beta2: first values, of every gate.
        frozen: names among "alpha", "beta1", "beta2" and "offset" (b) that are not trained.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: no such parameter to freeze.

    Source: Y. Wu et al., "On multiplicative integration with recurrent neural networks", NIPS 2016.
    """

    gates = ("input", "forget", "cell", "output")
    memories: ClassVar[tuple[str, ...]] = ("c",)

    def pointwise(self, x: Gates, u: Gates, state: State) -> tuple[Tensor, Tensor]:
        """Return h_t and c_t."""
        i, f, g, o = self.integrated(x, u)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


@CELLS.register("mi-gru")
@final
class MultiplicativeGRUCell(_Integrated):
    """GRU with multiplicative integration (Wu et al. 2016).

        r, z = sigmoid(a)        a as in `MultiplicativeCell`
        n = tanh(a)              the same with r * U h in place of U h
        h_t = (1 - z) * n + z * h_{t-1}

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        alpha, beta1, beta2: first values, of every gate.
        frozen: names among "alpha", "beta1", "beta2" and "offset" (b) that are not trained.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: no such parameter to freeze.

    Source: Y. Wu et al., "On multiplicative integration with recurrent neural networks", NIPS 2016.

    Differs from the paper in: the reset gate acts after the product with h_{t-1}, as in torch's
    GRU, which makes the cell elementwise.
    """

    gates = ("reset", "update", "new")

    def pointwise(self, x: Gates, u: Gates, state: State) -> Tensor:
        """Return h_t."""
        r = self.integrated(x[:1], u[:1])[0].sigmoid()
        _, z, n = self.integrated(x, (u[0], u[1], r * u[2]))
        return (1 - z.sigmoid()) * n.tanh() + z.sigmoid() * state.h
