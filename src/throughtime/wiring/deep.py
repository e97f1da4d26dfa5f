"""Depth: stacks of cells, deep inputs, transitions and outputs, and a slow cell over a fast one."""

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.cells.elman import NONLINEARITIES, Nonlinearity
from throughtime.core.cell import Cell, Streams, advance, check_size, draw
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.state import State, map_state, state_type, zero_state

Connections: TypeAlias = Literal["plain", "residual", "skip"]


@final
class StackedCell(Cell):
    """Cells on top of each other, stepped together: each reads the output of the one below.

        h^(0)_t = x_t;   y^(k)_t, s^(k)_t = cell_k(i^(k)_t, s^(k)_{t-1})
        "plain":     i^(k) = h^(k-1)           h^(k) = y^(k)                     output h^(top)
        "residual":  i^(k) = h^(k-1)           h^(k) = y^(k) + h^(k-1), k > 1    output h^(top)
        "skip":      i^(k) = [h^(k-1), x], k > 1     h^(k) = y^(k)     output all h, side by side

    The state has the fields h (the output), `layers` (the states of the cells, from the
    bottom), and `steps` if any cell has streams.

    Arguments:
        cells: cells from the bottom to the top, at least one; each input as wide as the output
            below, and as x beside it under "skip".
        connections: links between layers: "plain", "residual", or "skip" (Graves 2013).

    Raises:
        ConfigurationError: no cells, or widths that do not meet.
        UnknownNameError: unknown connections.

    Example:
        >>> from throughtime.cells import GRUCell
        >>> cell = StackedCell([GRUCell(3, 5), GRUCell(5, 4)])
        >>> state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        >>> h, state = cell.step(cell.project(torch.ones(2, 3)), state)
        >>> h.shape
        torch.Size([2, 4])
    """

    def __init__(self, cells: Sequence[Cell], *, connections: Connections = "plain"):
        super().__init__()
        if connections not in ("plain", "residual", "skip"):
            raise UnknownNameError("connections", connections, ("plain", "residual", "skip"))
        if not cells:
            raise ConfigurationError("StackedCell", got="no cells", expected="at least one")
        beside = cells[0].input_size if connections == "skip" else 0
        for below, above in itertools.pairwise(cells):
            if above.input_size != below.output_size + beside:
                raise ConfigurationError(
                    "StackedCell",
                    got=f"a cell of input_size={above.input_size} over an output of "
                    f"{below.output_size}" + (f" and an input of {beside}" if beside else ""),
                    expected="widths that meet",
                )
            if connections == "residual" and above.output_size != below.output_size:
                raise ConfigurationError(
                    "StackedCell",
                    got=f"outputs of {below.output_size} and {above.output_size}",
                    expected="outputs of one width, since they are added",
                )
        self.stack = nn.ModuleList(cells)
        self.connections: Connections = connections
        self.input_size, self.hidden_size = cells[0].input_size, cells[-1].hidden_size
        outputs = [cell.output_size for cell in cells]
        self.output_size = sum(outputs) if connections == "skip" else outputs[-1]
        self.streams = tuple(f"{i}.{s}" for i, cell in enumerate(cells) for s in cell.streams)
        self.lasting = tuple(f"{i}.{s}" for i, cell in enumerate(cells) for s in cell.lasting)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cells' own initial states."""
        layers = tuple(
            cell.initial_state(batch_size, dtype=dtype, device=device) for cell in self._cells()
        )
        h = torch.zeros(batch_size, self.output_size, dtype=dtype, device=device)
        if not self.streams:
            return state_type("h", "layers")(h, layers)
        steps = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type("h", "layers", "steps")(h, layers, steps)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the bottom cell's projection; the others' inputs are outputs of the same step.

        Under "skip", x itself comes after it.
        """
        bottom = self._cells()[0].project(x)
        return torch.cat([bottom, x], -1) if self.connections == "skip" else bottom

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Run one step of all cells."""
        x = projected
        if self.connections == "skip":
            width = projected.shape[-1] - self.input_size
            projected, x = projected.split((width, self.input_size), -1)
        h: Tensor | None = None
        outputs: list[Tensor] = []
        layers: list[State] = []
        taken = 0
        for cell, before in zip(self._cells(), state.layers, strict=True):
            own = streams[taken : taken + len(cell.streams)]
            taken += len(cell.streams)
            if h is not None:
                projected = cell.project(torch.cat([h, x], -1) if self.connections == "skip" else h)
            y, after = advance(cell, projected, before, own)
            h = y + h if self.connections == "residual" and h is not None else y
            outputs.append(h)
            layers.append(after)
        out = torch.cat(outputs, -1) if self.connections == "skip" else outputs[-1]
        fields = [out, tuple(layers)]
        if self.streams:
            fields.append(state.steps + 1)
        return out, type(state)(*fields)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the streams of all cells, from the bottom."""
        return tuple(
            stream
            for cell in self._cells()
            if cell.streams
            for stream in cell.draw_streams(
                steps, training=training, dtype=dtype, generator=generator
            )
        )

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.stack if isinstance(cell, Cell)]


@final
class DeepTransitionCell(Cell):
    """A network whose step has several layers, DT and DT(S) (Pascanu et al. 2014).

        a_1 = g(V x_t + W h_{t-1} + b_1)        a_k = g(U_k a_{k-1} + b_k)
        h_t = f(U a_depth + b + S h_{t-1})      S with shortcuts alone

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units of h, at least 1.
        depth: layers between h_{t-1} and h_t, at least 1.
        width: units of each of them; `hidden_size` if None.
        shortcut: If True, h_{t-1} also reaches h_t directly, by a matrix of its own.
        nonlinearity: f and g: "tanh", "relu" or "identity".
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size or a depth below 1.
        UnknownNameError: an unknown nonlinearity.

    Source: R. Pascanu et al., "How to construct deep recurrent neural networks", ICLR 2014.

    Differs from the paper in: shortcuts are full matrices, from h alone (our choice).
    """

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    weight_shortcut: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        depth: int = 1,
        width: int | None = None,
        shortcut: bool = False,
        nonlinearity: Nonlinearity = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        width = hidden_size if width is None else width
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("depth", depth),
            ("width", width),
        ):
            check_size(name, value)
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.depth = depth
        self.nonlinearity: Nonlinearity = nonlinearity
        where = {"device": device, "dtype": dtype}
        self.weight_ih = draw(self, width, input_size, **where)
        self.weight_hh = draw(self, width, hidden_size, **where)
        self.bias_1 = draw(self, width, **where)
        for k in range(2, depth + 1):
            self.register_parameter(f"weight_{k}", draw(self, width, width, **where))
            self.register_parameter(f"bias_{k}", draw(self, width, **where))
        self.weight_out = draw(self, hidden_size, width, **where)
        self.bias_out = draw(self, hidden_size, **where)
        across = draw(self, hidden_size, hidden_size, **where) if shortcut else None
        self.register_parameter("weight_shortcut", across)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h (batch, hidden)."""
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps width"]:
        """Return V x + b_1."""
        return F.linear(x, self.weight_ih, self.bias_1)

    def step(
        self, projected: Float[Tensor, "batch width"], state: State
    ) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Return h_t, and the state (h_t,)."""
        f = NONLINEARITIES[self.nonlinearity]
        a = f(projected + F.linear(state.h, self.weight_hh))
        for k in range(2, self.depth + 1):
            a = f(F.linear(a, getattr(self, f"weight_{k}"), getattr(self, f"bias_{k}")))
        total = F.linear(a, self.weight_out, self.bias_out)
        if self.weight_shortcut is not None:
            total = total + F.linear(state.h, self.weight_shortcut)
        h = f(total)
        return h, type(state)(h)


@final
class DeepInputCell(Cell):
    """Layers between x_t and any cell, DI (Pascanu et al. 2014).

        a_0 = x_t        a_k = f(W_k a_{k-1} + b_k)        the cell reads a_depth

    The state is that of the cell. Parameters are `cell`'s, and `weight_k`, `bias_k` of each layer.

    Arguments:
        cell: cell above the layers; its input is as wide as each of them.
        input_size: width of x_t, at least 1.
        depth: number of layers, at least 1.
        nonlinearity: f: "tanh", "relu" or "identity".

    Raises:
        ConfigurationError: a size or a depth below 1.
        UnknownNameError: an unknown nonlinearity.

    Example:
        >>> from throughtime.cells import GRUCell
        >>> cell = DeepInputCell(GRUCell(16, 5), 3, depth=2)
        >>> cell.input_size, cell.output_size
        (3, 5)

    Source: R. Pascanu et al., "How to construct deep recurrent neural networks", ICLR 2014.
    """

    def __init__(
        self, cell: Cell, input_size: int, *, depth: int = 1, nonlinearity: Nonlinearity = "tanh"
    ):
        super().__init__()
        check_size("input_size", input_size)
        check_size("depth", depth)
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.cell, self.depth = cell, depth
        self.input_size, self.hidden_size = input_size, cell.hidden_size
        self.output_size = cell.output_size
        self.streams, self.lasting = cell.streams, cell.lasting
        self.nonlinearity: Nonlinearity = nonlinearity
        first = next(iter(cell.parameters()), torch.zeros(0))
        where = {"device": first.device, "dtype": first.dtype}
        width = cell.input_size
        for k in range(1, depth + 1):
            below = input_size if k == 1 else width
            self.register_parameter(f"weight_{k}", draw(self, width, below, **where))
            self.register_parameter(f"bias_{k}", draw(self, width, **where))

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cell's own initial state."""
        return self.cell.initial_state(batch_size, dtype=dtype, device=device)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the cell's projection of the last layer."""
        f = NONLINEARITIES[self.nonlinearity]
        for k in range(1, self.depth + 1):
            x = f(F.linear(x, getattr(self, f"weight_{k}"), getattr(self, f"bias_{k}")))
        return self.cell.project(x)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the cell's streams."""
        return self.cell.draw_streams(steps, training=training, dtype=dtype, generator=generator)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return the cell's output and new state."""
        return advance(self.cell, projected, state, streams)


@final
class DeepOutputCell(Cell):
    """A layer above any cell, before the read-out: DOT (Pascanu et al. 2014).

        y_t = f(W h_t + b)        h_t of the cell, which never reads y

    The state has the fields h (y_t), `inner` (the cell's), and `steps` if the cell has streams.

    Arguments:
        cell: cell below.
        output_size: width of y, at least 1.
        nonlinearity: f: "tanh", "relu" or "identity".

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: an unknown nonlinearity.

    Source: R. Pascanu et al., "How to construct deep recurrent neural networks", ICLR 2014.
    """

    def __init__(self, cell: Cell, output_size: int, *, nonlinearity: Nonlinearity = "tanh"):
        super().__init__()
        check_size("output_size", output_size)
        if nonlinearity not in NONLINEARITIES:
            raise UnknownNameError("nonlinearity", str(nonlinearity), NONLINEARITIES)
        self.cell = cell
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.output_size = output_size
        self.streams, self.lasting = cell.streams, cell.lasting
        self.nonlinearity: Nonlinearity = nonlinearity
        first = next(iter(cell.parameters()), torch.zeros(0))
        where = {"device": first.device, "dtype": first.dtype}
        self.weight_out = draw(self, output_size, cell.output_size, **where)
        self.bias_out = draw(self, output_size, **where)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros for y, and the cell's own initial state."""
        inner = self.cell.initial_state(batch_size, dtype=dtype, device=device)
        y = torch.zeros(batch_size, self.output_size, dtype=dtype, device=device)
        if not self.streams:
            return state_type("h", "inner")(y, inner)
        steps = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type("h", "inner", "steps")(y, inner, steps)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the cell's projection."""
        return self.cell.project(x)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the cell's streams."""
        return self.cell.draw_streams(steps, training=training, dtype=dtype, generator=generator)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return y_t, and the new state."""
        h, inner = advance(self.cell, projected, state.inner, streams)
        y = NONLINEARITIES[self.nonlinearity](F.linear(h, self.weight_out, self.bias_out))
        more = (state.steps + 1,) if self.streams else ()
        return y, type(state)(y, inner, *more)


@final
class HierarchicalCell(Cell):
    """A fast cell reads every step; a slow one reads it at boundaries, and is read back by it.

        h_t = fast([x_t, s_{t-1}])
        s_t = slow(h_t) where a unit ends at t, else s_{t-1}
        the fast state starts afresh after a boundary, if `restart`

    Boundaries are every so many steps, counted from the start or the last reset, or where the last
    feature of x_t is above 1/2: a mark that the data, or a layer below, puts there. The output is
    h_t and s_t side by side.

    The state has the fields h (the output), `fast`, `slow`, and `steps` where steps are counted.

    Arguments:
        fast: cell whose input is as wide as x_t and the slow output together.
        slow: cell whose input is as wide as the fast output. Neither has streams.
        every: number of steps of a unit, at least 1; None where the data mark its end.
        restart: If True, the fast cell starts afresh after each boundary.

    Raises:
        ConfigurationError: widths that do not meet, streams, or a number of steps below 1.

    Example:
        >>> from throughtime.cells import GRUCell
        >>> cell = HierarchicalCell(GRUCell(3 + 4, 5), GRUCell(5, 4), every=8)
        >>> cell.input_size, cell.output_size
        (3, 9)

    Source: A. Sordoni et al., "A hierarchical recurrent encoder-decoder for generative
    context-aware query suggestion", CIKM 2015, has this shape in its encoder.

    Differs from the paper in: the fast cell reads the slow one at every step (our choice).
    """

    def __init__(self, fast: Cell, slow: Cell, *, every: int | None = None, restart: bool = True):
        super().__init__()
        self.input_size = fast.input_size - slow.output_size
        if self.input_size < 1 or slow.input_size != fast.output_size:
            raise ConfigurationError(
                "HierarchicalCell",
                got=f"fast {fast.input_size} -> {fast.output_size}, slow {slow.input_size} -> "
                f"{slow.output_size}",
                expected="a fast input of x_t and the slow output, and a slow input as wide as the "
                "fast output",
            )
        if fast.streams or slow.streams:
            raise ConfigurationError(
                "HierarchicalCell", got="a cell with streams", expected="cells without"
            )
        if every is not None and every < 1:
            raise ConfigurationError("every", got=every, expected="at least 1 step")
        self.fast, self.slow = fast, slow
        self.every, self.restart = every, restart
        self.hidden_size = fast.hidden_size
        self.output_size = fast.output_size + slow.output_size
        self.streams = () if every is None else ("ends",)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cells' own states, and their outputs side by side."""
        fast = self.fast.initial_state(batch_size, dtype=dtype, device=device)
        slow = self.slow.initial_state(batch_size, dtype=dtype, device=device)
        fields: dict[str, object] = {"h": torch.cat([fast.h, slow.h], -1)}
        fields |= {"fast": fast, "slow": slow}
        if self.streams:
            fields["steps"] = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type(*fields)(**fields)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps input"]:
        """Return x itself: the fast cell's input also needs the slow output."""
        return x

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return 1 at the last step of each unit, else 0: (time, batch, 1)."""
        del training, generator
        if self.every is None:
            return ()
        return (((steps + 1) % self.every == 0).to(dtype)[..., None],)

    def step(
        self, projected: Float[Tensor, "batch input"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return the output, and the new states."""
        x = projected
        h, fast = self.fast.step(self.fast.project(torch.cat([x, state.slow.h], -1)), state.fast)
        _, slow = self.slow.step(self.slow.project(h), state.slow)
        ends = (streams[0] if streams else x[:, -1:]) > 0.5

        def choose(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(ends.reshape(-1, *(1,) * (new.dim() - 1)), new, old)

        slow = map_state(choose, slow, state.slow)
        if self.restart:
            fresh = self.fast.initial_state(x.shape[0], dtype=x.dtype, device=x.device)
            fast = map_state(choose, fresh, fast)
        out = torch.cat([h, slow.h], -1)
        more = (state.steps + 1,) if self.streams else ()
        return out, type(state)(out, fast, slow, *more)
