"""The recurrent layer: cells stacked over layers and directions, with torch.nn's signature."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.core.cell import Cell, bind, fit_streams
from throughtime.core.errors import ConfigurationError
from throughtime.core.initializers import Initializer
from throughtime.core.sequence import reverse_resets, reverse_time, steps_since_reset
from throughtime.core.state import State, map_state
from throughtime.engines import (
    Choice,
    Engine,
    Outputs,
    Place,
    Request,
    Result,
    check_engine,
    choose,
    run,
)
from throughtime.layers.arguments import (
    Arguments,
    Call,
    Every,
    Final,
    Lengths,
    Returned,
    check_options,
    exported,
    prepare,
    restore,
)
from throughtime.layers.one_step import run_one_step
from throughtime.layers.stepper import Stepper
from throughtime.layers.tensors import CellTensors
from throughtime.wiring.deep import StackedCell

CellFactory = Callable[[int], Cell]


class RecurrentLayer(Call[Final, Every], CellTensors):
    """The base of all recurrent layers: everything but their constructors.

    Arguments:
        make_cell: The function that makes a cell for an input of a width.
        input_size: The width of x_t.
        num_layers: The number of cells on top of each other.
        bidirectional: If True, a second cell in each layer runs from the end.
        batch_first: If True, inputs and outputs are (batch, time, width).
        dropout: The probability that an output of a layer but the last is zeroed in training.
        engine: "auto", "native", "vendor", "eager", or an engine object.
        initializers: The initialisers, applied to each cell in order.
        cell: The only cell, instead of one that `make_cell` makes.

    Attributes:
        input_size: The width of x_t.
        hidden_size: The width of each cell.
        output_size: The width of the output, both directions together.
        num_layers: The number of cells on top of each other.
        bidirectional: If True, a second cell in each layer runs from the end.
        batch_first: If True, inputs and outputs are (batch, time, width).
        dropout: The probability that an output of a layer but the last is zeroed in training.
        engine: "auto", "native", "vendor", "eager", or an engine object; may be set at any time.
    """

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    batch_first: bool
    dropout: float

    def __init__(
        self,
        make_cell: CellFactory,
        input_size: int,
        *,
        num_layers: int,
        bidirectional: bool,
        batch_first: bool,
        dropout: float,
        engine: str | Engine,
        initializers: Sequence[Initializer],
        cell: Cell | None = None,
    ):
        super().__init__()
        check_options(num_layers, dropout, batch_first, bidirectional)
        check_engine(engine)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts between layers and num_layers is 1, so it does nothing",
                stacklevel=3,
            )
        self.num_layers, self.bidirectional, self.batch_first = (
            num_layers,
            bool(bidirectional),
            batch_first,
        )
        self.dropout, self.engine = float(dropout), engine
        self._make_cell, self._initializers = make_cell, tuple(initializers)
        cells = self._new_cells(input_size) if cell is None else [cell]
        self._hold(cells, self._suffixes())
        first = cells[0]
        self._form = _form_of(first)
        self.input_size, self.hidden_size = first.input_size, first.hidden_size
        self.output_size = first.output_size * self.num_directions

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as the constructor does.

        Raises:
            ConfigurationError: a weight is parametrised.
        """
        fresh = self._new_cells(self.input_size)
        with torch.no_grad():
            for cell, names in zip(fresh, self._names, strict=True):
                for name, parameter in cell.named_parameters():
                    own = self._parameters.get(names[name])
                    if own is None:
                        raise ConfigurationError(
                            f"reset_parameters of {names[name]}",
                            got="a parametrised weight",
                            expected="a plain one",
                            fix="Remove the parametrisation first.",
                        )
                    own.copy_(parameter)

    def replica(self) -> "RecurrentLayer":
        """A layer of the same class and mode on the very tensors of this one.

        Returns:
            A layer whose options, as `engine`, may be changed without touching this one.
        """
        return bind(self, {}).train(self.training)

    def as_cell(self) -> Cell:
        """The layer as one cell: a unidirectional stack steps all its layers at once.

        Returns:
            A cell whose parameters are the layer's own.

        Raises:
            ConfigurationError: the layer is bidirectional, or has dropout between its layers.
        """
        if self.bidirectional:
            raise ConfigurationError(
                "as_cell", got="a bidirectional layer", expected="one that needs only the past"
            )
        if self.dropout > 0 and self.num_layers > 1:
            raise ConfigurationError(
                "as_cell",
                got=f"dropout={self.dropout} between layers",
                expected="dropout=0, since a step draws nothing at random",
            )
        cells = self.cells()
        return cells[0] if len(cells) == 1 else StackedCell(cells)

    def stepper(self, batch_size: int = 1) -> Stepper:
        """The layer one step at a time, without gradient, with a state that it keeps.

        Arguments:
            batch_size: The number of sequences.

        Raises:
            ConfigurationError: The layer is bidirectional, or the batch size is below 1.
        """
        return Stepper(self, batch_size)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        # not by keyword alone: the ONNX exporter of traces passes all by position
        lengths: Lengths | None = None,
        reset: Bool[Tensor, "..."] | None = None,
        return_states: bool = False,
    ) -> Returned:
        """Run over sequences.

        Arguments:
            input: (time, batch, input); (batch, time, input) if `batch_first`; (time, input)
                for one sequence without a batch; or a PackedSequence. At least one time step.
            hx: the state before the first step, as it is returned; None for the cells' initial
                state. (layers * directions, batch, hidden) for h alone, or a tuple of such for
                (h, *memories) as torch's (h, c); what is left out is the initial state.
            lengths: (batch,) steps of each sequence, from 1 to time; what lies beyond is never
                read, its outputs are zero, and the reverse direction starts before it.
            reset: True where a step starts from the initial state, of the input's first two axes
                ((time,) without a batch). In both directions: neither crosses the border between
                t-1 and t.
            return_states: If True, the states after every step are returned too.

        Returns:
            The outputs of the last layer, in the input's form, directions side by side; the state
            after the last valid step of each sequence (the first, for the reverse direction), a
            NamedTuple of (layers * directions, batch, ...) tensors, or the tensor h itself if the
            cell has no other state; with `return_states`, a third: the states after every step, a
            NamedTuple of (time, layers * directions, batch, ...).

        Raises:
            ShapeError, DtypeError, DeviceError, LengthsError, StateError: what does not fit.
            EngineRefusalError: `engine` names one that cannot do this.
        """
        if (
            isinstance(input, torch.fx.Proxy)
            or isinstance(hx, torch.fx.Proxy)
            or isinstance(lengths, torch.fx.Proxy)
            or isinstance(reset, torch.fx.Proxy)
        ):  # torch.fx.symbolic_trace takes a layer as one node, as those of torch.nn
            options = {"lengths": lengths, "reset": reset, "return_states": return_states}
            return _as_call(self, (input, hx), options)
        if torch.compiler.is_compiling():
            if torch.compiler.is_dynamo_compiling() and torch.compiler.is_exporting():
                return self._run_as_node(input, hx, lengths, reset, return_states)
            # A loop over time would be traced step by step; the rest of the model is compiled.
            run = torch.compiler.disable(reason="recurrence over time")(self._run)
            return run(input, hx, lengths, reset, return_states)
        return self._run(input, hx, lengths, reset, return_states)

    def _run(
        self,
        input: Any,
        hx: Any = None,
        lengths: Any = None,
        reset: Any = None,
        return_states: bool = False,
    ) -> Returned:
        if (
            lengths is reset is None
            and not return_states
            and isinstance(input, Tensor)
            and input.dim() == 3
            and input.shape[self.batch_first] == 1
        ):
            found = run_one_step(self, input, hx)
            if found is not None:
                return found
        cells = self.cells()
        arguments = prepare(cells, self.batch_first, input, hx, lengths, reset)
        outputs, state, states = _run_cells(
            self, cells, arguments, "states" if return_states else "all"
        )
        return restore(arguments, self.batch_first, outputs, state, states)

    def __prepare_scriptable__(self) -> nn.Module:
        from throughtime.layers.programs import scriptable

        return scriptable(self)

    def _run_as_node(
        self, input: Any, hx: Any, lengths: Any, reset: Any, return_states: bool
    ) -> tuple[Any, ...]:
        """A run under strict torch.export, which reads this method's Python, and no further."""
        from throughtime.layers.programs import handle_of, run_layer

        tensors = [self._tensor(name) for name in self._tensor_names()]
        found = run_layer(handle_of(self), tensors, input, hx, lengths, reset, return_states)
        rest = iter(found[1:])
        states = [map_state(lambda _: next(rest), self._form) for _ in range(1 + return_states)]
        if self._form._fields == ("h",):
            states[0] = states[0].h
        return (found[0], *states)

    def _tensor_names(self) -> list[str]:
        """The names of the layer's parameters and buffers, those that are parametrised too."""
        return list(dict.fromkeys(own for names in self._names for own in names.values()))

    def explain(
        self,
        input: Tensor | PackedSequence | None = None,
        hx: Any = None,
        *,
        lengths: Lengths | None = None,
        reset: Bool[Tensor, "..."] | None = None,
        return_states: bool = False,
        captured: bool = False,
    ) -> Choice:
        """Return the engine that would run this call, and the refusals of those before it.

        Arguments:
            input, hx, lengths, reset, return_states: The same as for a call; a plain batch if
                `input` is None.
            captured: If True, the call is one that torch.export, a trace or an ONNX exporter
                captures as a program, which then is made of torch's own operators.

        Returns:
            A choice that prints as a sentence a line.

        Example:
            >>> from throughtime import LSTM
            >>> print(LSTM(3, 5, engine="vendor").explain())
            vendor (chosen by name)
        """
        cells = self.cells()
        if input is None:
            like = next(iter(self.parameters()))
            input = torch.zeros(1, 1, self.input_size, dtype=like.dtype, device=like.device)
        arguments = prepare(cells, self.batch_first, input, hx, lengths, reset)
        outputs: Outputs = "states" if return_states else "all"
        request = _request_for(
            self,
            cells[0],
            arguments.inputs,
            arguments.states[0],
            arguments,
            outputs,
            Place(),
            generator=torch.Generator("cpu"),  # of streams that no run uses
        )
        if captured:
            request = dataclasses.replace(request, captured="a program is captured of the call")
        return choose(request, self.engine)[1]

    def _new_cells(self, input_size: int) -> list[Cell]:
        cells: list[Cell] = []
        width = input_size
        for layer in range(self.num_layers):
            for _ in range(self.num_directions):
                cell = self._make_cell(width)
                for initializer in self._initializers:
                    initializer(cell)
                cells.append(cell)
            width = cells[layer * self.num_directions].output_size * self.num_directions
        return cells

    def _suffixes(self) -> list[str]:
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    def extra_repr(self) -> str:
        """The sizes and the options that differ from their defaults."""
        defaults = {
            "proj_size": 0,
            "nonlinearity": "tanh",
            "lags": (1,),
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        options = [f"{k}={v!r}" for k, d in defaults.items() if (v := getattr(self, k, d)) != d]
        if self.engine != "auto":
            options.append(f"engine={self.engine!r}")
        return ", ".join([str(self.input_size), str(self.hidden_size), *options])


def _form_of(cell: Cell) -> State:
    """A state without its tensors, as a program of torch.export returns it."""
    like = next(iter(cell.parameters()), torch.empty(0))
    state = cell.initial_state(1, dtype=like.dtype, device=like.device)
    return exported(map_state(lambda _: None, state))


def _as_call(layer: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the proxy of a call of a layer, for torch.fx."""
    proxies = [a for a in (*arguments, *options.values()) if isinstance(a, torch.fx.Proxy)]
    tracer: Any = proxies[0].tracer
    path = tracer.path_of_module(layer)
    return tracer.create_proxy("call_module", path, arguments, options)


_calls = itertools.count(1)


def _run_cells(
    layer: "RecurrentLayer[Any, Any]",
    cells: tuple[Cell, ...],
    arguments: Arguments,
    outputs: Outputs,
) -> Result:
    """Run all cells of a layer.

    Arguments:
        cells: The cells, bound to their tensors, level by level, forward before reverse.
        outputs: "all", or "states" for the states after every step too.

    Returns:
        The outputs of the top level, (time, batch, output); states of (layers * directions, batch,
        ...), and after every step (time, layers * directions, batch, ...).
    """
    x, lengths, directions, call = arguments.inputs, arguments.lengths, 1, next(_calls)
    if layer.bidirectional:
        directions = 2
    ends: list[State] = []
    histories: list[State] = []
    sides: list[Tensor] = []
    for i, cell in enumerate(cells):
        level, direction = divmod(i, directions)
        inputs = reverse_time(x, lengths) if direction else x
        place = Place(call, level, direction)
        request = _request_for(layer, cell, inputs, arguments.states[i], arguments, outputs, place)
        side, end, history = run(request, layer.engine)
        if direction:
            side = reverse_time(side, lengths)
            history = history and map_state(lambda s: reverse_time(s, lengths), history)
        sides.append(side)
        ends.append(end)
        if history is not None:
            histories.append(history)
        if direction == directions - 1:
            x = side if directions == 1 else torch.cat(sides, -1)
            sides = []
            if layer.dropout > 0 and level < layer.num_layers - 1:
                x = F.dropout(x, layer.dropout, layer.training)
    states = map_state(lambda *s: torch.stack(s, 1), *histories) if histories else None
    fields: list[Any] = []
    supplied = len(cells) == 1 and cells[0].supplied
    for name, parts in zip(ends[0]._fields, zip(*ends, strict=True), strict=True):
        if supplied and name in supplied:  # a memory, which is not copied
            fields.append(parts[0][None])
            continue
        flat = isinstance(parts[0], Tensor)  # most fields are tensors, which need no walk
        fields.append(torch.stack(parts) if flat else map_state(lambda *s: torch.stack(s), *parts))
    return Result(x, type(ends[0])(*fields), states)


def _request_for(
    layer: "RecurrentLayer[Any, Any]",
    cell: Cell,
    inputs: Tensor,
    state: State,
    arguments: Arguments,
    outputs: Outputs,
    place: Place,
    generator: torch.Generator = torch.default_generator,
) -> Request:
    """Return the request for one cell of a layer; the cell's streams are drawn here.

    Arguments:
        inputs: (time, batch, input) in the cell's own order of time.
        state: The state of this cell, (batch, ...) a field.
    """
    resets, lengths = arguments.resets, arguments.lengths
    if place.direction == 1 and resets is not None:
        resets = reverse_resets(resets, lengths)
    streams = ()
    if cell.streams:
        drawn = cell.draw_streams(
            steps_since_reset(state.steps, resets, inputs.shape[0]),
            training=layer.training,
            dtype=state.h.dtype,
            generator=generator,
        )
        drawn = fit_streams(cell, drawn, *inputs.shape[:2])
        streams = tuple(stream.to(state.h.device) for stream in drawn)
    return Request(cell, inputs, state, lengths, resets, streams, outputs, place=place)
