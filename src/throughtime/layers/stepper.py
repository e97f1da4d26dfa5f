"""A layer one step at a time, without gradient: for control, streams and generation."""

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.sampling import Sampling
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import CompiledStep, generate_compiled
from throughtime.layers.arguments import prepare
from throughtime.layers.one_step import MOST, built_for, compiled_steps


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
        self._states: list[list[Tensor]] = []  # of each level, where there are compiled steps
        self._others: list[list[Tensor]] = []  # the tensors that the next step writes
        self._built_for: list[Any] = []  # empty: to be built before the next step
        self._hx: State = None  # the state, where there are no compiled steps that hold it
        self.reset()

    @property
    def engine(self) -> str:
        """The engine of the next step: "native" for compiled steps, "layer" for the layer's."""
        if self._built_for != built_for(self._layer):
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
        if self._built_for != built_for(self._layer):
            self._build()
        if x.shape != self._shape or x.dtype is not self._dtype or x.device != self._device:
            self._check(x)
        if self._steps:
            h = x.contiguous()
            for step, state, other in zip(self._steps, self._states, self._others, strict=True):
                step(h, state, other)
                h = other[0]
            self._states, self._others = self._others, self._states
            return h.clone()
        time = 1 if self._layer.batch_first else 0
        y, hx = self._layer(x.unsqueeze(time), self._hx)
        self._hx = type(self._hx)(hx) if isinstance(hx, Tensor) else hx
        return y.squeeze(time)

    @torch.no_grad()
    def generate(
        self,
        first: Int[Tensor, " batch"],
        uniform: Float[Tensor, "steps batch"],
        sampling: Sampling,
        readout: nn.Linear,
        embedding: Float[Tensor, "alphabet input"] | None = None,
    ) -> Int[Tensor, "steps batch"]:
        """Draw symbols, each of which the next step reads.

            h_t = step(E[s_{t-1}], state)    s_t drawn from the logits V h_t + b

        Compiled steps for at most 32 sequences run with readout and draw as one compiled call.

        Arguments:
            first: The symbols that the first step reads, from 0 to alphabet - 1.
            uniform: Random numbers in [0, 1), float64.
            sampling: The way of drawing.
            readout: The map from outputs to the logits of symbols.
            embedding: E; None for one-hot vectors.

        Raises:
            ShapeError: What does not fit.
            ConfigurationError: A first symbol is outside the alphabet.
            ThroughtimeError: A logit is NaN or infinite.
        """
        alphabet = readout.weight.shape[0] if embedding is None else embedding.shape[0]
        width = alphabet if embedding is None else embedding.shape[1]
        shapes = {
            "first": (first.shape, (self.batch_size,)),
            "uniform": (uniform.shape[1:], (self.batch_size,)),
            "an input of the layer": ((width,), self._shape[1:]),
            "the readout": (readout.weight.shape, (alphabet, self._layer.output_size)),
        }
        for name, (got, expected) in shapes.items():
            if tuple(got) != tuple(expected):
                raise ShapeError(name, got=f"{tuple(got)}", expected=f"{tuple(expected)}")
        if not 0 <= int(first.min()) <= int(first.max()) < alphabet:
            raise ConfigurationError(
                "first", got=f"symbols {first.tolist()}", expected=f"0 to {alphabet - 1}"
            )
        if self._built_for != built_for(self._layer):
            self._build()
        if len(uniform) and self._fits(first, readout, embedding):
            symbols, states = generate_compiled(
                self._steps,
                self._states,
                self._others,
                first.contiguous(),
                uniform.double().contiguous(),
                sampling,
                embedding,
                readout.weight,
                readout.bias,
            )
            if states is not self._states:
                self._states, self._others = self._others, self._states
            return symbols
        drawn = torch.empty(len(uniform), self.batch_size, dtype=torch.int64, device=first.device)
        for t, u in enumerate(uniform.to(first.device)):
            if embedding is None:
                x = F.one_hot(first, width).to(readout.weight.dtype)
            else:
                x = embedding[first]
            first = drawn[t] = sampling.draw(readout(self(x)), u)
        return drawn

    def _fits(self, first: Tensor, readout: nn.Linear, embedding: Tensor | None) -> bool:
        """Return True if compiled steps may be run with this readout."""
        if not self._steps or self.batch_size > MOST or first.dtype != torch.int64:
            return False
        if type(readout) is not nn.Linear or readout._forward_hooks or readout._forward_pre_hooks:
            return False
        for tensor in (readout.weight, readout.bias, embedding):
            if tensor is not None and not (
                tensor.is_cpu and tensor.is_contiguous() and tensor.dtype is self._dtype
            ):
                return False
        return first.is_cpu and not torch._C._len_torch_dispatch_stack()

    def _build(self) -> None:
        """Compile a step for each level, where all levels can be."""
        self._hx, self._built_for = self._stacked(), built_for(self._layer)
        like = next(iter(self._layer.parameters()), torch.empty(0))
        self._dtype, self._device = like.dtype, like.device
        self._steps = compiled_steps(self._layer, self.batch_size)
        self._states = [
            [s.clone() for s in _tensors(map_state(lambda s, i=i: s[i], self._hx))]
            for i in range(len(self._steps))
        ]
        self._others = [[torch.empty_like(s) for s in state] for state in self._states]

    def _stacked(self) -> State:
        """Return the state as (levels, batch, ...) tensors."""
        if not self._steps:
            return self._hx
        fields = [torch.stack(parts) for parts in zip(*self._states, strict=True)]
        return _state(self._hx, fields)

    def _check(self, x: Tensor) -> None:
        """Raise the error of what does not fit."""
        if not isinstance(x, Tensor) or x.shape != self._shape:
            raise ShapeError(
                "x of a stepper",
                got=f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__,
                expected=f"{tuple(self._shape)}: (batch_size, input_size)",
            )
        prepare(self._layer.cells(), False, x[None], None, None, None)


def _tensors(state: State) -> list[Tensor]:
    """Return the tensors of a cell's state, in the order of compiled steps."""
    return list(state_tensors(state))


def _state(like: State, fields: Sequence[Tensor]) -> State:
    """Return a state from its tensors, in the order of compiled steps."""
    if not hasattr(like, "past"):
        return type(like)(*fields)
    own = len(fields) - len(like.past)
    return type(like)(*fields[:own], tuple(fields[own:]))
