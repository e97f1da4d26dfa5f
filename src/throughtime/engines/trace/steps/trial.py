"""A trial of a step's plan against the step itself, with gradients, on random numbers."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from throughtime.core.cell import Cell, advance, bind, prepare
from throughtime.core.state import map_state, state_tensors
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.steps.evaluation import Evaluation
from throughtime.engines.trace.steps.graph import Leaf
from throughtime.engines.trace.steps.whole import WholeStep

_BATCHES = (3, 1)
_DRAWS = 2  # a number may lie at a jump, where the last bit decides; two hardly will
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}


def check_whole(plan: WholeStep, cell: Cell, dtype: torch.dtype) -> None:
    """Run a step both ways, forwards and backwards.

    Raises:
        UntraceableError: The results differ.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    for batch in _BATCHES:
        try:
            trials = (_Trial(plan, cell, dtype, batch, generator) for _ in range(_DRAWS))
            agree = any(trial.agrees() for trial in trials)
        except Exception as error:  # whatever it is, the eager engine meets it again
            raise UntraceableError(
                f"step raised {type(error).__name__} when it was differentiated: {error}"
            ) from error
        if not agree:
            raise UntraceableError(
                "step gives other results, or gradients, than its operations one by one: it cuts "
                "gradients off, mixes sequences, or reads something beside its arguments and the "
                "cell's parameters"
            )


@final
class _Trial:
    """One step on one draw of numbers."""

    def __init__(
        self,
        plan: WholeStep,
        cell: Cell,
        dtype: torch.dtype,
        batch: int,
        generator: torch.Generator,
    ):
        def draw(shape: Sequence[int]) -> Tensor:
            drawn = torch.randn(
                tuple(shape), generator=generator, dtype=torch.float64, device="cpu"
            )
            return drawn.to(dtype)

        self.plan, self.dtype, self.batch, self.draw = plan, dtype, batch, draw
        self.own: dict[str, Tensor] = {}
        for name, p in cell.named_parameters(remove_duplicate=False):
            scaled = draw(p.shape) / max(1, p.shape[-1] if p.dim() else 1) ** 0.5
            self.own[name] = scaled.requires_grad_()
        self.cell = bind(cell, self.own)
        self.state = map_state(
            lambda s: draw(s.shape).requires_grad_() if s.is_floating_point() else s,
            cell.initial_state(batch, dtype=dtype, device=torch.device("cpu")),
        )
        self.inputs = [draw((batch, width)) for width in plan.trace.inputs]
        self.inputs[0].requires_grad_()
        if cell.streams:
            steps = torch.arange(batch, device="cpu")
            drawn = cell.draw_streams(steps[None], training=True, dtype=dtype, generator=generator)
            self.inputs[1:] = [s[0].expand(batch, -1) for s in drawn]

    def agrees(self) -> bool:
        """Return True if the plan and the cell give the same."""
        plan, fields = self.plan, state_tensors(self.state)
        state = [fields[i] for i in plan.fields]
        with torch.enable_grad():
            cell = prepare(self.cell)
            output, after = advance(
                cell, cell.project(self.inputs[0]), self.state, tuple(self.inputs[1:])
            )
        found = state_tensors(after)
        expected = [found[i].flatten(1) for i in plan.fields]
        expected += [] if plan.output is not None else [output]
        above = [self.draw(r.shape) for r in expected]
        sources = [self.inputs[0], *state, *self.own.values()]
        wanted = _gradients(expected, above, sources)
        results, gradients = self._by_plan(state, above)
        if plan.output is not None and not self._same(results[plan.output], output):
            return False
        compared = zip([*results, *gradients], [*expected, *wanted], strict=True)
        return all(self._same(got, right) for got, right in compared)

    def _same(self, got: Tensor, wanted: Tensor) -> bool:
        got, wanted = got.detach(), wanted.detach().reshape(got.shape)
        size = float(wanted.abs().nan_to_num(0, 0, 0).max()) if wanted.numel() else 0.0
        tolerance = _TOLERANCE[self.dtype]
        return torch.allclose(got, wanted, tolerance, tolerance * max(size, 1.0), equal_nan=True)

    def _by_plan(
        self, state: Sequence[Tensor], above: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the results of the plan, and the gradients of x, the state and the parameters."""
        plan, batch = self.plan, self.batch
        numbers = [*(n for n, _, _ in plan.parameters), *plan.matrices]
        with torch.enable_grad():
            named = {**dict(self.cell.named_buffers(remove_duplicate=False)), **self.own}
            statics = plan.tensors(named)
        statics = {n: s if s.dtype == self.dtype else s.to(self.dtype) for n, s in statics.items()}

        def leaf_value(leaf: Leaf) -> Tensor:
            if leaf.source == "parameter":
                values = statics[leaf.number].detach().reshape(-1)
            elif leaf.source == "input":
                values = self.inputs[leaf.number].detach()
            elif leaf.source == "cotangent":
                values = above[leaf.number]
            elif leaf.source == "present":
                values = state[0].new_ones(1)
            else:
                values = state[plan.fields.index(leaf.number)].detach().flatten(1)
            return values[..., leaf.offset : leaf.offset + leaf.width]

        values = Evaluation(plan.graph, leaf_value, lambda n: statics[n].detach(), state[0])
        count = len(above)
        results = [values.pieces(r, batch) for r in plan.results[:count]]
        of_input = torch.zeros_like(self.inputs[0])
        of_state = [torch.zeros_like(s).flatten(1) for s in state]
        of_static = {n: torch.zeros_like(statics[n]).reshape(-1) for n in numbers}
        for position, gradient in plan.gradients.leaves.items():
            leaf = plan.graph.leaves[position]
            value = values.value(gradient).expand(batch, leaf.width)
            at = slice(leaf.offset, leaf.offset + leaf.width)
            if leaf.source == "parameter":
                of_static[leaf.number][at] += value.sum(0)
            elif leaf.source == "state":
                of_state[plan.fields.index(leaf.number)][:, at] = value
            elif leaf.number == 0:
                of_input[:, at] = value
        for number, pieces in plan.gradients.products.items():
            product = plan.graph.products[number]
            matrix = values.pieces(product.inputs, batch).t() @ values.pieces(pieces, batch)
            matrix = matrix.t() if product.transposed else matrix
            of_static[product.weight] += matrix.reshape(-1)
        own = list(self.own.values())
        shaped = [of_static[n].view(statics[n].shape) for n in numbers]
        of_own = _gradients([statics[n] for n in numbers], shaped, own)
        return results, [of_input, *of_state, *of_own]


def _gradients(
    results: Sequence[Tensor], above: Sequence[Tensor], sources: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Return the gradients of sources from those of results."""
    with torch.enable_grad():  # a product with numbers: torch loads sympy where it is given these
        pairs = zip(results, above, strict=True)
        parts = [(r * g.detach()).sum() for r, g in pairs if r.requires_grad]
    if not parts:
        return [torch.zeros_like(s) for s in sources]
    return torch.autograd.grad(
        sum(parts[1:], parts[0]), sources, allow_unused=True, materialize_grads=True
    )
