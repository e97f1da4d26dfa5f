"""Parameter-matched widths: no hidden size is nearer."""

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import MODELS
from throughtime.studies.plan import matched_widths, parameter_count
from throughtime.tasks import TASKS

DIGITS = TASKS.build("digits")


def count_by_hand(name: str, n: int) -> int:
    """Of one layer with n units, one input, ten outputs, biases as torch has them."""
    recurrent = {
        "rnn": n * (1 + n + 2),
        "irnn": n * (1 + n + 2),
        "skip-rnn": n * (1 + 2 * n + 2),
        "lstm": 4 * n * (1 + n + 2),
        "gru": 3 * n * (1 + n + 2),
    }[name]
    return recurrent + 10 * (n + 1)


@pytest.mark.parametrize("name", ["rnn", "irnn", "lstm", "gru", "skip-rnn"])
def test_parameters_are_counted(name: str) -> None:
    assert parameter_count(f"{name}:hidden=7", DIGITS) == count_by_hand(name, 7)


@pytest.mark.parametrize("hidden", [1, 2, 3, 20, 33, 64])
@pytest.mark.parametrize("reference", ["rnn", "lstm"])
def test_no_other_width_is_nearer(reference: str, hidden: int) -> None:
    wanted = count_by_hand(reference, hidden)
    names = ["irnn", "lstm", "gru", "skip-rnn:lag=3"]
    first, *matched = matched_widths([f"{reference}:hidden={hidden}", *names], DIGITS)
    assert first == f"{reference}:hidden={hidden}"
    for spec in matched:
        name, options = MODELS.parse(spec)
        distances = {n: abs(count_by_hand(name, n) - wanted) for n in range(1, 200)}
        assert distances[options["hidden"]] == min(distances.values()), spec
    assert matched[-1].endswith(",lag=3")


def test_reference_may_have_its_usual_size() -> None:
    assert matched_widths(["rnn", "irnn"], DIGITS) == ["rnn", "irnn:hidden=64"]


def test_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    matched_widths(["rnn:hidden=3", "lstm"], DIGITS)
    assert torch.equal(torch.rand(3), expected)


def test_own_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'lstm:hidden=5' cannot be matched.*Leave its"):
        matched_widths(["rnn", "lstm:hidden=5"], DIGITS)
