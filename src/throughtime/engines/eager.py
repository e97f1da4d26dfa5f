"""The eager engine: plain PyTorch, step by step. It is the truth for all others."""

from typing import final

import torch
from torch import Tensor

from throughtime.core.state import state_tensors
from throughtime.engines.engine import Engine, Request, Result, transformed
from throughtime.engines.loop import unroll
from throughtime.engines.masked import run_masked
from throughtime.engines.options import EngineOptions
from throughtime.engines.recomputation import every, within
from throughtime.engines.segments import run_again


@final
class EagerEngine(Engine):
    """Runs any cell under any transform: one Python iteration a step.

    The input's projection is one product for many steps. Sequences of unequal length are run as
    ever fewer rows, longest first, so that padding is never read and never has a gradient.
    """

    name = "eager"

    def refusal(self, request: Request) -> str | None:
        """It refuses checkpoints under transforms and in programs, and nothing else."""
        if request.options.stores_all:
            return None
        why = transformed(request) or request.captured
        return None if why is None else f"{why}, which sees no checkpoints"

    def run(self, request: Request) -> Result:
        """Run a request."""
        options, time = request.options, request.inputs.shape[0]
        no_values = request.captured is not None or request.inputs.is_meta
        if no_values or (request.resets is not None and transformed(request)):
            return run_masked(request)
        if options.stores_all or not torch.is_grad_enabled():
            return unroll(request)
        if options.memory_budget is None:
            plan = every(time, options.segment(time))
        else:
            state = sum(s.nbytes for s in state_tensors(request.state))
            plan = within(time, options.memory_budget, state, _bytes_of_a_step(request))
        return run_again(request, plan, unroll)


def _bytes_of_a_step(request: Request) -> int:
    """What autograd keeps of a step, as two steps and one tell, all of which start afresh if any
    may; of sequences of unequal length also the copy of their inputs, and where they go."""
    resets, rows = request.resets, request.inputs.shape[1]
    packed = 0 if request.lengths is None else request.inputs[0].nbytes + 2 * 8 * rows
    given = [*request.cell.parameters(), *request.cell.buffers(), request.inputs, *request.streams]
    own = {t.untyped_storage().data_ptr() for t in [*given, *state_tensors(request.state)]}
    kept: list[int] = []
    for steps in (1, 2):
        sizes: dict[int, int] = {}

        def seen(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            # the graph lives until the sizes are summed, so that no memory is used twice
            result = unroll(
                Request(
                    request.cell,
                    request.inputs[:1].expand(steps, -1, -1),
                    request.state,
                    None,
                    None if resets is None else torch.ones_like(resets[:1]).expand(steps, -1),
                    tuple(s[:1].expand(steps, *s.shape[1:]) for s in request.streams),
                    options=EngineOptions(),
                )
            )
        kept.append(sum(sizes.values()))
        del result
    return kept[1] - kept[0] + packed
