"""A memory that is not used: each step from an empty memory, and heads that are drawn anew."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import throughtime as tt
from throughtime.doctor import unused_memory
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.unused_memory import UnusedMemory, empty_memories, redraw_heads
from throughtime.memory import DAMCell, NTMCell, SAMCell
from throughtime.results.diagnosis import Cause

HIDDEN, WIDTH = 4, 3
KINDS = pytest.mark.parametrize("kind", [NTMCell, DAMCell, SAMCell])


class Reader(nn.Module):
    """A layer with a memory, and a linear map of all of h, or of the controller's part alone."""

    def __init__(self, kind: Any, *, cut: bool = False):
        super().__init__()
        torch.manual_seed(3)
        self.layer: Any = tt.Recurrent(kind(2, HIDDEN, words=5, width=WIDTH))
        self.head = nn.Linear(self.layer.output_size, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(3)
            if cut:
                self.layer.weight_hh_l0[:, HIDDEN:] = 0
                self.head.weight[:, HIDDEN:] = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])[-1, :, 0]


def batches(model: nn.Module, count: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Return inputs and what the model answers, a little off."""
    torch.manual_seed(4)
    made = [torch.randn(9, 16, 2) for _ in range(count)]
    with torch.no_grad():
        return [(x, model(x) + 0.01 * torch.randn(16)) for x in made]


def loss(model: nn.Module, batch: Any) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def measured(model: nn.Module) -> UnusedMemory:
    data = batches(model)
    found = UnusedMemory(Subject(model, data, loss, 5.0, data))
    found.measure(None, Clock(60))
    return found


@KINDS
def test_each_step_starts_from_the_initial_memory(kind: Any) -> None:
    model = Reader(kind).double()
    x = torch.randn(6, 2, 2).double()
    cell = model.layer.cells()[0]
    state = cell.initial_state(2, dtype=x.dtype, device=x.device)
    empty, expected = state.memory, list[Tensor]()
    for row in cell.project(x):
        output, state = cell.step(row, state._replace(memory=empty))
        expected.append(output)
    given = model.layer(x)[0]
    assert empty_memories(model) == ["layer"]
    torch.testing.assert_close(model.layer(x)[0], torch.stack(expected))
    assert not torch.allclose(given, torch.stack(expected))


@KINDS
def test_a_memory_that_is_cut_off_is_found(kind: Any) -> None:
    found = measured(Reader(kind, cut=True))
    finding = found.finding([], "here")
    assert finding is not None
    assert (finding.cause, finding.severity) == (Cause.MEMORY_UNUSED, "note")
    assert finding.effect is not None
    assert finding.effect.value == pytest.approx(0, abs=1e-7)
    assert "(layer) does not matter" in finding.statement
    assert [fact.name for fact in found.facts] == ["loss where nothing written is kept"]


@KINDS
def test_a_memory_in_use_is_no_finding(kind: Any) -> None:
    found = measured(Reader(kind))
    assert min(found.emptied) > max(found.given)
    assert found.finding([], "here") is None


def test_it_is_a_fault_where_a_predictor_learns_more() -> None:
    found = measured(Reader(SAMCell, cut=True))
    near = [1e-6 * k for k in range(8)]
    need = Need([1.0] * 8, [1.0] * 8, near, 1, 5, True, {}, True)
    far = UnusedMemory(found.subject)
    far.names, far.given, far.emptied = ["layer"], [0.9] * 8, [0.9] * 8
    finding = far.finding([need], "here")
    assert finding is not None
    assert finding.severity == "fault"
    assert "short sequences first" in finding.remedy


def test_a_cell_that_the_model_steps_by_itself() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = SAMCell(2, HIDDEN, words=5, width=WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            state = self.cell.initial_state(x.shape[1], dtype=x.dtype, device=x.device)
            outputs = []
            for row in self.cell.project(x):
                output, state = self.cell.step(row, state)
                outputs.append(output)
            return torch.stack(outputs)

    model, x = Loop(), 3 * torch.randn(5, 2, 2)
    given = model(x)
    assert empty_memories(model) == ["cell"]
    changed = model(x)
    torch.testing.assert_close(changed[0], given[0])
    assert not torch.allclose(changed[1:], given[1:])


def test_models_without_a_memory_are_left_alone() -> None:
    model = nn.ModuleDict({"layer": tt.GRU(2, 3)})
    found = UnusedMemory(Subject(model, [torch.ones(3, 2, 2)] * 8, lambda m, x: x.sum(), 5.0))
    found.measure(None, Clock(60))
    assert (found.names, found.facts, found.finding([], "here")) == ([], [], None)


@KINDS
def test_heads_are_drawn_anew_within_their_bound(kind: Any) -> None:
    model = Reader(kind)
    with torch.no_grad():
        model.layer.weight_heads_l0.zero_()
        model.layer.bias_heads_l0.zero_()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    redraw_heads(model, 0)
    for name, parameter in model.named_parameters():
        if "heads" in name:
            assert float(parameter.detach().abs().max()) == pytest.approx(0.5, abs=0.1)
            assert float(parameter.detach().abs().max()) <= HIDDEN**-0.5
        else:
            assert torch.equal(parameter, before[name])


def tried(patch: pytest.MonkeyPatch, model: nn.Module, gain: float, updates: int = 3) -> Any:
    """Return the measurement with trials without training, in which drawn heads have a gain."""
    kept = model.get_parameter("layer.weight_heads_l0").detach().clone()

    def train(trainer: Trainer, condition: Any, **_: Any) -> Trial:
        drawn = not torch.equal(condition.model.layer.weight_heads_l0, kept)
        after = 1 - gain * drawn
        return Trial([1.0] * 8, [after + 0.001 * k for k in range(8)], updates, diverged=False)

    patch.setattr(Trainer, "train", train)
    data = batches(model)
    subject = Subject(model, data, loss, 5.0, data)
    found = UnusedMemory(subject)
    found.measure(Trainer(subject, 0), Clock(60))
    return found


def test_heads_drawn_anew_are_a_remedy_whose_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader(NTMCell, cut=True)
    found = tried(monkeypatch, model, 0.5)
    (remedy,) = found.remedies
    assert remedy.helped
    finding = found.finding([], "here")
    assert finding is not None
    assert finding.severity == "fault"
    assert "Draw the heads anew" in finding.remedy
    before = model.layer.weight_heads_l0.detach().clone()
    exec(remedy.code, {"model": model, "torch": torch})
    assert not torch.equal(model.layer.weight_heads_l0, before)


def test_a_remedy_that_does_not_help_has_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader(NTMCell, cut=True)
    (remedy,) = tried(monkeypatch, model, 0.0).remedies
    assert (remedy.helped, remedy.code) == (False, "")
    found = tried(monkeypatch, model, 0.5, updates=0)
    assert found.remedies == []
    assert found.facts[-1].name == "not tried"


def test_a_spent_budget_calls_no_loss() -> None:
    def fail(model: nn.Module, batch: Any) -> Tensor:
        raise AssertionError

    found = UnusedMemory(Subject(Reader(SAMCell), [torch.ones(3, 2, 2)] * 8, fail, 5.0))
    found.measure(None, Clock(10, 0))
    assert found.given == []


def test_a_brief_training_of_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_memory, "_UPDATES", 4)
    model = Reader(SAMCell, cut=True)
    data = batches(model)
    subject = Subject(model, data, loss, 5.0, data)
    found = UnusedMemory(subject)
    found.measure(Trainer(subject, 0), Clock(60))
    (remedy,) = found.remedies
    assert remedy.updates > 0
    assert remedy.how == "trained"


@KINDS
def test_memory_cells_are_diagnosed(kind: Any) -> None:
    model = Reader(kind, cut=True)
    found = tt.diagnose(model, batches(model, 16), loss, budget="3s")
    assert "an experiment" not in {fact.name for fact in found.facts}
    assert found.seconds > 0
