"""A trial of a finished plan against the cell itself, on random numbers, before it is used.

A trace records operations; a trial compares values. It finds a function that mixes units or
sequences in a way that looked elementwise, or that read a value which is not in the program.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.cell import bind
from throughtime.core.gated import GatedCell
from throughtime.core.state import State, state_type
from throughtime.engines.trace.program import Key, Program, UntraceableError, evaluate
from throughtime.engines.trace.tracing import unit_tensors

_BATCHES = (3, 1)
_DRAWS = 2  # a number may lie at a jump, where the last bit decides; two hardly will
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}


def check_plan(plan: Any, cell: GatedCell, dtype: torch.dtype) -> None:
    """Run a step both ways, forwards and backwards.

    Raises:
        UntraceableError: The results differ.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    for batch in _BATCHES:
        try:
            agree = any(_Trial(plan, cell, dtype, batch, generator).agrees() for _ in range(_DRAWS))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            said = f"{type(error).__name__}: {error}"
            raise UntraceableError(
                f"pointwise does not run on {batch} sequences ({said})"
            ) from error
        if not agree:
            raise UntraceableError(
                "pointwise gives other results, or gradients, than its operations one by one: it "
                "mixes units or sequences, or reads something beside its arguments and the cell's "
                "unit parameters"
            )


@final
class _Trial:
    """One step on one draw of numbers."""

    def __init__(
        self,
        plan: Any,
        cell: GatedCell,
        dtype: torch.dtype,
        batch: int,
        generator: torch.Generator,
    ):
        whole = (batch, cell.hidden_size)

        def draw(shape: Sequence[int], scale: float = 1.0) -> Tensor:
            numbers = torch.randn(
                tuple(shape), generator=generator, dtype=torch.float64, device="cpu"
            )
            return (scale * numbers).to(dtype)

        def leaf(shape: Sequence[int]) -> Tensor:
            return draw(shape).requires_grad_()

        self.plan, self.dtype = plan, dtype
        self.x = tuple(leaf(whole) for _ in range(plan.gates))
        past = plan.gates if plan.lags else 0
        self.u = tuple(leaf(whole) for _ in range(past))
        self.state, self.streams = _read(cell, leaf, whole, dtype, generator)
        self.cotangents = [draw(whole, 3.0) for _ in ("h", *plan.memories)]
        trained = {name for name, _ in cell.named_parameters(remove_duplicate=False)}
        self.units = {
            name: draw(tensor.shape).abs().add(0.1).requires_grad_(name in trained)
            for name, tensor in unit_tensors(cell).items()
        }
        tensors = [
            *cell.named_parameters(remove_duplicate=False),
            *cell.named_buffers(remove_duplicate=False),
        ]
        others = {n: draw(t.shape) for n, t in tensors if t.is_floating_point()}
        self.cell = bind(cell, {**others, **self.units})

    def agrees(self) -> bool:
        """True if the plan and the cell give the same."""
        wanted = self._in_torch()
        forward = evaluate(self.plan.forward, self._forward_value, self.state.h)
        count = 1 + len(self.plan.memories)
        self.results, self.saved = forward[:count], forward[count:]
        found = self._by_plan()
        pairs = [*zip(self.results, self.expected, strict=True)]
        pairs += [(found.get(name, torch.zeros_like(g)), g) for name, g in wanted.items()]
        return all(self._same(got.detach(), right.detach()) for got, right in pairs)

    def _sources(self) -> dict[str, Tensor]:
        """All that has a gradient, by name."""
        sources = {f"x {k}": x for k, x in enumerate(self.x)}
        sources |= {f"u {k}": u for k, u in enumerate(self.u)}
        sources |= {name: getattr(self.state, name) for name in ("h", *self.plan.memories)}
        sources |= {f"past {d}": h for d, h in enumerate(getattr(self.state, "past", ()), 2)}
        return sources | {n: t for n, t in self.units.items() if t.requires_grad}

    def _in_torch(self) -> dict[str, Tensor]:
        """The gradients of all sources as torch gives them."""
        own = (self.streams,) if self.streams else ()
        found = self.cell.pointwise(self.x, self.u, self.state, *own)
        results = list(found) if isinstance(found, tuple) else [found]
        self.expected = [r.expand(self.state.h.shape) for r in results]
        pairs = [
            (r, c) for r, c in zip(self.expected, self.cotangents, strict=True) if r.requires_grad
        ]
        sources = self._sources()
        if not pairs:
            return {name: torch.zeros_like(t) for name, t in sources.items()}
        gradients = torch.autograd.grad(
            [r for r, _ in pairs],
            list(sources.values()),
            [c for _, c in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(sources, gradients, strict=True))

    def _by_plan(self) -> dict[str, Tensor]:
        """The same by the plan; what is not in it is zero."""
        plan, whole = self.plan, self.state.h.shape
        values = iter(evaluate(plan.backward, self._backward_value, self.state.h))
        found: dict[str, Tensor] = {}
        for a in plan.accumulators:
            gradient = next(values).expand(whole)
            found |= {f"x {a.gate}": gradient} if a.of_input else {}
            found |= {f"u {a.gate}": gradient} if a.of_past else {}
        names = [*plan.memories, *(["h"] if plan.reads_h else [])]
        for name in [*names, *(f"past {d}" for d in plan.pasts)]:
            found[name] = next(values).expand(whole)
        for name, row in plan.parameter_gradients:
            unit = self.units[name]
            gradient = next(values).expand(whole).sum(0)
            if unit.shape[-1:] != gradient.shape:  # one number for all units
                gradient = gradient.sum().view(unit.shape[-1:])
            total = found.setdefault(name, torch.zeros_like(unit, requires_grad=False))
            (total[row] if unit.dim() == 2 else total).copy_(gradient.detach())
        return found

    def _same(self, got: Tensor, wanted: Tensor) -> bool:
        size = float(wanted.abs().nan_to_num(0, 0, 0).max()) if wanted.numel() else 0.0
        tolerance = _TOLERANCE[self.dtype]
        return torch.allclose(got, wanted, tolerance, tolerance * max(size, 1.0), equal_nan=True)

    def _forward_value(self, key: Key) -> Tensor:
        if key.kind == "gate":
            a = self.plan.accumulators[key.index]
            if a.of_input and a.of_past:
                return self.x[a.gate] + self.u[a.gate]
            return (self.x if a.of_input else self.u)[a.gate]
        if key.kind == "state":
            return getattr(self.state, key.name)
        if key.kind == "past":
            return self.state.past[key.index - 2]
        if key.kind == "stream":
            return self.streams[key.index].to(self.dtype)
        assert key.kind == "parameter", f"no such input: {key}"
        tensor = self.units[key.name]
        return tensor[key.index] if tensor.dim() == 2 else tensor

    def _backward_value(self, key: Key) -> Tensor:
        if key.kind == "saved":
            return self.saved[key.index]
        names = ("h", *self.plan.memories)
        if key.kind == "result":
            return self.results[names.index(key.name)]
        if key.kind == "present":
            return torch.ones_like(self.state.h, requires_grad=False)
        if key.kind == "cotangent":
            return self.cotangents[names.index(key.name)]
        return self._forward_value(key)


def _read(
    cell: GatedCell,
    leaf: Callable[[Sequence[int]], Tensor],
    whole: tuple[int, int],
    dtype: torch.dtype,
    generator: torch.Generator,
) -> tuple[State, tuple[Tensor, ...]]:
    """A state, and streams of one step."""
    fields: dict[str, Any] = {name: leaf(whole) for name in ("h", *cell.memories)}
    depth = max(cell.lags, default=1)
    if depth > 1:
        fields["past"] = tuple(leaf(whole) for _ in range(depth - 1))
    streams = ()
    if cell.streams:
        steps = torch.arange(whole[0], device="cpu")
        fields["steps"] = steps
        drawn = cell.draw_streams(steps[None], training=True, dtype=dtype, generator=generator)
        streams = tuple(stream[0] for stream in drawn)
    return state_type(*fields)(**fields), streams


_POINTS = 256


def is_derived(
    forward: Program, backward: Program, names: Sequence[str], sources: Sequence[Key]
) -> bool:
    """True if the gradient of one program agrees with another program at some points.

    If not, second derivatives cannot be taken of the program. The tracer notes detached values and
    functions with a `backward` of their own. This finds a function and a gradient that were written
    in ways that do not agree.

    Arguments:
        forward: A program that yields the results, then the saved values.
        backward: A program that yields gradients.
        sources: The inputs whose gradients `backward` yields.
    """
    given: dict[Key, Tensor] = {}

    def leaf(key: Key) -> Tensor:
        if key not in given:
            steps = torch.arange(_POINTS, dtype=torch.float64, device="cpu")
            points = 3 * torch.sin((1 + 0.37 * len(given)) * (steps + 1))
            given[key] = points.requires_grad_(key.kind not in ("stream", "cotangent"))
        return given[key]

    found = evaluate(forward, leaf)
    results, saved = dict(zip(names, found, strict=False)), found[len(names) :]
    cotangents = {name: leaf(Key("cotangent", name)) for name in names}
    loss = torch.stack([(results[n] * cotangents[n]).sum() for n in names]).sum()
    leaves = [leaf(key) for key in sources]
    expected: Sequence[Tensor | None] = [None] * len(leaves)
    if loss.requires_grad:
        expected = torch.autograd.grad(loss, leaves, allow_unused=True)
    actual = evaluate(backward, _late(leaf, results, saved))
    clear = torch.stack([results[name].isfinite().expand(_POINTS) for name in names]).all(0)
    return all(
        _agree(a.double(), torch.zeros_like(a).double() if e is None else e, clear)
        for a, e in zip(actual, expected, strict=True)
    )


def _late(
    leaf: Callable[[Key], Tensor], results: dict[str, Tensor], saved: Sequence[Tensor]
) -> Callable[[Key], Tensor]:
    """The inputs of a backward program."""

    def value(key: Key) -> Tensor:
        if key.kind == "result":
            return results[key.name].detach()
        return saved[key.index].detach() if key.kind == "saved" else leaf(key).detach()

    return value


def _agree(actual: Tensor, expected: Tensor, where: Tensor) -> bool:
    """True if two gradients agree at the points where both are finite.

    The points that overflow depend on the order of operations. The last digits may differ, because
    torch rounds some constants to single precision.
    """
    actual, expected = actual.expand(_POINTS), expected.expand(_POINTS)
    finite = where & actual.isfinite() & expected.isfinite()
    actual, expected = actual[finite], expected[finite]
    size = float(expected.detach().abs().max()) if expected.numel() else 0.0
    return torch.allclose(actual, expected, rtol=1e-5, atol=1e-6 * max(size, 1.0))
