"""Recursive networks: a tanh of the children's states, with a matrix (RecNN) or a tensor (RNTN)."""

import abc
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import check_flag
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, state_type
from throughtime.structures.tree_layer import Children, TreeLayer, uniform

_State = state_type("h")


class RecursiveLayer(TreeLayer):
    """The base of both networks: h_j = tanh(V x_j + b + a function of the children's states).

    Arguments:
        input_size: width of x_j.
        hidden_size: width of h_j.
        arity: largest number of children.
        input_weights: If True, there is V; else x_j takes the place of V x_j.
        device, dtype: device and dtype of the parameters.

    Raises:
        ConfigurationError: a size below 1, or sizes that differ without V.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        arity: int,
        input_weights: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        super().__init__(input_size, hidden_size, arity)
        check_flag("input_weights", input_weights)
        if not input_weights and input_size != hidden_size:
            raise ConfigurationError(
                "input_weights=False",
                got=f"input_size {input_size}, hidden_size {hidden_size}",
                expected="one size, since an input takes the place of a state",
            )
        self.places = arity
        bound = hidden_size**-0.5
        shape = (hidden_size, input_size)
        self.weight_ih = uniform(bound, device, dtype, *shape) if input_weights else None
        mean = torch.eye(hidden_size, device=device, dtype=dtype).repeat(1, arity) / arity
        self.weight_hh = nn.Parameter(mean + torch.empty_like(mean).uniform_(-bound / 2, bound / 2))
        self.bias = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype))

    @abc.abstractmethod
    def of_children(self, h: Float[Tensor, "node places"]) -> Float[Tensor, "node hidden"]:
        """Return the children's part of the sum.

        Arguments:
            h: states of the children side by side, 0 at empty places.
        """

    @final
    def project(self, x: Float[Tensor, "node input"]) -> Float[Tensor, "node hidden"]:
        """Return V x_j + b.

        Arguments:
            x: inputs of nodes.
        """
        return x + self.bias if self.weight_ih is None else F.linear(x, self.weight_ih, self.bias)

    @final
    def step(self, projected: Float[Tensor, "node hidden"], children: Children | None) -> State:
        """Return h_j.

        Arguments:
            projected: V x_j + b of each node.
            children: states of the children; None for nodes that have none.
        """
        if children is not None:
            h = children.in_places(children.state.h, self.places).flatten(1)
            projected = projected + self.of_children(h)
        return _State(projected.tanh())

    @final
    def extra_repr(self) -> str:
        """The sizes."""
        weights = "" if self.weight_ih is not None else ", input_weights=False"
        return f"{self.input_size}, {self.hidden_size}, arity={self.arity}{weights}"


@final
class RecNN(RecursiveLayer):
    """The recursive network: one matrix for each place of a child.

        h_j = tanh(V x_j + sum_l W^(l) h_l + b)

    Arguments:
        input_size: width of x_j.
        hidden_size: width of h_j.
        arity: largest number of children.
        input_weights: If True, there is V; else x_j takes the place of V x_j, as word vectors that
            are learned do.
        device, dtype: device and dtype of the parameters.

    Attributes:
        weight_ih: V, (hidden, input), or None.
        weight_hh: W, (hidden, arity * hidden), with a column block for each place.
        bias: b, (hidden,).

    Raises:
        ConfigurationError: a size below 1, or sizes that differ without V.

    Example:
        >>> from throughtime.structures import Forest
        >>> trees = Forest.of(torch.ones(5, 7), torch.tensor([[0, 1], [0, 2], [3, 4]]), [3, 2])
        >>> RecNN(7, 4)(trees).roots.shape
        torch.Size([2, 4])

    Source:
        Socher, Lin, Ng & Manning 2011, with two children and words at the leaves alone. The start,
        the mean of the children with uniform noise, and b = 0 are our choice.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        arity: int = 2,
        *,
        input_weights: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, arity, input_weights, device, dtype)

    def of_children(self, h: Float[Tensor, "node places"]) -> Float[Tensor, "node hidden"]:
        """Return W [h_1; h_2].

        Arguments:
            h: states of the children side by side, 0 at empty places.
        """
        return F.linear(h, self.weight_hh)


@final
class RNTN(RecursiveLayer):
    """The recursive neural tensor network: children's states are also multiplied by each other.

        h_j = tanh(V x_j + [h_1; h_2]^T T [h_1; h_2] / (arity hidden) + W [h_1; h_2] + b)

    Arguments:
        input_size: width of x_j.
        hidden_size: width of h_j.
        arity: largest number of children.
        input_weights: If True, there is V; else x_j takes the place of V x_j, as word vectors that
            are learned do.
        device, dtype: device and dtype of the parameters.

    Attributes:
        weight_ih: V, (hidden, input), or None.
        weight_hh: W, (hidden, arity * hidden), with a column block for each place.
        tensor: T, (hidden, arity * hidden, arity * hidden).
        bias: b, (hidden,).

    Raises:
        ConfigurationError: a size below 1, or sizes that differ without V.

    Example:
        >>> from throughtime.structures import Forest
        >>> trees = Forest.of(torch.ones(5, 7), torch.tensor([[0, 1], [0, 2], [3, 4]]), [3, 2])
        >>> RNTN(7, 4)(trees).roots.shape
        torch.Size([2, 4])

    Source:
        Socher, Perelygin, Wu, Chuang, Manning, Ng & Potts 2013.

    Differs:
        The product is divided by the width of [h_1; h_2], arity * hidden: T is larger by this
        factor. Adam and AdaGrad move all elements of a weight by steps of one size, and the product
        adds up (arity * hidden)^2 of them. The start is our choice: that of `RecNN`, and T from
        U(-arity / 4, arity / 4).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        arity: int = 2,
        *,
        input_weights: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, arity, input_weights, device, dtype)
        width = arity * hidden_size
        self.tensor = uniform(arity / 4, device, dtype, hidden_size, width, width)

    def of_children(self, h: Float[Tensor, "node places"]) -> Float[Tensor, "node hidden"]:
        """Return the product with the tensor, and W [h_1; h_2].

        Arguments:
            h: states of the children side by side, 0 at empty places.
        """
        halves = F.linear(h / h.shape[1], self.tensor.flatten(0, 1)).view(len(h), -1, h.shape[1])
        return torch.bmm(halves, h[:, :, None])[:, :, 0] + F.linear(h, self.weight_hh)
