"""States that are dropped between calls, or run on where an episode ends, by changed copies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.carried_state import (
    check_dropped,
    check_resets,
    dropped_calls,
    graph_needed,
)
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Clock, Subject
from throughtime.foreign.recording import record
from throughtime.foreign.watching import watch
from throughtime.results.diagnosis import Cause, Finding

NEED = Need([1.0] * 3, [0.9] * 3, [0.8] * 3, 3, None, True, {}, learned=True)
STEPS, ROWS = 7, 5


class Decoder(nn.Module):
    """Draws a course, step by step; what goes from one step to the next varies."""

    def __init__(self, passed: str, *, lstm: bool = False):
        super().__init__()
        self.encoder = nn.LSTM(2, 4) if lstm else nn.GRU(2, 4)
        self.layer = nn.LSTM(1, 4) if lstm else nn.GRU(1, 4)
        self.head = nn.Linear(4, 1)
        self.passed, self.lstm = passed, lstm

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encoder(x)
        value = x.new_zeros(1, x.shape[1], 1)
        values: list[Tensor] = []
        for _ in range(4):
            output, new = self.layer(value, state)
            if self.passed == "all":
                state = new
            elif self.passed == "detached":
                state = new.detach()
            elif self.passed == "zeros":
                state = torch.zeros_like(new)
            elif self.passed == "half":
                state = 0.5 * new
            elif self.passed == "h":
                state = (new[0], torch.zeros_like(new[1]))
            value = self.head(output)
            values.append(value)
        return torch.cat(values)


def squares(model: nn.Module, batch: Any) -> Tensor:
    *inputs, target = batch
    return F.mse_loss(model(*inputs), target)


def courses() -> list[Any]:
    return [(torch.randn(STEPS, ROWS, 2), torch.randn(4, ROWS, 1)) for _ in range(4)]


@pytest.mark.parametrize(
    ("passed", "dropped"),
    [("all", 0), ("detached", 0), ("half", 0), ("zeros", 3), ("nothing", 3), ("h", 3)],
)
def test_calls_that_start_again(passed: str, dropped: int) -> None:
    torch.manual_seed(0)
    model, batch = Decoder(passed, lstm=passed == "h"), courses()[0]
    watched = watch(model, lambda: squares(model, batch), layer="layer", level=0)
    assert dropped_calls(watched.calls) == [1, 2, 3][:dropped]


def planted(
    copies: FreshCopies,
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[], Finding | None],
    works: str,
) -> tuple[Finding | None, dict[str, float]]:
    """The finding where one change helps; and the loss of an untrained copy with each change."""
    losses: dict[str, float] = {}

    def train(self: FreshCopies, name: str, change: Any = None, **options: Any) -> Trial:
        condition = self.condition(given=options["given"])
        condition = condition if change is None else change(condition)
        losses[name] = condition.loss(self.trainer.subject.held_out[0]).item()
        losses[name] = condition.loss(self.trainer.subject.held_out[0]).item()  # each time alike
        after = 0.1 if works and works in name else 0.9
        return Trial([0.95] * 3, [after, 1.01 * after, 0.99 * after], 100, diverged=False)

    monkeypatch.setattr(FreshCopies, "train", train)
    return check(), losses


def copies_of(model: nn.Module, batches: list[Any]) -> FreshCopies:
    return FreshCopies(Trainer(Subject(model, batches, squares, 1.0), 0), "layer", NEED, Clock(60))


@pytest.mark.parametrize("passed", ["zeros", "nothing", "h"])
def test_a_copy_that_passes_the_state_on(passed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, batches = Decoder(passed, lstm=passed == "h"), courses()
    copies = copies_of(model, batches)
    found, losses = planted(
        copies, monkeypatch, lambda: check_dropped(copies, [0.9] * 3, "here"), "passed on"
    )
    model.passed = "all"
    right = squares(model, copies.trainer.subject.held_out[0]).item()
    assert losses["the state passed on between the calls of the layer"] == pytest.approx(right)
    assert losses["as it is"] != pytest.approx(right)
    assert found is not None
    assert found.cause is Cause.FORGETTING
    assert "3 of 4 calls" in found.statement
    assert check_dropped(copies, [0.1] * 3, "here") is None  # the model is as good


@pytest.mark.parametrize(("passed", "works"), [("all", "passed on"), ("zeros", "")])
def test_states_that_are_passed_on_or_not_needed(
    passed: str, works: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copies_of(Decoder(passed), courses())
    found, losses = planted(
        copies, monkeypatch, lambda: check_dropped(copies, [0.9] * 3, "here"), works
    )
    assert found is None
    assert bool(losses) == (passed == "zeros")


class Agent(nn.Module):
    """A policy over a rollout, with a cell or a layer; its state starts afresh, or never does."""

    def __init__(self, layer: nn.Module, *, reset: bool = False):
        super().__init__()
        self.layer, self.head, self.reset = layer, nn.Linear(4, 1), reset

    def forward(self, x: Tensor, start: Tensor) -> Tensor:
        if isinstance(self.layer, nn.GRU):
            return self.head(self.layer(x)[0])
        state: Any = None if isinstance(self.layer, nn.LSTMCell) else x.new_zeros(x.shape[1], 4)
        values: list[Tensor] = []
        for step, new in zip(x, start, strict=True):
            if self.reset:
                kept = (~new.bool())[:, None]
                state = state * kept if isinstance(state, Tensor) else state
                state = tuple(s * kept for s in state) if isinstance(state, tuple) else state
            state = self.layer(step, state)
            values.append(self.head(state[0] if isinstance(state, tuple) else state))
        return torch.stack(values)


class ReadingGru(nn.Module):
    """A GRU cell that keeps its state where the marks, as a further argument, are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRUCell(2, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor, start: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[1], 4)
        values: list[Tensor] = []
        for step, new in zip(x, start, strict=True):
            state = self.layer(step, state * (1 - new)[:, None])
            values.append(self.head(state))
        return torch.stack(values)


def rollouts(marks: str) -> list[Any]:
    batches: list[Any] = []
    for _ in range(4):
        start = torch.rand(STEPS, ROWS) < 0.25
        start[0], start[3, 1], start[4, 2] = False, True, True
        given = start.float()
        if marks == "end":
            given = torch.cat([given[1:], torch.zeros(1, ROWS)])
        elif marks == "not end":
            given = 1 - torch.cat([given[1:], torch.zeros(1, ROWS)])
        elif marks == "number":
            given = start.long().cumsum(0) + 3 * torch.arange(ROWS)
        x = torch.randn(STEPS, ROWS, 2)
        batches.append((x, given, torch.randn(STEPS, ROWS, 1), start.float()))
    return batches


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ("start", "at the marks of"),
        ("end", "after the marks of"),
        ("not end", "after the marks of"),
        ("number", "at the changes of"),
    ],
)
@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.GRU])
def test_a_copy_whose_state_starts_afresh(
    kind: Any, marks: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, batches = Agent(kind(2, 4)), rollouts(marks)
    copies = copies_of(model, [batch[:3] for batch in batches])
    subject, axes = copies.trainer.subject, SampleAxes((1, 1, 1), ROWS, "")
    seen = subject.copy()
    recording = record(seen, lambda: squares(seen, subject.held_out[0]), layer="layer", level=0)

    def check() -> Finding | None:
        return check_resets(copies, axes, recording, [0.9] * 3, "here")

    found, losses = planted(copies, monkeypatch, check, words)
    assert found is not None
    assert found.cause is Cause.STATE_LEAK
    assert f"afresh {words}" in found.statement
    right = Agent(nn.GRUCell(2, 4) if kind is nn.GRU else model.layer, reset=True)
    if kind is nn.GRU:
        own = {n.removesuffix("_l0"): p for n, p in model.layer.named_parameters()}
        right.layer.load_state_dict(own)
    right.head = model.head
    x, _, target, start = batches[-1]
    assert losses[f"a state that starts afresh {words} tensor 2 of the batch"] == pytest.approx(
        squares(right, (x, start, target)).item()
    )
    assert losses["as it is"] == pytest.approx(squares(model, (x, start, target)).item())


@pytest.mark.parametrize("shared", [False, True])
def test_marks_that_the_model_reads(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all samples have the same marks, they may be exchanged among samples."""
    batches = [batch[:3] for batch in rollouts("start")]
    if shared:
        batches = [(x, start[:, 2:3].expand(-1, ROWS).clone(), y) for x, start, y in batches]
    copies = copies_of(ReadingGru(), batches)
    subject, axes = copies.trainer.subject, SampleAxes((1, 1, 1), ROWS, "")
    model = subject.copy()
    recording = record(model, lambda: squares(model, subject.held_out[0]), layer="layer", level=0)
    found, losses = planted(
        copies,
        monkeypatch,
        lambda: check_resets(copies, axes, recording, [0.9] * 3, "here"),
        "afresh",
    )
    assert found is None
    assert not losses


def test_marks_that_the_loss_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions of 0 and 1 are targets: a state that starts afresh at 1 would hold them."""

    def of_actions(model: nn.Module, batch: Any) -> Tensor:
        x, actions, values = batch
        given = model(x, actions)
        return F.mse_loss(given, values) + F.binary_cross_entropy_with_logits(
            given[..., 0], actions
        )

    subject = Subject(Agent(nn.GRU(2, 4)), [b[:3] for b in rollouts("start")], of_actions, 1.0)
    copies = FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60))
    axes, model = SampleAxes((1, 1, 1), ROWS, ""), subject.copy()
    recording = record(
        model, lambda: of_actions(model, subject.held_out[0]), layer="layer", level=0
    )
    found, losses = planted(
        copies,
        monkeypatch,
        lambda: check_resets(copies, axes, recording, [0.9] * 3, "here"),
        "afresh",
    )
    assert found is None
    assert not losses


@pytest.mark.parametrize(("after", "needed"), [(0.2, True), (0.95, False)])
def test_graph_that_a_copy_needs(after: float, monkeypatch, *, needed: bool) -> None:
    """The changed copy has a gradient at the encoder's weights; one that detaches has none."""
    subject = Subject(Chunks(), chunked(), squares, 1.0)
    copies = FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60.0))
    reached: list[bool] = []

    def train(self, name, change, **_) -> Trial:
        condition = change(self.condition())
        condition.loss(subject.held_out[0]).backward()
        reached.append(condition.model.first.grad is not None)
        loss = 0.99 if name == "as it is" else after
        return Trial([1.0] * 3, [loss, 1.01 * loss, 0.99 * loss], 500, diverged=False)

    monkeypatch.setattr(FreshCopies, "train", train)
    assert graph_needed(copies) == needed
    assert reached == [False, True]


class Chunks(nn.Module):
    """Two chunks of a sequence, with a detached state between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(2))  # of the first chunk's inputs
        self.layer, self.head = nn.GRU(2, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.layer(x[:3] * self.first)
        return self.head(self.layer(x[3:], state.detach())[0][-1])


def chunked() -> list[Any]:
    return [(torch.randn(STEPS, ROWS, 2), torch.randn(ROWS, 1)) for _ in range(4)]
