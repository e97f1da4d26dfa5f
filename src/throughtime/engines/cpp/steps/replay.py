"""A run of a step in torch, for second derivatives of what a kernel computes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.engines.cpp.steps.call import Call, split
from throughtime.engines.trace.steps.evaluation import Evaluation
from throughtime.engines.trace.steps.graph import Leaf


def replay(
    call: Call,
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of a run's tensors, differentiable themselves where grad is enabled.

    Arguments:
        call: The run.
        tensors: The tensors of the run.
        gradients: The gradients of the results.
        needed: True for each tensor whose gradient is wanted.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        leaves = [
            t.view_as(t) if t.requires_grad else t.detach().requires_grad_(n)
            for t, n in zip(tensors, needed, strict=True)
        ]
        results = results_in_torch(call, leaves)
        pairs = [
            (r, g)
            for r, g in zip(results, gradients, strict=True)
            if g is not None and r.requires_grad
        ]
        wanted = [leaf for leaf, want in zip(leaves, needed, strict=True) if want]
        found = torch.autograd.grad(
            [r for r, _ in pairs],
            wanted,
            [g for _, g in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    rest = iter(found)
    return [next(rest) if want else None for want in needed]


def results_in_torch(call: Call, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the results of `StepsOverTime`, computed by torch."""
    plan, given = call.kernel.plan, split(call, tensors)
    time, batch = given.inputs[0].shape[:2]
    state, like = list(given.initial), given.inputs[0]
    parameters = {n: t for (n, _, _), t in zip(plan.parameters, given.parameters, strict=True)}
    matrices = dict(zip(plan.matrices, given.matrices, strict=True))
    histories: list[list[Tensor]] = [[] for _ in plan.results]
    for t in range(time):
        before = state
        if call.resets is not None:
            fresh = call.resets[t][:, None]
            before = [torch.where(fresh, f, s) for f, s in zip(given.fresh, state, strict=True)]

        def leaf_value(leaf: Leaf, before: Any = before, t: int = t) -> Tensor:
            if leaf.source == "parameter":
                whole = parameters[leaf.number].reshape(-1)
            elif leaf.source == "input":
                whole = given.inputs[leaf.number][t]
            else:
                whole = before[plan.fields.index(leaf.number)]
            return whole[..., leaf.offset : leaf.offset + leaf.width]

        step = Evaluation(plan.graph, leaf_value, matrices.__getitem__, like)
        after = [step.pieces(result, batch) for result in plan.results]
        if call.lengths is not None:
            live = (call.lengths > t)[:, None]
            for f, value in enumerate(after):
                histories[f].append(torch.where(live, value, torch.zeros_like(value)))
            state = [torch.where(live, a, s) for a, s in zip(after, state, strict=False)]
        else:
            for f, value in enumerate(after):
                histories[f].append(value)
            state = after[:-1]
    found = [*state]
    found += [
        torch.stack(h) for h, wanted in zip(histories, call.histories, strict=False) if wanted
    ]
    if call.outputs and plan.output is None:
        found.append(torch.stack(histories[-1]))
    return found
