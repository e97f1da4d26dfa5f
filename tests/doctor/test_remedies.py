"""Faults undone from outside, and what changes do to a copy."""

import dataclasses

import pytest
import torch
from doctor.faulty_models import WIDTH, Chunked, Classifier, Keeping, cross_entropy, first_steps
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.doctor import Cause
from throughtime.doctor.brief_training import USUAL
from throughtime.doctor.changes import CHANGES, OtherCell, SkipOver
from throughtime.doctor.remedies import Trainer, changes_for, make_condition, try_changes
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.user_training import as_training_step
from throughtime.foreign.sites import find_recurrent, run_by


def subject(model: nn.Module, count: int = 4) -> Subject:
    return Subject(model, first_steps(count), cross_entropy, 6.0)


def change(name: str):
    (found,) = [c for c in CHANGES if c.name.startswith(name)]
    return found


def gradient(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize(
    ("between", "name"),
    [("detach", "the graph kept"), ("no_grad", "the graph kept"), ("drop", "the state passed on")],
)
def test_cut_and_dropped_states_are_mended_exactly(between: str, name: str) -> None:
    """The loss and every gradient are those of the model without the fault."""
    broken, right = Chunked(between).double(), Chunked("carry").double()
    right.load_state_dict(broken.state_dict())
    s = subject(broken)
    batch = (s.training[0][0].double(), s.training[0][1])
    condition = make_condition(s, "layer", change(name), 5)
    mended, expected = condition.loss(batch), cross_entropy(right, batch)
    torch.testing.assert_close(mended, expected)
    for a, b in zip(gradient(condition.model, mended), gradient(right, expected), strict=True):
        torch.testing.assert_close(a, b)


def test_a_kept_state_is_dropped() -> None:
    s = subject(Keeping())
    condition = make_condition(s, "layer", change("a fresh state"), 5)
    first = condition.loss(s.training[0])
    condition.loss(s.training[1])
    torch.testing.assert_close(condition.loss(s.training[0]), first)


def test_chrono_sets_the_gates_and_leaves_the_original() -> None:
    s = subject(Classifier(nn.LSTM(WIDTH, 6, batch_first=True)))
    condition = make_condition(s, "layer", change("gate biases by chrono"), 50)
    _, layer = find_recurrent(condition.model)
    forget = (layer.bias_ih_l0 + layer.bias_hh_l0)[6:12]
    assert (forget >= 0).all()
    assert (forget <= torch.tensor(100.0).log()).all()
    write = (layer.bias_ih_l0 + layer.bias_hh_l0)[:6]
    torch.testing.assert_close(write, -forget)
    _, untouched = find_recurrent(s.copy())
    assert not torch.equal(untouched.bias_ih_l0, layer.bias_ih_l0)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_orthogonal_blocks(kind) -> None:
    s = subject(Classifier(kind(WIDTH, 6, batch_first=True)))
    _, layer = find_recurrent(make_condition(s, "layer", change("orthogonal"), 5).model)
    for block in layer.weight_hh_l0.split(6):
        torch.testing.assert_close(block @ block.T, torch.eye(6), atol=1e-5, rtol=0)


def test_conditions_are_trained_alike() -> None:
    s = subject(Classifier(nn.GRU(WIDTH, 6, batch_first=True)), 8)
    trials = [
        Trainer(s, 3).train(make_condition(s, "layer", None, 5), seconds=60, updates=12)
        for _ in range(2)
    ]
    assert trials[0] == trials[1]
    assert trials[0].updates == 12
    assert not trials[0].diverged


def test_a_skip_is_a_further_lag_of_the_cell() -> None:
    """The library's own cells have lags: the same outputs and gradients, exactly."""
    s = subject(Classifier(nn.RNN(WIDTH, 6, batch_first=True)))
    skip = SkipOver(5)
    s = s.altered(lambda model: model.double() and None)
    model = s.copy(training=True)
    x, y = s.training[0]
    batch = (x.double(), y)
    lagged = Classifier(nn.RNN(WIDTH, 6, batch_first=True)).double()
    cell = tt.cells.ElmanCell(WIDTH, 6, lags=(1, 5), dtype=torch.float64)
    lagged.head = model.head
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).copy_(getattr(model.layer, f"{name}_l0"))
    with run_by(model.layer, skip.run):
        s.loss(model, batch)  # makes the weights
    (weight,) = skip.parameters()
    with torch.no_grad():
        weight.copy_(torch.randn(6, 6, dtype=torch.float64))
        cell.weight_hh_lag5.copy_(weight)
    with run_by(model.layer, skip.run):
        loss = s.loss(model, batch)
    lagged.layer = tt.Recurrent(cell, batch_first=True)
    expected = cross_entropy(lagged, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    mine = torch.autograd.grad(loss, [weight, model.layer.weight_hh_l0])
    theirs = torch.autograd.grad(
        expected, [lagged.layer.weight_hh_lag5_l0, lagged.layer.weight_hh_l0]
    )
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_skip_starts_as_the_model_is_and_refuses_packed_sequences() -> None:
    s = subject(Chunked("carry"))
    condition = make_condition(s, "layer", change("a skip connection"), 3)
    batch = s.training[0]
    torch.testing.assert_close(condition.loss(batch), s.loss(s.copy(), batch))
    assert condition.parameters()[-1].shape == (20, 5)
    layer = nn.GRU(WIDTH, 6, batch_first=True)
    refused = pytest.raises(errors.EngineRefusalError, match="are packed")
    with run_by(layer, SkipOver(2).run), refused:
        layer(nn.utils.rnn.pack_padded_sequence(batch[0], torch.tensor([12] * 9 + [3]), True))


def test_another_cell_goes_on_from_its_own_state() -> None:
    """In chunks it is what it is in one piece; where the model starts afresh, so does it."""
    s = subject(Chunked("carry"))
    other = OtherCell(lambda cell: tt.cells.GRUCell(cell.input_size, cell.output_size))
    model = s.copy()
    batch = s.training[0]
    with run_by(model.layer, other.run):
        first = model(batch[0])
    with run_by(model.layer, other.run):
        assert torch.equal(model(batch[0]), first)
    with run_by(model.layer, other.run):
        whole, _ = model.layer(batch[0])
    torch.testing.assert_close(model.head(whole[:, -1]), first)
    assert len(other.parameters()) == 4


def test_swapped_axes_are_put_right() -> None:
    s = subject(Classifier(nn.LSTM(WIDTH, 5)))
    condition = make_condition(s, "layer", change("the other order"), 5)
    right = Classifier(nn.LSTM(WIDTH, 5, batch_first=True))
    right.load_state_dict(s.copy().state_dict())
    batch = s.training[0]
    torch.testing.assert_close(condition.loss(batch), cross_entropy(right, batch))


def windowed(model, optimizer, batch) -> None:
    """A user's step that cuts at step 6."""
    x, y = batch
    optimizer.zero_grad()
    _, state = model.layer(x[:, :6])
    outputs, _ = model.layer(x[:, 6:], state.detach())
    nn.functional.cross_entropy(model.head(outputs[:, -1]), y).backward()
    optimizer.step()


def test_a_cut_in_the_step_is_mended_by_the_whole_sequence() -> None:
    s = subject(Classifier(nn.GRU(WIDTH, 6, batch_first=True)), 8)
    made: list[torch.optim.Optimizer] = []

    class Counted(torch.optim.SGD):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    def own(model: nn.Module) -> torch.optim.Optimizer:
        return Counted(model.parameters(), lr=0.25)

    trainer = Trainer(s, 0, as_training_step(windowed, s.copy()), own)
    _, module = find_recurrent(s.copy())
    changes = changes_for(Cause.GRADIENT_CUT, module, "step")
    assert [c.name for c in changes] == ["one backward pass through the whole sequence"]
    remedies, untried = try_changes(trainer, "layer", changes, 11, Clock(60), 8, {})
    assert not untried
    assert remedies[0].how == "trained"
    assert remedies[0].updates == 8
    assert remedies[0].before != remedies[0].after
    assert len(made) == 2  # one for each copy
    assert all(group["lr"] == 0.25 for one in made for group in one.param_groups)


def test_without_time_changes_are_measured_and_said_to_be() -> None:
    """Orthogonal weights carry the gradient of a contracting network further."""
    layer = nn.RNN(WIDTH, 6, batch_first=True)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(0.1)
    s = subject(Classifier(layer), 16)
    changes = changes_for(Cause.VANISHING, layer, "model")
    remedies, _ = try_changes(Trainer(s, 0), "layer", changes, 8, Clock(1e-6), 8, {})
    assert {r.how for r in remedies} == {"instruments"}
    assert {r.updates for r in remedies} == {0}
    (orthogonal,) = [r for r in remedies if r.name.startswith("orthogonal")]
    assert not orthogonal.helped  # it was not trained
    assert orthogonal.after.value > orthogonal.before.value


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_every_change_runs(kind) -> None:
    s = subject(Classifier(kind(WIDTH, 6, batch_first=True)))
    _, module = find_recurrent(s.copy())
    for one in CHANGES:
        if one.fits(module) and one.training.own == "nothing":
            condition = make_condition(s, "layer", one, 5)
            trial = Trainer(s, 0).train(condition, seconds=60, updates=1, training=one.training)
            assert trial.updates == 1


def test_once_the_time_is_spent_the_other_changes_are_named_as_not_tried() -> None:
    """At least one change is trained, the likeliest, however slow the model is."""
    s = subject(Classifier(nn.RNN(WIDTH, 6, batch_first=True)), 16)
    _, module = find_recurrent(s.copy())
    changes = changes_for(Cause.VANISHING, module, "model")
    clock = Clock(60)

    condition = make_condition(s, "layer", None, 8)
    done = {USUAL: Trainer(s, 0).train(condition, seconds=1, updates=4)}
    trained: list[str] = []

    def spend(module: nn.Module, lag: int) -> None:
        trained.append(type(module).__name__)
        clock.budget = 0.0

    first = dataclasses.replace(changes[0], apply=spend)
    remedies, untried = try_changes(
        Trainer(s, 0), "layer", [first, *changes[1:]], 8, clock, 4, done
    )
    assert trained == ["RNN"]
    assert [r.how for r in remedies] == ["trained"]
    assert len(untried) == len(changes) - 1
    assert all("the time went to others" in line for line in untried)
