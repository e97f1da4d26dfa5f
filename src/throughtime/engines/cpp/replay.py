"""A plan run step by step in torch: for second derivatives."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from throughtime.core.errors import EngineRefusalError
from throughtime.engines.cpp.operands import Operands, split, spread
from throughtime.engines.trace.program import Key, evaluate
from throughtime.engines.trace.step_plan import StepPlan


def second_gradients(
    plan: StepPlan,
    given: Sequence[bool],
    needed: Sequence[bool],
    above: Sequence[Tensor],
    operands: Sequence[Tensor],
    lengths: Tensor | None,
    ages: Tensor | None,
    cotangents: Sequence[Tensor | None],
) -> Sequence[Tensor | None]:
    """Differentiate the gradients of a run.

    Arguments:
        given: True for each result of the run that has a gradient.
        needed: True for each operand but the streams whose gradient was computed.
        above: The gradients of the results that have one.
        lengths: (batch,) steps of each sequence.
        ages: (time, batch) steps since the last reset.
        cotangents: The gradients of the gradients.

    Returns:
        The gradients of `above`, then of the operands.

    Raises:
        EngineRefusalError: The plan's backward pass is not the derivative of its operations.
    """
    create_graph = torch.is_grad_enabled()
    if not plan.derived:
        raise EngineRefusalError(
            "second derivatives by the native engine",
            got="a pointwise whose gradient is not what its operations give (detach, no_grad, an "
            "autograd.Function)",
            fix="Use engine='eager'.",
        )
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        leaves, above = [_leaf(t) for t in operands], [_leaf(t) for t in above]
        results = replay(plan, leaves, lengths, ages)
        wanted = [leaf for leaf, wants in zip(leaves, needed, strict=False) if wants]
        present = [r for r, there in zip(results, given, strict=True) if there]
        pairs = [(r, a) for r, a in zip(present, above, strict=True) if r.requires_grad]
        first = torch.autograd.grad(
            [r for r, _ in pairs],
            wanted,
            [a for _, a in pairs],
            create_graph=True,
            allow_unused=True,
        )
        chosen = [
            (f, c)
            for f, c in zip(spread(first, needed), cotangents, strict=True)
            if f is not None and c is not None and f.requires_grad
        ]
        second = torch.autograd.grad(
            [f for f, _ in chosen],
            [*leaves, *above],
            [c for _, c in chosen],
            create_graph=create_graph,
            allow_unused=True,
        )
    return [*second[len(leaves) :], *second[: len(leaves)]]


def _leaf(tensor: Tensor) -> Tensor:
    """Return an alias to differentiate by, with no history before it."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


def replay(
    plan: StepPlan, operands: Sequence[Tensor], lengths: Tensor | None, ages: Tensor | None
) -> list[Tensor]:
    """Return the results of a run that have gradients.

    Arguments:
        operands: The operands, in the order of `Operands`.
        lengths: (batch,) steps of each sequence.
        ages: (time, batch) steps since the last reset.

    Returns:
        The final state as `Operands.initial`, the outputs (time, batch, hidden), and each memory's
        history; zeros beyond a sequence's length.
    """
    tensors = split(plan, operands)
    x_bias, h_bias = (*tensors.biases, None, None)[:2]
    projected = F.linear(tensors.inputs, tensors.weights[0], x_bias).unbind(0)
    state = list(tensors.initial)
    outputs: list[list[Tensor]] = []
    for t, x in enumerate(projected):
        seen = state
        if ages is not None:
            seen = [_seen(s, ages[t] >= d) for s, d in zip(state, _delays(plan), strict=True)]
        older = _past(plan, seen)
        terms = [
            F.linear(older[lag - 1], weight)
            for lag, weight in zip(plan.lags, tensors.weights[1:], strict=True)
        ]
        u = sum(terms[1:], terms[0]) if terms else None
        if u is not None and h_bias is not None:
            u = u + h_bias
        after = _step(plan, tensors, t, x, u, seen)
        memories = len(plan.memories)
        new = [*after, *older[: plan.depth - 1]]
        if lengths is not None:
            live = lengths > t
            new = [torch.where(live[:, None], n, s) for n, s in zip(new, state, strict=True)]
            after = [_seen(a, live) for a in after]
        state = new
        outputs.append(after[: 1 + memories])
    return [*state, *(torch.stack(history) for history in zip(*outputs, strict=True))]


def _delays(plan: StepPlan) -> list[int]:
    """Return the age of each field of the state at the step that reads it."""
    return [1, *(1 for _ in plan.memories), *range(2, plan.depth + 1)]


def _past(plan: StepPlan, state: Sequence[Tensor]) -> list[Tensor]:
    """Return h_{t-1}, h_{t-2} and so on."""
    return [state[0], *state[1 + len(plan.memories) :]]


def _seen(tensor: Tensor, where: Tensor) -> Tensor:
    return torch.where(where[:, None], tensor, torch.zeros_like(tensor))


def _step(
    plan: StepPlan,
    tensors: Operands,
    t: int,
    x: Tensor,
    u: Tensor | None,
    state: Sequence[Tensor],
) -> list[Tensor]:
    """Return h and the memories after a step."""
    of_input = x.chunk(plan.gates, -1)
    of_past = () if u is None else u.chunk(plan.gates, -1)
    past = _past(plan, state)

    def value(key: Key) -> Tensor:
        if key.kind == "gate":
            accumulator = plan.accumulators[key.index]
            parts = [of_input[accumulator.gate]] if accumulator.of_input else []
            parts += [of_past[accumulator.gate]] if accumulator.of_past else []
            return sum(parts[1:], parts[0])
        if key.kind == "state":
            return state[0 if key.name == "h" else 1 + plan.memories.index(key.name)]
        if key.kind == "past":
            return past[key.index - 1]
        if key.kind == "stream":
            return tensors.streams[key.index][t]
        assert key.kind == "parameter", f"no such input: {key}"
        return tensors.parameters[plan.parameters.index((key.name, key.index))]

    results = evaluate(plan.inference, value, state[0])
    return [torch.broadcast_to(r, state[0].shape) for r in results]
