"""The eager engine: plain PyTorch, step by step. It is the truth for all others."""

from typing import final

import torch

from throughtime.engines.engine import Engine, Request, Result, transformed
from throughtime.engines.loop import unroll
from throughtime.engines.segments import unroll_in_segments


@final
class EagerEngine(Engine):
    """Runs any cell under any transform: one Python iteration a step.

    The input's projection is one product for many steps. Sequences of unequal length are run as
    ever fewer rows, longest first, so that padding is never read and never has a gradient.
    """

    name = "eager"

    def refusal(self, request: Request) -> str | None:
        """It refuses checkpoints under transforms, and nothing else."""
        if request.options.checkpoint is None:
            return None
        why = transformed(request)
        return None if why is None else f"{why}, which sees no checkpoints"

    def run(self, request: Request) -> Result:
        """Run a request."""
        every = request.options.segment(request.inputs.shape[0])
        if every == 0 or not torch.is_grad_enabled():
            return unroll(request)
        return unroll_in_segments(request, every)
