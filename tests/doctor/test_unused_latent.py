"""Posterior collapse: a model whose posterior is set to its prior, and one that uses z."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.density import Bound
from throughtime.core.gaussian import DiagonalGaussian
from throughtime.core.latent import Latents
from throughtime.doctor import unused_latent
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.diagnose import diagnose
from throughtime.doctor.intervals import exactly
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.sources import FlatDialogues
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.unused_latent import LatentUse
from throughtime.models import VHRED, VRNN, EncoderDecoder, build_model
from throughtime.models.vrnn import VRNNCell
from throughtime.results.diagnosis import Cause, Remedy
from throughtime.tasks.dialogues import DialogueBatch, collated
from throughtime.tasks.kinds import Dialogues, Frames, Likelihood

TEXT = "vrnn:cell=gru,hidden=4,latent=2,features=8,engine=eager"


def model(*, collapsed: bool) -> VRNN:
    """A VRNN; collapsed: the posterior is the prior, and the output does not read z."""
    torch.manual_seed(0)
    made = build_model(TEXT, Frames(2, binary=False), Likelihood())
    assert isinstance(made, VRNN)
    if collapsed:
        step = made.recurrent.as_cell()
        assert isinstance(step, VRNNCell)
        with torch.no_grad():
            for layer in (step.posterior, made.prior[2]):
                layer.weight.mul_(0.01)
                layer.bias.zero_()
            made.between_z.weight.mul_(0.01)
    return made


def batches(count: int = 16) -> list[tuple[Tensor, Tensor]]:
    """Frames (s, s) with a sign that is drawn at each step: no Gaussian alone has this law."""
    random = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        sign = (torch.rand(5, 16, 1, generator=random) < 0.5).float() * 2 - 1
        x = sign.expand(5, 16, 2) + 0.1 * torch.randn(5, 16, 2, generator=random)
        found.append((x, torch.full((16,), 5)))
    return found


def loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    bound = model.bound(*batch)
    return (bound.kl - bound.reconstruction).mean()


def use(made: nn.Module, trainer: Any = None, budget: float = 60.0) -> LatentUse:
    subject = Subject(made, batches(), loss, 1.0)
    found = LatentUse(subject, 0)
    found.measure(trainer and trainer(subject), Clock(budget))
    return found


def test_a_posterior_that_is_the_prior_is_found() -> None:
    found = use(model(collapsed=True))
    finding = found.finding("here")
    assert finding is not None
    assert (finding.cause, finding.severity) == (Cause.POSTERIOR_COLLAPSE, "note")
    assert finding.effect is not None
    assert 0 <= finding.effect.value < 0.01
    assert "0 of 2 units are active" in finding.statement
    assert [fact.name for fact in found.facts] == [
        "KL of a vector of latent variables",
        "active latent units",
    ]


def test_variables_in_use_are_no_finding() -> None:
    """The posterior's mean is the sign of x: each vector tells about ln 2 nats or more."""
    made = model(collapsed=False)
    step = made.recurrent.as_cell()
    assert isinstance(step, VRNNCell)
    with torch.no_grad():
        step.posterior.weight.mul_(8)
    found = use(made)
    assert not found.collapsed
    assert found.finding("here") is None


def test_models_without_latent_variables_are_left_alone() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(2, 3)

        def bound_of(self, x: Tensor) -> Tensor:
            return self.layer(x)[0]

    subject = Subject(Plain(), batches(), lambda m, b: m.bound_of(b[0]).sum(), 1.0)
    found = LatentUse(subject, 0)
    found.measure(None, Clock(60))
    assert (found.facts, found.finding("here")) == ([], None)


class Scalar(nn.Module):
    """A variational model of the user's, with `bound` alone and batches of one tensor."""

    def __init__(self, kl: float):
        super().__init__()
        self.weight, self.kl = nn.Parameter(torch.ones(1)), kl

    def bound(self, x: Tensor, lengths: Tensor | None = None, *, random: Any = None) -> Bound:
        size = x.shape[1]
        return Bound(-self.weight.expand(size), torch.full((size,), self.kl))

    def importance_weighted(self, x, lengths=None, *, samples, random=None):
        return -self.weight.expand(x.shape[1])


@pytest.mark.parametrize(("kl", "collapsed"), [(0.0, True), (0.04, True), (0.2, False)])
def test_the_threshold(kl: float, collapsed: bool) -> None:
    data = [torch.zeros(2, 4, 1) for _ in range(16)]
    subject = Subject(Scalar(kl), data, lambda m, x: -m.bound(x).reconstruction.mean(), 1.0)
    found = LatentUse(subject, 0)
    found.measure(None, Clock(60))
    assert found.collapsed == collapsed
    assert len(found.facts) == 1


def test_units_that_are_active_are_no_collapse() -> None:
    found = use(model(collapsed=True))
    found.units = (1, 2)
    assert found.finding("here") is None


def remedy(helped: bool) -> Remedy:
    return Remedy(
        name="KL annealing",
        code="",
        how="trained",
        quantity="negative bound",
        before=exactly(2.0),
        after=exactly(1.0),
        updates=9,
        helped=helped,
    )


@pytest.mark.parametrize(
    ("helped", "severity", "words"),
    [(True, "fault", "negative bound 1, and 2"), (False, "note", "none may be needed")],
)
def test_it_is_a_fault_where_the_remedy_helps(helped: bool, severity: str, words: str) -> None:
    found = use(model(collapsed=True))
    found.remedies = [remedy(helped)]
    finding = found.finding("here")
    assert finding is not None
    assert finding.severity == severity
    assert words in finding.statement


def test_the_remedy_is_tried_on_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_latent, "_UPDATES", 8)
    made = model(collapsed=True)
    before = {name: p.clone() for name, p in made.named_parameters()}
    found = LatentUse(Subject(made, batches(8), loss, 1.0), 0)
    found._try(Trainer(found.subject, 0), Clock(60))
    assert all(torch.equal(p, before[name]) for name, p in made.named_parameters())
    (tried,) = found.remedies
    assert (tried.name, tried.quantity) == ("KL annealing", "negative bound")
    assert tried.updates > 0
    assert math.isfinite(tried.after.value)
    assert bool(tried.code) == tried.helped


def test_laws_of_a_batch_are_joined() -> None:
    one = torch.ones(2, 1)
    laws = Latents(DiagonalGaussian(one, one), DiagonalGaussian(0 * one, one))
    joined = Latents.joined([laws, laws])
    assert joined.posterior.mean.shape == (4, 1)
    assert torch.equal(joined.posterior.kl(joined.prior), torch.full((4,), 0.5))


def test_the_diagnosis_has_the_finding() -> None:
    found = diagnose(model(collapsed=True), batches(), loss, budget=3, remedies=False)
    (collapse,) = [f for f in found.findings if f.cause is Cause.POSTERIOR_COLLAPSE]
    assert "prior" in collapse.statement
    assert not [f for f in found.findings if f.cause is Cause.TARGET_SEEN]
    assert any(fact.name == "active latent units" for fact in found.facts)


def dialogues(count: int = 8) -> list[DialogueBatch]:
    """Replies (k, k) with a symbol that is drawn for each."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, 7, (count, 4, 3), generator=random).tolist()
    return [collated([[[k, k] for k in turns] for turns in batch], 2) for batch in drawn]


def collapsed_vhred(word_dropout: float = 0.0) -> VHRED:
    """A VHRED whose posterior and prior are the same normal law: the KL is 0."""
    torch.manual_seed(0)
    text = f"vhred:cell=gru,hidden=4,latent=3,engine=eager,word_dropout={word_dropout}"
    made = build_model(text, Dialogues(7, begin=1), Likelihood())
    assert isinstance(made, VHRED)
    with torch.no_grad():
        for layers in (made.prior, made.posterior):
            for parameter in layers[2].parameters():
                parameter.zero_()
    return made


def use_of_dialogues(made: nn.Module, data: list[Any]) -> LatentUse:
    found = LatentUse(Subject(made, data, dialogue_loss, 1.0), 0)
    found.measure(None, Clock(60))
    return found


def dialogue_loss(model: Any, batch: Any) -> Tensor:
    symbols, lengths, _ = batch.dialogues() if isinstance(batch, FlatDialogues) else batch
    bound = model.bound(symbols, lengths)
    return (bound.kl - bound.reconstruction).mean()


@pytest.mark.parametrize("form", [lambda batch: batch, FlatDialogues.of])
def test_a_vhred_that_ignores_its_variables_is_found(form: Any) -> None:
    found = use_of_dialogues(collapsed_vhred(), [form(batch) for batch in dialogues(16)])
    finding = found.finding("here")
    assert finding is not None
    assert finding.cause is Cause.POSTERIOR_COLLAPSE
    assert found.kl == [0.0] * 4
    assert found.units == (0, 3)
    assert "drop words" in finding.remedy


def test_the_kl_of_dialogues_is_that_of_a_reply() -> None:
    """The posterior's mean is 1 in each of three units, the prior N(0, d): 3 / (2 d^2) nats."""
    made = collapsed_vhred()
    with torch.no_grad():
        made.posterior[2].bias[:3] = 1.0
    found = use_of_dialogues(made, dialogues(16))
    deviation = math.log(2) + 1e-4  # softplus(0) + 0.0001
    assert found.kl == pytest.approx([3 / (2 * deviation**2)] * 4)
    assert found.finding("here") is None


class Recorder:
    """In place of the training of copies: their first loss, and their word dropout."""

    def __init__(self, batch: Any):
        self.batch = batch
        self.losses: list[float] = []
        self.dropped: list[list[float]] = []

    def train(self, condition: Any, **settings: Any) -> Trial:
        parts = condition.model.modules()
        self.dropped.append([m.word_dropout for m in parts if isinstance(m, EncoderDecoder)])
        self.losses.append(float(condition.loss(self.batch).detach()))
        return Trial([2.0] * 4, [2.0 - len(self.losses)] * 4, 8, diverged=False)


def test_annealing_begins_without_the_kl_part(monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = model(collapsed=True), batches()
    recorder = Recorder(data[0])
    monkeypatch.setattr(Trainer, "train", recorder.train)
    found = use(made, lambda subject: Trainer(subject, 0))
    bound = made.bound(*data[0], random=torch.Generator().manual_seed(0))
    plain, start = (bound.kl - bound.reconstruction).mean(), -bound.reconstruction.mean()
    assert recorder.losses == pytest.approx([plain.item(), start.item()])
    assert [remedy.name for remedy in found.remedies] == ["KL annealing"]


@pytest.mark.parametrize(("given", "tried"), [(0.25, [0.25, 0.25, 0.5]), (0.5, [0.5, 0.5])])
def test_more_word_dropout_is_tried_where_words_are_read(
    monkeypatch: pytest.MonkeyPatch, given: float, tried: list[float]
) -> None:
    made, data = collapsed_vhred(given), dialogues(16)
    found, recorder = LatentUse(Subject(made, data, dialogue_loss, 1.0), 0), Recorder(data[0])
    monkeypatch.setattr(Trainer, "train", recorder.train)
    found.measure(Trainer(found.subject, 0), Clock(60))
    assert recorder.dropped == [[each] for each in tried]
    assert made.decoder.word_dropout == given
    assert all(remedy.helped and remedy.code for remedy in found.remedies)
    finding = found.finding("here")
    assert finding is not None
    assert finding.severity == "fault"
    best = "word dropout of 0.5" if given < 0.5 else "KL annealing"
    assert f"A copy with {best} has the negative bound" in finding.statement


def test_remedies_are_trained_on_copies_of_a_vhred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_latent, "_UPDATES", 8)
    made = collapsed_vhred()
    found = LatentUse(Subject(made, dialogues(), dialogue_loss, 1.0), 0)
    found.kl, found.reads_words = [0.0] * 3, True
    found._try(Trainer(found.subject, 0), Clock(60))
    assert [remedy.name for remedy in found.remedies] == ["KL annealing", "word dropout of 0.5"]
    assert all(math.isfinite(remedy.after.value) for remedy in found.remedies)


def test_lengths_of_another_form_are_no_items() -> None:
    symbols, lengths = torch.zeros(2, 3, 4, dtype=torch.int64), torch.full((2, 4), 3)
    assert unused_latent._items((symbols, lengths, symbols), 0) is not None
    assert unused_latent._items((symbols, lengths[0], symbols), 0) is not None
    assert unused_latent._items((symbols, lengths.T, symbols), 0) is None
