"""What the data need and what the model uses, on problems whose answer is known."""

import pytest
import torch
from doctor.faulty_models import Classifier, cross_entropy, echoes, first_steps
from torch import nn

from throughtime.doctor.mechanism import context_losses
from throughtime.doctor.need import ladder, measure_need
from throughtime.doctor.subject import Clock, Subject


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def need_of(batches, answered, model=None, **options):
    model = model or Classifier(nn.GRU(3, 5, batch_first=True), read=options.pop("read", "last"))
    subject = Subject(model, batches, cross_entropy, 6.0)
    # bounded by updates, not by time, so that a busy machine finds the same
    return measure_need(subject, "layer", answered, options.get("lag"), Clock(6000), 2000.0, 160)


def at_the_end(time: int) -> torch.Tensor:
    return torch.arange(time) == time - 1


def test_the_first_step_is_needed() -> None:
    need = need_of(first_steps(32, 24), at_the_end(12))
    assert need.learned
    assert need.long
    assert need.lag is not None
    assert 8 <= need.lag <= 11  # the true lag is 11, approached from below in steps of the ladder


def test_the_last_step_is_enough() -> None:
    batches = [(x.flip(1), y) for x, y in first_steps(32, 24)]
    need = need_of(batches, at_the_end(12))
    assert need.learned
    assert need.long is False


def test_noise_cannot_be_told() -> None:
    batches = [(x, torch.randint(2, y.shape)) for x, y in first_steps(32, 24)]
    need = need_of(batches, at_the_end(12))
    assert not need.learned
    assert need.long is None


def test_ladder() -> None:
    steps = ladder(1, 100)
    assert steps[0] == 1
    assert steps[-1] < 100
    assert steps == sorted(set(steps))
    assert ladder(5, 5) == []


class Memory(nn.Module):
    """A linear layer whose state is exactly the last three inputs of its first feature."""

    def __init__(self, batch_first: bool):
        super().__init__()
        self.layer = nn.RNN(3, 3, batch_first=batch_first, nonlinearity="relu", bias=False)
        with torch.no_grad():
            self.layer.weight_ih_l0.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]))
            self.layer.weight_hh_l0.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_delay_line_uses_what_it_holds_and_no_more(batch_first: bool) -> None:
    """With answers at every step, each from its own last inputs: exact at every k."""
    batches = []
    for _ in range(4):
        x = torch.rand(5, 9, 3)
        y = torch.cat([torch.zeros(5, 2), x[:, :-2, 0]], 1)  # two steps ago
        batches.append((x, y) if batch_first else (x.transpose(0, 1), y.T))

    def loss(model, batch):
        return (model(batch[0])[..., 2] - batch[1]).square().mean()

    model = Memory(batch_first)
    subject = Subject(model, batches, loss, 6.0)
    answered = torch.ones(9, 5, dtype=torch.bool)
    for older, exact in ((1, False), (2, False), (3, True), (5, True)):
        losses = context_losses(subject, subject.copy(), "layer", answered, older)
        assert losses is not None
        assert (max(losses) < 1e-12) == exact


@pytest.mark.parametrize("older", [1, 2, 3, 5])
def test_one_answer_at_the_end(older: int) -> None:
    batches = []
    for _ in range(4):
        x = torch.rand(5, 9, 3)
        batches.append((x, x[:, -3, 0]))

    def loss(model, batch):
        return (model(batch[0])[:, -1, 2] - batch[1]).square().mean()

    subject = Subject(Memory(True), batches, loss, 6.0)
    answered = at_the_end(9)[:, None].expand(9, 5)
    losses = context_losses(subject, subject.copy(), "layer", answered, older)
    assert losses is not None
    assert (max(losses) < 1e-12) == (older > 2)


def test_cells_with_answers_at_many_steps_are_not_guessed() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 5)
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            h, outputs = None, []
            for x_t in x.unbind(1):
                h = self.cell(x_t, h)
                outputs.append(h)
            return self.head(torch.stack(outputs, 1))

    subject = Subject(Loop(), echoes(4), cross_entropy, 6.0)
    answered = torch.ones(12, 10, dtype=torch.bool)
    assert context_losses(subject, subject.copy(), "cell", answered, 3) is None


def test_two_directions_have_no_old_inputs() -> None:
    """What is old for one is new for the other."""
    model = Classifier(nn.GRU(3, 5, batch_first=True, bidirectional=True))
    subject = Subject(model, first_steps(4), cross_entropy, 6.0)
    answered = at_the_end(12)[:, None].expand(12, 10)
    assert context_losses(subject, subject.copy(), "layer", answered, 3) is None
