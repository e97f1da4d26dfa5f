"""Layers whose inputs are the same for all samples and steps."""

import pytest
import torch
from doctor.faulty_models import WIDTH, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor import Cause
from throughtime.doctor.constant_inputs import check_inputs_vary
from throughtime.doctor.subject import Subject
from throughtime.foreign.recording import record
from throughtime.results.diagnosis import Finding


class Fronted(nn.Module):
    """A linear front with a rectifier, then a layer; or a decoder with constant inputs."""

    def __init__(self, bias: float, *, inner: bool = False, after: str = "relu"):
        super().__init__()
        self.front = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU()) if inner else nn.Linear(WIDTH, 4)
        self.after = after
        self.layer, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)
        nn.init.constant_((self.front[0] if inner else self.front).bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        state = None
        if self.after == "state":
            state, x = torch.cat([x, x[..., :1]], -1)[None, :, 0], torch.zeros_like(x)
        elif self.after != "none":
            x = torch.relu_(x) if self.after == "inplace" else torch.relu(x)
        return self.head(self.layer(x, state)[0][:, -1])


def check(model: nn.Module, batches=None, loss=cross_entropy) -> Finding | None:
    torch.manual_seed(0)
    subject = Subject(model, batches or first_steps(6), loss, 6.0)
    copy = subject.copy()
    recording = record(copy, lambda: subject.loss(copy, subject.held_out[0]), layer="layer")
    return check_inputs_vary(subject, "layer", recording)


@pytest.mark.parametrize("inner", [True, False])
def test_a_rectifier_that_passes_nothing_is_dead(inner: bool) -> None:
    found = check(Fronted(-60.0, inner=inner))
    assert found is not None
    assert found.cause is Cause.DEAD_UNITS
    assert "'front" in found.statement
    assert check(Fronted(0.0, inner=inner)) is None
    inplace = check(Fronted(-60.0, after="inplace"))
    assert inplace is not None
    assert inplace.cause is Cause.DEAD_UNITS


class Embedded(nn.Module):
    """Tokens, through an embedding of zeros."""

    def __init__(self, *, freeze: bool, scale: float = 0.0):
        super().__init__()
        vectors = scale * torch.randn(9, 4)
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=freeze)
        self.layer, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(x))[0][:, -1])


def test_a_frozen_embedding_of_zeros_is_not_trained() -> None:
    tokens = [(torch.randint(9, (10, 12)), torch.randint(2, (10,))) for _ in range(6)]
    found = check(Embedded(freeze=True), tokens)
    assert found is not None
    assert found.cause is Cause.NOT_TRAINED
    assert "'embedding' gives the same for each" in found.statement
    assert check(Embedded(freeze=False), tokens) is None  # training changes it
    assert check(Embedded(freeze=True, scale=1.0), tokens) is None
    same = [(torch.ones(10, 12).long(), torch.randint(2, (10,))) for _ in range(6)]
    assert check(Embedded(freeze=True), same) is None  # of the data


def test_a_decoder_of_constant_inputs_is_no_fault() -> None:
    model = Fronted(0.0, after="state")
    assert check(model) is None
    assert check(model.requires_grad_(False)) is None
