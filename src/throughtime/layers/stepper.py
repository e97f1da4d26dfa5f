"""A layer one step at a time, without gradient: for control, streams and generation."""

from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.state import State, map_state
from throughtime.engines import Refusal, Request
from throughtime.engines.cpp.stepping import CompiledStep, compiled_step
from throughtime.layers.arguments import prepare


@final
class Stepper:
    """A recurrent layer that reads one step at a time and keeps its state.

    Each call equals `layer(x[None], state)` under `torch.no_grad()`, in the layer's mode. Gated
    cells run as one compiled call for each level, which reads the weights where they lie; other
    cells run as in the layer. Changes of the layer's weights, mode and engine take effect at once.

    Arguments:
        layer: The layer; not bidirectional.
        batch_size: The number of sequences.

    Attributes:
        batch_size: The number of sequences.

    Raises:
        ConfigurationError: The layer is bidirectional, or the batch size is below 1.

    Example:
        >>> from throughtime import LSTM
        >>> stepper = LSTM(3, 5).stepper(batch_size=2)
        >>> stepper(torch.ones(2, 3)).shape, stepper.state.c.shape
        (torch.Size([2, 5]), torch.Size([1, 2, 5]))
        >>> stepper.reset([0])
    """

    def __init__(self, layer: Any, batch_size: int = 1):
        if layer.bidirectional:
            raise ConfigurationError(
                "stepper",
                got="a bidirectional layer",
                expected="one that reads the past only",
                fix="Make the layer with bidirectional=False.",
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError(
                "batch_size", got=repr(batch_size), expected="a whole number of at least 1"
            )
        self._layer, self.batch_size = layer, batch_size
        self._shape = torch.Size((batch_size, layer.input_size))
        self._dtype, self._device = torch.float32, torch.device("cpu")
        self._steps: list[CompiledStep] = []
        self._built_for: list[Any] = []  # empty: to be built before the next step
        self._hx: State = None  # the state, where there are no compiled steps that hold it
        self.reset()

    @property
    def engine(self) -> str:
        """The engine of the next step: "native" for compiled steps, "layer" for the layer's."""
        if self._built_for != self._now():
            self._build()
        return "native" if self._steps else "layer"

    @property
    def state(self) -> State:
        """The state after the last step, as the layer returns it; a copy."""
        state = map_state(torch.clone, self._stacked())
        return state.h if state._fields == ("h",) else state

    @state.setter
    def state(self, hx: State) -> None:
        cells = self._layer.cells()
        like = next(iter(cells[0].parameters()), torch.empty(0))
        x = like.new_zeros(1, *self._shape)
        states = prepare(cells, False, x, hx, None, None).states
        self._hx = map_state(lambda *s: torch.stack([t.detach() for t in s]), *states)
        self._steps, self._built_for = [], []

    def reset(
        self, rows: Bool[Tensor, " batch"] | Int[Tensor, " rows"] | list[int] | None = None
    ) -> None:
        """Set the state of some sequences to the initial one.

        Arguments:
            rows: The sequences: a mask, or their numbers; None for all.
        """
        before = None if rows is None else self._stacked()
        self.state = None
        if before is None:
            return
        chosen = torch.as_tensor(rows)

        def merge(old: Tensor, fresh: Tensor) -> Tensor:
            merged = old.clone()
            merged[:, chosen] = fresh[:, chosen]
            return merged

        self._hx = map_state(merge, before, self._hx)

    @torch.no_grad()
    def __call__(
        self, x: Float[Tensor, "batch input"], state: State = None
    ) -> Float[Tensor, "batch output"]:
        """Run one step.

        Arguments:
            x: (batch, input).
            state: The state before the step, as the layer takes it; None for the kept one.

        Returns:
            The output of the last level.

        Raises:
            ShapeError, DtypeError, DeviceError, StateError: What does not fit.
        """
        if state is not None:
            self.state = state
        if self._built_for != self._now():
            self._build()
        if x.shape != self._shape or x.dtype is not self._dtype or x.device != self._device:
            self._check(x)
        if self._steps:
            h = x.contiguous()
            for step in self._steps:
                h = step(h)
            return h.clone()
        time = 1 if self._layer.batch_first else 0
        y, hx = self._layer(x.unsqueeze(time), self._hx)
        self._hx = type(self._hx)(hx) if isinstance(hx, Tensor) else hx
        return y.squeeze(time)

    def _now(self) -> list[Any]:
        """Return all that compiled steps are built for, beside the values of the weights."""
        layer = self._layer
        found: list[Any] = [layer.engine, layer.training, torch._C._is_any_autocast_enabled()]
        found += layer._modules, layer._replaced
        for tensor in layer._parameters.values():
            found.append(tensor is not None and tensor.data_ptr())
        for tensor in layer._buffers.values():
            found.append(tensor is not None and tensor.data_ptr())
        return found

    def _build(self) -> None:
        """Compile a step for each level, where all levels can be."""
        self._hx = self._stacked()
        self._steps = self._compiled()
        self._built_for = self._now()

    def _compiled(self) -> list[CompiledStep]:
        layer = self._layer
        cells = layer.cells()
        like = next(iter(cells[0].parameters()), torch.empty(0))
        self._dtype, self._device = like.dtype, like.device
        if layer.engine not in ("auto", "native") or layer._modules or layer._replaced:
            return []  # parametrised weights are computed for each call
        if torch._C._is_any_autocast_enabled() or (layer.dropout > 0 and layer.training):
            return []
        steps: list[CompiledStep] = []
        for level, cell in enumerate(cells):
            if cell.streams:
                return []
            x = like.new_empty(1, self.batch_size, cell.input_size)
            state = map_state(lambda s, level=level: s[level].contiguous(), self._hx)
            step = compiled_step(Request(cell, x, state))
            if isinstance(step, Refusal):
                return []
            steps.append(step)
        return steps

    def _stacked(self) -> State:
        """Return the state as (levels, batch, ...) tensors."""
        if not self._steps:
            return self._hx
        fields = [torch.stack(parts) for parts in zip(*(s.state for s in self._steps), strict=True)]
        if not hasattr(self._hx, "past"):
            return type(self._hx)(*fields)
        own = len(fields) - len(self._hx.past)
        return type(self._hx)(*fields[:own], tuple(fields[own:]))

    def _check(self, x: Tensor) -> None:
        """Raise the error of what does not fit."""
        if not isinstance(x, Tensor) or x.shape != self._shape:
            raise ShapeError(
                "x of a stepper",
                got=f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__,
                expected=f"{tuple(self._shape)}: (batch_size, input_size)",
            )
        prepare(self._layer.cells(), False, x[None], None, None, None)
