"""Pairs of random symbols: their batches, their chance, and greedy decoding."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.scoring import merged
from throughtime.core.state import state_type
from throughtime.models import build_model
from throughtime.tasks import TASKS, CopySequence, NoisyWalk, Reverse
from throughtime.tasks.pairs import collated, free_running_loss, greedy, training_order


def unpadded(batch, row: int) -> tuple[list[int], list[int], list[int]]:
    source = batch.source[: batch.source_lengths[row], row].tolist()
    targets = batch.targets[:, row]
    targets = targets[targets >= 0].tolist()
    return source, batch.inputs[: len(targets), row].tolist(), targets


@pytest.mark.parametrize("task", [Reverse(symbols=4, shortest=2, longest=5), CopySequence()])
@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_target_is_the_source_written_again(task, split) -> None:
    batch = next(task.batches(split, 50))
    assert batch.size == 50
    for row in range(50):
        source, inputs, targets = unpadded(batch, row)
        assert task.shortest <= len(source) <= task.longest
        again = source[::-1] if isinstance(task, Reverse) else source
        assert targets == [*again, task.end]
        assert inputs == [task.begin, *again]
        assert not batch.source[len(source) :, row].any()


def test_batches_are_functions_of_seed_and_step() -> None:
    task = Reverse()
    batches = list(itertools.islice(task.batches("training", 8, seed=3), 4))
    later = next(task.batches("training", 8, seed=3, start=2))
    assert torch.equal(batches[2].source, later.source)
    assert not all(torch.equal(a.inputs, later.inputs) for a in (batches[0], batches[1]))
    held = [b.size for b in task.batches("validation", 300)]
    assert held == [300, 300, 300, 124]


class Memoryless(nn.Module):
    """The best answer without a source: its logits depend on the step alone."""

    def __init__(self, task: Reverse):
        super().__init__()
        self.task = task

    def encode(self, source: Tensor, lengths: Tensor):
        return state_type("t")(torch.zeros(1))

    def forward(self, symbols: Tensor, state):
        task, rows = self.task, []
        for t in range(len(symbols)):
            ends = 0.0 if t < task.shortest else 1 / (task.longest - t + 1)
            row = torch.full((task.symbols + 2,), (1 - ends) / task.symbols)
            row[task.end], row[task.begin] = ends, 0.0
            rows.append(row.log())
        return torch.stack(rows)[:, None].expand(-1, symbols.shape[1], -1), state

    def losses(self, symbols: Tensor, targets: Tensor, state):
        logits, state = self(symbols, state)
        nll = -logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return torch.where(targets >= 0, nll, 0.0), state


@pytest.mark.parametrize("options", [{}, {"symbols": 3, "shortest": 4, "longest": 9}])
def test_chance_is_the_score_of_the_best_answer_without_a_source(options) -> None:
    task = Reverse(**options)
    model = Memoryless(task)
    scores = [task.score(model, batch) for batch in task.batches("test", 512)]
    found = task.report(merged(score.parts for score in scores))
    assert found["loss"] == pytest.approx(task.chance_loss, rel=0.01)
    assert found["accuracy"] == pytest.approx(task.chance, abs=0.01)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_the_loss_is_the_mean_over_symbols_not_over_sequences_or_batches() -> None:
    """Two targets, of two symbols and of one: the sum of all losses over five symbols due."""
    task = TASKS.build("reverse:symbols=3,longest=2")
    model = build_model("gru:hidden=4", task.inputs, task.answers)
    pairs = [([1, 2], [2, 1]), ([0], [0])]
    score = task.score(model, collated(pairs, task.begin, task.end))
    total = 0.0
    for source, target in pairs:
        one = collated([(source, target)], task.begin, task.end)
        logits, _ = model(one.inputs, model.encode(one.source, one.source_lengths))
        for t, symbol in enumerate([*target, task.end]):
            total -= float(logits[t, 0].log_softmax(-1)[symbol].detach())
    assert score.loss.item() == pytest.approx(total / 5, rel=1e-5)
    assert score.parts["loss"].count == 5
    assert score.parts["accuracy"].count == 5


class Counts(nn.Module):
    """Writes n, n - 1 ... 0 for the source n; symbol 9 ends, after 0."""

    def forward(self, symbols: Tensor, state):
        following = torch.where(state.n[None] >= 0, state.n[None], 9)
        return nn.functional.one_hot(following, 10).float(), state._replace(n=state.n - 1)

    def select(self, state, rows: Tensor):
        return state._replace(n=state.n[rows])


def test_greedy_decoding_ends_each_sequence_by_itself(unchecked: None) -> None:
    start = state_type("n")(torch.tensor([2, 0, 5]))
    found = greedy(Counts(), start, 3, begin=8, end=9, most=4)
    assert found == [[2, 1, 0], [0], [5, 4, 3, 2]]


def test_an_epoch_has_each_pair_once_in_batches_of_about_one_length() -> None:
    random = np.random.default_rng(0)
    pairs = [([0] * n, [0]) for n in random.integers(1, 40, 1000)]
    order = list(itertools.islice(training_order(pairs, 16, seed=1), 2 * 63))
    first, second = order[:63], order[63:]
    for epoch in (first, second):
        assert sorted(itertools.chain(*epoch)) == list(range(1000))
    assert first != second
    again = list(itertools.islice(training_order(pairs, 16, seed=1, start=60), 10))
    assert again == order[60:70]
    spread = [max(len(pairs[k][0]) for k in b) - min(len(pairs[k][0]) for k in b) for b in order]
    assert np.mean(spread) < 3
    sizes = [len(pairs[b[0]][0]) for b in first]
    assert sizes != sorted(sizes)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("reverse:symbols=1", "symbols of task 'reverse': got 1, expected at least 2"),
        ("reverse:shortest=0", "shortest of task 'reverse': got 0"),
        ("copy-sequence:shortest=5,longest=4", "longest of task 'copy-sequence': got 4"),
    ],
)
def test_options_out_of_range_are_refused(spec: str, words: str) -> None:
    with pytest.raises(tt.errors.ConfigurationError, match=words):
        TASKS.build(spec)


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(tt.errors.ConfigurationError, match="batch_size: got 0"):
        Reverse().batches("training", 0)


def test_the_last_answer_is_the_end() -> None:
    task = Reverse()
    last = task.last_answers(next(task.batches("training", 5)))
    assert ((last.targets >= 0).sum(0) == 1).all()
    assert (last.targets.amax(0) == task.end).all()


def test_walks_and_their_noise() -> None:
    """Steps of at most 1, noise of at most w, and the chance level by simulation."""
    task = NoisyWalk(symbols=7, length=12, noise=2)
    pairs = task.draw(np.random.default_rng(0), 4000)
    seen, walks = (np.array(part) for part in zip(*pairs, strict=True))
    assert seen.shape == walks.shape == (4000, 12)
    assert walks.min() == seen.min() == 0
    assert walks.max() == seen.max() == 6
    assert abs(np.diff(walks)).max() == 1
    assert abs(seen - walks).max() == 2
    middle = (walks[:, :-1] > 0) & (walks[:, :-1] < 6)
    p = np.where(middle, 1 / 3, 2 / 3)  # of the likeliest next place
    right = (1 / 7 + p.sum(1).mean() + 1) / 13
    assert task.chance == pytest.approx(right, abs=0.003)
    stays = (np.diff(walks) == 0)[middle].mean()
    assert stays == pytest.approx(1 / 3, abs=0.01)
    nats = np.where(middle, math.log(3), -2 / 3 * math.log(2 / 3) - 1 / 3 * math.log(1 / 3))
    assert task.chance_loss == pytest.approx((math.log(7) + nats.sum(1).mean()) / 13, abs=0.005)


def test_the_loss_after_symbols_that_are_drawn() -> None:
    """A model whose answers depend on nothing has one loss; another is worse off on its own."""
    task = TASKS.build("noisy-walk:symbols=5,length=4")
    torch.manual_seed(0)
    model = build_model("gru:hidden=8,engine=eager", task.inputs, task.answers).eval()
    batches = list(task.batches("validation", 512))
    with torch.no_grad():
        model.readout.weight.zero_()
    constant = merged([task.score(model, batch).parts for batch in batches])["loss"].value
    assert free_running_loss(model, batches) == pytest.approx(constant, rel=1e-5)
    with torch.no_grad():
        model.readout.weight.normal_(0, 5)
    taught = merged([task.score(model, batch).parts for batch in batches])["loss"].value
    found = free_running_loss(model, batches)
    assert found == free_running_loss(model, batches)
    assert found != pytest.approx(taught, rel=1e-3)
    assert "free_running_loss" in task.examine(model, "validation")
