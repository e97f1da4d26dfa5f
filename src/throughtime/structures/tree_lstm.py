"""The Tree-LSTM (Tai, Socher & Manning 2015): child-sum, and N-ary."""

import functools
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import check_flag
from throughtime.core.state import State, state_type
from throughtime.structures.tree_layer import Children, TreeLayer, uniform

_State = state_type("h", "c")


@final
class TreeLSTM(TreeLayer):
    """The Tree-LSTM: an LSTM whose step reads several children, each with a forget gate.

        i, o, u = sigmoid, sigmoid, tanh of (W x_j + b + U h~)
        c_j = i * u + sum_k f_k * c_k
        h_j = o * tanh(c_j)

    Child-sum (`arity=None`), for any number of children without an order:

        h~ = sum_k h_k              f_k = sigmoid(W_f x_j + b_f + U_f h_k)

    N-ary (`arity=N`), for at most N children in places, with matrices for each place:

        U h~ = sum_l U^(l) h_l      f_k = sigmoid(W_f x_j + b_f + sum_l U_f^(kl) h_l)

    On a chain, both are the LSTM. Every node may have an input. Shared nodes of acyclic graphs are
    computed once.

    Arguments:
        input_size: width of x_j.
        hidden_size: width of h_j.
        arity: largest number of children, for the N-ary network; None for the child-sum network.
        bias: If True, there is b.
        device, dtype: device and dtype of the parameters.

    Attributes:
        weight_ih: (4 * hidden, input): W_f, W_i, W_u, W_o.
        weight_hh: (4 * hidden, hidden): U_f, U_i, U_u, U_o; of the N-ary network ((N + 3) * hidden,
            N * hidden): U_f^(1) ... U_f^(N), U_i, U_u, U_o, with a column block for each place.
        bias_ih: (4 * hidden,).

    Raises:
        ConfigurationError: a size below 1.

    Example:
        >>> from throughtime.structures import Forest
        >>> trees = Forest.of(torch.ones(5, 7), torch.tensor([[0, 1], [0, 2], [3, 4]]), [3, 2])
        >>> output = TreeLSTM(7, 4)(trees)
        >>> output.nodes.shape, output.roots.shape
        (torch.Size([5, 4]), torch.Size([2, 4]))

    Source:
        Tai, Socher & Manning 2015. Weights are drawn as those of torch's LSTM (our choice).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        arity: int | None = None,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, arity)
        check_flag("bias", bias)
        places = arity or 1
        draw = functools.partial(uniform, hidden_size**-0.5, device, dtype)
        self.weight_ih = draw(4 * hidden_size, input_size)
        self.weight_hh = draw((places + 3) * hidden_size, places * hidden_size)
        self.bias_ih = draw(4 * hidden_size) if bias else None

    def project(self, x: Float[Tensor, "node input"]) -> Float[Tensor, "node projected"]:
        """Return W x_j + b.

        Arguments:
            x: inputs of nodes.
        """
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Float[Tensor, "node projected"], children: Children | None) -> State:
        """Return h_j and c_j.

        Arguments:
            projected: W x_j + b of each node.
            children: states of the children; None for nodes that have none.
        """
        width = self.hidden_size
        forget, rest = projected.split([width, 3 * width], 1)
        carried = None
        if children is not None:
            if self.arity is None:
                gates, more = self._summed(forget, children)
            else:
                gates, more = self._in_places(forget, children, self.arity)
            carried = children.summed(gates.sigmoid() * children.state.c)
            rest = rest + more
        i, u, o = rest.chunk(3, 1)
        c = i.sigmoid() * u.tanh()
        c = c if carried is None else c + carried
        return _State(o.sigmoid() * c.tanh(), c)

    def _summed(self, forget: Tensor, children: Children) -> tuple[Tensor, Tensor]:
        """Return the forget gates' sums for each child, and the others' for each node."""
        own, rest = self.weight_hh.split([self.hidden_size, 3 * self.hidden_size])
        h = children.state.h
        gates = children.of_parents(forget) + F.linear(h, own)
        return gates, F.linear(children.summed(h), rest)

    def _in_places(self, forget: Tensor, children: Children, arity: int) -> tuple[Tensor, Tensor]:
        h = children.in_places(children.state.h, arity).flatten(1)
        sums = F.linear(h, self.weight_hh)
        gates, rest = sums.split([arity * self.hidden_size, 3 * self.hidden_size], 1)
        of_places = gates.view(-1, arity, self.hidden_size) + forget[:, None]
        return of_places[children.parents, children.positions], rest

    def extra_repr(self) -> str:
        """The sizes."""
        arity = "" if self.arity is None else f", arity={self.arity}"
        return f"{self.input_size}, {self.hidden_size}{arity}"
