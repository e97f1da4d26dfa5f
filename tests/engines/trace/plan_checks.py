"""One step of a cell by its plan, and the same step in torch: what plans are checked against."""

import dataclasses

import torch
from torch import Tensor

import throughtime as tt
from throughtime.core.cell import bind
from throughtime.core.state import State, state_tensors, state_type
from throughtime.engines.trace.program import Key, evaluate
from throughtime.engines.trace.step_plan import StepPlan
from throughtime.engines.trace.tracing import unit_tensors


@dataclasses.dataclass
class Step:
    """What a step reads, and the gradients of its results."""

    cell: tt.GatedCell
    x: tuple[Tensor, ...]
    u: tuple[Tensor, ...]
    state: State
    streams: tuple[Tensor, ...]
    tensors: dict[str, Tensor]
    cotangents: tuple[Tensor, ...]


def random_step(
    cell: tt.GatedCell, batch: int = 3, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> Step:
    """A step on normally distributed numbers."""

    def draw(*shape: int) -> Tensor:
        return (torch.randn(shape, dtype=dtype) * scale).requires_grad_()

    gates, whole = len(cell.gate_names), (batch, cell.hidden_size)
    fields = {name: draw(*whole) for name in ("h", *cell.memories)}
    depth = max(cell.lags, default=1)
    if depth > 1:
        fields["past"] = tuple(draw(*whole) for _ in range(depth - 1))
    streams = ()
    if cell.streams:
        steps = torch.arange(batch)[None]
        fields["steps"] = steps[0]
        generator = torch.Generator().manual_seed(1)
        drawn = cell.draw_streams(steps, training=True, dtype=dtype, generator=generator)
        streams = tuple(stream[0] for stream in drawn)
    return Step(
        cell,
        tuple(draw(*whole) for _ in range(gates)),
        tuple(draw(*whole) for _ in range(gates)) if cell.lags else (),
        state_type(*fields)(**fields),
        streams,
        {
            name: tensor.detach().to(dtype).requires_grad_()
            for name, tensor in unit_tensors(cell).items()
        },
        tuple(draw(*whole).detach() for _ in ("h", *cell.memories)),
    )


def in_torch(step: Step) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Results of a step, and the gradients of all that it reads, by name."""
    own = (step.streams,) if step.streams else ()
    result = bind(step.cell, step.tensors).pointwise(step.x, step.u, step.state, *own)
    results = list(result) if isinstance(result, tuple) else [result]
    leaves = named(step)
    # something to differentiate, whatever the results depend on
    pairs = [(r, c) for r, c in zip(results, step.cotangents, strict=True) if r.requires_grad]
    if not pairs:
        return results, dict.fromkeys(leaves)
    found = torch.autograd.grad(
        [r for r, _ in pairs], list(leaves.values()), [c for _, c in pairs], allow_unused=True
    )
    return results, dict(zip(leaves, found, strict=True))


def named(step: Step) -> dict[str, Tensor]:
    """All that has a gradient."""
    leaves = {f"x{i}": t for i, t in enumerate(step.x)}
    leaves |= {f"u{i}": t for i, t in enumerate(step.u)}
    for name, value in step.state._asdict().items():
        found = [t for t in state_tensors(value) if t.requires_grad]
        leaves |= {f"{name}{i}": t for i, t in enumerate(found)}
    buffers = {name for name, _ in step.cell.named_buffers()}
    return leaves | {name: t for name, t in step.tensors.items() if name not in buffers}


def by_plan(plan: StepPlan, step: Step) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The same from a plan's forward and backward programs."""
    whole, memories = step.state.h.shape, len(plan.memories)

    def known(key: Key) -> Tensor:
        match key.kind:
            case "gate":
                accumulator = plan.accumulators[key.index]
                x = step.x[accumulator.gate] if accumulator.of_input else None
                u = step.u[accumulator.gate] if accumulator.of_past else None
                return x + u if x is not None and u is not None else x if u is None else u
            case "state":
                return getattr(step.state, key.name)
            case "past":
                assert key.index in plan.pasts
                return step.state.past[key.index - 2]
            case "stream":
                return step.streams[key.index].to(step.state.h.dtype)
            case "parameter":
                assert (key.name, key.index) in plan.parameters
                tensor = step.tensors[key.name]
                return (tensor[key.index] if tensor.dim() == 2 else tensor).expand(whole[1])
        raise AssertionError(f"a forward program reads {key}")

    results = [r.expand(whole) for r in evaluate(plan.forward, known, step.state.h)]
    names = ("h", *plan.memories)
    results, saved = results[: 1 + memories], results[1 + memories :]
    for result, again in zip(results, evaluate(plan.inference, known, step.state.h), strict=True):
        torch.testing.assert_close(result, again.expand(whole), rtol=0, atol=0, equal_nan=True)

    def late(key: Key) -> Tensor:
        match key.kind:
            case "saved":
                return saved[key.index]
            case "result":
                return results[names.index(key.name)]
            case "present":
                return torch.ones_like(step.state.h)
            case "cotangent":
                return step.cotangents[names.index(key.name)]
            case "gate":
                raise AssertionError("a backward program reads a gate that was not saved")
        return known(key)

    found = [g.expand(whole) for g in evaluate(plan.backward, late, step.state.h)]
    return results, gradients(plan, step, found)


def gradients(plan: StepPlan, step: Step, found: list[Tensor]) -> dict[str, Tensor]:
    """What the outputs of a backward program are the gradients of; zero for all else."""
    rest = iter(found)
    named_ones = {name: torch.zeros_like(t) for name, t in named(step).items()}
    for accumulator in plan.accumulators:
        gradient = next(rest)
        if accumulator.of_input:
            named_ones[f"x{accumulator.gate}"] = gradient
        if accumulator.of_past:
            named_ones[f"u{accumulator.gate}"] = gradient
    for memory in plan.memories:
        named_ones[f"{memory}0"] = next(rest)
    if plan.reads_h:
        named_ones["h0"] = next(rest)
    for delay in plan.pasts:
        named_ones[f"past{delay - 2}"] = next(rest)
    for name, row in plan.parameter_gradients:
        whole = named_ones[name]
        gradient = next(rest).sum(0)
        place = whole[row] if whole.dim() == 2 else whole
        place += gradient.sum_to_size(place.shape)
    assert next(rest, None) is None
    return named_ones


def assert_plan_is_right(plan: StepPlan, step: Step, rtol: float = 1e-10) -> None:
    """The plan of a step's cell yields what torch does; gradients where its results are finite.

    Elsewhere torch itself yields this or that: its vector code and its scalar code differ on nan.
    """
    results, expected = in_torch(step)
    planned, actual = by_plan(plan, step)
    for name, result, again in zip(("h", *plan.memories), results, planned, strict=True):
        assert_equal(again, result, name, rtol)
    finite = torch.stack([r.isfinite() for r in results]).all(0)
    for name, gradient in expected.items():
        mine = actual[name]
        theirs = torch.zeros_like(mine) if gradient is None else gradient
        if mine.shape == finite.shape:
            mine, theirs = mine[finite], theirs[finite]
        elif not finite.all():
            continue
        assert_equal(mine, theirs, f"d {name}", rtol)


def assert_equal(actual: Tensor, expected: Tensor, name: str, rtol: float) -> None:
    """Equal within rounding of 1, or of the largest finite value; nan is nan, and inf is inf."""
    finite = expected.detach()[expected.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    torch.testing.assert_close(
        actual,
        expected,
        rtol=rtol,
        atol=rtol * max(size, 1.0),
        equal_nan=True,
        msg=lambda m: f"{name}: {m}",
    )
