"""Ways of learning within a run: the same gradients as the task's own loss, and refusals."""

from pathlib import Path

import pytest
import torch
from tasks.drawing import training_batch
from torch import nn
from training.tiny import tiny, trained

from throughtime.core.errors import (
    ConfigurationError,
    LearnerRefusalError,
    UnknownNameError,
)
from throughtime.learning import LEARNERS, Chunk, GradientPropagation
from throughtime.models import build_model
from throughtime.tasks import TASKS, Characters, SequenceBatch, SequenceTask, Task
from throughtime.tasks.kinds import Classes, Values
from throughtime.training import Evaluated, Event, RunConfig, train
from throughtime.training.teaching import build_teacher, stepwise_model

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")

TASKS_OF_EACH_ANSWER = {
    (Classes, False): "temporal-order:length=10",
    (Values, False): "latch:length=6",
    (Classes, True): "counting:longest=3",
    (Values, True): "wave:length=9",
}


def model_for(task: Task, spec: str = "gru:hidden=3") -> nn.Module:
    torch.manual_seed(1)
    return build_model(spec, task.inputs, task.answers).double()


def scoring(task: Task, model: nn.Module):
    return lambda scored, batch, state, step: task.score(scored, batch, state=state, step=step)


def chunk_of(task: SequenceTask, batch: SequenceBatch) -> Chunk:
    steps = task.steps(batch)
    return Chunk(steps.inputs, steps.targets, None, steps.weights)


def double(batch: SequenceBatch) -> SequenceBatch:
    floating = batch.targets.is_floating_point()
    targets = batch.targets.double() if floating else batch.targets
    return batch._replace(inputs=batch.inputs.double(), targets=targets)


def gradients(task: Task, model: nn.Module, **fields) -> tuple[torch.Tensor, list[torch.Tensor]]:
    config = RunConfig("latch", "rnn", **fields)
    batch = double(training_batch(task, 0, 5, 0))
    teacher = build_teacher(config, model, task, scoring(task, model))
    model.zero_grad()
    loss = teacher.teach(batch, 0)
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("answer", TASKS_OF_EACH_ANSWER)
@pytest.mark.parametrize("learner", ["rtrl", "truncated-bptt:every=100,window=100"])
def test_a_whole_learner_has_the_gradient_of_the_tasks_loss(answer: tuple, learner: str):
    task = TASKS.build(TASKS_OF_EACH_ANSWER[answer])
    assert (type(task.answers), task.answers.per_step) == answer
    model = model_for(task)
    loss, expected = gradients(task, model)
    got_loss, got = gradients(task, model, learner=learner)
    torch.testing.assert_close(got_loss, loss, rtol=0, atol=1e-9)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_penalties_are_added_to_any_learner():
    task = TASKS.build("latch:length=6")
    model = model_for(task, "rnn:hidden=3")
    penalties = {"gradient_propagation": 0.7, "sparse_outputs": 0.01}
    for name, strength in penalties.items():
        plain, one, both = (
            gradients(task, model, learner="rtrl", **{name: s} if s else {})[1]
            for s in (0, strength, 2 * strength)
        )
        added = [(b - a, c - a) for a, b, c in zip(plain, one, both, strict=True)]
        assert max(float(b.abs().max()) for b, _ in added) > 1e-4
        for once, twice in added:  # they are linear in their strength
            torch.testing.assert_close(twice, 2 * once, rtol=1e-6, atol=1e-10)
        by_bptt = gradients(task, model, **{name: strength})[1]
        for a, b in zip(one, by_bptt, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_the_form_of_the_penalty_reaches_the_learner():
    task = TASKS.build("latch:length=6")
    model = model_for(task, "rnn:hidden=3")
    plain = gradients(task, model)[1]
    stepwise = stepwise_model(model, task, "bptt")
    chunk = chunk_of(task, double(training_batch(task, 0, 5, 0)))
    for form in ("paper", "code"):
        learner = GradientPropagation(0.7, form)
        _, penalty = learner.penalty(stepwise, learner.init(stepwise, 5), chunk)
        found = gradients(task, model, gradient_propagation=0.7, gradient_propagation_form=form)[1]
        expected = dict(stepwise.named_parameters())
        for (name, _), own, before in zip(expected.items(), found, plain, strict=True):
            added = 0.7 * penalty[name] if name in penalty else torch.zeros_like(own)
            torch.testing.assert_close(own - before, added)


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_every_learner_trains_a_run(learner: str, tmp_path: Path):
    config = tiny(task="latch:length=6", model="rnn:hidden=3", learner=learner, steps=3)
    if learner in NEEDS_OWN_CELLS:
        with pytest.raises(LearnerRefusalError):
            train(config, tmp_path)
        return
    result = train(config, tmp_path)
    assert result.status in ("completed", "solved")
    assert result.step == 3


# These are for two-state units, and KF-RTRL would take this model.
NEEDS_OWN_CELLS = {"target-propagation", "discrete-error-propagation"}


class Stopped(Exception):
    """The process is killed."""


@pytest.mark.parametrize("learner", ["uoro", "simulated-annealing"])
def test_a_run_goes_on_to_the_same_bits(learner: str, tmp_path: Path):
    config = tiny(
        task="latch:length=6", model="rnn:hidden=3", learner=learner, stop_when_solved=False
    )

    def stop(event: Event) -> None:
        if isinstance(event, Evaluated):
            raise Stopped

    with pytest.raises(Stopped):  # after 6 updates, of which 4 are saved
        train(config, tmp_path / "cut", observer=stop)
    train(config, tmp_path / "cut")
    train(config, tmp_path / "whole")
    assert trained(tmp_path / "cut") == trained(tmp_path / "whole")


def test_a_search_keeps_the_best_weights(tmp_path: Path):
    task = TASKS.build("latch:length=5")
    model = model_for(task, "rnn:hidden=2")
    config = RunConfig("latch", "rnn", learner="random-guessing:low=-5,high=5")
    batch = training_batch(task, 0, 32, 0)
    batch = batch._replace(inputs=batch.inputs.double(), targets=batch.targets.double())
    teacher = build_teacher(config, model, task, scoring(task, model))
    assert teacher.one_batch
    losses = [float(teacher.teach(batch, step)) for step in range(60)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        assert float(task.score(model, batch).loss) == pytest.approx(losses[-1])


@pytest.mark.parametrize(
    ("model", "learner", "fields", "message"),
    [
        ("rnn:hidden=2,bidirectional=true", "rtrl", {}, "bidirectional"),
        ("rnn:hidden=2", "random-guessing", {"sparse_outputs": 0.1}, "penalty"),
        ("rnn:hidden=2", "kf-rtrl", {}, None),
        ("gru:hidden=2", "kf-rtrl", {}, "Kronecker"),
    ],
)
def test_refusals_say_what_can(model: str, learner: str, fields: dict, message: str | None):
    task = TASKS.build("latch:length=6")
    if message is None:
        gradients(task, model_for(task, model), learner=learner, **fields)
        return
    with pytest.raises(LearnerRefusalError, match=message) as refused:
        gradients(task, model_for(task, model), learner=learner, **fields)
    assert "learns any" in str(refused.value) or "Leave the penalty" in str(refused.value)


def test_a_parametrised_matrix_is_refused():
    task = TASKS.build("latch:length=6")
    model = model_for(task, "rnn:hidden=2")
    nn.utils.parametrizations.orthogonal(model.recurrent, "weight_hh_l0")
    with pytest.raises(LearnerRefusalError, match="parametrisation"):
        gradients(task, model, learner="rtrl")


def test_wrong_names_are_told():
    with pytest.raises(UnknownNameError, match="rtrl"):
        LEARNERS.parse("rttl")
    with pytest.raises(ConfigurationError):
        RunConfig("latch", "rnn", gradient_propagation=-1.0)
    with pytest.raises(ConfigurationError):
        RunConfig("latch", "rnn", learner="")


@pytest.mark.usefixtures("unchecked")
def test_a_form_that_is_not_there():
    with pytest.raises(UnknownNameError, match="paper"):
        RunConfig("latch", "rnn", gradient_propagation_form="program")


STREAM = Characters("the quick brown fox jumps over the lazy dog. " * 30, length=5, stream=True)


@pytest.mark.parametrize("learner", ["bptt", "truncated-bptt:every=5,window=12", "uoro"])
def test_a_streams_state_goes_on_from_batch_to_batch(learner: str):
    """As in one long chunk, while the weights stay what they are."""
    model = model_for(STREAM, "lstm:hidden=3")
    config = RunConfig("characters", "lstm", learner=learner, batch_size=4, seed=7)
    teacher = build_teacher(config, model, STREAM, scoring(STREAM, model))
    taught = LEARNERS.build(learner)
    stepwise = stepwise_model(model, STREAM, learner)
    state = taught.init(stepwise, 4, 7)
    for step in range(4):
        batch = double(training_batch(STREAM, step, 4, 7))
        loss, found, state = taught.update(stepwise, state, chunk_of(STREAM, batch))
        model.zero_grad()
        torch.testing.assert_close(teacher.teach(batch, step), loss)
        if step == 2:  # a batch that is not kept changes nothing
            model.zero_grad()
            torch.testing.assert_close(teacher.teach(batch, step), loss)
        teacher.keep()
        if step == 1:  # taken up again by another
            saved = teacher.state()
            teacher = build_teacher(config, model, STREAM, scoring(STREAM, model))
            teacher.load(saved)
    for name, parameter in stepwise.named_parameters():
        torch.testing.assert_close(parameter.grad, found[name])
    fresh = taught.update(stepwise, taught.init(stepwise, 4, 7), chunk_of(STREAM, batch))
    assert not torch.allclose(fresh.loss, loss)


@pytest.mark.parametrize("learner", ["bptt", "uoro"])
def test_a_run_on_a_stream_goes_on_to_the_same_bits(
    learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("throughtime.training.run.build_task", lambda config: STREAM)
    config = tiny(model="rnn:hidden=3", learner=learner, stop_when_solved=False)

    def stop(event: Event) -> None:
        if isinstance(event, Evaluated):
            raise Stopped

    with pytest.raises(Stopped):
        train(config, tmp_path / "cut", observer=stop)
    train(config, tmp_path / "cut")
    train(config, tmp_path / "whole")
    assert trained(tmp_path / "cut") == trained(tmp_path / "whole")


def test_a_stream_has_to_step_forward_alone():
    model = model_for(STREAM, "rnn:hidden=2,bidirectional=true")
    config = RunConfig("characters", "rnn", batch_size=4)
    with pytest.raises(LearnerRefusalError, match="on a stream, any that goes forward"):
        build_teacher(config, model, STREAM, scoring(STREAM, model))
