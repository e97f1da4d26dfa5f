"""Zoneout: units that keep their state at random."""

from collections.abc import Callable
from typing import Any, Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.cells import LSTMCell
from throughtime.cells.recurrent_dropout import bernoulli
from throughtime.core.cell import Streams
from throughtime.core.errors import ConfigurationError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


@final
class ZoneoutCell(GatedCell):
    """Zoneout (Krueger et al. 2017) around any gated cell.

        h_t = d * h_{t-1} + (1 - d) * h~_t        d ~ Bernoulli(output_rate), a unit and step each
        c_t = e * c_{t-1} + (1 - e) * c~_t        e ~ Bernoulli(memory_rate), for each memory

    h~ and c~ are the wrapped cell's. In evaluation d and e are their expectations, the rates. The
    parameters are the wrapped cell's own, under its names.

    Arguments:
        cell: any gated cell.
        output_rate: probability that a unit's output is kept, in [0, 1].
        memory_rate: probability that a unit's memory is kept, in [0, 1].

    Raises:
        ConfigurationError: a rate out of range, or no gated cell.

    Example:
        >>> from throughtime.cells import LSTMCell
        >>> cell = ZoneoutCell(LSTMCell(3, 5), output_rate=0.05, memory_rate=0.5)
        >>> [name for name, _ in cell.named_parameters()], cell.streams
        (['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'], ('keep_h', 'keep_c'))

    Source: D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden
    activations", ICLR 2017.
    """

    def __init__(self, cell: GatedCell, *, output_rate: float = 0.05, memory_rate: float = 0.05):
        if not isinstance(cell, GatedCell):
            raise ConfigurationError("cell", got=type(cell).__name__, expected="a gated cell")
        for name, rate in (("output_rate", output_rate), ("memory_rate", memory_rate)):
            if not 0 <= rate <= 1:
                raise ConfigurationError(name, got=rate, expected="a probability")
        for name in ("gates", "memories", "remember_gates", "write_gates"):
            vars(self)[name] = getattr(cell, name)  # of the class in other cells
        super().__init__(
            cell.input_size, cell.hidden_size, lags=cell.lags, bias=cell.bias_ih is not None
        )
        self.cell = cell
        # The cell's tensors are this one's too, under the same names: state dicts hold them once.
        self._parameters = dict(cell._parameters)
        self._buffers = dict(cell._buffers)
        self._non_persistent_buffers_set = set(cell._non_persistent_buffers_set)
        self.register_state_dict_post_hook(_leave_out_shared)
        self.register_load_state_dict_post_hook(_share_loaded)
        self.output_rate, self.memory_rate = float(output_rate), float(memory_rate)
        self.streams = ("keep_h", *(f"keep_{name}" for name in cell.memories), *cell.streams)
        self.lasting = cell.lasting

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._share()
        return self

    def _share(self) -> None:
        """Give the wrapped cell this one's tensors, where they have become others."""
        self.cell._parameters.update(self._parameters)
        self.cell._buffers.update(self._buffers)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return masks in training, (time, batch, hidden); else rates, (time, batch, 1)."""
        masks: list[Tensor] = []
        for name in ("h", *self.memories):
            rate = self.output_rate if name == "h" else self.memory_rate
            if training:
                shape = (*steps.shape, self.hidden_size)
                masks.append(bernoulli(shape, rate, dtype=dtype, generator=generator))
            else:
                masks.append(torch.full((*steps.shape, 1), rate, dtype=dtype, device="cpu"))
        if not self.cell.streams:
            return tuple(masks)
        rest = self.cell.draw_streams(steps, training=training, dtype=dtype, generator=generator)
        return (*masks, *rest)

    def constrained(
        self, weight: Float[Tensor, "rows hidden"], lag: int
    ) -> Float[Tensor, "rows hidden"]:
        """Return the wrapped cell's matrix of a lag."""
        del weight
        return self.cell.recurrent_matrix(lag)

    def pointwise(
        self, x: Gates, u: Gates, state: State, streams: Streams = ()
    ) -> tuple[Tensor, ...] | Tensor:
        """Return h_t, and the memories."""
        count = 1 + len(self.memories)
        keeps, own = streams[:count], streams[count:]
        result = self.cell.pointwise(x, u, state, *((own,) if own else ()))
        new = result if isinstance(result, tuple) else (result,)
        old = (state.h, *(getattr(state, name) for name in self.memories))
        mixed = tuple(
            keep * before + (1 - keep) * after
            for keep, before, after in zip(keeps, old, new, strict=True)
        )
        return mixed if self.memories else mixed[0]


def _shared(cell: ZoneoutCell, prefix: str) -> list[str]:
    return [f"{prefix}cell.{name}" for name in (*cell._parameters, *cell._buffers)]


def _leave_out_shared(
    cell: ZoneoutCell, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    del metadata
    for name in _shared(cell, prefix):
        state.pop(name, None)


def _share_loaded(cell: ZoneoutCell, keys: Any) -> None:
    """Remove the names that a state dict leaves out from those that are missing in it."""
    cell._share()
    for name in _shared(cell, ""):
        found = [key for key in keys.missing_keys if key == name or key.endswith(f".{name}")]
        for key in found:
            keys.missing_keys.remove(key)


@CELLS.register("lstm-zoneout")
def _lstm_zoneout(
    input_size: int, hidden_size: int, *, output_rate: float = 0.05, memory_rate: float = 0.5
) -> ZoneoutCell:
    """An LSTM that keeps units at random (Krueger et al. 2017)."""
    cell = LSTMCell(input_size, hidden_size)
    return ZoneoutCell(cell, output_rate=output_rate, memory_rate=memory_rate)
