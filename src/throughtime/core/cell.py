"""The cell: one step of a recurrent network, written once and run by every engine.

Its sizes and weights, whose names, shapes, order and first values are those of torch's layers; and
copies of it with other tensors.
"""

import abc
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, OptionTypeError, ShapeError
from throughtime.core.state import State

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def bind(cell: ModuleType, tensors: Mapping[str, Tensor]) -> ModuleType:
    """Return a shallow copy of a cell with these tensors in place of its parameters and buffers.

    The cell itself is untouched, so that several threads may run it at once, which
    `torch.func.functional_call` does not allow: it swaps the tensors of the module in place.

    Arguments:
        cell: any cell, or module, whose submodules it copies likewise.
        tensors: tensors by name as in `named_parameters(remove_duplicate=False)`. Names that are
            left out keep the cell's own tensors. A tensor that a submodule shares with the module
            above it is replaced in both.

    Returns:
        A cell of the same class. Its tensors are the given objects themselves.
    """
    return _bound(cell, tensors, {})


def _bound(cell: ModuleType, tensors: Mapping[str, Tensor], shared: dict[int, Any]) -> ModuleType:
    bound = object.__new__(type(cell))
    bound.__dict__.update(cell.__dict__)
    parts = cell.__dict__["_modules"]
    replaced = dict(shared) if parts else shared
    for kind in ("_parameters", "_buffers"):
        own = cell.__dict__[kind]
        if shared:
            new = {n: tensors.get(n, shared.get(id(t), t)) for n, t in own.items()}
        else:
            new = {n: tensors.get(n, t) for n, t in own.items()}
        bound.__dict__[kind] = new
        if parts:
            replaced.update((id(t), new[n]) for n, t in own.items() if new[n] is not t)
    bound.__dict__["_modules"] = {
        name: None if part is None else _bound(part, _of_part(tensors, f"{name}."), replaced)
        for name, part in parts.items()
    }
    return bound


def _of_part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def converted(cell: ModuleType, function: Callable[[Tensor], Tensor]) -> ModuleType:
    """Return a shallow copy of a cell whose tensors are a function's values of the cell's own.

    `Module.to` changes the module itself, or swaps its tensors, which fake tensors do not allow.

    Arguments:
        cell: any cell, or module, whose submodules it copies likewise.
        function: a map of tensors without gradient; a tensor that is shared stays one.

    Returns:
        A cell of the same class, with parameters of its own.
    """
    made: dict[int, Tensor] = {}
    named: dict[str, Tensor] = {}
    for name, parameter in cell.named_parameters(remove_duplicate=False):
        new = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        named[name] = made.setdefault(id(parameter), new)
    for name, buffer in cell.named_buffers(remove_duplicate=False):
        named[name] = made.setdefault(id(buffer), function(buffer.detach()))
    return bind(cell, named)


TorchEquivalent: TypeAlias = Literal["LSTM", "GRU", "RNN_TANH", "RNN_RELU"]
Activation: TypeAlias = Literal["sigmoid", "tanh", "relu", "identity"]
"""The nonlinearity of a gate; "tanh" stands for 4 sigmoid(a) - 2 = 2 tanh(a / 2) as well."""
Streams: TypeAlias = tuple[Tensor, ...]


class Cell(nn.Module, abc.ABC):
    """One step of a recurrent network: (x_t, state) -> (h_t, new state).

    A subclass supplies `initial_state`, `project` and `step`. Whatever does not need the past goes
    into `project`, which engines call once for the whole sequence. `step` is pure: it changes
    nothing in place and keeps nothing in the module.

    A cell also declares what others need of it. These are optional:

        draw_streams(steps, *, training, dtype, generator): the per-step inputs without gradient
            (masks, schedules), drawn before any engine runs; supplied by a cell with `streams`.
            `steps` is (time, batch), the number of steps since the start or the last reset, from
            0. Masks are random in training only; evaluation takes their expectation. `generator`,
            on the CPU, is the only source of randomness. The result has one tensor for each
            name in `streams`: (time, batch, hidden) or (time, batch, 1), where a batch axis of 1
            stands for all sequences.
        linear_step(projected): the tensors a and b of a step h_t = a * h_{t-1} + b, each (...,
            hidden), for cells that are linear in their past. `projected` has any leading axes.
        run_sequence(projected, state, counts): the outputs (steps, output) of a whole run and the
            state after each sequence's last step, equal to `step` after step, of a cell whose pure
            step would copy a large state. `projected` has the rows of all steps side by side;
            `counts` is the number of sequences of each step, the first ones of the state, never
            more than of the step before. It changes none of its arguments.
        prepared(): a copy of the cell for one run, in which values that depend on the parameters
            alone are computed once.
        torch_equivalent: the layer of torch.nn with the same equations, weights and gate order.

    Attributes:
        input_size: width of x_t.
        hidden_size: width of the cell.
        output_size: width of the output h_t; `hidden_size`, except under a projection.
        gate_names: names of the row blocks of `weight_ih` and `weight_hh`, where there are any.
        remember_gates: gates whose large bias makes the cell keep its memory.
        write_gates: gates whose large bias makes the cell take its input in.
        activations: nonlinearity of each gate, in order, of a cell whose gates
            `throughtime.instruments.gate_activity` may read from a step; else (). Where the cell
            has a memory and no remember gate, the memory is kept whole.
        streams: names of the per-step inputs that `draw_streams` supplies.
        lasting: names of those streams that stay the same through a call, until a reset.
        supplied: names of the fields of the state whose second axis, behind the batch, is of any
            size, the same in all of them: the positions of a memory. It is 1 in the initial state.
    """

    remember_gates: ClassVar[tuple[str, ...]] = ()
    write_gates: ClassVar[tuple[str, ...]] = ()

    input_size: int
    hidden_size: int
    output_size: int
    gate_names: tuple[str, ...] = ()
    activations: tuple[Activation, ...] = ()
    streams: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    supplied: tuple[str, ...] = ()
    torch_equivalent: TorchEquivalent | None = None
    # Optional methods: a subclass supplies them or leaves them out.
    draw_streams: Callable[..., Streams]
    linear_step: (
        Callable[..., tuple[Float[Tensor, "*steps hidden"], Float[Tensor, "*steps hidden"]]] | None
    ) = None
    run_sequence: Callable[..., tuple[Float[Tensor, "steps output"], State]] | None = None
    prepared: Callable[..., Any] | None = None

    @abc.abstractmethod
    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the state before the first step: (batch, ...) tensors, `h` the first field."""

    @abc.abstractmethod
    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return all that step t needs of x_t and not of the past, for any leading axes."""

    @abc.abstractmethod
    def step(
        self, projected: Float[Tensor, "batch projected"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return the output h_t and the new state.

        A cell that declares `streams` takes a third argument: one tensor for each.
        """


def prepare(cell: ModuleType) -> ModuleType:
    """Return the cell for one run: it and the cells within it are prepared, where they can be."""
    parts = {name: part for name, part in cell._modules.items() if part is not None}
    made = {name: prepare(part) for name, part in parts.items()}
    if any(made[name] is not part for name, part in parts.items()):
        cell = bind(cell, {})
        cell._modules.update(made)
    if isinstance(cell, Cell) and cell.prepared is not None:
        return cell.prepared()
    return cell


def advance(
    cell: Cell, projected: Float[Tensor, "batch projected"], state: State, streams: Streams
) -> tuple[Float[Tensor, "batch output"], State]:
    """Run one step of any cell, with its streams where it declares some."""
    if streams:
        return cell.step(projected, state, streams)  # pyright: ignore[reportCallIssue]
    return cell.step(projected, state)


def fit_streams(cell: Cell, streams: Streams, time: int, batch: int) -> Streams:
    """Return streams with full axes of time and batch; one for all sequences is expanded.

    Raises:
        ShapeError: a stream has other axes.
    """
    found: list[Tensor] = []
    for i, stream in enumerate(streams):
        if stream.dim() < 3 or stream.shape[0] != time or stream.shape[1] not in (1, batch):
            raise ShapeError(
                f"stream {i} of {type(cell).__name__}",
                got=f"shape {tuple(stream.shape)}",
                expected=f"(time {time}, batch {batch}, hidden or 1)",
                fix="draw_streams returns a value for each step and sequence.",
            )
        whole = stream.shape[1] == batch
        found.append(stream if whole else stream.expand(time, batch, *stream.shape[2:]))
    return tuple(found)


def set_sizes(
    cell: Cell, input_size: int, hidden_size: int, output_size: int | None = None
) -> None:
    """Check the sizes of a cell and set them.

    Raises:
        ConfigurationError: the input or hidden size is below 1.
        OptionTypeError: one of them is no whole number.
    """
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    cell.input_size, cell.hidden_size = input_size, hidden_size
    cell.output_size = hidden_size if output_size is None else output_size


def add_weights(
    cell: Cell,
    gates: int,
    *,
    lags: Sequence[int] = (1,),
    width: int | None = None,
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> None:
    """Give a cell W_ih, a W_hh for each lag, b_ih and b_hh, drawn in torch's order.

    weight_ih is (gates * hidden, input), weight_hh (gates * hidden, width) for lag 1, where the
    width is that of the output by default, and weight_hh_lag21 for lag 21; bias_ih and bias_hh are
    (gates * hidden,), bias_hh only beside a weight_hh.

    Raises:
        OptionTypeError: `bias` is neither True nor False.
    """
    check_flag("bias", bias)
    rows = gates * cell.hidden_size
    shapes: dict[str, tuple[int, ...] | None] = {"weight_ih": (rows, cell.input_size)}
    columns = cell.output_size if width is None else width
    shapes |= {recurrent_weight(lag): (rows, columns) for lag in lags}
    shapes |= {"bias_ih": (rows,) if bias else None}
    shapes |= {"bias_hh": (rows,) if bias and lags else None}
    for name, shape in shapes.items():
        parameter = None if shape is None else draw(cell, *shape, device=device, dtype=dtype)
        cell.register_parameter(name, parameter)


def draw(
    cell: Cell, *shape: int, device: torch.device | str | None, dtype: torch.dtype | None
) -> Float[nn.Parameter, "..."]:
    """Return a parameter from U(-1/sqrt(hidden), 1/sqrt(hidden)), as torch draws it."""
    bound = 1 / math.sqrt(cell.hidden_size)
    return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound))


@functools.cache
def recurrent_weight(lag: int) -> str:
    """Return the name of the recurrent matrix of a lag: weight_hh, weight_hh_lag21."""
    return "weight_hh" if lag == 1 else f"weight_hh_lag{lag}"


def check_size(name: str, value: object) -> None:
    """Raise ConfigurationError unless the value is a whole number of at least 1."""
    expected = "a whole number of at least 1"
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionTypeError(name, got=repr(value), expected=expected)
    if value < 1:
        raise ConfigurationError(name, got=repr(value), expected=expected)


def check_flag(name: str, value: object) -> None:
    """Raise OptionTypeError unless the value is True or False."""
    if not isinstance(value, bool):
        raise OptionTypeError(name, got=repr(value), expected="True or False")
