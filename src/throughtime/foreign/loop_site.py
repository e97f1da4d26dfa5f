"""Modules whose forward holds the loop of a recurrence, run by steps with an engine of ours."""

import contextlib
import dataclasses
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, state_tensors, state_type
from throughtime.engines import Engine, Place, Request, Result, unroll
from throughtime.foreign.loops import Loop, Spot, find_loops
from throughtime.foreign.site import Site
from throughtime.foreign.tape import Op, Ref, Tape
from throughtime.foreign.unchanged import random_states_kept

_WITH_LOOPS: dict[type[nn.Module], int] = {}
_PLANS: dict[Any, "_Plan"] = {}  # of copies of the same modules


@contextlib.contextmanager
def looped(kinds: Mapping[type[nn.Module], int]) -> Iterator[None]:
    """Within the block, modules of these classes are known as loops.

    Arguments:
        kinds: number of loops in the forward of each class.
    """
    before = dict(_WITH_LOOPS)
    _WITH_LOOPS.update(kinds)
    try:
        yield
    finally:
        _WITH_LOOPS.clear()
        _WITH_LOOPS.update(before)
        _PLANS.clear()


def is_looped(module: nn.Module) -> bool:
    """Return whether a module's forward is known to hold a loop."""
    return type(module) in _WITH_LOOPS


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """One forward, to be carried out on other tensors.

    Attributes:
        ops: its calls.
        loops: its loops, in order; those behind the first run over the results of the one before.
        forms: shape and dtype of each of its tensors.
        sources: origin of each leaf: the number of an argument, the name of a parameter or buffer,
            or the tensor itself.
        leaves: leaves of the result, with a Ref in place of each tensor.
        spec: structure of the result.
    """

    ops: tuple[Op, ...]
    loops: tuple[Loop, ...]
    forms: dict[Ref, tuple[torch.Size, torch.dtype]]
    sources: tuple[int | str | Tensor, ...]
    leaves: tuple[Any, ...]
    spec: Any

    def shape(self, loop: Loop, spot: Spot) -> torch.Size:
        """Return the shape of a step's tensor."""
        return self.forms[loop.at(1, spot)][0]


@final
class LoopSite(Site):
    """A module whose forward runs over all steps: its loop is found, and makes one request.

    Arguments:
        module: a module of a class that is known as a loop.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.levels = _WITH_LOOPS[type(module)]
        self._kind = (type(module), self.levels, *_described(module))

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Carry out the calls before the loop, the loop by the engine, and the calls behind it.

        Raises:
            ConfigurationError: no loop is found whose steps are alike and carry a state.
        """
        given, spec = pytree.tree_flatten((arguments, options))
        key = (self._kind, spec, *map(_form, given), torch.is_grad_enabled())
        key = (*key, *(part.training for part in self.module.modules()))
        plan = _PLANS.get(key)
        if plan is None:
            plan, lasting = self._traced(given, spec)
            if lasting:
                _PLANS[key] = plan
        return self._carried_out(plan, given, engine.run)

    def _traced(self, given: list[Any], spec: Any) -> tuple[_Plan, bool]:
        """Return a plan of the forward, and whether it holds for other values of its tensors."""
        module = self.module
        arguments, options = pytree.tree_unflatten(given, spec)
        with random_states_kept(), Tape() as tape:
            result = type(module).forward(module, *arguments, **options)
        leaves, result_spec = pytree.tree_flatten(result)
        found = tuple(tape.ref(x) if isinstance(x, Tensor) else x for x in leaves)
        loops = find_loops(tape, [x for x in found if isinstance(x, Ref)])
        if len(loops) != self.levels:
            raise LoopsError(type(module).__name__, len(loops), self.levels)
        named: dict[int, int | str] = {
            id(tensor): name
            for name, tensor in (
                *module.named_parameters(remove_duplicate=False),
                *module.named_buffers(remove_duplicate=False),
            )
        }
        named |= {id(x): k for k, x in enumerate(given) if isinstance(x, Tensor)}
        sources = tuple(named.get(id(leaf), leaf) for leaf in tape.leaves)
        others = [source for source in sources if isinstance(source, Tensor)]
        plan = _Plan(tuple(tape.ops), loops, tape.forms, sources, found, result_spec)
        if not module.training:
            with torch.no_grad(), random_states_kept():
                again = pytree.tree_leaves(self._carried_out(plan, given, unroll))
            if not all(map(_same, again, leaves)):
                raise LoopsError(type(module).__name__, 0, self.levels)
        lasting = not others and not tape.reads_values
        if lasting:  # the plan reads nothing that the module keeps, and does not renew it
            _without_graph(module)
        return plan, lasting

    def _carried_out(self, plan: _Plan, given: list[Any], run: Callable[[Request], Result]) -> Any:
        tensors: dict[Ref, Tensor] = {}
        own = dict(self.module.named_parameters(remove_duplicate=False))
        own |= dict(self.module.named_buffers(remove_duplicate=False))
        for k, source in enumerate(plan.sources):
            tensor = source if isinstance(source, Tensor) else None
            if tensor is None:
                tensor = own[source] if isinstance(source, str) else given[source]
            tensors[Ref(-1, k)] = tensor

        def carry_out(numbers: Iterable[int]) -> None:
            for number in numbers:
                op = plan.ops[number]
                values = [tensors[x] if isinstance(x, Ref) else x for x in op.values]
                for out, tensor in enumerate(op.run(values)):
                    tensors[Ref(number, out)] = tensor

        begin = 0
        for level, loop in enumerate(plan.loops):
            carry_out(range(begin, loop.start))
            carry_out(loop.early_ops())
            cell, request = _request(plan, loop, tensors)
            result = run(dataclasses.replace(request, place=Place(0, level, 0)))
            ENDS[self.module] = result.state.h
            for spot, part in zip(loop.exports, cell.parts(result.outputs), strict=True):
                for t, row in enumerate(part.unbind(0)):
                    tensors[loop.at(t, spot)] = row.reshape(plan.shape(loop, spot))
            for spot, end in zip(loop.states, state_tensors(result.state), strict=True):
                if spot not in loop.exports:
                    last = loop.at(loop.steps - 1, spot)
                    tensors[last] = end.reshape(plan.shape(loop, spot))
            carry_out(loop.late_ops())
            begin = loop.end
        carry_out(range(begin, len(plan.ops)))
        leaves = [tensors[x] if isinstance(x, Ref) else x for x in plan.leaves]
        return pytree.tree_unflatten(leaves, plan.spec)


@final
class LoopsError(ConfigurationError):
    """The forward holds other loops than were known.

    Arguments:
        name: class of the module.
        found: number of its loops over time whose steps are alike and carry a state.
        expected: the number that was known.
    """

    def __init__(self, name: str, found: int, expected: int):
        super().__init__(
            f"forward of {name}",
            got=f"{found} loops over time whose steps are alike and carry a state",
            expected=str(expected),
            fix="Move one step into a module of its own, forward(x, state) -> state: it is found "
            "where the loop calls it.",
        )
        self.found = found


def _request(plan: _Plan, loop: Loop, tensors: dict[Ref, Tensor]) -> tuple["LoopCell", Request]:
    batch, dtype = plan.shape(loop, loop.states[0])[0], plan.forms[loop.at(1, loop.states[0])][1]
    cell = LoopCell(plan, loop, tensors, batch)
    rows = [torch.stack([_row(tensors[ref], batch, dtype) for ref in refs]) for refs in loop.given]
    initial = [
        tensors[ref]
        .to(plan.forms[loop.at(1, spot)][1])
        .expand(plan.shape(loop, spot))
        .reshape(batch, -1)
        for spot, ref in zip(loop.states, loop.initial, strict=True)
    ]
    alike = (bool((x == x[:1]).all()) for x in initial)
    cell.rows = tuple(
        x[:1].detach() if same else torch.zeros_like(x[:1])
        for x, same in zip(initial, alike, strict=True)
    )
    return cell, Request(cell, torch.cat(rows, -1), cell.kind(*initial))


ENDS: weakref.WeakKeyDictionary[nn.Module, Tensor] = weakref.WeakKeyDictionary()
"""h behind the last step of the last call of each module, with its graph."""


def _described(module: nn.Module) -> Iterator[str]:
    """Yield all that a forward may depend on, but for the values of tensors, in words."""
    usual = vars(nn.Module()).keys()
    for name, part in module.named_modules():
        yield f"{name}: {type(part)}"
        for attribute, value in vars(part).items():
            if attribute not in usual and not isinstance(value, Tensor):
                yield f"{attribute} = {value!r}"
        for attribute, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                yield f"{attribute}: {tensor.shape} {tensor.dtype} {tensor.device}"


def _without_graph(module: nn.Module) -> None:
    """Detach what a module keeps in attributes, as the state of its last step."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if not name.startswith("_"):
                vars(part)[name] = pytree.tree_map_only(
                    Tensor, lambda x: x.detach() if x.grad_fn is not None else x, value
                )


def _form(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not one.is_floating_point():
        return True
    tolerance = torch.finfo(one.dtype).eps ** 0.5
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _row(tensor: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor of a step as (batch, width): what is no sample's own is the same for all."""
    if tensor.shape[:1] == (batch,):
        return tensor.reshape(batch, -1).to(dtype)
    return tensor.reshape(1, -1).expand(batch, -1).to(dtype)


@final
class LoopCell(Cell):
    """One step of a loop that was found, on the tensors of its module.

    Arguments:
        plan: the forward that holds the loop.
        loop: the loop.
        tensors: all tensors from before the loop.
        batch: number of sequences.
    """

    def __init__(self, plan: _Plan, loop: Loop, tensors: dict[Ref, Tensor], batch: int):
        super().__init__()
        self.loop, self.batch = loop, batch
        self.rows: tuple[Tensor, ...] = ()
        self.names: dict[Ref, str] = {}
        for ref in loop.constants:
            tensor, source = tensors[ref], plan.sources[ref.out] if ref.op < 0 else ""
            name = f"{source.replace('.', '_')}_{ref.out}" if isinstance(source, str) else ""
            self.names[ref] = name = name or f"constant_{ref.op}_{ref.out}"
            if isinstance(tensor, nn.Parameter):
                free = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
                vars(self)["_parameters"][name] = free
            else:
                vars(self)["_buffers"][name] = tensor
        self.taken = [plan.forms[refs[1]] for refs in loop.given]
        self.shapes = [plan.shape(loop, spot)[1:] for spot in loop.states]
        self.widths = [math.prod(plan.shape(loop, spot)[1:]) for spot in loop.exports]
        memories = (
            ("c",) if len(loop.states) == 2 else tuple(f"s{k}" for k in range(1, len(loop.states)))
        )
        self.kind = state_type("h", *memories)
        self.input_size = sum(map(self._width, self.taken))
        self.hidden_size = math.prod(self.shapes[0])
        self.output_size = sum(self.widths) or self.hidden_size

    def __deepcopy__(self, memo: Any) -> "LoopCell":
        cell = object.__new__(LoopCell)
        vars(cell).update(vars(self))
        for kind in ("_parameters", "_buffers"):
            own = vars(self)[kind]
            vars(cell)[kind] = {n: type(t)(t.detach().clone()) for n, t in own.items()}
        return cell

    def _width(self, form: tuple[torch.Size, torch.dtype]) -> int:
        shape = form[0][1:] if form[0][:1] == (self.batch,) else form[0]
        return math.prod(shape)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the state from which the loop starts; zeros where each sample has its own."""
        parts = [row.expand(batch_size, -1).clone() for row in self.rows]
        return self.kind(*(p.to(device, dtype) if p.is_floating_point() else p for p in parts))

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps input"]:
        """Return x itself."""
        return x

    def step(
        self, projected: Float[Tensor, "batch input"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Carry out the calls of one step."""
        loop, rows = self.loop, projected.shape[0]
        tensors: dict[Ref, Tensor] = {ref: getattr(self, n) for ref, n in self.names.items()}
        parts = projected.split([self._width(form) for form in self.taken], -1)
        for refs, part, (shape, dtype) in zip(loop.given, parts, self.taken, strict=True):
            own = shape[:1] == (self.batch,)
            value = part.reshape(rows, *shape[1:]) if own else part[0].reshape(shape)
            tensors[refs[1]] = value if dtype.is_floating_point else value.round().to(dtype)
        for spot, part, shape in zip(loop.states, state_tensors(state), self.shapes, strict=True):
            tensors[loop.at(0, spot)] = part.reshape(rows, *shape) if len(shape) != 1 else part
        start = loop.start + loop.size
        for j in loop.step:
            op = loop.ops[start + j]
            values = [tensors[x] if isinstance(x, Ref) else x for x in op.values]
            for out, tensor in enumerate(op.run(values)):
                tensors[Ref(start + j, out)] = tensor
        after = self.kind(*(_flat(tensors[loop.at(1, spot)]) for spot in loop.states))
        shown = [_flat(tensors[loop.at(1, spot)]) for spot in loop.exports]
        if not shown:
            return after.h, after
        if len(shown) == 1:  # one object with h, where it is h
            return (after.h if loop.exports[0] == loop.states[0] else shown[0]), after
        return torch.cat(shown, -1), after

    def parts(self, outputs: Float[Tensor, "time batch output"]) -> Sequence[Tensor]:
        """Return the part of each tensor that is read behind the loop."""
        return outputs.split(self.widths, -1) if self.widths else ()


def _flat(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() == 2 else tensor.reshape(tensor.shape[0], -1)
