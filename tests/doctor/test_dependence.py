"""Dependence of targets on inputs by lag: closed forms, known lags, and noise."""

import math

import pytest
import torch
from doctor.faulty_models import Chunked, Classifier, cross_entropy, echoes, first_steps
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from throughtime.doctor.data_pairs import dependence_of, pairs_of, roles_of
from throughtime.doctor.dependence import Dependence, Pairs, Part, find_dependence, in_words
from throughtime.doctor.sample_axes import sample_axes
from throughtime.doctor.subject import Subject


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def found(x: torch.Tensor, y: torch.Tensor, *, classes: bool = False) -> Dependence:
    """Find the dependence of one answer a sequence on inputs (sequences, time, features)."""
    times = torch.tensor([x.shape[1] - 1])
    targets = y.float().reshape(1, len(y), -1)
    dependence = find_dependence(Pairs(x.float().transpose(0, 1), targets, times, classes))
    assert dependence is not None
    return dependence


def test_a_linear_dependence_has_its_lag_and_correlation() -> None:
    x, noise = torch.randn(800, 60, 3), torch.randn(800)
    y = x[:, 59 - 40, 1] + 0.5 * noise
    part = found(x, y).oldest
    assert part is not None
    assert (part.start, part.end) == (40, 40)
    exact = float(torch.corrcoef(torch.stack([x[:, 59 - 40, 1], y]))[0, 1])
    # a second input of the lag, such as its rank, may add what chance gives it
    assert exact - 1e-4 <= part.correlation <= exact + 0.01
    assert in_words(part) == "lag 40, found in the data (correlation 0.9)"


def test_classes_are_compared_by_the_variance_between_them() -> None:
    """The share of one numeric input is eta^2 of the classes weighted by their variances."""
    y = torch.randint(3, (900,))
    x = torch.randn(900, 20, 1)
    x[:, 4, 0] += torch.tensor([0.0, 2.0, 0.0])[y]  # not monotone in the number of the class
    part = found(x, y, classes=True).oldest
    assert part is not None
    assert part.start == 15
    one_hot = nn.functional.one_hot(y, 3).double()
    centred = one_hot - one_hot.mean(0)
    value = (x[:, 4, 0] - x[:, 4, 0].mean()).double()
    explained = (centred.T @ value).square() / value.square().sum()
    share = float(explained.sum() / centred.square().sum())
    assert share - 1e-4 <= part.share < share + 0.1


def test_a_monotone_dependence_with_heavy_tails_is_found_by_rank() -> None:
    x = torch.randn(300, 30, 1)
    assert found(x, (8 * x[:, 12, 0]).exp()).lag == 17


def test_the_dependence_of_the_adding_task_is_on_products_over_a_range() -> None:
    values, marks = torch.rand(1000, 60), torch.zeros(1000, 60)
    rows = torch.arange(1000)
    marks[rows, torch.randint(30, (1000,))] = 1
    marks[rows, torch.randint(30, 60, (1000,))] = 1
    x, y = torch.stack([values, marks], 2), (values * marks).sum(1)
    dependence = found(x, y)
    assert dependence.lag == 32
    assert sum(part.share for part in dependence.parts) > 0.8
    assert sum(part.share for part in found(values[..., None], y).parts) < 0.2


def test_old_inputs_that_only_resemble_new_ones_do_not_count() -> None:
    walk = torch.randn(500, 80, 1).cumsum(1)
    assert found(walk, walk[:, -1, 0] + 0.1 * torch.randn(500)).lag == 0
    assert found(walk, walk[:, 19, 0] + torch.randn(500)).lag in range(55, 64)
    time = torch.arange(500)[:, None] + torch.arange(30)
    wave = (time / 3).sin()[..., None]
    lag = found(wave, wave[:, -1, 0] + wave[:, -2, 0]).lag
    assert lag is not None
    assert lag <= 1


def test_tokens_are_compared_by_class_or_by_the_targets_of_other_sequences() -> None:
    few = torch.randint(8, (800, 40, 1))
    assert found(few, few[:, 9, 0] % 2, classes=True).lag == 30
    many = torch.randint(500, (2000, 12, 1))
    bag = (many[..., 0] % 7 == 0).sum(1) > 1
    assert found(many, bag, classes=True).found
    assert not found(many, bag[torch.randperm(2000)], classes=True).found


def test_parity_shows_no_dependence_by_lag_although_it_is_a_function_of_the_inputs() -> None:
    bits = torch.randint(2, (1500, 10, 1))
    assert not found(bits, bits.sum((1, 2)) % 2, classes=True).found


def test_noise_is_seldom_taken_for_a_dependence() -> None:
    """Of 120 draws with about 6 tests each, at a level of 2e-4, far less than 1 is expected."""
    false = 0
    for _ in range(40):
        x = torch.randn(120, 30, 2)
        false += found(x, torch.randint(2, (120,)), classes=True).found
        false += found(x, torch.randn(120).exp()).found
        rare = (torch.rand(120, 30, 2) < 0.05).float()
        false += found(rare, torch.randint(4, (120,)), classes=True).found
    assert false <= 2


def test_targets_at_each_step_are_compared_over_sequences_and_steps() -> None:
    x = torch.randn(24, 30, 2)  # (time, sequences, features)
    y = torch.full((24, 30, 1), math.nan)
    y[7:] = x[:-7, :, :1]
    dependence = find_dependence(Pairs(x, y, torch.arange(24), classes=False))
    assert dependence is not None
    assert dependence.lag == 7


def test_too_few_sequences_and_constant_targets_cannot_be_told() -> None:
    times = torch.tensor([9])
    assert find_dependence(Pairs(torch.randn(10, 9, 1), torch.randn(1, 9, 1), times, False)) is None
    assert find_dependence(Pairs(torch.randn(10, 50, 1), torch.ones(1, 50, 1), times, True)) is None


def test_the_oldest_part_holds_with_older_ones_a_quarter_of_all() -> None:
    parts = (Part(0, 0, 0.4), Part(8, 15, 0.3), Part(40, 40, 0.02))
    assert Dependence(parts, 100).lag == 8
    assert in_words(parts[1]) == "lags 8 to 15, found in the data (correlation 0.55)"
    assert Dependence((), 100).lag is None


def at_the_end(time: int, count: int) -> torch.Tensor:
    return (torch.arange(time) == time - 1)[:, None].expand(time, count)


def of(model, batches, loss, answered) -> Dependence | None:
    axes = sample_axes(batches)
    return dependence_of(Subject(model, batches, loss, 6.0), "layer", answered, axes, 0)


def test_inputs_and_targets_are_told_apart_by_what_they_change() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(3, 5, batch_first=True)
            self.head = nn.Linear(5, 2)

        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.layer(packed)[1][-1])

    def loss(model, batch):
        return (
            nn.functional.cross_entropy(model(batch["x"], batch["n"]), batch["y"], reduction="none")
            * batch["weight"]
        ).mean()

    batches = []
    for _ in range(12):
        x, n = torch.randn(20, 12, 3), torch.randint(6, 13, (20,))
        y = (x[torch.arange(20), n - 5, 0] > 0).long()
        batches.append({"x": x, "n": n, "weight": (torch.rand(20) < 0.5).float(), "y": y})
    subject = Subject(Masked(), batches, loss, 6.0)
    axes = sample_axes(batches)
    roles = roles_of(subject, "layer", axes)
    assert roles.read == (0, 1)
    assert roles.targets == (2, 3)
    n = subject.held_out[0]["n"]
    answered = torch.arange(12)[:, None] == n - 1
    dependence = dependence_of(subject, "layer", answered, axes, 0)
    assert dependence is not None
    assert dependence.lag == 4  # counted from the end of each sequence; and not of the weights
    (pairs,) = pairs_of(subject, "layer", answered, axes)
    assert pairs.classes
    assert pairs.inputs.shape == (12, 240, 3)


@pytest.mark.parametrize("batch_first", [True, False])
def test_answers_at_each_step(batch_first: bool) -> None:
    batches = echoes(20)
    if not batch_first:
        batches = [(x.transpose(0, 1), y.T) for x, y in batches]
    model = Classifier(nn.GRU(3, 5, batch_first=batch_first), read="steps")
    dependence = of(model, batches, cross_entropy, torch.ones(12, 10, dtype=torch.bool))
    assert dependence is not None
    assert dependence.lag == 3


def test_one_tensor_of_tokens_has_its_targets_from_the_loss() -> None:
    """A language model of a text in which each token is the one four steps before."""

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(6, 8)
            self.layer = nn.GRU(8, 5, batch_first=True)
            self.head = nn.Linear(5, 6)

        def forward(self, x):
            return self.head(self.layer(self.embedding(x))[0])

    def loss(model, tokens):
        return nn.functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )

    batches = [torch.randint(6, (16, 4)).repeat(1, 4) for _ in range(8)]
    dependence = of(Language(), batches, loss, torch.ones(15, 16, dtype=torch.bool))
    assert dependence is not None
    assert dependence.lag == 3  # before the input, which is one step before its target


def test_layers_that_run_in_chunks() -> None:
    dependence = of(Chunked("keep"), first_steps(20), cross_entropy, at_the_end(12, 10))
    assert dependence is not None
    assert dependence.lag == 11
