"""Gradients that are not zeroed, and parameters that are not trained, from the user's own step."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, first_steps
from torch import nn

from throughtime.doctor import Cause, diagnose
from throughtime.doctor.subject import Subject
from throughtime.doctor.training_step import check_held, check_steps, check_zeroed, run_steps


def model(**options: Any) -> Classifier:
    return Classifier(nn.GRU(WIDTH, 5, batch_first=True, **options))


def subject(made: nn.Module) -> Subject:
    return Subject(made, first_steps(8), cross_entropy, 6.0)


def sgd(made: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(made.parameters(), lr=0.1)


def step_of(zero: str) -> Any:
    """A step that zeroes gradients in a certain way."""
    calls = 0

    def step(model, optimizer, batch) -> float:
        nonlocal calls
        calls += 1
        if zero == "first":
            optimizer.zero_grad(set_to_none=False)
        cross_entropy(model, batch).backward()
        if zero.startswith("every"):
            if calls % 5 == 0:
                optimizer.step()
                if zero == "every fifth":
                    optimizer.zero_grad()
            return 0.0
        if zero == "once in six" and calls % 6 == 0:
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
        if zero == "of the head":
            model.head.zero_grad()
            cross_entropy(model, batch).backward()
        if zero == "clipped, never":
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        if zero == "last":
            for parameter in model.parameters():
                parameter.grad = None
        return 0.0

    return step


@pytest.mark.parametrize(
    ("zero", "fault"),
    [
        ("first", False),
        ("last", False),
        ("every fifth", False),
        ("every fifth, never", True),
        ("once in six", True),
        ("of the head", True),
        ("never", True),
        ("clipped, never", True),
    ],
)
def test_gradients_that_are_never_zeroed(zero: str, fault: bool) -> None:
    steps = run_steps(subject(model()), step_of(zero), sgd, 60.0)
    found = check_zeroed(steps)
    assert (found is not None) == fault
    assert steps.calls == (25 if zero == "every fifth, never" else 12)
    assert len(steps.changed) == 6
    if found is not None:
        of_layer = {name for name in steps.changed if name.startswith("layer")}
        assert steps.unzeroed == (of_layer if zero == "of the head" else steps.changed)


def test_one_call_with_several_updates() -> None:
    """Chunks of a sequence: gradients are zeroed before each, or before the first alone."""
    for each in (True, False):

        def step(model, optimizer, batch, each=each) -> None:
            optimizer.zero_grad()
            for chunk in range(3):
                if each and chunk:
                    optimizer.zero_grad()
                cross_entropy(model, batch).backward()
                optimizer.step()

        steps = run_steps(subject(model()), step, sgd, 60.0)
        assert steps.updates == 36
        assert (check_zeroed(steps) is None) == each


def test_gradients_that_are_cleared_between_backward_and_step() -> None:
    """With weight decay the parameters move all the same."""
    for to_none in (True, False):

        def step(model, optimizer, batch, to_none=to_none) -> None:
            cross_entropy(model, batch).backward()
            optimizer.zero_grad(set_to_none=to_none)
            optimizer.step()

        def decaying(made: nn.Module) -> torch.optim.Optimizer:
            return torch.optim.SGD(made.parameters(), lr=0.1, weight_decay=0.1)

        found = check_steps(subject(model()), "layer", step, decaying, 60.0)
        assert found is not None
        assert found.cause is Cause.NOT_TRAINED
        assert "clears the gradients before each of" in found.statement


def test_an_update_without_an_optimiser() -> None:
    def step(model, optimizer, batch) -> None:
        cross_entropy(model, batch).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad

    steps = run_steps(subject(model()), step, sgd, 60.0)
    assert steps.updates == 12
    assert check_zeroed(steps) is not None


def test_the_sum_of_gradients_is_that_of_the_calls() -> None:
    """One batch again and again, and a step that hardly moves: the n-th gradient is n times."""
    data = first_steps(1)
    s = Subject(model(), data * 8, cross_entropy, 6.0)

    def tiny(made: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(made.parameters(), lr=1e-5)

    steps = run_steps(s, step_of("never"), tiny, 60.0)
    assert steps.sums == pytest.approx(12, rel=1e-2)


def test_accumulation_over_more_batches_than_a_dozen_is_no_fault() -> None:
    calls = 0

    def step(model, optimizer, batch) -> float:
        nonlocal calls
        calls += 1
        cross_entropy(model, batch).backward()
        if calls % 20 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return 0.0

    s = subject(model())
    steps = run_steps(s, step, sgd, 60.0)
    assert steps.calls == 21
    assert check_zeroed(steps) is None
    assert check_held(s, "layer", sgd, steps) is None


def test_the_optimiser_of_the_head_alone_is_named_with_and_without_a_step() -> None:
    s = subject(model(num_layers=2))

    def of_head(made: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(made.head.parameters())

    for step in (None, step_of("first")):
        found = check_steps(s, "layer", step, of_head, 60.0)
        assert found is not None
        assert found.cause is Cause.NOT_TRAINED
        assert found.severity == "fault"
        assert "does not hold layer.bias_hh_l0" in found.statement
        assert found.effect is not None
        assert found.effect.value == 2
        assert found.threshold == 10


def test_one_level_or_one_direction_that_is_left_out_is_named() -> None:
    s = subject(model(num_layers=2, bidirectional=True))

    def part(made: Any) -> torch.optim.Optimizer:
        held = [p for n, p in made.named_parameters() if not n.endswith("_l1_reverse")]
        return torch.optim.SGD(held, lr=0.1)

    found = check_steps(s, "layer", step_of("first"), part, 60.0)
    assert found is not None
    assert "weight_ih_l1_reverse" in found.statement
    assert "l0" not in found.statement


def test_a_head_that_is_left_out_is_a_warning() -> None:
    def of_layer(made: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(made.layer.parameters(), lr=0.1)

    found = check_steps(subject(model()), "layer", None, of_layer, 60.0)
    assert found is not None
    assert found.severity == "warning"
    assert "head.bias, head.weight" in found.statement


def test_a_step_whose_gradient_does_not_reach_the_layer() -> None:
    def step(model, optimizer, batch) -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            outputs, _ = model.layer(batch[0])
        nn.functional.cross_entropy(model.head(outputs[:, -1]), batch[1]).backward()
        optimizer.step()

    found = diagnose(
        model(), first_steps(8), cross_entropy, budget="1s", training_step=step, optimizer=sgd
    )
    assert found.verdict is Cause.NOT_TRAINED
    assert found.findings[0].certainty == "proved"
    assert "no gradient reaches" in found.sentence


def test_a_step_that_updates_nothing() -> None:
    def step(model, optimizer, batch) -> None:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()

    found = check_steps(subject(model()), "layer", step, sgd, 60.0)
    assert found is not None
    assert found.severity == "fault"
    assert "changes no parameter of the model in 64 calls" in found.statement


def test_a_sound_step_and_no_step_are_no_finding() -> None:
    s = subject(model())
    assert check_steps(s, "layer", step_of("first"), sgd, 60.0) is None
    assert check_steps(s, "layer", None, sgd, 60.0) is None
    assert check_steps(s, "layer", None, None, 60.0) is None


def test_frozen_parameters_of_a_layer_are_a_warning() -> None:
    made = model(num_layers=2)
    made.layer.weight_hh_l0.requires_grad_(False)
    found = check_steps(subject(made), "layer", None, None, 60.0)
    assert found is not None
    assert found.severity == "warning"
    assert "layer.weight_hh_l0" in found.statement


@pytest.mark.parametrize(("factor", "fault"), [(0.5, True), (0.99, False), (1.0, False)])
def test_a_learning_rate_that_falls_to_nothing_in_a_dozen_steps(factor: float, fault: bool) -> None:
    usual = step_of("first")

    def step(made, optimizer, batch) -> float:
        usual(made, optimizer, batch)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        return 0.0

    found = check_steps(subject(model()), "layer", step, sgd, 60.0)
    assert (found is not None) == fault
    if found is not None:
        assert found.cause is Cause.STEP_SIZE
        assert found.effect is not None
        assert found.effect.value == pytest.approx(0.5**12)
