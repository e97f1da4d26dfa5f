"""The arguments of a recurrent layer's call: checked, and brought to (time, batch, width)."""

import functools
import numbers
from collections.abc import Iterator, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    SupportsIndex,
    TypeAlias,
    TypeVar,
)
from typing import overload as _overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils import _pytree

from throughtime.core.cell import Cell, check_flag, check_size
from throughtime.core.errors import (
    ConfigurationError,
    DeviceError,
    DtypeError,
    OptionTypeError,
    ShapeError,
    StateError,
)
from throughtime.core.sequence import check_lengths
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines.engine import autocast_on

Lengths: TypeAlias = Int[Tensor, " batch"] | Int[np.ndarray, " batch"] | Sequence[SupportsIndex]
"""Steps of each sequence: a tensor, an array, or a sequence of whole numbers, also numpy's."""

Outputs: TypeAlias = Tensor | PackedSequence
Returned: TypeAlias = tuple[Outputs, State] | tuple[Outputs, State, State]
"""Outputs, the state after the last step and, if wanted, the states after every step."""

Final = TypeVar("Final")
Every = TypeVar("Every")
Input = TypeVar("Input", Tensor, PackedSequence)


class Call(Generic[Final, Every]):
    """A layer whose call returns outputs of the input's type, a `Final` and perhaps an `Every`.

    `Final` is the state after the last step, `Every` the states after every step.
    """

    if TYPE_CHECKING:

        @_overload
        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: Literal[False] = False,
        ) -> tuple[Input, Final]: ...

        @_overload
        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: Literal[True],
        ) -> tuple[Input, Final, Every]: ...

        @_overload
        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: bool,
        ) -> tuple[Input, Final] | tuple[Input, Final, Every]: ...

        def __call__(self, *arguments: Any, **options: Any) -> Any: ...


class HState(NamedTuple):
    """The type of the states of a GRU after every step, for a type checker.

    Attributes:
        h: (time, layers * directions, batch, hidden).
    """

    h: Tensor


class LSTMState(NamedTuple):
    """The type of the states of an LSTM, for a type checker.

    Attributes:
        h: (layers * directions, batch, output); with time first, after every step.
        c: (layers * directions, batch, hidden), likewise.
    """

    h: Tensor
    c: Tensor


class Arguments(NamedTuple):
    """A call's arguments, time first.

    Attributes:
        inputs: (time, batch, input), time at least 1.
        states: The state of each cell before the first step, (batch, ...) a field.
        lengths: (batch,) on the CPU, or None where all sequences fill the time axis.
        resets: True where a step starts afresh, or None.
        packed: The PackedSequence that the inputs came in, or None.
        batched: True if the input had a batch axis.
    """

    inputs: Float[Tensor, "time batch input"]
    states: Sequence[State]
    lengths: Int[Tensor, " batch"] | None
    resets: Bool[Tensor, "time batch"] | None
    packed: PackedSequence | None
    batched: bool


def check_options(
    num_layers: object, dropout: object, batch_first: object, bidirectional: object
) -> None:
    """Raise ConfigurationError for a layer's options out of range."""
    check_size("num_layers", num_layers)
    expected = "a probability in [0, 1]"
    if not isinstance(dropout, numbers.Real) or isinstance(dropout, bool):
        raise OptionTypeError("dropout", got=repr(dropout), expected=expected)
    if not 0 <= float(dropout) <= 1:
        raise ConfigurationError("dropout", got=repr(dropout), expected=expected)
    check_flag("batch_first", batch_first)
    if bidirectional not in (True, False):  # torch takes 1 and numpy's True too
        raise OptionTypeError("bidirectional", got=repr(bidirectional), expected="True or False")


def prepare(
    cells: tuple[Cell, ...],
    batch_first: bool,
    input: Tensor | PackedSequence,
    hx: Any,
    lengths: Lengths | None,
    reset: Tensor | None,
) -> Arguments:
    """Check a call's arguments and bring them to (time, batch, width).

    Arguments:
        batch_first: If True, the input and the resets are (batch, time, ...).
        input, hx, lengths, reset: The arguments of the layer's `forward`.

    Raises:
        ShapeError, DtypeError, DeviceError, LengthsError, StateError, ConfigurationError: see
            the layer's `forward`.
    """
    packed, batched = None, True
    if isinstance(input, PackedSequence):
        if lengths is not None:
            raise ConfigurationError(
                "lengths", got="lengths beside a PackedSequence, which has its own", fix="Drop one."
            )
        packed = input
        _check_input(packed.data, "packed input", cells[0], batch_first)
        inputs, lengths = pad_packed_sequence(packed)
    else:
        _check_input(input, "input", cells[0], batch_first)
        if input.dim() not in (2, 3):
            raise ShapeError(
                "input",
                got=f"{input.dim()} axes, shape {tuple(input.shape)}",
                expected=f"{_form(batch_first)} or (time, input) for one sequence",
            )
        batched = input.dim() == 3
        inputs = input if batched else input.unsqueeze(1)
        if batched and batch_first:
            inputs = inputs.transpose(0, 1)
    time, batch = inputs.shape[:2]
    if time == 0:
        raise ShapeError(
            "input", got=f"no time steps, shape {tuple(inputs.shape)}", expected="at least one"
        )
    checked = None if lengths is None else check_lengths(lengths, time, batch)
    resets = None if reset is None else _check_reset(reset, inputs, batched, batch_first)
    states = _complete_states(cells, hx, inputs, batched)
    return Arguments(inputs, states, checked, resets, packed, batched)


def restore(
    arguments: Arguments,
    batch_first: bool,
    outputs: Tensor,
    state: State,
    states: State | None,
) -> Returned:
    """Return outputs and states in the form in which the inputs came."""
    if arguments.packed is not None:
        rows = _packed_index(arguments.packed, outputs.shape[1])
        data = outputs.flatten(0, 1).index_select(0, rows)
        result: Any = arguments.packed._replace(data=data)
    elif not arguments.batched:
        result = outputs.squeeze(1)
    else:
        result = outputs.transpose(0, 1) if batch_first else outputs
    if not arguments.batched:
        state = map_state(lambda s: s.squeeze(1), state)
        states = None if states is None else map_state(lambda s: s.squeeze(2), states)
    if torch.compiler.is_exporting():
        state, states = exported(state), exported(states)
    final = state.h if state._fields == ("h",) else state
    return (result, final) if states is None else (result, final, states)


def _packed_index(packed: PackedSequence, batch: int) -> Int[Tensor, " valid"]:
    """Return the positions of the packed steps in the flattened (time, batch) grid."""
    order = (
        torch.arange(batch, device="cpu")
        if packed.sorted_indices is None
        else packed.sorted_indices.cpu()
    )
    steps = torch.arange(len(packed.batch_sizes), device="cpu")[:, None]
    valid = torch.arange(batch, device="cpu") < packed.batch_sizes[:, None]
    return (steps * batch + order)[valid].to(packed.data.device)


def _form(batch_first: bool) -> str:
    return "(batch, time, input)" if batch_first else "(time, batch, input)"


def _check_input(x: object, what: str, cell: Cell, batch_first: bool) -> None:
    if not isinstance(x, Tensor):
        raise ShapeError(what, got=type(x).__name__, expected="a tensor or a PackedSequence")
    if x.is_nested or x.layout != torch.strided:
        _check_layout(x, what)
    if x.dim() > 0 and x.shape[-1] != cell.input_size:
        raise ShapeError(
            what,
            got=f"width {x.shape[-1]} in shape {tuple(x.shape)}",
            expected=f"input_size={cell.input_size} as the last axis",
            fix=f"This layer reads {_form(batch_first)}.",
        )
    # the first parameter; a walk over modules is only for cells that have none of their own
    weight = next(iter(cell._parameters.values()), None)
    weight = next(iter(cell.parameters()), None) if weight is None else weight
    if weight is None:
        return
    if x.device != weight.device:
        raise DeviceError(
            what,
            got=f"device {x.device}",
            expected=f"the layer's device {weight.device}",
            fix=f"Move one of them: input.to({str(weight.device)!r}).",
        )
    if x.dtype != weight.dtype and not autocast_on(x.device):
        raise DtypeError(
            what,
            got=f"dtype {x.dtype}",
            expected=f"the layer's dtype {weight.dtype}",
            fix=f"Convert one of them: input.to({weight.dtype}).",
        )


def _check_layout(x: Tensor, what: str) -> None:
    if x.is_nested:
        raise ShapeError(
            what,
            got="a nested tensor",
            expected="a dense one",
            fix="Pad the sequences and give `lengths`, or use a PackedSequence.",
        )
    if x.layout != torch.strided:
        raise ShapeError(
            what,
            got=f"layout {x.layout}",
            expected="a dense tensor",
            fix="Convert the tensor: tensor.to_dense().",
        )


def _check_reset(
    reset: object, inputs: Tensor, batched: bool, batch_first: bool
) -> Bool[Tensor, "time batch"]:
    time, batch = inputs.shape[:2]
    shape = (time,) if not batched else (batch, time) if batch_first else (time, batch)
    if not isinstance(reset, Tensor) or reset.dtype != torch.bool:
        got = f"dtype {reset.dtype}" if isinstance(reset, Tensor) else type(reset).__name__
        raise DtypeError("reset", got=got, expected="a torch.bool tensor, True at each fresh start")
    _check_layout(reset, "reset")
    if tuple(reset.shape) != shape:
        raise ShapeError("reset", got=f"shape {tuple(reset.shape)}", expected=f"shape {shape}")
    if reset.device != inputs.device:
        raise DeviceError("reset", got=f"device {reset.device}", expected=f"{inputs.device}")
    reset = reset.clone()  # a backward pass reads it, and the caller may use theirs again
    if not batched:
        return reset.unsqueeze(1)
    return reset.transpose(0, 1) if batch_first else reset


def _complete_states(
    cells: tuple[Cell, ...], hx: Any, inputs: Tensor, batched: bool
) -> Sequence[State]:
    """Return the state of each cell; fields that `hx` leaves out are the initial state's."""
    batch, fresh = inputs.shape[1], []
    for cell in cells:
        state = cell.initial_state(batch, dtype=inputs.dtype, device=inputs.device)
        for field in state:
            for tensor in (field,) if isinstance(field, Tensor) else state_tensors(field):
                if tensor.shape[:1] != (batch,):
                    raise StateError(
                        f"initial_state of {type(cell).__name__}",
                        got=f"a tensor of shape {tuple(tensor.shape)}",
                        expected=f"a first axis of {batch}, the batch",
                    )
        fresh.append(state)
    if hx is None:
        return fresh
    initial = map_state(lambda *s: torch.stack(s), *fresh)
    names = initial._fields
    given = hx if isinstance(hx, tuple | list) else (hx,)
    fields = getattr(hx, "_fields", names)
    if fields != names:
        raise StateError("hx", got=f"a state of fields {fields}", expected=f"{names}")
    # h and the memories, without the past and the step count, may be given as torch's (h, c)
    least = sum(name not in ("past", "steps") for name in names)
    if not least <= len(given) <= len(names):
        raise StateError(
            "hx",
            got="a tensor" if hx is given[0] else f"{len(given)} fields",
            expected="the tensor h" if least == 1 else f"a tuple ({', '.join(names[:least])})",
        )
    if cells[0].supplied:
        initial = _of_size(cells[0], given, initial, batched)
    completed = [
        _check_field(name, value, default, inputs, batched)
        for name, value, default in zip(names, given, initial, strict=False)
    ]
    return unstack(type(initial)(*completed, *initial[len(completed) :]), len(cells))


def _of_size(cell: Cell, given: Sequence[Any], initial: State, batched: bool) -> State:
    """Return the initial state with the size of the supplied fields that a state has."""
    place = initial._fields.index(cell.supplied[0])
    first, axis = (given[place] if place < len(given) else None), 1 + batched
    if not isinstance(first, Tensor) or first.dim() <= axis or first.shape[axis] < 1:
        return initial
    sized = {
        name: field.expand(*field.shape[:2], first.shape[axis], *field.shape[3:])
        for name, field in initial._asdict().items()
        if name in cell.supplied
    }
    return initial._replace(**sized)


def unstack(state: State, count: int) -> list[State]:
    """Return the states of single cells.

    Arguments:
        state: The states of all cells, stacked: (cells, ...) a field.
    """
    if not isinstance(state, tuple):
        return list(state.unbind(0))
    fields = [unstack(field, count) for field in state]
    if not hasattr(state, "_fields"):
        return [tuple(field[i] for field in fields) for i in range(count)]
    return [type(state)(*(field[i] for field in fields)) for i in range(count)]


def _check_field(name: str, value: Any, default: Any, inputs: Tensor, batched: bool) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(default):
            raise StateError(
                f"hx.{name}", got=type(value).__name__, expected=f"{len(default)} tensors"
            )
        parts = [
            _check_field(f"{name}[{i}]", v, d, inputs, batched)
            for i, (v, d) in enumerate(zip(value, default, strict=True))
        ]
        return type(default)(*parts) if hasattr(default, "_fields") else tuple(parts)
    if not isinstance(value, Tensor):
        raise StateError(f"hx.{name}", got=type(value).__name__, expected="a tensor")
    _check_layout(value, f"hx.{name}")
    shape = tuple(default.shape) if batched else (default.shape[0], *default.shape[2:])
    if tuple(value.shape) != shape:
        raise StateError(
            f"hx.{name}",
            got=f"shape {tuple(value.shape)}",
            expected=f"{shape}: (layers * directions, {'batch, ' if batched else ''}width)",
        )
    if value.device != inputs.device:
        raise DeviceError(f"hx.{name}", got=f"device {value.device}", expected=f"{inputs.device}")
    if value.dtype != default.dtype and not autocast_on(inputs.device):
        raise DtypeError(f"hx.{name}", got=f"dtype {value.dtype}", expected=f"{default.dtype}")
    return value if batched else value.unsqueeze(1)


def exported(state: State) -> State:
    """Return a state as nested tuples that a saved program may return; its fields keep names.

    A program can be loaded where this package is not, so that it cannot hold a NamedTuple of ours.
    """
    if not isinstance(state, tuple):
        return state
    values, fields = [exported(value) for value in state], getattr(state, "_fields", None)
    return tuple(values) if fields is None else _kind(*fields)(*values)


@functools.cache
def _kind(*fields: str) -> type:
    """A tuple with named fields, of which a saved program has the tuple alone.

    torch takes what has `_make` and `_asdict` for a NamedTuple, and saves its class by name.
    """

    def new(cls: Any, *values: Any) -> Any:
        if len(values) == 1 and (len(fields) > 1 or isinstance(values[0], Iterator)):
            values = tuple(values[0])
        return tuple.__new__(cls, values)

    def reduce(state: Any) -> Any:
        return _rebuilt, (fields, tuple(state))

    def with_keys(state: Any) -> Any:
        keys = [_pytree.GetAttrKey(name) for name in fields]
        return list(zip(keys, state, strict=True)), None

    members: dict[str, Any] = {"__slots__": (), "_fields": fields}
    members |= {"__new__": new, "__reduce__": reduce}
    members |= {name: property(lambda state, i=i: state[i]) for i, name in enumerate(fields)}
    kind = type("State", (tuple,), members)
    _pytree.register_pytree_node(
        kind,
        lambda state: (list(state), None),
        lambda values, _: kind(*values),
        serialized_type_name="builtins.tuple",
        flatten_with_keys_fn=with_keys,
    )
    _pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE["builtins.tuple"] = tuple
    return kind


def _rebuilt(fields: tuple[str, ...], values: tuple[Any, ...]) -> State:
    return _kind(*fields)(*values)
