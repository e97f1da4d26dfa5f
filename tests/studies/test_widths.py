"""Parameter-matched widths: no hidden size is nearer."""

from collections.abc import Callable

import pytest
import torch

from throughtime.cells import ElmanCell
from throughtime.core.errors import ConfigurationError
from throughtime.core.registry import CELLS
from throughtime.models import MODELS
from throughtime.studies import CompareRequest
from throughtime.studies.plan import make_plan, matched_widths, parameter_count
from throughtime.tasks import TASKS
from throughtime.tasks.task import Task

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


@pytest.fixture
def thirds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell of a user's, whose width has to be divisible by 3."""

    def build(input_size: int, hidden_size: int) -> ElmanCell:
        if hidden_size % 3:
            raise ConfigurationError("width", got=hidden_size, expected="a multiple of 3")
        return ElmanCell(input_size, hidden_size)

    monkeypatch.setitem(CELLS._builders, "thirds", build)


def projected(n: int) -> int:
    return 4 * n * (1 + 5 + 2) + 5 * n + 10 * 6


@pytest.mark.usefixtures("thirds")
@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 7, 20, 33])
@pytest.mark.parametrize(
    ("spec", "accepted", "size"),
    [
        ("clockwork", range(4, 99), lambda n: count_by_hand("rnn", n)),
        ("clockwork:groups=11", range(11, 99), lambda n: count_by_hand("rnn", n)),
        ("lstm:projection=5", range(6, 99), projected),
        ("readout:cell=clockwork", range(4, 99), lambda n: count_by_hand("rnn", n)),
        ("thirds", range(3, 99, 3), lambda n: count_by_hand("rnn", n)),
    ],
)
def test_widths_that_the_model_refuses_are_left_out(
    spec: str, accepted: range, size: Callable[[int], int], hidden: int
) -> None:
    _, matched = matched_widths([f"rnn:hidden={hidden}", spec], DIGITS)
    wanted = count_by_hand("rnn", hidden)
    found = MODELS.parse(matched)[1]["hidden"]
    assert found == min(accepted, key=lambda n: (abs(size(n) - wanted), n))
    assert parameter_count(matched, DIGITS) == size(found)


def test_a_plan_needs_no_usual_width() -> None:
    """A model that refuses 64 units is matched too."""
    request = CompareRequest("digits", ("rnn", "lstm:projection=64"), match_parameters=True)
    widths = [MODELS.parse(model.spec)[1].get("hidden") for model in make_plan(request).models]
    assert widths == [None, 65]


def test_no_width_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throughtime.studies.plan._LARGEST", 8)
    for spec, message in {
        "clockwork:groups=9": "got hidden_size: got 8, expected at least 9, one unit a period, "
        "expected as many with a hidden size of at most 8. Leave the model out",
        "indrnn": "got 114 with 8 units, expected as many with a hidden size of at most 8. Make",
    }.items():
        with pytest.raises(ConfigurationError, match=f"first model's 274 parameters: {message}"):
            matched_widths(["rnn:hidden=11", spec], DIGITS)


def test_a_fault_that_no_width_mends_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def counted(spec: str, task: Task) -> int:
        tried.append(spec)
        return parameter_count(spec, task)

    monkeypatch.setattr("throughtime.studies.plan.parameter_count", counted)
    with pytest.raises(ConfigurationError, match=r"rate: got 2\.0, expected a probability below 1"):
        matched_widths(["rnn", "lstm-dropout:rate=2"], DIGITS)
    assert len(tried) == 3


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
