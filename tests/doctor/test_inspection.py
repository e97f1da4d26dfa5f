"""`throughtime inspect`: each instrument's result, or its refusal, as text and on one page."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.cli.main import main
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.doctor.inspection import INSTRUMENTS, USUAL, inspect
from throughtime.results.measurement import Inspection
from throughtime.results.record import Record

FUNCTION = """\
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    model = nn.LSTM(1, 3, batch_first=True)
    batches = [(torch.randn(6, 10, 1), torch.randn(6, 10, 3)) for _ in range(4)]
    return model, batches, nn.MSELoss(), {"lag": 4}
"""


def data(size: int, n: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return [(torch.randn(6, 10, 1), torch.randn(6, 10, size)) for _ in range(n)]


@pytest.fixture(scope="module")
def everything() -> Inspection:
    """All instruments on a cell of two units."""
    torch.manual_seed(0)
    model = nn.RNN(1, 2, batch_first=True)
    return inspect(model, data(2), nn.MSELoss(), instruments=[*INSTRUMENTS], lag=3, source="here")


def test_every_instrument_measures(everything: Inspection) -> None:
    assert [m.instrument for m in everything.measurements] == [*INSTRUMENTS]
    assert [m.instrument for m in everything.measurements if m.result is None] == []
    assert {*USUAL} <= {*INSTRUMENTS}


def test_it_is_saved_and_read_back(everything: Inspection, tmp_path: Path) -> None:
    found = tt.load(everything.save(tmp_path / "inspection.json"))
    assert isinstance(found, Inspection)
    assert found.to_json() == everything.to_json()


def test_page_has_every_instrument(everything: Inspection, tmp_path: Path) -> None:
    page = everything.save(tmp_path / "page.html").read_text(encoding="utf-8")
    for title in ("Gradient flow", "Fixed points", "Lyapunov exponents", "Basins of attraction"):
        assert f">{title}</h2>" in page
    assert "needed, 3" in page
    assert "http" not in page[: page.index("<script")]


def test_one_result_has_a_page_of_its_own(everything: Inspection, tmp_path: Path) -> None:
    result = everything.measurements[0].result
    assert isinstance(result, Record)
    page = result.save(tmp_path / "flow.html").read_text(encoding="utf-8")
    assert "<h1>GradientFlow</h1>" in page


def test_model_is_unchanged_and_the_result_is_the_same_again() -> None:
    torch.manual_seed(1)
    model = nn.GRU(1, 3, batch_first=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    documents = []
    for _ in range(2):
        found = inspect(model, data(3), nn.MSELoss(), instruments=["gradient_flow", "lyapunov"])
        documents.append([m.result and m.result.to_json() for m in found.measurements])
    assert documents[0] == documents[1]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_an_instrument_that_cannot_measure_gives_the_reason(tmp_path: Path) -> None:
    model = nn.RNN(1, 2, batch_first=True)
    one = [(x[:1, :2], y[:1, :2]) for x, y in data(2)]
    found = inspect(model, one, nn.MSELoss(), instruments=["decoding", "gradient_flow"])
    refused, measured = found.measurements
    assert refused.result is None
    assert refused.refusal
    assert measured.result is not None
    page = found.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not measured." in page


def test_names_that_do_not_exist() -> None:
    model = nn.RNN(1, 2, batch_first=True)
    with pytest.raises(UnknownNameError, match="gradient_flow"):
        inspect(model, data(2), nn.MSELoss(), instruments=["gradientflow"])
    with pytest.raises(ConfigurationError, match="instruments"):
        inspect(model, data(2), nn.MSELoss(), instruments=[])


def test_a_lag_below_one_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        inspect(nn.RNN(1, 2), iter(()), nn.MSELoss(), lag=-3)


def test_command_on_a_function(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.py").write_text(FUNCTION, encoding="utf-8")
    words = ["inspect", "mine.py:make", "--instruments", "gradient_flow,gates"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "page: inspection.html\n" in captured.out
    assert "The gradient of the layer reaches" in captured.out
    assert max(map(len, captured.out.splitlines())) <= 80
    assert "needed, 4" in (tmp_path / "inspection.html").read_text(encoding="utf-8")


def test_command_prints_json(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FUNCTION, encoding="utf-8")
    assert main(["inspect", "mine.py:make", "--instruments", "gates", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["type"] == "Inspection"
    assert document["lag"] == 4
    assert not (tmp_path / "inspection.html").exists()


def test_command_refuses_an_unknown_instrument(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FUNCTION, encoding="utf-8")
    assert main(["inspect", "mine.py:make", "--instruments", "gate"]) == 2
    assert "Did you mean 'gates'" in capsys.readouterr().err


def test_a_loss_that_raises_is_an_error_in_words() -> None:
    def loss(model: nn.Module, batch: object) -> torch.Tensor:
        raise RuntimeError("boom")

    with pytest.raises(ConfigurationError, match="boom"):
        inspect(nn.RNN(1, 2, batch_first=True), data(2), loss, instruments=["gradient_flow"])


def test_command_suggests_itself_for_the_runs_of_a_folder(tmp_path: Path, capsys) -> None:
    run = tmp_path / "lstm" / "seed-0"
    run.mkdir(parents=True)
    for name in ("config.json", "latest"):
        (run / name).write_text("{}", encoding="utf-8")
    assert main(["inspect", str(tmp_path)]) == 2
    assert f"throughtime inspect {run}" in capsys.readouterr().err.replace("\n", "")
