"""The gated cell: linear maps of the input and of past outputs, then an elementwise function."""

import abc
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import (
    Cell,
    Streams,
    add_weights,
    bind,
    check_size,
    recurrent_weight,
    set_sizes,
)
from throughtime.core.errors import ConfigurationError, ThroughtimeError
from throughtime.core.state import State, state_type

Gates: TypeAlias = tuple[Any, ...]
"""One tensor for each gate; what stands for a tensor where only sums of gates are read."""

Pointwise: TypeAlias = Tensor | tuple[Tensor, ...]


class GatedCell(Cell, abc.ABC):
    """A cell whose step is elementwise but for one linear map of each past output that it reads.

        x = W_ih x_t + b_ih                          one tensor of (batch, hidden) for each gate
        u = b_hh + sum over d in lags of W_hh^(d) h_{t-d}                        likewise
        h_t, memories = pointwise(x, u, state)

    A subclass declares and supplies:

        gates: their number, or their names in order of the weights' row blocks.
        memories: names of the per-unit states beside h.
        lags: the past outputs that it reads, each with a recurrent matrix of its own; () for none,
            and `u` is then empty.
        heads: the number of groups of units; past outputs reach units of their own group alone.
        unit parameters: `nn.Parameter`s of shape (hidden_size,) or (gates, hidden_size).
        pointwise(x, u, state): h_t, or (h_t, *memories); with a fourth argument, the streams, if it
            declares `streams`. `state.h` is h_{t-1}. It must be elementwise over units and must not
            branch on `self.training`. Where it only ever adds x_k + u_k, the sums come ready made.
        constrained(weight, lag): the recurrent matrix made of its weight (a mask, a product, a
            sign); optional. It is computed once a run, with gradients.

    The state has the fields h, then the memories, then `past` if a lag exceeds 1: the tuple
    (h_{t-2}, ..., h_{t-D}), newest first; then `steps` if there are streams: (batch,) int64 steps
    since the start or the last reset. Before the start all are zero.

    Parameters are named as torch's: weight_ih (gates * hidden, input), weight_hh (gates * hidden,
    hidden / heads) for lag 1, weight_hh_lag21 for lag 21, bias_ih and bias_hh (gates * hidden); all
    drawn from U(-1/sqrt(hidden), 1/sqrt(hidden)) in torch's order. With several heads the recurrent
    matrix of a gate is block-diagonal, and a row of its weight is the part that is not zero.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        lags: increasing positive numbers of steps; the class's own if None.
        heads: a divisor of the hidden size; the class's own if None.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, lags that are not positive and increasing, heads that do
            not divide the hidden size, or memories that are no tuple of names.

    Example:
        >>> class Leaky(GatedCell):
        ...     gates = 1
        ...     def pointwise(self, x, u, state):
        ...         return 0.9 * state.h + 0.1 * (x[0] + u[0]).tanh()
        >>> cell = Leaky(3, 5)
        >>> state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        >>> h, state = cell.step(cell.project(torch.ones(2, 3)), state)
        >>> h.shape
        torch.Size([2, 5])
    """

    gates: ClassVar[int | tuple[str, ...]]
    memories: ClassVar[tuple[str, ...]] = ()
    lags: tuple[int, ...] = (1,)
    heads: int = 1
    constrained: Callable[..., Float[Tensor, "rows hidden"]] | None = None

    weight_ih: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        lags: Sequence[int] | None = None,
        heads: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        set_sizes(self, input_size, hidden_size)
        self.lags = tuple(self.lags if lags is None else lags)
        if any(not isinstance(d, int) or d < 1 for d in self.lags) or any(
            a >= b for a, b in itertools.pairwise(self.lags)
        ):
            raise ConfigurationError(
                "lags", got=self.lags, expected="positive whole numbers in increasing order"
            )
        heads = self.heads if heads is None else heads
        check_size("heads", heads)
        if hidden_size % heads:
            raise ConfigurationError("heads", got=heads, expected=f"a divisor of {hidden_size}")
        if heads != self.heads:
            self.heads = heads
        reserved = {"h", "past", "steps"}
        if isinstance(self.memories, str) or any(
            n in reserved or not n.isidentifier() or n[0] == "_" for n in self.memories
        ):
            raise ConfigurationError(
                "memories",
                got=self.memories,
                expected="a tuple of names of their own, which h, past and steps are not",
            )
        self.gate_names = (
            self.gates
            if isinstance(self.gates, tuple)
            else tuple(str(i) for i in range(self.gates))
        )
        count = len(self.gate_names)
        width = hidden_size // heads
        add_weights(self, count, lags=self.lags, width=width, bias=bias, device=device, dtype=dtype)

    @abc.abstractmethod
    def pointwise(self, x: Gates, u: Gates, state: State) -> Pointwise:
        """Return h_t, or (h_t, *memories), from the gates of input and past, and the state."""

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h and the memories (batch, hidden), `past` D - 1 such, `steps` (batch,)."""
        depth = max(self.lags, default=1)
        fields: dict[str, Tensor | tuple[Tensor, ...]] = {
            name: torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
            for name in ("h", *self.memories)
        }
        if depth > 1:
            fields["past"] = tuple(
                torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
                for _ in range(depth - 1)
            )
        if self.streams:
            fields["steps"] = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type(*fields)(**fields)

    @functools.cached_property
    def additive(self) -> bool:
        """If True, `pointwise` reads x and u only as x_k + u_k; it runs once to find out."""
        totals = self.weight_ih.detach()[:, :1].T.chunk(len(self.gate_names), -1)
        where = {"dtype": totals[0].dtype, "device": totals[0].device}
        rest: list[State] = [self.initial_state(1, **where)]
        if self.streams:
            drawn = self.draw_streams(
                torch.zeros(1, 1, dtype=torch.int64, device="cpu"),
                training=False,
                dtype=where["dtype"],
                generator=torch.Generator("cpu").manual_seed(0),
            )
            rest.append(tuple(stream[0].to(where["device"]) for stream in drawn))
        return bool(self.lags) and is_additive(self.pointwise, totals, *rest)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps rows"]:
        """Return W_ih x + b_ih, and + b_hh if `additive`, for any leading axes."""
        bias = self.bias_ih
        if self.additive and self.bias_hh is not None:
            bias = self.bias_hh if bias is None else bias + self.bias_hh
        return F.linear(x, self.weight_ih, bias)

    def step(
        self, projected: Float[Tensor, "batch rows"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Run one step: the linear maps of the past outputs, then `pointwise`.

        Raises:
            ConfigurationError: `pointwise` does not return h and the memories.
        """
        x, u = self._gates(projected, state)
        return self.step_of_gates(x, u, state, streams)

    def step_of_gates(
        self, x: Gates, u: Gates, state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """The part of a step after its linear maps: `pointwise`, and the new state.

        Arguments:
            x, u: gates of the input and of the past.
            state: the state before the step.
            streams: streams of the step.

        Raises:
            ConfigurationError: `pointwise` does not return h and the memories.
        """
        own = (streams,) if streams else ()
        result = self.pointwise(x, u, state, *own)
        h, *memories = result if isinstance(result, tuple) else (result,)
        if len(memories) != len(self.memories):
            raise ConfigurationError(
                f"pointwise of {type(self).__name__}",
                got=f"{1 + len(memories)} results",
                expected=f"({', '.join(('h', *self.memories))})",
            )
        fields: list[Any] = [h, *memories]
        if hasattr(state, "past"):
            fields.append((state.h, *state.past[:-1]))
        if self.streams:
            fields.append(state.steps + 1)
        return h, type(state)(*fields)

    def _gates(self, projected: Float[Tensor, "batch rows"], state: State) -> tuple[Gates, Gates]:
        """x and u of a step."""
        count = len(self.gate_names)
        if self.additive:
            for lag in self.lags:
                past, matrix = _past(state, lag), self.recurrent_matrix(lag)
                projected = torch.addmm(projected, past, matrix.t())
            return gates_of(projected.chunk(count, -1))
        total, bias = None, self.bias_hh
        for lag in self.lags:
            term = F.linear(_past(state, lag), self.recurrent_matrix(lag), bias)
            total, bias = term if total is None else total + term, None
        return projected.chunk(count, -1), () if total is None else total.chunk(count, -1)

    def recurrent_matrix(self, lag: int) -> Float[Tensor, "rows hidden"]:
        """Return W_hh of a lag: its weight, block-diagonal if there are heads; `constrained` of it.

        Arguments:
            lag: one of `lags`.
        """
        made: dict[int, Tensor] | None = vars(self).get("matrices")
        if made is not None:
            return made[lag]
        weight = getattr(self, recurrent_weight(lag))
        if self.heads > 1:
            width = self.hidden_size // self.heads
            blocks = weight.view(-1, self.heads, width, width)
            # (gates, rows, columns, heads, heads) with the blocks on the last diagonal
            spread = torch.diag_embed(blocks.permute(0, 2, 3, 1))
            weight = spread.permute(0, 3, 1, 4, 2).reshape(-1, self.hidden_size)
        return weight if self.constrained is None else self.constrained(weight, lag)

    def prepared(self) -> Self:
        """Return the cell with its constrained or block-diagonal matrices computed."""
        if self.constrained is None and self.heads == 1:
            return self
        made = bind(self, {})
        vars(made)["matrices"] = {lag: self.recurrent_matrix(lag) for lag in self.lags}
        return made

    @property
    def standard(self) -> bool:
        """If True, the step is this class's: linear maps, then `pointwise`.

        A subclass with a `step` or a `project` of its own is not standard.
        """
        kind = type(self)
        return (
            kind.step is GatedCell.step
            and kind.project is GatedCell.project
            and kind._gates is GatedCell._gates
            and vars(self).keys().isdisjoint(("step", "project"))
        )

    @property
    def starts_from_zero(self) -> bool:
        """If True, the initial state is this class's, all zero."""
        own = "initial_state" in vars(self)
        return type(self).initial_state is GatedCell.initial_state and not own


def _past(state: State, lag: int) -> Tensor:
    """The output of `lag` steps ago."""
    return state.h if lag == 1 else state.past[lag - 2]


# Where `pointwise` uses gates of input and past only in their sums, one accumulator serves both:
# the linear map of the past adds to the projected input in one kernel, and the sums cost nothing.
# The function runs once on gates that have no operation except the sum with their partners. So the
# test is exact: any other operation raises.


@final
class Gate:
    """One gate of the input or of the past, which has only the sum with its partner.

    Arguments:
        total: x_k + u_k.
        of_past: If True, it stands for u_k rather than x_k.
    """

    __slots__ = ("of_past", "total")

    def __init__(self, total: Tensor, of_past: bool):
        self.total, self.of_past = total, of_past

    def __add__(self, other: object) -> Tensor:
        if (
            isinstance(other, Gate)
            and other.total is self.total
            and other.of_past is not self.of_past
        ):
            return self.total
        raise NotAdditiveError

    @classmethod
    def __torch_function__(cls, *arguments: Any, **options: Any) -> Any:
        raise NotAdditiveError


class NotAdditiveError(ThroughtimeError):
    """A pointwise function uses a gate apart from its sum."""

    def __init__(self) -> None:
        super().__init__(
            "pointwise did with a gate what it did not do when it was first run",
            expected="the same operations in every step",
            fix="It must not branch on values; use torch.where.",
        )


def gates_of(totals: Sequence[Tensor]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return gates of the input and of the past that stand for these sums."""
    return tuple(Gate(t, False) for t in totals), tuple(Gate(t, True) for t in totals)


def is_additive(pointwise: Callable[..., Any], totals: Sequence[Tensor], *rest: Any) -> bool:
    """Return True if a pointwise function reads x and u only as x_k + u_k."""
    # tensors of inference mode count no changes
    with torch.inference_mode(False), torch.no_grad():
        trial = [total.clone() for total in totals]
        versions = [total._version for total in trial]
        try:
            result = pointwise(*gates_of(trial), *rest)
        except (NotAdditiveError, TypeError, AttributeError):
            return False  # an operation, operator or method that gates do not have
    results = result if isinstance(result, tuple) else (result,)
    if any(isinstance(value, Gate) for value in results):
        return False
    return [total._version for total in trial] == versions  # changed in place: a sum of its own
