"""The whole course: verdicts that exact checks give at once, what goes in wrong, what is left."""

import contextlib
import copy
import json
import random

import numpy as np
import pytest
import torch
from doctor.faulty_models import (
    WIDTH,
    Chunked,
    Classifier,
    Keeping,
    cross_entropy,
    echoes,
    first_steps,
)
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.doctor import Cause, diagnose
from throughtime.doctor.diagnose import as_seconds
from throughtime.doctor.exact_checks import reads_all_at_once
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.subject import Subject, as_loss_function, take_batches


def quick(model, batches, loss=cross_entropy, **options):
    return diagnose(model, batches, loss, budget="1s", remedies=False, **options)


def swapped() -> Classifier:
    return Classifier(nn.LSTM(WIDTH, 5))


def test_top_of_the_package() -> None:
    assert tt.diagnose is diagnose
    diagnosis = tt.diagnose(swapped(), first_steps(), cross_entropy, budget="1s", remedies=False)
    assert diagnosis.verdict is tt.doctor.Cause.TIME_BATCH_SWAPPED
    assert "runs over the batch in place of time" in diagnosis.sentence
    text = str(diagnosis)
    assert max(map(len, text.splitlines())) <= 80
    document = json.loads(json.dumps(diagnosis.to_json(), allow_nan=False))
    assert document["verdict"] == "TIME_BATCH_SWAPPED"


@pytest.mark.usefixtures("unchecked")  # the checks draw from `random` too
def test_nothing_of_the_users_is_changed() -> None:
    model = swapped().train()
    model.register_buffer("count", torch.ones(2))
    model.head.bias.requires_grad_(False)
    batches = first_steps()
    cross_entropy(model, batches[0]).backward()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    gradients = {n: copy.deepcopy(p.grad) for n, p in model.named_parameters()}
    adam = copy.deepcopy(optimizer.state_dict())
    data = [(x.clone(), y.clone()) for x, y in batches]
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])  # noqa: NPY002

    def step(model, optimizer, batch) -> None:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()

    quick(model, batches, training_step=step, optimizer=optimizer)
    assert model.training
    assert not model.head.bias.requires_grad
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    for name, parameter in model.named_parameters():
        if gradients[name] is None:
            assert parameter.grad is None
        else:
            assert torch.equal(parameter.grad, gradients[name])
    assert str(optimizer.state_dict()) == str(adam)
    pairs = zip(batches, data, strict=True)
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_nothing_is_changed_by_an_error_or_ctrl_c(error) -> None:
    model, calls = Keeping(), 0
    stops = pytest.raises(error) if error is KeyboardInterrupt else contextlib.nullcontext()

    def loss(model, batch):
        nonlocal calls
        calls += 1
        torch.rand(3)
        if calls == 9:  # in the first recording
            raise error
        return cross_entropy(model, batch)

    batches, before = first_steps(), copy.deepcopy(model.state_dict())
    states = torch.get_rng_state()
    with stops:
        diagnosis = quick(model, batches, loss)
        assert diagnosis.verdict is Cause.INCONCLUSIVE
        assert "ZeroDivisionError" in diagnosis.sentence
    assert model.state is None
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states)
    assert "forward" not in model.layer.__dict__


def test_a_model_that_keeps_a_state_with_its_graph_is_copied() -> None:
    model = Keeping()
    cross_entropy(model, first_steps(1)[0])
    assert model.state is not None
    assert model.state.grad_fn is not None
    assert quick(model, first_steps()).verdict is Cause.STATE_LEAK
    assert model.state.grad_fn is not None


def test_losses_of_torch() -> None:
    assert quick(swapped(), first_steps(), nn.CrossEntropyLoss()).verdict is (
        Cause.TIME_BATCH_SWAPPED
    )
    loss = as_loss_function(nn.functional.mse_loss)
    layer = nn.RNN(WIDTH, 2)  # returns a tuple
    x = torch.randn(4, 3, WIDTH)
    assert loss(layer, (x, layer(x)[0])) == 0
    with pytest.raises(errors.ConfigurationError, match=r"expected \(\*inputs, target\)"):
        loss(layer, {"x": x})


def elsewhere(model, batch):
    raise RuntimeError("Expected all tensors to be on the same device")


def with_weight(value: float) -> Classifier:
    model = swapped()
    with torch.no_grad():
        model.head.bias.fill_(value)
    return model


def test_bad_input() -> None:
    good = first_steps(4)
    cases = [
        (nn.Linear(2, 2), good, cross_entropy, {}, "0 recurrent layers"),
        (nn.ModuleDict({"a": nn.GRU(2, 2)}), good, cross_entropy, {}, "got NotImplementedError"),
        (swapped().to("meta"), good, elsewhere, {}, "on the device meta"),
        (
            swapped(),
            [torch.ones(2, device="meta").long()],
            elsewhere,
            {},
            "cpu, the batches on meta",
        ),
        (Classifier(nn.GRU(WIDTH, 5, batch_first=True)), good, cross_entropy, {"lag": 12}, "of 12"),
        (swapped(), [], cross_entropy, {}, "the iterable is empty"),
        (swapped(), iter(()), cross_entropy, {}, "the iterable is empty"),
        (swapped(), good, lambda m, b: m(b[0]), {}, "expected a scalar tensor"),
        (swapped(), good, lambda m, b: 1.0, {}, "got float"),
        (swapped(), good, 3, {}, r"function of \(model, batch\)"),
        (with_weight(float("nan")), good, cross_entropy, {}, "not finite in head.bias"),
        (swapped(), good, cross_entropy, {"lag": 0}, "at least 1"),
        (swapped(), good, cross_entropy, {"layer": "nope"}, "unknown recurrent layer"),
    ]
    for model, batches, loss, options, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            quick(model, batches, loss, **options)
    nans = [(x * float("nan"), y) for x, y in good]
    with pytest.raises(errors.DataError, match="batch 3"):
        quick(swapped(), nans)


def test_a_loss_of_another_model_is_told() -> None:
    other = swapped()
    diagnosis = quick(swapped(), first_steps(), lambda m, b: cross_entropy(other, b))
    assert diagnosis.verdict is Cause.NOT_TRAINED
    assert "does not run layer 'layer'" in diagnosis.sentence


def test_batches_of_any_kind() -> None:
    pair = first_steps(1)[0]
    assert len(take_batches(pair, 1.0)) == 1
    assert len(take_batches(pair[0], 1.0)) == 1
    assert len(take_batches({"x": pair[0]}, 1.0)) == 1

    def forever():
        while True:
            yield pair

    assert len(take_batches(forever(), 60.0)) == 64
    taken = take_batches([pair], 1.0)
    assert taken[0][0] is not pair[0]  # a loader that fills the same tensor again


def test_budgets() -> None:
    assert as_seconds("60s") == 60
    assert as_seconds("1.5 min") == 90
    assert as_seconds(2) == 2
    for bad in ("", "s", "-1s", "0", "1 day"):
        with pytest.raises(errors.ConfigurationError, match="budget"):
            as_seconds(bad)


def test_a_state_that_overflows_has_exploded() -> None:
    layer = nn.RNN(WIDTH, 5, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(1e8 * torch.eye(5))
        layer.bias_ih_l0.fill_(1.0)
    diagnosis = quick(Classifier(layer), first_steps())
    assert diagnosis.verdict is Cause.EXPLODING
    assert diagnosis.findings[0].certainty == "proved"


class TwoLayers(nn.Module):
    """An encoder that is swapped, and a decoder that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(WIDTH, 4)
        self.decoder = nn.GRU(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        """Classes."""
        return self.head(self.decoder(self.encoder(x)[0])[0][:, -1])


def test_all_layers_are_examined_unless_one_is_named() -> None:
    model, batches = TwoLayers(), first_steps()
    diagnosis = quick(model, batches)
    assert diagnosis.verdict is Cause.TIME_BATCH_SWAPPED
    assert diagnosis.sentence.startswith("encoder: ")
    verdicts = {f.name: f.value for f in diagnosis.facts if f.name.startswith("verdict on")}
    assert set(verdicts) == {"verdict on encoder", "verdict on decoder"}
    assert any("decoder" in finding.measured_on for finding in diagnosis.findings)
    assert diagnosis.budget == 1.0
    alone = quick(model, batches, layer="decoder")
    assert not any(fact.name.startswith("verdict on") for fact in alone.facts)


def test_history_is_told() -> None:
    norms = [1.0] * 40
    norms[30] = 1e4
    history = tt.doctor.History(losses=[1 / (k + 1) for k in range(200)], gradient_norms=norms)
    diagnosis = quick(swapped(), first_steps(), history=history)
    assert diagnosis.verdict is Cause.TIME_BATCH_SWAPPED
    said = [finding.statement for finding in diagnosis.findings]
    assert any("1e+04 times its median, at entry 31" in text for text in said)
    assert any("still falling" in text for text in said)
    assert not any("history=" in item for item in diagnosis.missing_evidence)
    wrong = tt.doctor.History(losses=[1.0, float("nan"), 1.0])
    said = [f.statement for f in quick(swapped(), first_steps(), history=wrong).findings]
    assert any("entry 2 of 3 of the loss is not finite" in text for text in said)


@pytest.mark.parametrize("between", ["carry", "detach"])
def test_a_dead_read_out(between: str) -> None:
    """A cut in the code comes first: weights are drawn afresh when it is mended."""
    model = Chunked(between)
    model.head = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model.head[0].bias.fill_(-100.0)
    diagnosis = quick(model, first_steps())
    cut = between == "detach"
    assert diagnosis.verdict is (Cause.GRADIENT_CUT if cut else Cause.DEAD_UNITS)
    assert diagnosis.findings[-1].cause is Cause.DEAD_UNITS
    assert diagnosis.findings[-1].statement.startswith("The gradient of the loss is exactly 0")


def test_a_read_out_that_died_of_a_saturated_layer() -> None:
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True))
    model.head = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model.head[0].bias.fill_(-100.0)
    batches = [(x + 1000.0, y) for x, y in first_steps()]
    diagnosis = quick(model, batches)
    assert diagnosis.verdict is Cause.SATURATED
    assert [f.cause for f in diagnosis.findings] == [Cause.SATURATED, Cause.DEAD_UNITS]


class Pooled(nn.Module):
    """Its read-out is the mean over all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        """Classes."""
        return self.head(self.layer(x)[0].mean(1))


def test_a_read_out_of_all_steps_is_told_from_answers_at_all_steps() -> None:
    for model, batches, expected in (
        (Pooled(), first_steps(4), True),
        (Classifier(nn.GRU(WIDTH, 5, batch_first=True)), first_steps(4), False),
        (Classifier(nn.GRU(WIDTH, 5, batch_first=True), read="steps"), echoes(4), False),
    ):
        subject = Subject(model, batches, cross_entropy, 6.0)
        flow = flow_in_double(subject, "layer", subject.held_out[0])
        assert reads_all_at_once(subject, "layer", flow.answer > 0) is expected


def test_a_model_that_pools_and_has_learned_is_healthy() -> None:
    """Recent inputs at one step or another are enough; the answer needs the first step even so."""
    model, batches = Pooled(), first_steps(24, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for batch in batches * 4:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    diagnosis = diagnose(model, batches, cross_entropy, budget="20s", remedies=False)
    assert diagnosis.verdict is Cause.HEALTHY


def test_a_cut_in_the_step_comes_before_a_dead_read_out() -> None:
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True))
    model.head = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model.head[0].bias.fill_(-100.0)

    def step(model, optimizer, batch) -> None:
        x, y = batch
        _, state = model.layer(x[:, :6])
        outputs, _ = model.layer(x[:, 6:], state.detach())
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.head(outputs[:, -1]), y).backward()
        optimizer.step()

    diagnosis = quick(model, first_steps(), training_step=step)
    assert diagnosis.verdict is Cause.GRADIENT_CUT


def test_a_lag_beyond_the_axis_that_the_layer_takes_for_time() -> None:
    """The layer sees ten steps, of what are ten sequences of twelve."""
    assert quick(swapped(), first_steps(), lag=11).verdict is Cause.TIME_BATCH_SWAPPED
