"""Units that act at different periods: the clockwork network and multiple time scales."""

from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.cell import Streams
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


@final
class ClockworkCell(GatedCell):
    """The clockwork network (Koutnik et al. 2014): groups of units that act every so many steps.

        h_t,i = tanh(x + u)_i   where t mod T_g = 0 for i's group g, else h_{t-1},i
        u = W_hh h_{t-1},  W_ij = 0 where T_j < T_i

    Units of a short period read those of longer ones, and never the other way: the rows of fast
    units are full. t counts the steps since the start or the last reset, so that the schedule
    survives truncation. With connections="all" the slow read the fast too, as the multiple time
    scales of El Hihi and Bengio (1995) do.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least as many as periods: the first group is the first
            period's, and groups are as equal as can be.
        periods: numbers of steps, increasing, at least 1 each.
        connections: "slower": from the same period and slower ones; "all".
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Attributes:
        allowed: (hidden, hidden), which units (rows) read which (columns).

    Raises:
        ConfigurationError: a size below 1, periods that do not increase, or more than units.
        UnknownNameError: unknown connections.

    Example:
        >>> cell = ClockworkCell(1, 4, periods=(1, 2))
        >>> (cell.recurrent_matrix(1) == 0).int().tolist()
        [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]

    Source: J. Koutnik et al., "A clockwork RNN", ICML 2014. S. El Hihi and Y. Bengio,
    "Hierarchical recurrent neural networks for long-term dependencies", NIPS 1995.

    Differs from the paper in: of El Hihi and Bengio's delays between levels only the held values of
    slow units are there; their tables' settings are not known.
    """

    gates = ("hidden",)
    streams = ("acts",)

    allowed: Bool[Tensor, "hidden hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        periods: Sequence[int] = (1, 2, 4, 8),
        connections: Literal["slower", "all"] = "slower",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=bias, device=device, dtype=dtype)
        self.periods = tuple(periods)
        rising = all(a < b for a, b in zip(self.periods, self.periods[1:], strict=False))
        if not self.periods or self.periods[0] < 1 or not rising:
            raise ConfigurationError(
                "periods", got=self.periods, expected="whole numbers of at least 1 that increase"
            )
        if len(self.periods) > hidden_size:
            raise ConfigurationError(
                "hidden_size",
                got=hidden_size,
                expected=f"at least {len(self.periods)}, one unit a period",
            )
        if connections not in ("slower", "all"):
            raise UnknownNameError("connections", str(connections), ("slower", "all"))
        self.connections: Literal["slower", "all"] = connections
        own = self.unit_periods().to(self.weight_ih.device)
        allowed = own[:, None] <= own[None] if connections == "slower" else own[:, None] > 0
        self.register_buffer("allowed", allowed.expand(hidden_size, hidden_size), persistent=False)

    def unit_periods(self) -> Int[Tensor, " hidden"]:
        """Return the period of each unit."""
        pairs = zip(self.periods, self._group_sizes(), strict=True)
        units = [period for period, size in pairs for _ in range(size)]
        return torch.tensor(units, device="cpu")

    def _group_sizes(self) -> list[int]:
        """Units of each period, those of the first periods one more where they differ."""
        least, more = divmod(self.hidden_size, len(self.periods))
        return [least + (group < more) for group in range(len(self.periods))]

    def constrained(
        self, weight: Float[Tensor, "hidden hidden"], lag: int
    ) -> Float[Tensor, "hidden hidden"]:
        """Return W_hh, zero where a unit would read a faster one."""
        del lag
        return weight * self.allowed

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return 1 where a unit acts, else 0: (time, batch, hidden)."""
        del training, generator
        steps = steps[..., None]
        groups = [
            (steps % period == 0).to(dtype).expand(*steps.shape[:2], size)
            for period, size in zip(self.periods, self._group_sizes(), strict=True)
        ]
        return (torch.cat(groups, -1),)

    def pointwise(self, x: Gates, u: Gates, state: State, streams: Streams = ()) -> Tensor:
        """Return h_t."""
        (acts,) = streams
        return acts * (x[0] + u[0]).tanh() + (1 - acts) * state.h


@CELLS.register("clockwork")
def _clockwork(
    input_size: int,
    hidden_size: int,
    *,
    groups: int = 4,
    connections: Literal["slower", "all"] = "slower",
) -> ClockworkCell:
    """Groups of units of period 1, 2, 4 ... (Koutnik et al. 2014)."""
    periods = [2**k for k in range(groups)]
    return ClockworkCell(input_size, hidden_size, periods=periods, connections=connections)
