"""A tape of the calls of torch in one forward, which are carried out again on other tensors."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class Ref(NamedTuple):
    """A tensor of a tape: number `out` of the results of call `op`; leaf `out` where `op` is -1."""

    op: int
    out: int


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Op:
    """One call of a function of torch.

    Attributes:
        function: the function.
        values: leaves of the arguments, with a Ref in place of each tensor.
        spec: structure of the arguments.
        changed: positions of the tensors that the call changed in place. They count as further
            results, behind the others.
        graph: If False, it ran without gradients.
    """

    function: Callable[..., Any]
    values: tuple[Any, ...]
    spec: Any
    changed: tuple[int, ...]
    graph: bool

    @property
    def name(self) -> str:
        """Name of the function."""
        return getattr(self.function, "__name__", "")

    def refs(self) -> list[Ref]:
        """List the tensors among the arguments."""
        return [value for value in self.values if isinstance(value, Ref)]

    def run(self, values: Sequence[Any]) -> list[Tensor]:
        """Call the function again; what it changes in place is a copy.

        Arguments:
            values: leaves of the arguments.
        """
        given = list(values)
        for k in self.changed:
            given[k] = given[k].clone()
        arguments, options = pytree.tree_unflatten(given, self.spec)
        with torch.set_grad_enabled(self.graph and torch.is_grad_enabled()):
            result = self.function(*arguments, **options)
        return [*_tensors(result), *(given[k] for k in self.changed)]


@final
class Tape(TorchFunctionMode):
    """Records the calls within its block; a user's autograd function is one call.

    Attributes:
        ops: calls with a tensor among their results, in order.
        leaves: tensors that no call has made.
        forms: shape and dtype of each tensor.
        reads_values: If True, Python got values of tensors, which it may have acted on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.leaves: list[Tensor] = []
        self.forms: dict[Ref, tuple[torch.Size, torch.dtype]] = {}
        self.reads_values = False
        self._refs: dict[int, Ref] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice
        self._within = False  # an autograd function, whose calls have no graph of their own
        self._usual: Any = None

    def __enter__(self) -> Self:
        """Begin to record."""
        tape, self._usual = self, torch.autograd.Function.__dict__["apply"]
        usual = self._usual.__func__

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            function = types.MethodType(usual, cls)
            if tape._within:
                return function(*args, **kwargs)
            tape._within = True
            try:
                return tape._recorded(function, args, kwargs)
            finally:
                tape._within = False

        setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """End the recording."""
        setattr(torch.autograd.Function, "apply", self._usual)  # noqa: B010
        super().__exit__(*error)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function, and record it."""
        options = dict(kwargs or {})
        if self._within:
            return func(*args, **options)
        return self._recorded(func, args, options)

    def _recorded(
        self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        leaves, spec = pytree.tree_flatten((args, options))
        before = {
            k: leaf._version
            for k, leaf in enumerate(leaves)
            if isinstance(leaf, Tensor) and not leaf.is_inference()
        }
        graph = torch.is_grad_enabled()
        result = func(*args, **options)
        changed = tuple(k for k, version in before.items() if leaves[k]._version != version)
        results = _tensors(result)
        if getattr(func, "__name__", "") in _READERS:
            self.reads_values = True
        if results or changed:
            values = tuple(self.ref(x) if isinstance(x, Tensor) else x for x in leaves)
            given = {id(leaf) for leaf in leaves if isinstance(leaf, Tensor)}
            for out, tensor in enumerate(results):
                if id(tensor) not in given:  # else it is the argument, as it was
                    self._remember(tensor, Ref(len(self.ops), out))
            for out, k in enumerate(changed, len(results)):
                self._remember(leaves[k], Ref(len(self.ops), out))
            self.ops.append(Op(func, values, spec, changed, graph))
        return result

    def ref(self, tensor: Tensor) -> Ref:
        """Return the place of a tensor; one that no call has made becomes a leaf."""
        if id(tensor) not in self._refs:
            self._remember(tensor, Ref(-1, len(self.leaves)))
            self.leaves.append(tensor)
        return self._refs[id(tensor)]

    def _remember(self, tensor: Tensor, ref: Ref) -> None:
        self._refs[id(tensor)] = ref
        self.forms[ref] = tensor.shape, tensor.dtype
        self._alive.append(tensor)


_READERS = {
    *("item", "tolist", "numpy", "equal", "allclose", "is_nonzero"),
    *("__bool__", "__int__", "__float__", "__index__", "__contains__"),
}


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
