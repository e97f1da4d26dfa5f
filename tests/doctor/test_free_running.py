"""Exposure bias: models whose loss after their own symbols is known, and what is said of them."""

import math
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor import diagnose
from throughtime.doctor.diagnose import with_checks
from throughtime.doctor.free_running import LossAfterOwnSymbols
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.whole_model import WholeModel
from throughtime.layers import GRU
from throughtime.models import LanguageModel
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate, Remedy
from throughtime.tasks.pairs import PairBatch

S, T = 6, 12


class Chain(nn.Module):
    """Targets by two rules: the one before and the source added, or the source alone.

    `right` is the logit of the first rule's answer, and `copied` that of the second's.
    """

    alphabet = S + 1

    def __init__(self, right: float = 0.0, copied: float = 0.0):
        super().__init__()
        self.right, self.copied = (nn.Parameter(torch.tensor(value)) for value in (right, copied))

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, int]:
        del lengths
        return source, 0

    def forward(self, symbols: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        source, place = state
        read = source[place : place + len(symbols)]
        added = F.one_hot((symbols % S + read) % S, S + 1)
        logits = self.right * added + self.copied * F.one_hot(read, S + 1)
        logits = logits + torch.tensor([0.0] * S + [-100.0])  # the begin is never a target
        return logits, (source, place + len(symbols))

    def losses(self, symbols: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self(symbols, state)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape), state

    def select(self, state: Any, rows: Tensor) -> Any:
        return state[0][:, rows], state[1]


def logit(p: float) -> float:
    """Logit of an answer among S whose probability is p, where all others have 0."""
    return math.log(p * (S - 1) / (1 - p))


def batches(*, copied: bool = False, count: int = 12, size: int = 64) -> list[PairBatch]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        source = torch.randint(S, (T, size), generator=generator)
        targets = source if copied else source.cumsum(0) % S
        begin = torch.full((1, size), S)  # 0 modulo S
        inputs = torch.cat([begin, targets[:-1]])
        made.append(PairBatch(source, torch.full((size,), T), inputs, targets))
    return made


def loss(model: nn.Module, batch: PairBatch) -> Tensor:
    state = model.encode(batch.source, batch.source_lengths)
    return model.losses(batch.inputs, batch.targets, state)[0].mean()


def measured(model: nn.Module, data: list[PairBatch], *, seconds: int = 0) -> LossAfterOwnSymbols:
    subject = Subject(model, data, loss, 5, data)
    found = LossAfterOwnSymbols(subject, None, 0)
    found.measure(Trainer(subject, 0) if seconds else None, Clock(seconds or 60))
    return found


def closed_form(p: float) -> float:
    """Mean loss after draws: a_t, the probability that the symbol before is the true one."""
    q, a, total = (1 - p) / (S - 1), 1.0, 0.0
    for _ in range(T):
        total -= a * math.log(p) + (1 - a) * math.log(q)
        a = a * p + (1 - a) * q
    return total / T


@pytest.mark.parametrize("p", [0.9, 0.97])
def test_loss_after_draws_is_that_of_the_chain_of_errors(p: float) -> None:
    found = measured(Chain(logit(p)), batches(count=20))
    assert found.taught == pytest.approx([-math.log(p)] * 20, rel=1e-4)
    mean = sum(found.free) / 20
    error = torch.tensor(found.free).std().item() / math.sqrt(20)
    assert abs(mean - closed_form(p)) < 4 * error
    assert found.constant == pytest.approx(math.log(S), rel=0.01)


def test_one_wrong_symbol_that_spoils_the_rest_is_a_fault() -> None:
    finding = measured(Chain(logit(0.9)), batches()).finding(None, "here")
    assert finding is not None
    assert (finding.cause, finding.severity) == (Cause.EXPOSURE_BIAS, "fault")
    expected = (closed_form(0.9) + math.log(0.9)) / (math.log(S) + math.log(0.9))
    assert finding.effect is not None
    assert finding.effect.low < expected < finding.effect.high
    assert "after the true symbols" in finding.statement


def test_a_model_that_reads_its_source_alone_has_no_finding() -> None:
    found = measured(Chain(0.0, logit(0.9)), batches(copied=True))
    assert found.free == found.taught
    assert found.finding(None, "here") is None


def test_a_model_that_seldom_errs_has_no_finding() -> None:
    assert measured(Chain(logit(0.995)), batches()).finding(None, "here") is None


def test_targets_that_the_source_leaves_open_give_a_note() -> None:
    finding = measured(Chain(logit(0.6)), batches()).finding(None, "here")
    assert finding is not None
    assert finding.severity == "note"
    assert "other right symbols cost this, too" in finding.statement


@pytest.mark.parametrize(
    ("share", "helped", "severity"),
    [(0.6, True, "fault"), (0.4, True, "note"), (0.6, False, "note")],
)
def test_an_open_target_is_a_fault_where_training_wins_it_back(
    share: float, helped: bool, severity: str
) -> None:
    found = measured(Chain(logit(0.6)), batches())
    taught, free = (sum(losses) / len(losses) for losses in (found.taught, found.free))
    after = free - share * (free - taught)
    numbers = [Estimate(value, value - 0.01, value + 0.01, 5) for value in (free, after)]
    found.remedies.append(
        Remedy("scheduled sampling", "", "trained", "loss", *numbers, updates=9, helped=helped)
    )
    finding = found.finding(None, "here")
    assert finding is not None
    assert finding.severity == severity
    assert (f"has {after:.3g}" in finding.statement) == (severity == "fault")


def test_a_model_that_has_not_learned_has_no_finding() -> None:
    assert measured(Chain(), batches()).finding(None, "here") is None


def test_scheduled_sampling_helps_where_the_source_has_the_answer() -> None:
    """Each target is the one before plus 1, and the source: both rules give it."""
    data = []
    for batch in batches(copied=True, count=8, size=64):
        first = batch.source[:1]
        targets = (first + torch.arange(T)[:, None]) % S
        inputs = torch.cat([first * 0 + S, targets[:-1]])
        data.append(batch._replace(source=targets, inputs=inputs, targets=targets))

    class Counting(Chain):
        def forward(self, symbols: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            source, place = state
            read = source[place : place + len(symbols)]
            counted = torch.where(symbols == S, read, (symbols + 1) % S)
            logits = 10 * self.right * F.one_hot(counted, S + 1)  # 10: learned in few updates
            logits = logits + 10 * self.copied * F.one_hot(read, S + 1)
            p = 0.95 * logits.softmax(-1) + 0.05 / (S + 1)  # however long it is trained, it errs
            return p.log(), (source, place + len(symbols))

    found = measured(Counting(0.4, 0.0), data, seconds=15)
    assert found.finding(None, "here") is not None
    (remedy,) = found.remedies
    assert remedy.name == "scheduled sampling"
    assert remedy.helped
    assert remedy.after.value < remedy.before.value
    assert "ScheduledSampling" in remedy.code


def test_texts_are_not_compared() -> None:
    model = LanguageModel(GRU(5, 4))
    text = torch.randint(5, (9, 4))
    data = [(text[:-1], text[1:])] * 8
    subject = Subject(model, data, lambda m, b: m.losses(*b, None)[0].mean(), 5)
    found = LossAfterOwnSymbols(subject, None, 0)
    found.measure(None, Clock(60))
    assert "do not follow from those before" in found.facts[0].value
    assert found.finding(1.0, "here") is None


def test_no_loss_is_called_when_the_budget_is_spent() -> None:
    def fail(model: nn.Module, batch: PairBatch) -> Tensor:
        raise AssertionError

    data = batches()
    subject = Subject(Chain(1.0), data, fail, 5)
    found = WholeModel(subject, fail, Trainer(subject, 0), Clock(10, 0), 0)
    assert found.free_running.free == []
    assert found.findings([]) == []
    assert "more batches or time" in found.free_running.missing[0]


class Echo(nn.Module):
    """Each answer is the input of the step before: healthy, with weights set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 2, batch_first=True)
        with torch.no_grad():
            for parameter in self.rnn.parameters():
                parameter.zero_()
            self.rnn.weight_ih_l0.copy_(torch.tensor([[0.1], [0.0]]))
            self.rnn.weight_hh_l0.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return 10 * self.rnn(x)[0][..., 1:]


def echo_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def echo_batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    inputs = [torch.randn(16, 8, 1) for _ in range(16)]
    return [(x, F.pad(x, (0, 0, 1, 0))[:, :-1]) for x in inputs]


def test_a_function_of_the_users_gives_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]  # a clock that losses move on, so that the examination is the same anywhere
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def timed(model: nn.Module, batch: Any) -> Tensor:
        now[0] += 0.02
        return echo_loss(model, batch)

    def free(model: nn.Module, batch: Any) -> Tensor:
        return timed(model, batch) + 1.5 + 0.01 * batch[0][0, 0, 0]

    options: dict[str, Any] = {"budget": "6s", "remedies": False, "progress": False}
    found = diagnose(Echo(), echo_batches(), timed, free_running=free, **options)
    assert found.verdict is Cause.EXPOSURE_BIAS
    assert found.faulty
    assert found.findings[0].cause is Cause.EXPOSURE_BIAS
    assert any(finding.cause is not Cause.EXPOSURE_BIAS for finding in found.findings)
    assert found.seconds == pytest.approx(now[0] - 1000)
    assert found.seconds < 6 + 5
    checks = WholeModel(Subject(Echo(), echo_batches(), echo_loss, 5), echo_loss, None, Clock(9), 0)
    assert checks.free_running.finding(1.0, "here") is None


def test_a_function_that_returns_no_scalar_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"free_running\(model, batch\): got \(8, 1\)"):
        diagnose(
            Echo(),
            echo_batches(),
            echo_loss,
            budget="1s",
            free_running=lambda model, batch: batch[0][0],
        )


@pytest.mark.parametrize(
    ("verdict", "leads"),
    [
        (Cause.HEALTHY, True),
        (Cause.INCONCLUSIVE, True),
        (Cause.NO_LONG_DEPENDENCY, True),
        (Cause.VANISHING, False),
        (Cause.UNDERTRAINED, False),
    ],
)
def test_a_fault_of_a_layer_comes_first(verdict: Cause, leads: bool) -> None:
    data = batches()
    checks = WholeModel(Subject(Chain(logit(0.9)), data, loss, 5, data), None, None, Clock(60), 0)
    given = Diagnosis(verdict, "It is.", (), (), (), (), (), 1.0, 1.0, "Chain")
    found = with_checks(given, checks, [])
    assert found.verdict is (Cause.EXPOSURE_BIAS if leads else verdict)
    assert found.findings[0].severity == ("fault" if leads else "warning")
    assert ("after its own" in found.sentence) == leads
