"""A recorder of torch: every operation that runs is recorded as values of a program."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from throughtime.engines.trace import arrays
from throughtime.engines.trace.arrays import (
    REDUCTIONS,
    STRUCTURE,
    Array,
    BlockError,
    expanded,
    placed,
    reduced,
)
from throughtime.engines.trace.builder import Builder, Value, as_kind
from throughtime.engines.trace.formulas import RULES
from throughtime.engines.trace.program import UntraceableError

# With the value that they fill their result with, or the position of that argument.
_CREATED = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "_efficientzerotensor": 0.0}
_CREATED |= {"ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_CREATED |= dict.fromkeys(("empty", "empty_like", "new_empty", "empty_strided"), float("nan"))
_FILLED = {"full": 1, "full_like": 1, "new_full": 2, "scalar_tensor": 0}
_READ = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "allclose"}


@final
class Tracer(TorchDispatchMode):
    """A mode in which every operation of torch on known tensors is added to a program.

    Arguments:
        whole: The sizes (batch, hidden); no other axis has the size batch.
        name_of: A function that describes an unknown tensor in words.

    Attributes:
        of_gradient: True while gradients are computed.
        refused: The first refusal, which `pointwise` may have caught.
        detached: True if a value that gradients should reach was cut off from them.
    """

    def __init__(
        self,
        builder: Builder,
        dtype: torch.dtype,
        whole: tuple[int, int],
        name_of: Callable[[Tensor], str],
    ):
        super().__init__()
        self.builder, self.dtype, self.whole, self.name_of = builder, dtype, whole, name_of
        self.refused: UntraceableError | None = None
        self.of_gradient = self.detached = self._within = False
        self._varying: dict[int, bool] = {}
        # the tensors are held, so that no other takes the place of one that is known
        self._known: dict[int, tuple[Tensor, Array | str]] = {}
        self._given: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # in a thread of its own: no need to load the compiler, which takes 2 s

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Other threads may compile meanwhile."""
        return True

    def give(self, tensor: Tensor, array: Array | str) -> Tensor:
        """Make a tensor known from the start.

        Arguments:
            array: Its array, or the reason why it must not be read.
        """
        self._known[id(tensor)] = tensor, array
        self._given.add(id(tensor))
        if tensor.requires_grad and not isinstance(array, str):
            self._varying.update((value.position, True) for value in array.flat)
        return tensor

    def constant(self, value: float) -> Value:
        """A number as a value of the program."""
        return Value(self.builder, self.builder.constant(float(value)))

    def array(self, tensor: Tensor) -> Array:
        """The array of a tensor.

        Raises:
            UntraceableError: The tensor was not computed from known ones.
        """
        found = self._known.get(id(tensor))
        if found is None:
            raise self._refusal(self.name_of(tensor))
        if isinstance(found[1], str):
            raise self._refusal(found[1])
        return found[1]

    def value(self, tensor: Tensor) -> int:
        """The position of the only value that a tensor holds.

        Arguments:
            tensor: A tensor of shape (batch, hidden).

        Raises:
            UntraceableError: The tensor holds several values, or unknown ones.
        """
        array = self.array(tensor)
        if array.size != 1:
            raise self._refusal("pointwise returns gates in place of units")
        return as_kind("real", array.item()).position

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and record it."""
        kwargs = kwargs or {}
        try:
            return self._run(func, args, kwargs)
        except UntraceableError as error:
            self.refused = self.refused or error
            raise

    def _run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.partition("::")[2]
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise self._refusal(f"pointwise draws random numbers with {func}", _STREAMS)
        if name in _READ:
            raise self._refusal(
                f"pointwise reads the value of a tensor in Python ({func})", _BRANCH
            )
        in_place = name.endswith("_") and not name.endswith("__")
        if func._schema.is_mutable and not in_place:
            raise self._refusal(f"pointwise uses {func}, which writes into a given tensor")
        try:
            found = self._arrays(name.rstrip("_") if in_place else name, args, kwargs)
        except (BlockError, NotImplementedError, TypeError, ValueError):
            raise self._unknown(func) from None
        if found is None:
            return self._decomposed(func, args, kwargs)
        if name != "detach" and not (self.of_gradient or self._within):
            self.note_detached(_tensors(args))
        changed = self._changed(args[0], func) if in_place else []
        result = func(*args, **kwargs)
        for tensor in changed:
            self._learn(tensor, found, func)
        several = isinstance(result, list | tuple)
        tensors = list(result) if several else [result]
        for tensor, array in zip(tensors, found if several else [found], strict=True):
            self._learn(tensor, array[0] if isinstance(array, list) else array, func)
        return result

    def _arrays(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The arrays of the results, or None if there is no rule."""
        if name in RULES:
            operands = [self.array(a) if isinstance(a, Tensor) else a for a in args]
            options = {k: self.array(v) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
            if any(isinstance(v, np.ndarray) for v in options.values()):
                raise NotImplementedError
            results = arrays.elementwise(RULES[name], operands, options)
            return results if len(results) > 1 else results[0]
        if name in STRUCTURE:
            return STRUCTURE[name](self.array, *args, **kwargs)
        if name in ("select_backward", "slice_backward"):
            return placed(name, self.array, self.constant(0), *args)
        if name in REDUCTIONS:
            return reduced(name, self.array, self.of_gradient, *args, **kwargs)
        if name == "expand":
            return expanded(self.array, self.whole, *args)
        if name == "_to_copy":
            return self.array(args[0])
        if name in ("lift_fresh", "lift_fresh_copy"):
            return arrays.filled(self.constant(_number(args[0])), args[0].shape)
        if name in _CREATED:
            return arrays.filled(self.constant(_CREATED[name]))
        if name in _FILLED:
            return arrays.filled(self.constant(args[_FILLED[name]]))
        return None

    def _decomposed(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operation as the smaller ones that torch gives for it."""
        before, outer, self._within = self.refused, self._within, True
        try:
            with self:
                result = func.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
                # rare, and long to import
                from torch._decomp import decomposition_table

                if func in decomposition_table:
                    return decomposition_table[func](*args, **kwargs)
        except UntraceableError:
            self.refused = before
        finally:
            self._within = outer
        raise self._unknown(func)

    def note_detached(self, tensors: Iterable[Tensor]) -> None:
        """Note in `detached` if one of these lacks the gradient that it should have."""
        recording = torch.is_grad_enabled()
        for tensor in tensors:
            if tensor.is_floating_point() and not (tensor.requires_grad and recording):
                _, array = self._known.get(id(tensor), (tensor, ""))
                values = [] if isinstance(array, str) else array.flat
                self.detached |= any(self._varies(value.position) for value in values)

    def _varies(self, position: int) -> bool:
        """True if a value has a gradient in one that is given."""
        if position not in self._varying:
            node = self.builder.nodes[position]
            found = node.kind == "real" and any(self._varies(a) for a in node.arguments)
            self._varying[position] = found
        return self._varying[position]

    def _learn(self, tensor: Tensor, array: Array, func: Any) -> None:
        """Record the array of a result, with the kind of its dtype."""
        # a result may have more axes than its operands' arrays say, or one shared by all rows
        array = array.reshape((1,) * (tensor.dim() - array.ndim) + array.shape)
        if tensor.dtype in (self.dtype, torch.bool):
            kind = "mask" if tensor.dtype == torch.bool else "real"
            array = arrays.elementwise(lambda v: as_kind(kind, v), [array], {})[0]
        elif not all(v.constant is not None or v.kind == "mask" for v in array.flat):
            raise self._refusal(
                f"pointwise uses {func} to compute in {_word(tensor.dtype)}",
                f"The run computes in {_word(self.dtype)}.",
            )
        else:
            array = arrays.elementwise(lambda v: as_kind("real", v), [array], {})[0]
        self._known[id(tensor)] = tensor, array

    def _changed(self, tensor: Tensor, func: Any) -> list[Tensor]:
        """All known tensors that change with one, which must not be given ones or parts of it."""
        place = _place(tensor)
        shared = [t for t, _ in self._known.values() if _place(t)[0] == place[0]]
        if any(id(t) in self._given or _place(t) != place for t in shared):
            raise self._refusal(
                f"pointwise changes in place, with {func}, a tensor that it does not own alone"
            )
        return shared

    def _unknown(self, func: Any) -> UntraceableError:
        return self._refusal(
            f"pointwise uses {func}, which is not elementwise or not in the native engine's list",
            _ELEMENTWISE,
        )

    def _refusal(self, message: str, fix: str = "") -> UntraceableError:
        return UntraceableError(message, fix=fix)


_BRANCH = "It must not branch on values; use torch.where."
_STREAMS = "What is random comes by the cell's streams."
_ELEMENTWISE = "It must be elementwise over units and sequences, and not branch on values."


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """The memory that a tensor lies in, and where."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride()


def _number(tensor: Tensor) -> float:
    if tensor.numel() != 1:
        raise NotImplementedError
    return float(tensor.item())


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
