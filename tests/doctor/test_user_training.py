"""The user's step and optimiser in the forms that people have them, run on copies."""

import copy
import functools
from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, first_steps
from torch import nn

from throughtime import errors
from throughtime.doctor import Cause, diagnose
from throughtime.doctor.subject import Subject
from throughtime.doctor.user_training import as_optimizer, as_training, as_training_step, check_runs


class Lit(Classifier):
    """A module with the two methods of a trainer that makes the updates itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Loss."""
        assert batch_idx == 0
        return {"loss": cross_entropy(self, batch)}

    def configure_optimizers(self) -> Any:
        """Optimisers and schedules."""
        return [torch.optim.SGD(self.parameters(), lr=0.25)], []


class Loop:
    """A training loop that holds its model and its optimiser."""

    def __init__(self, model: nn.Module):
        self.model, self.optimizer = model, torch.optim.SGD(model.parameters(), lr=0.25)

    def step(self, batch: Any) -> float:
        """One update."""
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model, batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def of_three(model, optimizer, batch) -> Any:
    """The usual step."""
    optimizer.zero_grad()
    loss = cross_entropy(model, batch)
    loss.backward()
    optimizer.step()
    return loss


def of_other_order(batch, net, opt) -> None:
    """The same, by names."""
    of_three(net, opt, batch)


def of_two(model, batch) -> Any:
    """A loss, not differentiated."""
    return cross_entropy(model, batch)


def lit() -> Lit:
    return Lit(nn.GRU(WIDTH, 5, batch_first=True))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.25)


STEPS = {
    "three": lambda model: of_three,
    "other order": lambda model: of_other_order,
    "short names": lambda model: lambda m, o, b: of_three(m, o, b),
    "two": lambda model: of_two,
    "name": lambda model: "training_step",
    "method": lambda model: model.training_step,
    "loop": lambda model: Loop(model).step,
    "partial": lambda model: functools.partial(of_three, model),
}


@pytest.mark.parametrize("form", STEPS)
def test_every_form_makes_the_same_update_of_a_copy_alone(form: str) -> None:
    model = lit()
    subject = Subject(model, first_steps(4), cross_entropy, 6.0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    step, optimizer = as_training(model, STEPS[form](model), sgd)
    assert step is not None
    assert optimizer is not None
    check_runs(subject, model, step, optimizer)
    by_hand, copied = subject.copy(training=True), subject.copy(training=True)
    of_three(by_hand, sgd(by_hand), subject.training[0])
    step(copied, optimizer(copied), subject.training[0])
    for (name, p), q in zip(copied.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q)
        assert not torch.equal(p, before[name])
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.parametrize("form", ["name", "loop"])
def test_the_optimiser_comes_from_the_owner_of_the_step(form: str) -> None:
    model = lit()
    _, optimizer = as_training(model, STEPS[form](model), None)
    assert optimizer is not None
    made = optimizer(lit())
    assert isinstance(made, torch.optim.SGD)
    assert made.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    "form",
    [
        sgd,
        lambda params: torch.optim.SGD(params, lr=0.25),
        functools.partial(torch.optim.SGD, lr=0.25),
        lambda model: {"optimizer": sgd(model)},
    ],
)
def test_functions_and_classes_make_an_optimiser_of_the_copy(form: Any) -> None:
    model = lit()
    make = as_optimizer(form, model)
    assert make is not None
    copied = lit()
    made = make(copied)
    held = [id(p) for group in made.param_groups for p in group["params"]]
    assert held == [id(p) for p in copied.parameters()]
    assert made.param_groups[0]["lr"] == 0.25


def test_an_optimiser_keeps_its_groups_its_options_and_its_first_step_size() -> None:
    """Of AdamW, some defaults are no arguments. A schedule has brought one rate to 0."""
    model = lit()
    own = torch.optim.AdamW(
        [
            {"params": model.head.parameters(), "lr": 0.1, "weight_decay": 0.5},
            {"params": [model.layer.weight_ih_l0]},
        ],
        lr=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(own, lambda epoch: 1.0 - epoch)
    of_three(model, own, first_steps(1)[0])
    schedule.step()
    assert own.param_groups[0]["lr"] == 0
    make = as_optimizer(own, model)
    assert make is not None
    copied = lit()
    made = make(copied)
    assert [g["lr"] for g in made.param_groups] == [0.1, 0.01]
    assert made.param_groups[0]["weight_decay"] == 0.5
    assert not made.state
    held = [id(p) for group in made.param_groups for p in group["params"]]
    expected = [copied.head.weight, copied.head.bias, copied.layer.weight_ih_l0]
    assert held == [id(p) for p in expected]
    of_three(copied, made, first_steps(1)[0])
    assert len(own.state) == 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("step", "optimizer", "said"),
    [
        (3, None, "training_step: got int, expected a function of"),
        ("fit", None, "'fit', which is no method of the model"),
        (lambda x: None, None, r"got a function of \(x\)"),
        (lambda a, b, c, d: None, None, r"got a function of \(a, b, c, d\)"),
        (of_three, 0.1, "optimizer: got float, expected an optimiser"),
        (of_three, lambda model: None, "a function that returns NoneType"),
        (of_three, sgd(nn.Linear(2, 3)), "none of the model's parameters"),
        (lambda model, x, y: x[0], None, "training_step: got TypeError"),
    ],
)
def test_other_forms_are_refused_in_words(step: Any, optimizer: Any, said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=said):
        diagnose(
            lit(),
            first_steps(4),
            cross_entropy,
            budget="1s",
            training_step=step,
            optimizer=optimizer,
        )


def test_a_step_that_trains_the_users_model_is_refused_and_undone() -> None:
    model = lit()
    optimizer = sgd(model)
    before = [p.clone() for p in model.parameters()]

    def step(model_, optimizer_, batch) -> None:
        del model_, optimizer_
        of_three(model, optimizer, batch)

    with pytest.raises(errors.ConfigurationError, match="trains the given model itself"):
        diagnose(model, first_steps(4), cross_entropy, budget="1s", training_step=step)
    assert all(map(torch.equal, before, model.parameters()))


def test_a_step_without_any_form_is_none() -> None:
    assert as_training_step(None, lit()) is None
    assert as_optimizer(None, lit()) is None


def test_an_optimiser_of_the_original_is_refused_and_one_of_a_copy_trains_nothing() -> None:
    model = lit()
    own = sgd(model)
    with pytest.raises(errors.ConfigurationError, match="parameters of the model itself"):
        diagnose(model, first_steps(4), cross_entropy, budget="1s", optimizer=lambda made: own)
    found = diagnose(
        model,
        first_steps(4),
        cross_entropy,
        budget="1s",
        remedies=False,
        training_step=of_three,
        optimizer=lambda made: sgd(copy.deepcopy(made)),
    )
    assert found.verdict is Cause.NOT_TRAINED


def test_weights_that_diverged_are_explained_by_fresh_ones() -> None:
    model = lit()
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))

    def never_zeroed(made: Any, optimizer: Any, batch: Any) -> None:
        cross_entropy(made, batch).backward()
        optimizer.step()

    found = diagnose(
        model,
        first_steps(4),
        cross_entropy,
        budget="1s",
        training_step=never_zeroed,
        remedies=False,
    )
    assert found.verdict is Cause.NOT_ZEROED
    assert any("head.bias" in fact.value for fact in found.facts)
    with pytest.raises(errors.ConfigurationError, match=r"not finite in head\.bias"):
        diagnose(model, first_steps(4), cross_entropy, budget="1s", training_step=of_three)
