"""A slow cell over a fast one: words and sentences."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.cell import Cell, Streams
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, state_type


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
