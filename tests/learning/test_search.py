"""Searches find what is known, adapt as they say, and go on from a saved state."""

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.learning import (
    MultigridSearch,
    RandomGuessing,
    SearchState,
    SimulatedAnnealing,
    search,
)

PROPOSERS = [
    RandomGuessing(-3.0, 3.0, at_once=5),
    MultigridSearch(3.0, patience=20),
    SimulatedAnnealing(1.0, 1.0, cycles=5, adjustments=3),
]


def bowl(w: torch.Tensor) -> torch.Tensor:
    return (w - torch.tensor([1.0, -2.0])).square().sum(-1)


def many_valleys(w: torch.Tensor) -> torch.Tensor:
    """Rastrigin's function: its lowest of many valleys is at zero."""
    return (w.square() - 10 * torch.cos(2 * torch.pi * w) + 10).sum(-1)


@pytest.mark.parametrize("proposer", PROPOSERS, ids=lambda p: type(p).__name__)
def test_the_bottom_of_a_bowl_is_found(proposer) -> None:
    state, tried = search(bowl, proposer, proposer.init(torch.zeros(2)), 6000, 0.02)
    assert float(state.cost) <= 0.02
    assert tried < 6000
    torch.testing.assert_close(bowl(state.best), state.cost)


def test_annealing_leaves_valleys_that_descent_would_stay_in() -> None:
    annealing = SimulatedAnnealing(20.0, 1.0, cycles=10, adjustments=10)
    start = torch.full((2,), 3.0, dtype=torch.float64)
    state, _ = search(many_valleys, annealing, annealing.init(start, 1), 9000, 1e-3)
    assert float(state.cost) <= 1e-3


def test_about_half_of_the_moves_are_taken() -> None:
    annealing = SimulatedAnnealing(1.0, 100.0, cycles=20, adjustments=10_000)
    state = annealing.init(torch.zeros(2))
    state, _ = search(bowl, annealing, state, 4000)
    taken, position = 0, state.memory[0]
    for _ in range(400):
        state, _ = search(bowl, annealing, state, 1)
        taken += int(not torch.equal(state.memory[0], position))
        position = state.memory[0]
    assert 0.35 < taken / 400 < 0.65
    assert float(state.memory[2].max()) < 20  # the steps, from 100


def test_boxes_shrink_and_start_again() -> None:
    grid = MultigridSearch(1.0, patience=2, shrink=0.5, smallest=0.2)
    state = grid.init(torch.zeros(1))
    sizes = []
    for _ in range(9):  # the start is the lowest point: every trial fails
        state, _ = search(lambda w: w.abs().sum(-1), grid, state, 1)
        sizes.append(float(state.memory[0]))
    assert sizes == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 1.0, 1.0, 0.5]


@pytest.mark.parametrize("proposer", PROPOSERS, ids=lambda p: type(p).__name__)
def test_a_saved_search_goes_on_to_the_same_bits(proposer) -> None:
    whole, _ = search(bowl, proposer, proposer.init(torch.zeros(2), 7), 100)
    half, _ = search(bowl, proposer, proposer.init(torch.zeros(2), 7), 50)
    memory = tuple(tensor.clone() for tensor in half.memory)
    saved = SearchState(half.best.clone(), half.cost.clone(), memory, half.random.clone())
    again, _ = search(bowl, proposer, saved, 50)
    assert torch.equal(whole.best, again.best)
    assert all(torch.equal(a, b) for a, b in zip(whole.memory, again.memory, strict=True))


def test_guessing_solves_the_latch_in_a_few_trials() -> None:
    """A tanh unit keeps the sign of its first inputs: published, 6 trials for three weights."""
    generator = torch.Generator().manual_seed(0)
    sign = 2.0 * torch.randint(2, (100,), generator=generator) - 1
    noise = 0.2 * torch.randn(100, 100, generator=generator)

    def errors(w: torch.Tensor) -> torch.Tensor:
        x = torch.zeros(len(w), 100)
        for t in range(100):
            given = w[:, 1 + t, None] * sign if t < 2 else noise[t]
            x = torch.tanh(w[:, :1] * x + given)
        return ((x - 0.8 * sign).abs() > 0.4).float().mean(-1)

    tried = []
    for seed in range(30):
        guessing = RandomGuessing(-100.0, 100.0)
        tried.append(search(errors, guessing, guessing.init(torch.zeros(3), seed), 500, 0.0)[1])
    assert sum(tried) / len(tried) <= 10


def test_numbers_that_are_not_finite_are_no_success() -> None:
    guessing = RandomGuessing(-1.0, 1.0, at_once=4)
    state, tried = search(
        lambda w: torch.full((len(w),), torch.nan), guessing, guessing.init(torch.zeros(1)), 8, 0.0
    )
    assert tried == 8
    assert torch.isinf(state.cost)
    with pytest.raises(ConfigurationError, match=r"expected \(4,\)"):
        search(lambda w: w, guessing, state, 1)
    for wrong in (
        lambda: RandomGuessing(1.0, 1.0),
        lambda: MultigridSearch(patience=0),
        lambda: SimulatedAnnealing(cooling=1.0),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
