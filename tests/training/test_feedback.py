"""Feedback: schedules, coins by token, draws of the model, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError
from throughtime.core.sampling import Sampling
from throughtime.models import LanguageModel, build_model
from throughtime.tasks.kinds import Likelihood, Pairs, Tokens
from throughtime.training import (
    FEEDBACKS,
    Fed,
    FreeRunning,
    LearnedFeedback,
    ProfessorForcing,
    RunConfig,
    ScheduledSampling,
    TeacherForcing,
    train,
)

TIME, BATCH, ALPHABET = 7, 5, 4


def model_of(spec: str = "gru:hidden=6", alphabet: int = ALPHABET) -> LanguageModel:
    torch.manual_seed(0)
    model = build_model(f"{spec},engine=eager", Tokens(alphabet), Likelihood())
    assert isinstance(model, LanguageModel)
    assert isinstance(model, NextSymbol)
    return model.double()


def batch_of(alphabet: int = ALPHABET) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    text = torch.randint(alphabet, (TIME + 1, BATCH), generator=random)
    targets = text[1:].clone()
    targets[5:, 0] = targets[3:, 2] = -1  # sequences that end before
    return text[:-1], targets


def random_of(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(model: nn.Module, losses: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(losses.sum(), list(model.parameters())))


def test_schedules() -> None:
    linear = ScheduledSampling(schedule="linear", k=0.9, slope=0.1, least=0.2)
    found = [linear.probability(i) for i in (0, 1, 7, 100)]
    assert found == pytest.approx([0.9, 0.8, 0.2, 0.2])
    late = ScheduledSampling(schedule="linear", k=2.0, slope=0.01)
    assert [late.probability(i) for i in (0, 100, 150, 300)] == pytest.approx([1, 1, 0.5, 0])
    exponential = ScheduledSampling(schedule="exponential", k=0.99)
    assert exponential.probability(100) == pytest.approx(0.99**100)
    inverse = ScheduledSampling(schedule="inverse-sigmoid", k=50.0)
    assert inverse.probability(200) == pytest.approx(50 / (50 + math.exp(4)))
    assert inverse.probability(10**9) == pytest.approx(0, abs=1e-100)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "cosine"},
        {"schedule": "exponential", "k": 1.5},
        {"schedule": "inverse-sigmoid", "k": 0.5},
        {"schedule": "linear", "slope": -1.0},
        {"schedule": "linear", "least": 2.0},
    ],
)
def test_schedules_that_cannot_be(options, unchecked) -> None:
    with pytest.raises(ConfigurationError):
        ScheduledSampling(**options)


def test_true_symbols_alone_are_teacher_forcing_to_the_bits() -> None:
    model, (symbols, targets) = model_of(), batch_of()
    always = ScheduledSampling(schedule="linear", k=1.0, slope=0.0)
    given = {"state": None, "step": 10**6, "random": random_of()}
    expected, _ = TeacherForcing().losses(model, symbols, targets, **given)
    found, _ = always.losses(model, symbols, targets, **given)
    assert torch.equal(found, expected)
    assert bool((found[targets < 0] == 0).all())
    for a, b in zip(gradients(model, found), gradients(model, expected), strict=True):
        assert torch.equal(a, b)


def test_no_true_symbol_is_free_running() -> None:
    model, (symbols, targets) = model_of(), batch_of()
    never = ScheduledSampling(schedule="linear", k=0.0)
    found, _ = never.losses(model, symbols, targets, None, step=0, random=random_of())
    free, _ = FreeRunning().losses(model, symbols, targets, None, step=0, random=random_of())
    assert torch.equal(found, free)


def test_mixed_symbols_equal_a_loop_over_sequences() -> None:
    """Coins and numbers by token; each sequence by itself, a step at a time."""
    model, (symbols, targets) = model_of("lstm:hidden=5,layers=2"), batch_of()
    half = ScheduledSampling(schedule="linear", k=0.5, slope=0.0)
    found, state = half.losses(model, symbols, targets, None, step=0, random=random_of())
    random = random_of()
    coins = torch.rand(symbols.shape, generator=random)
    uniform = torch.rand(symbols.shape, generator=random, dtype=torch.float64)
    expected = torch.zeros(TIME, BATCH, dtype=torch.float64)
    mixed = 0
    for b in range(BATCH):
        text = [int(symbols[0, b])]
        for t in range(TIME):
            logits = model(torch.tensor(text)[:, None])[0][-1, 0]
            if targets[t, b] >= 0:
                expected[t, b] = -logits.log_softmax(-1)[targets[t, b]].detach()
            if t + 1 < TIME and coins[t + 1, b] < 0.5:
                text.append(int(symbols[t + 1, b]))
            elif t + 1 < TIME:
                drawn = Sampling().draw(logits[None].detach(), uniform[t + 1, b : b + 1])
                mixed += int(drawn) != int(symbols[t + 1, b])
                text.append(int(drawn))
        last = model(torch.tensor(text)[:, None])[1]
        for whole, alone in zip(state, last, strict=True):
            torch.testing.assert_close(whole[:, b], alone[:, 0])
    assert mixed > 5
    torch.testing.assert_close(found.detach(), expected)


def test_the_gradient_of_a_draw_in_expectation() -> None:
    """Two symbols, two steps: the mean over draws of the estimator, by enumeration.

    The symbol s is drawn with p(s); with it, the second step reads e_s + p - stop(p).
    """
    model, count = model_of("rnn:hidden=3", alphabet=2), 4000
    symbols = torch.zeros(2, count, dtype=torch.int64)
    targets = torch.ones(2, count, dtype=torch.int64)
    straight = FreeRunning(gradient="straight-through")
    losses, _ = straight.losses(model, symbols, targets, None, step=0, random=random_of())
    found = gradients(model, losses / count)

    rnn, readout = model.recurrent, model.readout
    w_ih, w_hh = rnn.weight_ih_l0, rnn.weight_hh_l0
    bias = rnn.bias_ih_l0 + rnn.bias_hh_l0
    h = torch.tanh(w_ih[:, 0] + bias)
    logits = readout(h)
    p, first = logits.softmax(-1), F.cross_entropy(logits, torch.tensor(1))
    expected = torch.zeros((), dtype=torch.float64)
    for s in range(2):
        x = F.one_hot(torch.tensor(s), 2) + p - p.detach()
        after = torch.tanh(w_ih @ x + w_hh @ h + bias)
        second = F.cross_entropy(readout(after), torch.tensor(1))
        expected = expected + p[s].detach() * (first + second)
    for name, a, b in zip(
        [n for n, _ in model.named_parameters()], found, gradients(model, expected), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.01, msg=lambda m, n=name: f"{n}: {m}")
    # without the straight-through term, the input weights of symbol 1 get another gradient
    none, _ = FreeRunning().losses(model, symbols, targets, None, step=0, random=random_of())
    assert any(
        not torch.allclose(a, b, atol=1e-3)
        for a, b in zip(gradients(model, none / count), found, strict=True)
    )


def test_professor_forcing_adds_the_gradient_of_free_running_alone() -> None:
    model, (symbols, targets) = model_of(), batch_of()
    professor = ProfessorForcing(hidden=4, low=0.0, weight=2.0)
    losses, _ = professor.losses(model, symbols, targets, None, step=0, random=random_of())
    taught, _ = TeacherForcing().losses(model, symbols, targets, None, step=0, random=random_of())
    torch.testing.assert_close(losses, taught)
    penalty = professor.penalty()
    assert penalty is not None
    discriminator = professor._discriminator
    assert discriminator is not None
    reached = torch.autograd.grad(
        penalty, list(discriminator.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in reached)
    parameters = list(model.parameters())  # of the readout: none, since the draws pass none
    found = torch.autograd.grad(penalty, parameters, allow_unused=True)
    assert found[-1] is None
    assert found[0] is not None

    uniform = torch.rand(symbols.shape, generator=random_of(), dtype=torch.float64)
    behaviour, state, read = [], None, symbols[:1]
    for u in uniform:
        features, state = model.features(read, state)
        behaviour.append(features)
        read = Sampling().draw(model.logits(features)[-1].detach(), u)[None]
    lengths = (targets >= 0).sum(0)
    told = discriminator(torch.cat(behaviour), lengths)
    expected = torch.autograd.grad(-2 * F.logsigmoid(told).mean(), parameters, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b)


def test_the_accuracy_decides_who_learns() -> None:
    model, (symbols, targets) = model_of(), batch_of()

    def after(accuracy: float) -> tuple[bool, bool]:
        """Whether the discriminator has changed, and whether there is a penalty."""
        professor = ProfessorForcing(hidden=4, decay=0.999999)
        professor.accuracy = accuracy
        professor.losses(model, symbols, targets, None, step=0, random=random_of())
        penalty = professor.penalty()
        before = {k: v for k, v in professor.state().items() if k.startswith("discriminator.")}
        before = {k: v.clone() for k, v in before.items()}
        professor.learn()
        now = professor.state()
        return any(not torch.equal(now[k], v) for k, v in before.items()), penalty is not None

    assert after(0.5) == (True, False)
    assert after(0.8) == (True, True)
    assert after(0.99) == (False, True)


def test_a_discriminator_tells_free_running_apart() -> None:
    """Of a model that draws another symbol than those that are fed, always."""
    model = model_of("gru:hidden=6", alphabet=3)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    symbols, targets = torch.zeros(6, 8, dtype=torch.int64), torch.zeros(6, 8, dtype=torch.int64)
    professor = ProfessorForcing(hidden=8, learning_rate=0.02, high=1.0, decay=0.5)
    for step in range(60):
        professor.losses(model, symbols, targets, None, step=step, random=random_of(step))
        professor.learn()
    assert professor.accuracy > 0.95


@pytest.mark.parametrize("options", [{"hidden": 0}, {"low": 0.9, "high": 0.8}, {"decay": 1.0}])
def test_professors_that_cannot_be(options) -> None:
    with pytest.raises(ConfigurationError):
        ProfessorForcing(**options)


@pytest.mark.parametrize("context", ["initial", "attention"])
@pytest.mark.parametrize(
    "feedback",
    [
        "scheduled-sampling:schedule=linear,k=0.5",
        "free-running:gradient=straight-through",
        "professor-forcing:hidden=3,low=0",
    ],
)
def test_decoders_read_their_own_symbols(feedback, context) -> None:
    """Losses at padding are 0, and every parameter has a gradient, those of the encoder too."""
    torch.manual_seed(0)
    spec = {"initial": "encoder-decoder:cell=gru", "attention": "attention:cell=gru"}[context]
    model = build_model(f"{spec},hidden=4,engine=eager", Pairs(Tokens(5), Tokens(6)), Likelihood())
    symbols, targets = batch_of(6)
    source = torch.randint(5, (4, BATCH), generator=random_of())
    state = model.encode(source, torch.tensor([4, 2, 3, 1, 4]))
    made = FEEDBACKS.build(feedback)
    losses, _ = Fed(made, model, 0, 0).losses(symbols, targets, state)
    assert bool((losses[targets < 0] == 0).all())
    penalty = made.penalty() if isinstance(made, LearnedFeedback) else None
    (losses.sum() if penalty is None else losses.sum() + penalty).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("to be or not to be, that is the question. " * 30)
    return file


@pytest.mark.parametrize(
    "feedback",
    [
        "scheduled-sampling:k=2.0",
        "free-running:gradient=straight-through",
        "professor-forcing:hidden=4,low=0",
    ],
)
def test_a_run_goes_on_to_the_same_bits(feedback, text, tmp_path) -> None:
    given = {
        "task": f"text:file={text},length=6",
        "model": "gru:hidden=5,engine=eager",
        "feedback": feedback,
        "batch_size": 3,
        "evaluate_every": 4,
    }
    whole = train(RunConfig(**given, steps=4), tmp_path / "whole")
    train(RunConfig(**given, steps=2), tmp_path / "parts")
    parts = train(RunConfig(**given, steps=4), tmp_path / "parts")
    assert whole.test == parts.test
    plain = train(RunConfig(**{**given, "feedback": "teacher"}, steps=4), tmp_path / "plain")
    assert plain.test != whole.test


def test_models_and_tasks_without_symbols_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="reads no symbol"):
        train(
            RunConfig(task="adding:length=20", model="gru:hidden=4", feedback="free-running"),
            tmp_path / "run",
        )
    model, (symbols, targets) = model_of(), batch_of()
    fed = Fed(FreeRunning(), model, 0, 0)
    assert fed.alphabet == ALPHABET
    assert fed.losses(symbols, targets, None)[0].shape == targets.shape
    with pytest.raises(ConfigurationError, match="losses"):
        fed(symbols, None)


def test_feedback_beside_another_learner_is_refused(text, tmp_path) -> None:
    config = RunConfig(
        task=f"text:file={text},length=6",
        model="gru:hidden=4",
        feedback="free-running",
        learner="rtrl",
    )
    with pytest.raises(ConfigurationError):
        train(config, tmp_path / "run")
