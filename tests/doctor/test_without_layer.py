"""Models whose recurrent layer is written out, lies in a list, or is not found."""

import itertools
from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor import Cause, diagnose
from throughtime.doctor.subject import Subject
from throughtime.doctor.training_step import check_registered
from throughtime.doctor.user_training import as_optimizer, holds_hidden
from throughtime.foreign.sites import recurrent_layers
from throughtime.models import build_model
from throughtime.tasks import warped_digits

OPTIONS: Any = {"budget": "2s", "progress": False}


class InList(nn.Module):
    """Its layers lie in an attribute of a certain kind."""

    def __init__(self, kind: Any):
        super().__init__()
        self.layers = kind([nn.GRU(WIDTH, 5, batch_first=True), nn.GRU(5, 5, batch_first=True)])
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x[:, -1])


def subject(model: nn.Module) -> Subject:
    return Subject(model, first_steps(6), cross_entropy, 6.0)


def test_layers_in_a_list_are_found_and_not_trained() -> None:
    model = InList(list)
    one = subject(model)
    copy = one.copy()
    assert [*recurrent_layers(copy)] == ["layers_0", "layers_1"]
    assert one.registered == {"layers_0": "layers[0]", "layers_1": "layers[1]"}
    assert {n for n, p in copy.named_parameters() if p.requires_grad} == {
        "head.weight",
        "head.bias",
    }
    assert [n for n, _ in model.named_parameters()] == ["head.weight", "head.bias"]
    finding = check_registered(one)
    assert finding is not None
    assert "layers[0].weight_ih_l0" in finding.statement
    assert "Make layers an nn.ModuleList" in finding.remedy
    assert check_registered(subject(InList(nn.ModuleList))) is None


def test_what_the_optimiser_holds_is_trained() -> None:
    model = InList(list)
    every = [*model.head.parameters(), *(p for m in model.layers for p in m.parameters())]
    for held, expected in ((every, True), ([*model.parameters()], False)):
        own = torch.optim.Adam(held)
        assert holds_hidden(model, own, as_optimizer(own, model)) is expected

    def make(m: Any) -> Any:
        return torch.optim.Adam([*m.head.parameters(), *m.layers[0].parameters()])

    assert holds_hidden(model, make, as_optimizer(make, model))
    assert not holds_hidden(model, None, None)


def test_a_shared_layer_and_frozen_ones_are_not_hidden() -> None:
    model = InList(nn.ModuleList)
    model.again = [model.layers[0]]
    assert subject(model).registered == {}
    frozen = InList(nn.ModuleList)
    frozen.teacher = [nn.Linear(2, 2)]  # held, and out of reach of the loss
    assert check_registered(subject(frozen)) is None


def test_a_parameter_in_a_dict_is_reported() -> None:
    model = InList(nn.ModuleList)
    model.scale = {"out": nn.Parameter(torch.ones(2))}

    def loss(made: Any, batch: Any) -> Tensor:
        return (made(batch[0]) * made.scale["out"]).square().mean()

    finding = check_registered(Subject(model, first_steps(6), loss, 6.0))
    assert finding is not None
    assert "scale['out']" in finding.statement


class Written(nn.Module):
    """A tanh network in one forward; its first step may be another, so that no loop is found."""

    def __init__(self, *, apart: bool):
        super().__init__()
        self.i, self.h, self.head = nn.Linear(WIDTH, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        nn.init.orthogonal_(self.h.weight)
        self.apart = apart

    def forward(self, x: Tensor) -> Tensor:
        h = self.i(x[:, 0]).tanh() if self.apart else x.new_zeros(len(x), 8)
        for t in range(int(self.apart), x.shape[1]):
            h = torch.tanh(self.i(x[:, t]) + self.h(h))
        return self.head(h)


def test_a_loop_in_one_forward_is_diagnosed() -> None:
    model = Written(apart=False)
    found = diagnose(model, first_steps(8), cross_entropy, remedies=False, **OPTIONS)
    assert {fact.name: fact.value for fact in found.facts}["input of the layer"] == (
        "12 steps of 10 sequences"
    )


def test_without_a_layer_other_checks_run() -> None:
    torch.manual_seed(0)
    found = diagnose(Written(apart=True), first_steps(8), cross_entropy, **OPTIONS)
    assert found.verdict in (Cause.UNDERTRAINED, Cause.INCONCLUSIVE)
    assert any("No recurrent layer was found" in f.statement for f in found.findings)

    class Mixed(Written):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(0)

    coins = [(x, torch.randint(2, (len(x),))) for x, _ in first_steps(8)]
    faulty = diagnose(Mixed(apart=True), coins, cross_entropy, **OPTIONS)
    assert faulty.verdict is Cause.SAMPLES_MIXED


class Making(nn.Module):
    """A layer and a head, each of which may be made anew in each forward."""

    def __init__(self, made: str):
        super().__init__()
        self.layer = None if made == "layer" else nn.GRU(WIDTH, 5, batch_first=True)
        self.head = None if made in ("head", "later") else nn.Linear(5, 2)
        self.made = made

    def forward(self, x: Tensor) -> Tensor:
        layer = nn.GRU(WIDTH, 5, batch_first=True) if self.layer is None else self.layer
        head = nn.Linear(5, 2) if self.head is None else self.head
        if self.made == "later":
            self.head = head
        return head(nn.LayerNorm(5)(layer(x)[0][:, -1]))  # whose weights are the same each time


@pytest.mark.parametrize(("made", "kind"), [("layer", "GRU"), ("head", "Linear")])
def test_modules_that_forward_makes_are_not_trained(made: str, kind: str) -> None:
    finding = check_registered(subject(Making(made)))
    assert finding is not None
    assert finding.cause is Cause.NOT_TRAINED
    assert f"A {kind} is made within forward" in finding.statement


@pytest.mark.parametrize("made", ["none", "later"])
def test_modules_that_are_kept_are_not_made_anew(made: str) -> None:
    assert check_registered(subject(Making(made))) is None
    outside = nn.Linear(2, 2)

    def loss(model: Any, batch: Any) -> Tensor:
        return outside(model(batch[0])).square().mean()

    assert check_registered(Subject(Making(made), first_steps(6), loss, 6.0)) is None


def test_a_layer_that_forward_makes_is_diagnosed() -> None:
    found = diagnose(Making("layer"), first_steps(8), cross_entropy, **OPTIONS)
    assert found.verdict is Cause.NOT_TRAINED
    assert "Make the GRU once, in __init__" in found.findings[0].remedy


@pytest.mark.parametrize("model", [nn.Linear(WIDTH, 2), nn.Sequential(nn.Linear(WIDTH, 2))])
def test_a_model_without_a_recurrence_is_refused(model) -> None:
    from throughtime.core import errors

    with pytest.raises(errors.ConfigurationError, match="0 recurrent layers"):
        diagnose(model, [(torch.ones(4, WIDTH), torch.ones(4).long())] * 3, cross_entropy)


def test_a_model_of_images_is_checked_without_an_axis_of_time() -> None:
    task = warped_digits(image_size=8, cropped=True)
    torch.manual_seed(0)
    model = build_model("grid:hidden=2", task.inputs, task.answers)
    batches = [*itertools.islice(task.batches("training", 4), 6)]
    found = diagnose(model, batches, lambda m, batch: task.score(m, batch).loss, **OPTIONS)
    assert found.model == "GridModel, a model of images"
    (note,) = [f for f in found.findings if "axis of time" in f.statement]
    assert not note.remedy
    assert not found.faulty
