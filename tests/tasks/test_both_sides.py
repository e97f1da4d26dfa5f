"""Both sides: labels that need the future, over packed sequences."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime.core.errors import ConfigurationError
from throughtime.models import build_model
from throughtime.tasks import TASKS, BothSides

TASK = BothSides(length=12, distance=2)


def test_answers_are_the_ones_on_both_sides() -> None:
    batch = next(TASK.batches("training", 50))
    assert batch.lengths is not None
    assert {*batch.lengths.tolist()} == {*range(5, 13)}
    for k, length in enumerate(batch.lengths.tolist()):
        x = batch.inputs[:, k, 0].tolist()
        due = {t: x[t - 2] + x[t + 2] for t in range(2, length - 2)}
        assert batch.targets[:, k].tolist() == [due.get(t, -1) for t in range(12)]
        assert not any(x[length:])


def test_chance_is_that_of_all_pairs_of_bits() -> None:
    counts = [sum(pair) for pair in itertools.product((0, 1), repeat=2)]
    shares = [counts.count(k) / 4 for k in range(3)]
    assert max(shares) == TASK.chance
    assert -sum(p * math.log(p) for p in shares) == pytest.approx(TASK.chance_loss)


def test_answers_of_packed_sequences_are_those_of_each_alone() -> None:
    """Labels per step: a packed sequence in, a packed sequence out, a linear map of its data."""
    torch.manual_seed(0)
    layer, readout = tt.LSTM(1, 4, bidirectional=True), nn.Linear(8, 3)
    batch = next(TASK.batches("training", 6))
    assert batch.lengths is not None
    packed = pack_padded_sequence(batch.inputs, batch.lengths, enforce_sorted=False)
    output, _ = layer(packed)
    logits, _ = pad_packed_sequence(output._replace(data=readout(output.data)), total_length=12)
    for k, length in enumerate(batch.lengths.tolist()):
        alone = readout(layer(batch.inputs[:length, k : k + 1])[0])
        torch.testing.assert_close(logits[:length, k], alone[:, 0], rtol=1e-5, atol=1e-6)


def test_a_bidirectional_network_learns_it_and_a_forward_one_cannot() -> None:
    """The share of right answers; that of the forward network is 1/2 by the task's symmetry."""
    task = BothSides(length=7, distance=1)
    held_out = next(task.batches("validation", 1_000))
    found = []
    for options in ("bidirectional=true", "bidirectional=false"):
        torch.manual_seed(0)
        model = build_model(f"gru:hidden=8,{options}", task.inputs, task.answers)
        optimizer = torch.optim.Adam(model.parameters(), 0.03)
        for step, batch in zip(range(80), task.batches("training", 32), strict=False):
            optimizer.zero_grad()
            task.score(model, batch, step=step).loss.backward()
            optimizer.step()
        with torch.no_grad():
            found.append(task.score(model, held_out).parts["accuracy"].value)
    assert found[0] >= 0.99
    assert found[1] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("both-sides:distance=0", "distance of task 'both-sides'.*at least 1"),
        ("both-sides:length=6,distance=3", "length of task 'both-sides'.*at least 7"),
    ],
)
def test_options_out_of_range_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build(spec)
