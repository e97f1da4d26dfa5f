"""Recording a step: each of torch's operations as a vector of the step, or as one of parameters."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, final

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from throughtime.engines.trace.formulas import RULES
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.steps.views import (
    SHAPED,
    VECTOR,
    VIEWS,
    Symbol,
    broadcast,
    cat,
    stack,
    whole,
)


@final
@dataclasses.dataclass(frozen=True)
class Given:
    """A vector that is there before the step.

    Attributes:
        source: "input", "state", "parameter" or "constant".
        index: The number of the input, of the state's field or of the parameter.
        width: The number of its values.
        value: The number, for a constant.
    """

    source: str
    index: int
    width: int
    value: float = 0.0


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """An elementwise operation: a rule of `formulas`, on places and numbers."""

    name: str
    operands: tuple[Any, ...]
    options: dict[str, Any]
    result: int
    width: int


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A vector times a matrix (depth, width), or its transpose, of a parameter."""

    places: np.ndarray
    weight: int
    transposed: bool
    width: int


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Reduction:
    """One number of many: "sum", "max", or "peak", the maximum as a constant."""

    operation: str
    places: np.ndarray
    width: int = 1


Vector: TypeAlias = Given | Map | Product | Reduction


@final
@dataclasses.dataclass(frozen=True)
class Static:
    """The place of a tensor among those that are computed once a run."""

    index: int


@final
@dataclasses.dataclass(frozen=True)
class Counter:
    """A field of whole numbers of the state, plus a number."""

    field: int
    added: int


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """A parameter or buffer of the cell, by name."""

    name: str


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Computed:
    """A result of an operation on other static tensors."""

    function: Any
    arguments: Any
    options: Any
    result: int | None


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Fixed:
    """A tensor of numbers in the code of the step."""

    tensor: Tensor


Known: TypeAlias = Symbol | Static | Counter


@final
class Recorder(TorchDispatchMode):
    """Records a step on example tensors.

    Arguments:
        dtype: The dtype of the run.
        batch: The number of sequences, which is the size of no other axis.
        of_rows: The operations on all units of a row, by name.

    Attributes:
        vectors: The vectors of the step, in order.
        statics: The tensors that are computed once a run, in order.
    """

    def __init__(self, dtype: torch.dtype, batch: int, of_rows: dict[str, Callable[..., Any]]):
        super().__init__()
        self.dtype, self.batch, self._of_rows = dtype, batch, of_rows
        self.vectors: list[Vector] = []
        self.statics: list[Named | Computed | Fixed] = []
        self._known: dict[int, tuple[Tensor, Known]] = {}
        self._given: set[int] = set()
        self._leaves: dict[tuple[str, int], int] = {}
        self._constants: dict[str, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled, and torch would load its compiler

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Return True: torch's own higher-order operators are not recorded."""
        return True

    def give(self, tensor: Tensor, known: Known) -> Tensor:
        """Enter an example tensor."""
        self._known[id(tensor)] = tensor, known
        self._given.add(id(tensor))
        return tensor

    def named(self, name: str, tensor: Tensor) -> None:
        """Enter a parameter or buffer."""
        if id(tensor) not in self._known:
            self.statics.append(Named(name))
            self.give(tensor, Static(len(self.statics) - 1))

    def leaf(self, source: str, index: int, width: int) -> int:
        """Return the vector of what is there before the step."""
        key = source, index
        if key not in self._leaves:
            self._leaves[key] = self._enter(Given(source, index, width))
        return self._leaves[key]

    def known(self, tensor: Tensor) -> Known:
        """Return what is known of a tensor.

        Raises:
            UntraceableError: The tensor was not computed from known ones.
        """
        found = self._known.get(id(tensor))
        if found is None:
            raise UntraceableError(
                f"step reads a tensor of shape {tuple(tensor.shape)} that is neither given to it "
                "nor a parameter or buffer of the cell"
            )
        return found[1]

    def symbol(self, tensor: Tensor) -> Symbol:
        """Return a tensor's symbol; of a parameter, all its numbers."""
        known = self.known(tensor)
        if isinstance(known, Symbol):
            return known
        if isinstance(known, Counter):
            raise UntraceableError("step computes with whole numbers of the state")
        if tensor.dtype != self.dtype:
            raise UntraceableError(f"step reads a parameter or constant of {tensor.dtype}")
        vector = self.leaf("parameter", known.index, tensor.numel())
        return whole(vector, tensor.numel(), tensor.shape, None)

    def _enter(self, vector: Vector) -> int:
        self.vectors.append(vector)
        return len(self.vectors) - 1

    def constant(self, value: float, shape: Sequence[int] = ()) -> Symbol:
        """Return the symbol of a tensor that holds one number throughout."""
        key = float(value).hex()
        if key not in self._constants:
            self._constants[key] = self._enter(Given("constant", 0, 1, float(value)))
        axis = list(shape).index(self.batch) if self.batch in shape else None
        size = [1 if i == axis else n for i, n in enumerate(shape)]
        return Symbol(np.broadcast_to(whole(self._constants[key], 1, (), None).places, size), axis)

    def map(self, name: str, *operands: Any, results: int = 1, **options: Any) -> Any:
        """Record an elementwise operation on symbols and numbers."""
        places, shape, axis = broadcast([o for o in operands if isinstance(o, Symbol)])
        spread = iter(places)
        flat = [next(spread).reshape(-1) if isinstance(o, Symbol) else o for o in operands]
        width = math.prod(shape)
        made = [
            whole(self._enter(Map(name, tuple(flat), options, i, width)), width, shape, axis)
            for i in range(results)
        ]
        return made[0] if results == 1 else made

    def reduce(
        self, operation: str, symbol: Symbol, dims: Sequence[int] | None, keepdim: bool = False
    ) -> Symbol:
        """Record a reduction over axes of units."""
        places, axis = symbol.places, symbol.axis
        every = range(places.ndim)
        gone = sorted({d % places.ndim for d in (dims or every)}) if places.ndim else []
        if axis in gone:
            raise UntraceableError("step reduces over sequences")
        rest = [d for d in every if d not in gone]
        moved = places.transpose([*rest, *gone]).reshape([places.shape[d] for d in rest] + [-1])
        length = moved.shape[moved.ndim - 1]
        count = math.prod(moved.shape[: moved.ndim - 1])
        if keepdim:
            shape, at = [1 if d in gone else n for d, n in enumerate(places.shape)], axis
        else:
            shape, at = moved.shape[:-1], None if axis is None else rest.index(axis)
        if length <= 16 and count > 1:
            if operation == "peak":
                raise UntraceableError("step has a softmax over a short axis of several")
            total, equal = Symbol(moved[..., 0].reshape(shape), at), 1.0
            for i in range(1, length):
                following = Symbol(moved[..., i].reshape(shape), at)
                if operation == "sum":
                    total = self.map("add", total, following)
                else:
                    total, equal = self.map("larger", total, equal, following, 1.0, results=2)
            return total
        if count > 64:
            raise UntraceableError(f"step reduces to {count} numbers of {length} each")
        made = [self._enter(Reduction(operation, row)) for row in moved.reshape(-1, length)]
        result = np.array([whole(v, 1, (), None).places for v in made], np.int64)
        return Symbol(result.reshape(shape), at)

    def product(self, symbol: Symbol, weight: Tensor, *, transposed: bool = False) -> Symbol:
        """Record rows (batch, depth) times a static matrix (depth, width), or its transpose."""
        known = self.known(weight)
        if not isinstance(known, Static):
            raise UntraceableError("step multiplies two matrices that both depend on the sequence")
        if weight.dtype != self.dtype:
            raise UntraceableError(f"step reads a matrix of {weight.dtype}")
        width = weight.shape[0] if transposed else weight.shape[1]
        if symbol.axis is None:
            raise UntraceableError("step multiplies a constant by a matrix")
        vector = self._enter(Product(symbol.places.reshape(-1), known.index, transposed, width))
        return whole(vector, width, (1, width), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and record it."""
        options = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise UntraceableError(
                f"step draws random numbers with {func}", fix="What is random comes by streams."
            )
        if name in ("_local_scalar_dense", "item", "is_nonzero", "equal"):
            raise UntraceableError(
                f"step reads the value of a tensor in Python ({func})",
                fix="It must not branch on values; use torch.where.",
            )
        own = [self._known.get(id(t)) for t in _tensors((args, options))]
        if any(k is not None and not isinstance(k[1], Static) for k in own):
            return self._dynamic(func, name, args, options)
        return self._static(func, name, args, options)

    def _static(self, func: Any, name: str, args: Any, options: Any) -> Any:
        """An operation that reads no state and no input: it is repeated once a run."""
        if func._schema.is_mutable:
            raise UntraceableError(f"step uses {func}, which writes into a tensor")
        if name in ("lift_fresh", "lift_fresh_copy") and id(args[0]) not in self._known:
            self.statics.append(Fixed(args[0].clone()))
            result = func(*args, **options)
            return self.give(result, Static(len(self.statics) - 1))
        result = func(*args, **options)
        tensors = list(_tensors(result))
        if any(self.batch in t.shape for t in tensors):
            return self._filled(func, name, args, options, result)

        def refer(tensor: Tensor) -> Static:
            known = self.known(tensor)
            assert isinstance(known, Static)
            return known

        arguments, named = tree_map_only(Tensor, refer, (tuple(args), dict(options)))
        single = isinstance(result, Tensor)
        for i, tensor in enumerate(tensors):
            self.statics.append(Computed(func, arguments, named, None if single else i))
            self._known[id(tensor)] = tensor, Static(len(self.statics) - 1)
        return result

    def _filled(self, func: Any, name: str, args: Any, options: Any, result: Any) -> Any:
        """A tensor of one number whose shape has the number of sequences."""
        values = {"zeros": 0.0, "ones": 1.0, "new_zeros": 0.0, "new_ones": 1.0}
        values |= {"full": args[1] if len(args) > 1 else 0.0}
        values |= {"new_full": args[2] if len(args) > 2 else 0.0}
        if name in values and isinstance(result, Tensor):
            return self._learn(result, self.constant(float(values[name]), result.shape), func)
        if name == "expand":
            symbol = SHAPED["expand"](self.symbol(args[0]), self.batch, args[1])
            return self._learn(result, symbol, func)
        raise UntraceableError(f"step uses {func} to make a tensor for each sequence")

    def _dynamic(self, func: Any, name: str, args: Any, options: Any) -> Any:
        in_place = name.endswith("_") and not name.endswith("__")
        if func._schema.is_mutable and not (in_place and self._is_alone(args[0])):
            raise UntraceableError(f"step uses {func}, which writes into a given tensor")
        counter = self._known.get(id(args[0])) if args and isinstance(args[0], Tensor) else None
        if counter is not None and isinstance(counter[1], Counter):
            added = args[1] if len(args) == 2 else None
            if name != "add" or options or not isinstance(added, int):
                raise UntraceableError(f"step uses {func} on whole numbers of the state")
            result = func(*args)
            old = counter[1]
            self._known[id(result)] = result, Counter(old.field, old.added + added)
            return result
        found = self._symbols(name.rstrip("_") if in_place else name, func, args, options)
        result = func(*args, **options)
        if isinstance(result, list | tuple):
            for tensor, symbol in zip(result, found, strict=False):
                self._learn(tensor, symbol, func)
            return result
        return self._learn(result, found, func)

    def _is_alone(self, tensor: Tensor) -> bool:
        """True if a tensor is a result of the step whose memory no other known tensor shares."""
        memory = tensor.untyped_storage()._cdata
        sharing = [t for t, _ in self._known.values() if t.untyped_storage()._cdata == memory]
        return id(tensor) not in self._given and len(sharing) == 1

    def _learn(self, tensor: Tensor, symbol: Symbol, func: Any) -> Tensor:
        if tensor.dtype not in (self.dtype, torch.bool):
            raise UntraceableError(
                f"step uses {func} to compute in {tensor.dtype}",
                fix=f"The run computes in {self.dtype}.",
            )
        if symbol.shape(self.batch) != tuple(tensor.shape):
            raise UntraceableError(f"step uses {func} in a form that is not in the list")
        self._known[id(tensor)] = tensor, symbol
        return tensor

    def _symbols(self, name: str, func: Any, args: Any, options: Any) -> Any:
        """Return the symbol of an operation's result, or a list of them."""
        if name in RULES:
            operands = [self.symbol(a) if isinstance(a, Tensor) else a for a in args]
            if any(isinstance(v, Tensor) for v in options.values()):
                raise UntraceableError(f"step uses {func} with a tensor as an option")
            several = {"log_sigmoid_forward": 2}.get(name, 1)
            return self.map(name, *operands, results=several, **options)
        if name in VIEWS:
            return VIEWS[name](self.symbol(args[0]), *args[1:], **_without_memory(options))
        if name in SHAPED:
            return SHAPED[name](self.symbol(args[0]), self.batch, args[1])
        if name in ("cat", "stack"):
            join = cat if name == "cat" else stack
            return join([self.symbol(t) for t in args[0]], *args[1:], **options)
        if name == "detach":
            symbol = self.symbol(args[0])
            sources = [self.vectors[int(v)] for v in np.unique(symbol.places // VECTOR)]
            if all(isinstance(s, Given) and s.source == "constant" for s in sources):
                return symbol
        if name in _FILLED:
            return self.constant(_FILLED[name](args, options), _shape_like(name, args))
        if name in self._of_rows:
            return self._of_rows[name](self, *args, **options)
        raise UntraceableError(
            f"step uses {func}, which is not in the native engine's list",
            fix="It may use linear maps, elementwise functions, and reductions over units.",
        )


_FILLED: dict[str, Callable[[Any, Any], float]] = {
    "zeros_like": lambda args, options: 0.0,
    "ones_like": lambda args, options: 1.0,
    "full_like": lambda args, options: float(args[1]),
    "new_zeros": lambda args, options: 0.0,
    "new_ones": lambda args, options: 1.0,
    "new_full": lambda args, options: float(args[2]),
}


def _shape_like(name: str, args: Any) -> Sequence[int]:
    return args[1] if name.startswith("new_") else tuple(args[0].shape)


def _without_memory(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "memory_format"}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
