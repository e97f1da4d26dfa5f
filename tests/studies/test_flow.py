"""Gradient flow of trained runs, as it is kept in their folders."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from throughtime.cli.output import show
from throughtime.core.errors import RunLockedError
from throughtime.reports.comparison_text import comparison_table
from throughtime.reports.page import render_report
from throughtime.studies import CompareRequest, compare
from throughtime.studies.worker import measure_gradient_flow
from throughtime.tasks import Counting, SequenceBatch
from throughtime.training import RunConfig, RunFolder, load_model, train


def trained(folder: Path, task: str, model: str) -> Path:
    train(RunConfig(task, model, steps=3, batch_size=4), folder)
    measure_gradient_flow(folder)
    return folder


def stored(folder: Path) -> dict:
    return json.loads((folder / "gradient_flow.json").read_text())


def test_equals_autograd_on_a_loop(tmp_path) -> None:
    """A tanh network stepped by hand in float64: dL/dh_t of the first 64 validation digits."""
    folder = trained(tmp_path / "run", "digits:pixels_per_step=8", "rnn:hidden=5")
    _, task, model = load_model(folder)
    w = {name: value.detach().double() for name, value in model.state_dict().items()}
    batch = next(iter(task.batches("validation", 64)))
    h = torch.zeros(64, 5, dtype=torch.float64)
    states = []
    for x in batch.inputs.double():
        h = torch.tanh(
            x @ w["recurrent.weight_ih_l0"].T
            + w["recurrent.bias_ih_l0"]
            + h @ w["recurrent.weight_hh_l0"].T
            + w["recurrent.bias_hh_l0"]
        ).requires_grad_()
        states.append(h)
    loss = F.cross_entropy(h @ w["readout.weight"].T + w["readout.bias"], batch.targets)
    norms = [g.norm().item() for g in torch.autograd.grad(loss, states)]
    trained_flow = stored(folder)["trained"]
    assert trained_flow["norm_by_lag"] == pytest.approx(norms[::-1], rel=1e-9)
    assert stored(folder)["dependency_length"] == 7
    largest = max(norms)
    reach = max(lag for lag, norm in enumerate(norms[::-1]) if norm >= 0.01 * largest)
    assert trained_flow["reach"] == reach
    assert stored(folder)["start"]["norm_by_lag"] != trained_flow["norm_by_lag"]


def test_the_start_is_the_network_before_the_first_update(tmp_path) -> None:
    """Steps that change nothing: the flow after them is that of the start."""
    config = RunConfig(
        "digits:pixels_per_step=8",
        "lstm:hidden=3",
        steps=2,
        batch_size=4,
        optimizer="SGD",
        learning_rate=1e-30,
    )
    train(config, tmp_path / "run")
    measure_gradient_flow(tmp_path / "run")
    flow = stored(tmp_path / "run")
    assert flow["start"] == flow["trained"]


def test_only_the_last_answer_counts() -> None:
    targets = torch.tensor([[-1, 3, -1], [2, 4, -1], [5, -1, -1], [-1, -1, 0]])
    expected = torch.tensor([[-1, -1, -1], [-1, 4, -1], [5, -1, -1], [-1, -1, 0]])
    batch = Counting().last_answers(SequenceBatch(torch.zeros(4, 3, 2), targets))
    assert torch.equal(batch.targets, expected)


@pytest.mark.parametrize("task", ["copying:length=5", "adding:length=20", "parity:length=9"])
def test_every_kind_of_answer(tmp_path, task: str) -> None:
    flow = stored(trained(tmp_path / "run", task, "gru:hidden=3"))
    for when in ("start", "trained"):
        assert len(flow[when]["norm_by_lag"]) == len(flow[when]["contribution_by_lag"])
        assert max(flow[when]["norm_by_lag"]) > 0
    assert flow["schema_version"] == 1


def test_measured_once(tmp_path) -> None:
    folder = trained(tmp_path / "run", "digits:pixels_per_step=8", "rnn:hidden=2")
    file = folder / "gradient_flow.json"
    whole = file.read_text()
    for left_alone in ('{"schema_version": 1}', '{"schema_version": 1, "step": 3}'):
        file.write_text(left_alone)
        measure_gradient_flow(folder)
        assert file.read_text() == left_alone
    file.write_text('{"schema_version": 1, "step": 1}')  # of an earlier end of the run
    measure_gradient_flow(folder)
    assert file.read_text() == whole


def test_not_while_another_writes_the_run(tmp_path) -> None:
    folder = trained(tmp_path / "run", "digits:pixels_per_step=8", "rnn:hidden=2")
    (folder / "gradient_flow.json").unlink()
    with RunFolder(folder).locked(), pytest.raises(RunLockedError):
        measure_gradient_flow(folder)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("thresholded-digits", "nade:hidden=2"),
        ("thresholded-digits", "pixelrnn:hidden=2"),
        ("counting-dialogue", "hred:cell=gru,hidden=3"),
    ],
)
def test_models_without_one_recurrent_layer_have_no_flow(
    tmp_path: Path, task: str, model: str
) -> None:
    folder = trained(tmp_path / "run", task, model)
    assert not (folder / "gradient_flow.json").exists()


def test_a_report_without_a_flow_has_no_place_for_it(tmp_path: Path, capsys) -> None:
    models = ("fvsbn", "pixelcnn:hidden=2,layers=1")
    request = CompareRequest("thresholded-digits", models, seeds=1, steps=1, batch_size=2, jobs=1)
    comparison = compare(request, tmp_path)
    page = render_report(comparison)
    assert "How far back" not in page
    assert "gradient reaches" not in page
    show(comparison_table(comparison))
    assert "gradient" not in capsys.readouterr().out
