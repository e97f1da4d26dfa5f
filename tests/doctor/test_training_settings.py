"""Step size, weight decay, scale and ruined weights, by copies that learn or do not."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor import Cause
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.fresh_copies import UPDATES, FreshCopies
from throughtime.doctor.input_scale import (
    _standardised,
    _with_embedding,
    check_scale,
    input_scale,
    target_scale,
)
from throughtime.doctor.mechanism import measure_mechanism
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Condition, Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.training_settings import (
    check_copies,
    check_frozen,
    check_learning,
    check_own_training,
    check_weights,
    moved_biases,
)

NEED = Need([0.7, 0.7, 0.7], [0.7] * 3, [0.1] * 3, 3, None, True, {}, learned=True)


def trial(loss: float, updates: int = 500, *, diverged: bool = False) -> Trial:
    return Trial([0.7, 0.71, 0.69], [loss, 1.01 * loss, 0.99 * loss], updates, diverged)


def gru(**options: Any) -> Classifier:
    return Classifier(nn.GRU(WIDTH, 5, batch_first=True, **options))


def copies_of(
    model: nn.Module, batches: Any = None, loss: Any = cross_entropy, optimizer: Any = None
) -> FreshCopies:
    subject = Subject(model, first_steps(8) if batches is None else batches, loss, 6.0)
    return FreshCopies(Trainer(subject, 0, None, optimizer), "layer", NEED, Clock(60.0))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch):
    """Results of copies by the name of the change; what is not planted does not learn."""
    results: dict[str, Trial | None] = {}
    asked: list[str] = []

    def train(self: FreshCopies, name: str, *arguments: Any, **options: Any) -> Trial | None:
        del self, arguments, options
        asked.append(name)
        return results.get(name, trial(0.69))

    monkeypatch.setattr(FreshCopies, "train", train)
    return results, asked


def adam(rate: float, decay: float = 0.0) -> Any:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)

    return make


@pytest.mark.parametrize(
    ("rate", "decay", "works", "cause", "line"),
    [
        (0.3, 0.0, "a learning rate of 0.03", Cause.STEP_SIZE, "lr=0.03"),
        (0.3, 0.0, "a learning rate of 0.003", Cause.STEP_SIZE, "lr=0.003"),
        (1e-6, 0.0, "a learning rate of 0.001", Cause.STEP_SIZE, "lr=0.001"),
        (0.003, 0.3, "a weight decay of 0", Cause.WEIGHT_DECAY, "weight_decay=0"),
        (0.02, 0.0, "none", None, ""),
    ],
)
def test_the_change_that_makes_the_users_training_learn(
    rate: float, decay: float, works: str, cause: Any, line: str, planted
) -> None:
    results, _ = planted
    results["as it is"] = trial(0.1)
    results[works] = trial(0.12)
    copies = copies_of(gru(), optimizer=adam(rate, decay))
    found = check_own_training(copies, "here")
    assert (found and found.cause) is cause
    if found is not None:
        assert line in found.remedy
        assert found.certainty == "measured"
        (remedy,) = copies.remedies
        assert remedy.code == line
        assert (round(remedy.before.value, 2), round(remedy.after.value, 2)) == (0.69, 0.12)


@pytest.mark.parametrize("factor", [0.8, 0.999])
def test_a_learning_rate_that_falls_to_nothing_in_training(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies are trained in fact: one keeps its rate, as the doctor's does."""
    results = {"as it is": trial(0.1), "a learning rate that stays at 0.003": trial(0.12)}
    rates: dict[str, float] = {}

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> float:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        before = optimizer.param_groups[0]["lr"]
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= factor
        return before

    def train(self: FreshCopies, name: str, *_: Any, trainer: Any = None, **options: Any) -> Trial:
        if trainer is not None and trainer.step is not None:
            update = trainer.update(self.condition(), options["training"])
            for batch in self.trainer.subject.training * 5:
                update(batch)
                rates[name] = seen[-1]
        return results.get(name, trial(0.69))

    seen: list[float] = []

    def watched(model: nn.Module) -> torch.optim.Optimizer:
        made = torch.optim.Adam(model.parameters(), lr=3e-3)
        made.register_step_post_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
        return made

    monkeypatch.setattr(FreshCopies, "train", train)
    copies = copies_of(gru(), optimizer=watched)
    copies.trainer.step = step
    found = check_own_training(copies, "here")
    assert (found is not None) == (factor == 0.8)
    if found is not None:
        assert found.cause is Cause.STEP_SIZE
        assert "lowers the learning rate from 0.003 to" in found.statement
        assert rates["a learning rate that stays at 0.003"] == 3e-3
        assert rates["your own training"] == pytest.approx(3e-3 * 0.8**29)


@pytest.mark.parametrize(
    ("rate", "size"), [(30.0, "large"), (1e-7, "small"), (0.01, None), (1e-4, None)]
)
def test_steps_that_no_other_rate_mends(rate: float, size: str | None, planted) -> None:
    """Ten updates of Adam go as far as its learning rate, relative to that of the doctor's."""
    results, asked = planted
    results["as it is"] = trial(0.1)
    copies = copies_of(gru(), optimizer=adam(rate))
    found = check_own_training(copies, "here")
    assert (found is not None) == (size is not None)
    if found is not None:
        assert f"the steps are too {size}" in found.statement
        assert found.effect is not None
        assert found.effect.value == pytest.approx(rate / 3e-3, rel=0.5)
        rates = [float(name.split()[-1]) for name in asked if "rate" in name]
        assert len(rates) == 3
        assert all(0.0001 <= r <= 0.1 for r in rates)


@pytest.mark.parametrize(
    ("usual", "theirs"),
    [
        (trial(0.69), trial(0.69)),  # the doctor's does not learn either
        (trial(0.1), trial(0.3)),  # the user's is slower, but learns
        (trial(0.1, 400), trial(0.69, 100)),  # it had less time
        (None, None),
    ],
)
def test_no_fault_of_the_users_training(usual: Any, theirs: Any, planted) -> None:
    results, _ = planted
    results |= {"as it is": usual, "your own training": theirs}
    results |= {"a learning rate of 0.03": trial(0.1), "a learning rate of 3": trial(0.1)}
    assert check_own_training(copies_of(gru(), optimizer=adam(0.3)), "here") is None


def test_without_an_optimiser_nothing_is_trained(planted) -> None:
    _, asked = planted
    assert check_own_training(copies_of(gru()), "here") is None
    assert not asked


def test_fresh_copies_are_equal_and_unlike_the_given_model() -> None:
    torch.manual_seed(5)
    copies = copies_of(gru())
    one, other = copies.condition().model, copies.condition().model
    given = copies.trainer.subject.copy()
    for p, q, r in zip(one.parameters(), other.parameters(), given.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, r)


@pytest.mark.parametrize("moved", [True, False])
def test_ruined_weights(moved: bool, planted) -> None:
    """Training moves both biases of a unit by the same; a start does not."""
    results, _ = planted
    results["as it is"] = trial(0.1)
    model = Classifier(nn.LSTM(WIDTH, 5, batch_first=True))
    with torch.no_grad():
        model.layer.bias_ih_l0.add_(8 * torch.randn(20))
        if moved:
            model.layer.bias_hh_l0.copy_(model.layer.bias_ih_l0 + 0.1 * torch.randn(20))
    copies = copies_of(model)
    mechanism = measure_mechanism(copies.trainer.subject, "layer", 3)
    found = check_weights(copies, mechanism, trial(0.69), "here")
    assert found is not None
    assert found.cause is (Cause.STEP_SIZE if moved else Cause.SATURATED)
    assert found.certainty == ("suspected" if moved else "measured")
    assert check_weights(copies, mechanism, trial(0.12), "here") is None


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("bias", "cause"), [(-2.5, Cause.FORGETTING), (2.5, Cause.SATURATED)])
def test_gates_that_keep_are_closed(kind: Any, bias: float, cause: Cause, planted) -> None:
    """A bias of -2.5, twice, leaves sigmoid(-5) = 0.7 % of the memory to the next step."""
    results, _ = planted
    results["as it is"] = trial(0.1)
    model = Classifier(kind(WIDTH, 5, batch_first=True))
    with torch.no_grad():
        model.layer.bias_ih_l0.fill_(bias)
        model.layer.bias_hh_l0.fill_(bias)
    copies = copies_of(model)
    mechanism = measure_mechanism(copies.trainer.subject, "layer", 3)
    found = check_weights(copies, mechanism, trial(0.69), "here")
    assert found is not None
    assert found.cause is cause
    assert ("closed" in found.statement) == (cause is Cause.FORGETTING)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_equal_updates_move_both_biases_by_the_same(kind: Any) -> None:
    """Autograd: but for the candidate of a GRU, their gradients are the same."""
    layer = kind(WIDTH, 64)
    assert moved_biases(layer) is None
    layer(torch.randn(9, 4, WIDTH))[0].square().sum().backward()
    step = float(10 / layer.bias_ih_l0.grad.abs().mean())
    with torch.no_grad():
        for bias in (layer.bias_ih_l0, layer.bias_hh_l0):
            bias.add_(bias.grad, alpha=step)
    assert moved_biases(layer) is not None
    assert moved_biases(kind(WIDTH, 5, bias=False)) is None


def test_equal_biases_of_all_units_of_a_gate_are_a_start() -> None:
    layer = nn.LSTM(WIDTH, 8)
    with torch.no_grad():
        for bias in (layer.bias_ih_l0, layer.bias_hh_l0):
            bias.zero_()
            bias[8:16] = 5.0
    assert moved_biases(layer) is None


def far(batches: Any) -> Any:
    return [(400 * x + 3000, y) for x, y in batches]


def test_the_scale_is_that_of_the_data() -> None:
    batches = first_steps(8)
    s = Subject(gru(), far(batches), cross_entropy, 6.0)
    scale = input_scale(s, "layer")
    given = torch.cat([x for x, _ in s.training]).flatten(0, 1).double()
    torch.testing.assert_close(scale.mean, given.mean(0))
    torch.testing.assert_close(scale.deviation, given.std(0, correction=0))
    assert scale.values is None
    assert target_scale(s) is None


def test_packed_padding_is_not_part_of_the_scale() -> None:
    class Packed(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.arange(len(x)) % 4 + 2
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            return self.head(self.layer(packed)[1][-1])

    batches = [(torch.full((8, 12, WIDTH), 7.0), torch.zeros(8).long())] * 4
    s = Subject(Packed(nn.GRU(WIDTH, 5, batch_first=True)), batches, cross_entropy, 6.0)
    scale = input_scale(s, "layer")
    torch.testing.assert_close(scale.mean, torch.full((WIDTH,), 7.0).double())
    torch.testing.assert_close(scale.deviation, torch.zeros(WIDTH).double())


def mse(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.mse_loss(model(x), y)


def test_a_standardised_copy_computes_what_the_model_does_on_scaled_data() -> None:
    batches = [(400 * x + 3000, 50 * torch.randn(len(x), 2) + 900) for x, _ in first_steps(8)]
    s = Subject(gru(), batches, mse, 6.0)
    inputs, targets = input_scale(s, "layer"), target_scale(s)
    assert targets is not None
    x, y = s.held_out[0]
    model = s.copy()
    scaled = (x - inputs.mean.float()) / inputs.deviation.float()
    answer = model(scaled) * targets.deviation.float() + targets.mean.float()
    changed = s.copy()
    condition = Condition(changed, lambda b: mse(changed, b), lambda: list(changed.parameters()))
    condition = _standardised(condition, "layer", inputs, targets)
    torch.testing.assert_close(condition.loss((x, y)), F.mse_loss(answer, y))


def ids() -> Any:
    return [(torch.randint(3, 40, (10, 12, 1)).float(), torch.randint(2, (10,))) for _ in range(8)]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_an_embedded_copy_computes_what_torch_does(kind: Any) -> None:
    """Two levels and two directions; the embedding stands before the lowest level alone."""
    layer = kind(1, 5, num_layers=2, bidirectional=True, batch_first=True)
    s = Subject(Classifier(layer), ids(), cross_entropy, 6.0)
    values = input_scale(s, "layer").values
    assert values is not None
    model: Any = s.copy()
    condition = Condition(
        model, lambda b: cross_entropy(model, b), lambda: list(model.parameters())
    )
    own = len(condition.parameters())
    condition = _with_embedding(condition, "layer", values)
    x, y = s.held_out[0]
    loss = condition.loss((x, y))
    table, *weights = condition.parameters()[own:]
    assert table.shape == (len(values), 16)
    wide = kind(16, 5, num_layers=2, bidirectional=True, batch_first=True)
    state = model.layer.state_dict()
    state["weight_ih_l0"], state["weight_ih_l0_reverse"] = (w.detach() for w in weights)
    wide.load_state_dict(state)
    index = torch.searchsorted(values.float(), x[..., 0].contiguous())
    answer = model.head(wide(table[index])[0][:, -1])
    torch.testing.assert_close(loss, F.cross_entropy(answer, y))
    loss.backward()
    assert table.grad is not None


@pytest.mark.parametrize(
    ("batches", "works", "line"),
    [
        (far(first_steps(8)), "standardised inputs", "x_train.std((0, 1))"),
        (ids(), "an embedding of the inputs", "nn.Embedding(40, 16)"),
    ],
)
def test_what_makes_a_copy_learn_is_named(batches: Any, works: str, line: str, planted) -> None:
    results, _ = planted
    results[works] = trial(0.1)
    copies = copies_of(Classifier(nn.GRU(batches[0][0].shape[2], 5, batch_first=True)), batches)
    found = check_scale(copies, "here", saturated=False)
    assert found is not None
    assert found.cause is Cause.UNSCALED
    assert line in found.remedy
    assert line in copies.remedies[0].code
    results[works] = trial(0.69)
    assert check_scale(copies, "here", saturated=False) is None


def test_pixels_count_where_nothing_else_is_found(planted) -> None:
    """In [0, 1], far from mean 0 and deviation 1, but usually no obstacle."""
    results, asked = planted
    results["standardised inputs"] = trial(0.1)
    batches = [(torch.rand(10, 12, WIDTH), torch.randint(2, (10,))) for _ in range(8)]
    copies = copies_of(gru(), batches)
    mechanism = measure_mechanism(copies.trainer.subject, "layer", 3)
    suspect = check_scale(copies, "here", saturated=False, mild=True)
    assert suspect is not None
    asked.clear()
    assert check_copies(copies, mechanism, trial(0.69), [suspect], "here") is None
    assert not asked
    found = check_copies(copies, mechanism, trial(0.69), [], "here")
    assert found is not None
    assert found.cause is Cause.UNSCALED


def test_scaled_inputs_are_not_tried(planted) -> None:
    _, asked = planted
    assert check_scale(copies_of(gru()), "here", saturated=True) is None
    assert not asked


def test_targets_far_from_the_answers(planted) -> None:
    results, _ = planted
    results |= {"as it is": trial(9e5), "standardised inputs": trial(20.0)}
    batches = [(x, 50 * torch.randn(len(x), 2) + 900) for x, _ in first_steps(8)]
    copies = copies_of(gru(), batches, mse)
    copies.need = Need([9e5] * 3, [9e5] * 3, [9e5] * 3, 3, None, None, {}, learned=False)
    found = check_scale(copies, "here", saturated=False)
    assert found is not None
    assert found.cause is Cause.ANSWERS_UNFIT
    assert "the targets (mean 9" in found.statement
    assert "y_train.mean()" in found.remedy


def test_a_copy_may_make_all_updates() -> None:
    copies = copies_of(gru())
    copies.enough = lambda losses: True
    assert copies.train("until enough").updates == UPDATES // 8
    assert copies.train("all of them", updates=9).updates == 9


def test_frozen_parameters_that_keep_a_copy_from_learning(planted) -> None:
    results, _ = planted
    model = gru()
    model.layer.weight_ih_l0.requires_grad_(False)
    copies = copies_of(model)
    assert check_frozen(copies, "here") is None
    results["all parameters of the layer trained"] = trial(0.1)
    found = check_frozen(copies, "here")
    assert found is not None
    assert found.cause is Cause.NOT_TRAINED
    assert "weight_ih_l0 of layer 'layer'" in found.statement
    assert check_frozen(copies_of(gru()), "here") is None


def test_an_unscaled_model_is_told_by_training() -> None:
    """The same data, in thousands; only copies with standardised inputs learn."""
    torch.manual_seed(0)
    batches = far(first_steps(32, batch=16))
    model = Classifier(nn.LSTM(WIDTH, 8, batch_first=True))
    copies = copies_of(model, batches)
    copies.need = Need([0.7] * 8, [0.7] * 8, [0.1] * 8, 3, None, True, {}, learned=True)
    found = check_scale(copies, "here", saturated=True)
    assert found is not None
    assert found.cause is Cause.UNSCALED
    assert found.effect is not None
    assert found.effect.high < 0


@pytest.mark.parametrize(
    ("model", "fresh", "good"),
    [
        (0.1, 0.1, True),
        (0.1, 0.69, False),
        (0.4, 0.1, False),
        (0.33, 0.2, False),
        (0.2, 0.12, True),
    ],
)
def test_a_good_model_gains_as_much_as_a_copy_that_learns(
    model: float, fresh: float, good: bool, planted
) -> None:
    """Gains over 0.7: at least half of it, and at least 0.8 of the copy's."""
    results, _ = planted
    results["as it is"] = trial(fresh)
    assert copies_of(gru()).do_no_better([model] * 3) is good


@pytest.mark.parametrize(("rate", "fault"), [(1e-6, True), (1e-3, False)])
def test_updates_that_are_far_too_short_where_a_copy_learns(rate: float, fault: bool) -> None:
    found = check_learning(copies_of(gru(), optimizer=adam(rate)), "here")
    assert (found is not None) == fault
    if found is not None:
        assert found.cause is Cause.STEP_SIZE
        assert found.effect is not None
        assert found.effect.value < 1 / 500
