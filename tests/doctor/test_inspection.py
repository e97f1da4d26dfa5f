"""`throughtime inspect`: each instrument's result, or its refusal, as text and on one page."""

import io
import json
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import throughtime as tt
from throughtime.cli.main import main
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.doctor.inspection import INSTRUMENTS, USUAL, inspect
from throughtime.instruments import LossCurve
from throughtime.reports.inspection import TITLES
from throughtime.results.diagnosis import Inspection
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


EXITS = """\
import sys
import torch
from torch import nn

calls = 0


def leave(place):
    if place == {place!r}:
        {line}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(1, 2, batch_first=True)

    def forward(self, x):
        leave("forward")
        return self.rnn(x)


def batches():
    for _ in range(4):
        leave("batches")
        yield torch.randn(6, 10, 1), torch.randn(6, 10, 2)


def loss(model, batch):
    global calls
    calls += 1
    leave("loss")
    if calls > 1:
        leave("later loss")
    return model(batch[0])[0].square().mean()


def make():
    leave("function")
    return Model(), batches(), loss


leave("file")
"""


CHEAP = (*USUAL, "gradient_noise", "fixed_points")


def data(size: int, n: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return [(torch.randn(6, 10, 1), torch.randn(6, 10, size)) for _ in range(n)]


@pytest.fixture(scope="module")
def everything() -> Inspection:
    """The instruments that take no time on a cell of two units."""
    torch.manual_seed(0)
    model = nn.RNN(1, 2, batch_first=True)
    return inspect(model, data(2), nn.MSELoss(), instruments=CHEAP, lag=3, source="here")


def test_cheap_instruments_measure(everything: Inspection) -> None:
    assert [m.instrument for m in everything.measurements] == [*CHEAP]
    assert [m.instrument for m in everything.measurements if m.result is None] == []
    assert {*USUAL} <= {*CHEAP} <= {*INSTRUMENTS}


@pytest.mark.nightly
def test_every_instrument_measures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.RNN(1, 2, batch_first=True)
    found = inspect(model, data(2), nn.MSELoss(), instruments=[*INSTRUMENTS])
    assert [m.instrument for m in found.measurements if m.result is None] == []
    page = found.save(tmp_path / "page.html").read_text(encoding="utf-8")
    for title in TITLES.values():
        assert f">{title}" in page


def test_it_is_saved_and_read_back(everything: Inspection, tmp_path: Path) -> None:
    found = tt.load(everything.save(tmp_path / "inspection.json"))
    assert isinstance(found, Inspection)
    assert found.to_json() == everything.to_json()


def test_page_has_every_instrument(everything: Inspection, tmp_path: Path) -> None:
    page = everything.save(tmp_path / "page.html").read_text(encoding="utf-8")
    for title in ("Gradient flow", "Fixed points", "Lyapunov exponents", "Gates"):
        assert f">{title}</h2>" in page
    assert "needed, 3" in page
    assert "http" not in page[: page.index("<script")]


def test_it_is_printed_as_text(everything: Inspection) -> None:
    text = str(everything)
    assert text.startswith("RNN\n")
    for name in CHEAP:
        assert f"\n{name} " in text
    assert max(map(len, text.splitlines())) <= 80
    assert repr(everything) == f"<Inspection of RNN: {', '.join(CHEAP)}>"
    assert "gradient_flow" in everything._repr_html_()
    stream = io.StringIO()
    Console(file=stream, width=80).print(everything)
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == text.splitlines()


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


@pytest.mark.parametrize(
    ("seconds", "distances", "exact"),
    [(0.01, 101, True), (0.2, 29, True), (0.5, 11, True), (2.0, 11, False), (50.0, 11, False)],
)
def test_cliffs_takes_as_many_distances_as_the_time_allows(
    seconds: float, distances: int, exact: bool, monkeypatch
) -> None:
    """About ten seconds; three distances, with five losses, are measured first."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        now[0] += seconds
        return model(batch[0])[0].square().mean()

    torch.manual_seed(0)
    found = inspect(nn.RNN(1, 1, batch_first=True), data(1), loss, instruments=["cliffs"])
    curve = found.measurements[0].result
    assert isinstance(curve, LossCurve)
    assert len(curve.distances) == distances
    assert float(curve.distances[distances // 2]) == pytest.approx(0, abs=1e-12)
    assert (curve.curvature is not None) is exact


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


def test_command_refuses_an_unknown_instrument_before_it_makes_the_model(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def make(): open('made', 'w').close()", encoding="utf-8")
    for names, said in (("gates,gate", "Did you mean 'gates'"), (",", "instruments: got none")):
        assert main(["inspect", "mine.py:make", "--instruments", names]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert "measuring" not in captured.err
        assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "line",
    ["sys.exit(0)", "sys.exit('bye')", "raise SystemExit"],
)
@pytest.mark.parametrize("place", ["file", "function", "batches", "loss", "later loss", "forward"])
def test_an_exit_in_the_users_code_is_an_error_in_a_line(
    place: str, line: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "mine.py").write_text(EXITS.format(place=place, line=line), encoding="utf-8")
    assert main(["inspect", "mine.py:make", "--instruments", "gradient_flow"]) == 2
    captured = capsys.readouterr()
    assert "got sys.exit(" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "inspection.html").exists()


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


def test_a_run_on_pairs_shows_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = tmp_path / "run", tmp_path / "page.html"
    options = ["--steps", "2", "--batch-size", "4", "--quiet", "--out", str(folder)]
    main(["train", "reverse:longest=4", "attention:cell=gru,hidden=4,embedding=3", *options])
    capsys.readouterr()
    assert main(["inspect", str(folder), "--out", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "word_influence" in shown
    assert "target words read one source word" in " ".join(shown.split())
    assert "Attention over the source" in page.read_text()
    assert main(["inspect", str(folder), "--layer", "decoder", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    measured = {part["instrument"]: part for part in found["measurements"]}
    assert [*measured] == [*USUAL]
    assert measured["gradient_flow"]["refusal"] == ""
    assert "holds its source: measure the encoder's layer" in measured["gates"]["refusal"]
    assert main(["inspect", str(folder), "--instruments", "gates", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measurements"][0]["layer"] == "encoder.layer"
    assert found["measurements"][0]["refusal"] == ""


def test_a_source_of_one_vector_has_a_single_layer(tmp_path: Path, capsys) -> None:
    """Its decoder, which all usual instruments measure: there are no source words."""
    folder = tmp_path / "run"
    words = ["--steps", "1", "--batch-size", "4", "--quiet", "--out", str(folder)]
    assert main(["train", "spelling:digits=2", "gru:hidden=4", *words]) == 0
    capsys.readouterr()
    assert main(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    measured = {part["instrument"]: part for part in found["measurements"]}
    assert [*measured] == [*USUAL]
    assert {part["layer"] for part in measured.values()} == {"decoder"}
    assert measured["gates"]["refusal"] == measured["gradient_flow"]["refusal"] == ""
