"""Draws of symbols: which are kept, how often each comes, and what is refused."""

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.core.sampling import Sampling

LOGITS = torch.tensor([[1.0, 3.0, -2.0, 2.0, 2.0, 0.0]])


def drawn(sampling: Sampling, logits: torch.Tensor = LOGITS, count: int = 4000) -> torch.Tensor:
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    symbols = sampling.draw(logits.expand(count, -1), uniform)
    return torch.bincount(symbols, minlength=logits.shape[1]) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_grid_of_numbers_gives_the_probabilities_of_the_softmax(temperature: float) -> None:
    expected = (LOGITS.double()[0] / temperature).softmax(-1)
    torch.testing.assert_close(drawn(Sampling(temperature)).double(), expected, atol=3e-4, rtol=0)


def test_temperature_zero_and_its_limit_take_the_likeliest_symbol() -> None:
    for sampling in (Sampling(0.0), Sampling(1e-3), Sampling(top_k=1), Sampling(top_p=1e-9)):
        assert drawn(sampling).tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(top_k=2), [1, 3]),  # of equal ones the first
        (Sampling(top_k=3), [1, 3, 4]),
        (Sampling(min_p=0.3), [1, 3, 4]),  # exp(-1) = 0.37
        (Sampling(min_p=0.4), [1]),
        (Sampling(top_k=2, min_p=0.4), [1]),
        (Sampling(temperature=0.5, min_p=0.3), [1]),
        (Sampling(top_k=100), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_filters_keep(sampling: Sampling, kept: list[int]) -> None:
    weights = (LOGITS.double()[0] / sampling.temperature).exp()
    expected = torch.zeros_like(weights)
    expected[kept] = weights[kept] / weights[kept].sum()
    torch.testing.assert_close(drawn(sampling).double(), expected, atol=5e-4, rtol=0)


def test_top_p_keeps_the_smallest_set_with_that_mass() -> None:
    p = LOGITS.double()[0].softmax(-1)
    ranked = p.sort(descending=True, stable=True)
    for count in range(1, 7):
        mass = float(ranked.values[:count].sum())
        for top_p, least in ((mass - 1e-6, count), (min(1.0, mass + 1e-6), min(6, count + 1))):
            kept = drawn(Sampling(top_p=top_p), count=100_000).nonzero()[:, 0].tolist()
            assert kept == sorted(ranked.indices[:least].tolist()), (count, top_p)


def test_the_last_number_below_one_draws_a_symbol_that_is_kept() -> None:
    almost = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert Sampling(top_k=2).draw(LOGITS, almost).tolist() == [3]


@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 2.0},
    ],
)
def test_what_is_out_of_range_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        Sampling(**arguments)  # pyright: ignore[reportArgumentType]
