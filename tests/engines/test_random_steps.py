"""Random steps on the native engine against the eager engine, in values and gradients."""

import random

import pytest
import torch
from engines.trace.random_steps import NAMES, class_of_its_own, recipe
from examples import examples

from throughtime.core.state import map_state, state_tensors
from throughtime.engines import Request, run
from throughtime.engines.cpp.compiler import find_compiler

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
PARTS = 8


@needs_compiler
@pytest.mark.parametrize("part", range(PARTS))
def test_every_operation(part) -> None:
    must = NAMES[part::PARTS]
    made = recipe(part, must, length=0)
    assert {(kind, name) for kind, name, _, _ in made[2]} >= {*must}
    compare(made, part)


@needs_compiler
@pytest.mark.parametrize("seed", range(100, 100 + examples(4)))
def test_random_steps(seed) -> None:
    compare(recipe(seed), seed)


def compare(made, seed) -> None:
    """Run a recipe's cell on both engines, with lengths, resets and absent gradients at random."""
    draw, cell = random.Random(seed), class_of_its_own(made)
    torch.manual_seed(seed)
    time, batch = draw.choice((1, 2, 5, 9)), draw.choice((1, 2, cell.hidden_size, 5, 40))
    for parameter in cell.parameters():
        parameter.requires_grad_(draw.random() < 0.9)
    for resets, lengths in ((False, False), (True, False), (True, True)):
        x = torch.randn(batch, cell.input_size, time, dtype=torch.float64).permute(2, 0, 1)
        state = cell.initial_state(batch, dtype=torch.float64, device=torch.device("cpu"))
        if draw.random() < 0.7:
            state = map_state(lambda s: torch.randn_like(s) if s.is_floating_point() else s, state)
        given = [t for t in (x, *state) if t.is_floating_point() and draw.random() < 0.8]
        leaves = [t.requires_grad_() for t in given]
        leaves += [p for p in cell.parameters() if p.requires_grad]
        request = Request(
            cell,
            x,
            state,
            torch.randint(1, time + 1, (batch,)) if lengths else None,
            torch.rand(time, batch) < 0.3 if resets else None,
            outputs=draw.choice(("all", "last", "states")),
        )
        kept = [draw.random() < 0.6 for _ in range(9)]
        found = [results_and_gradients(request, e, leaves, kept) for e in ("native", "eager")]
        for got, wanted in zip(*found, strict=True):
            size = max(1.0, float(wanted.detach().abs().max()))
            torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9 * size)


def results_and_gradients(request, engine, leaves, kept):
    """Return all results of a run, and the gradients of some of them."""
    parts = [part for part in run(request, engine) if part is not None]
    results = [tensor for part in parts for tensor in state_tensors(part)]
    generator = torch.Generator().manual_seed(1)
    above = [torch.randn(r.shape, generator=generator, dtype=torch.float64) for r in results]
    losses = [
        (r * a).sum()
        for r, a, wanted in zip(results, above, kept, strict=False)
        if wanted and r.requires_grad
    ]
    if not losses:
        return [*results, *map(torch.zeros_like, leaves)]
    total = torch.stack(losses).sum()
    gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return [*results, *gradients]
