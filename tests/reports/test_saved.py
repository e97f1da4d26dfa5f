"""Records that are saved and read back, and folders that `throughtime.load` reads."""

import dataclasses
import json
from pathlib import Path

import plotly.graph_objects as go
import pytest
from reports.diagnoses import ODD, VANISHING
from reports.test_reproduction import FOUND

import throughtime as tt
from throughtime.core.errors import ConfigurationError, RunError, RunVersionError, UnknownNameError
from throughtime.reports import read_comparison, read_run
from throughtime.reports.plot import pictures
from throughtime.results import Comparison, Curve, Diagnosis, Reproduction


def test_a_comparison_is_loaded_from_its_folder_and_from_a_file(write_comparison) -> None:
    folder = write_comparison(seeds=2, statuses={("irnn", 1): "diverged"})
    comparison = tt.load(folder)
    assert comparison == read_comparison(folder)
    assert isinstance(comparison, Comparison)
    assert tt.load(comparison.save(folder / "comparison.json")) == comparison
    page = comparison.save(folder / "page.html").read_text(encoding="utf-8")
    assert "skip-rnn" in page


def test_a_comparison_is_plotted(write_comparison) -> None:
    comparison = read_comparison(write_comparison(seeds=1))
    for which in (None, "loss", "gradient", "gradient before training"):
        figure = tt.plot(comparison, which)
        assert len(figure.data) >= len(comparison.models)
        go.Figure(json.loads(figure.to_json() or ""))
    with pytest.raises(UnknownNameError, match="loss"):
        tt.plot(comparison, "los")


def test_a_run_is_plotted(write_comparison) -> None:
    folder = write_comparison(seeds=1, statuses={("irnn", 0): "diverged"})
    run = read_run(folder / "lstm" / "seed-0")
    assert [*pictures(run)] == ["loss", "headline", "gradient"]
    figure = tt.plot(run)
    assert figure.data[0].x == run.curve.steps
    assert figure.data[0].y == pytest.approx(run.curve.loss, rel=1e-4)
    assert tt.plot(run, "headline").data[0].y == pytest.approx(run.curve.headline, rel=1e-4)
    assert run.gradient is not None
    flow = run.gradient["trained"].norm_by_lag
    marked = tt.plot(run, "gradient", lag=3)
    trained = next(trace for trace in marked.data if trace.name == "trained")
    assert trained.y == pytest.approx([norm / max(flow) for norm in flow], rel=1e-4)
    assert "needed, 3" in (marked.to_json() or "")
    diverged = dataclasses.replace(read_run(folder / "irnn" / "seed-0"), gradient=None)
    with pytest.raises(ConfigurationError, match="since the run diverged"):
        tt.plot(diverged, "gradient")
    empty = dataclasses.replace(run, curve=Curve((), (), ()))
    with pytest.raises(ConfigurationError, match="ended before its first evaluation"):
        tt.plot(empty)


def test_a_reproduction_is_plotted() -> None:
    figure = tt.plot(FOUND)
    paper, ours = (next(t for t in figure.data if t.name == name) for name in ("paper", "ours"))
    assert dict(zip(paper.y, paper.x, strict=True)) == {
        row.label: row.paper for row in FOUND.rows if row.paper is not None
    }
    for row in FOUND.rows:
        if row.ours is None:
            assert row.label not in ours.y
            continue
        k = ours.y.index(row.label)
        assert ours.x[k] == row.ours.mean
        assert ours.x[k] + ours.error_x.array[k] == pytest.approx(row.ours.high)
        assert ours.x[k] - ours.error_x.arrayminus[k] == pytest.approx(row.ours.low)
    go.Figure(json.loads(figure.to_json() or ""))
    rows = tuple(dataclasses.replace(row, paper=None, ours=None) for row in FOUND.rows)
    with pytest.raises(ConfigurationError, match="every run diverged"):
        tt.plot(dataclasses.replace(FOUND, rows=rows))


def test_a_run_is_loaded_from_its_folder(write_comparison) -> None:
    run = write_comparison(seeds=1) / "lstm" / "seed-0"
    assert tt.load(run) == read_run(run)


@pytest.mark.parametrize("diagnosis", [VANISHING, ODD])
def test_a_diagnosis_is_read_back(diagnosis: Diagnosis, tmp_path: Path) -> None:
    found = tt.load(diagnosis.save(tmp_path / "diagnosis.json"))
    assert isinstance(found, Diagnosis)
    assert found.to_json() == diagnosis.to_json()  # NaN is not equal to itself
    assert found.verdict is diagnosis.verdict


def test_a_diagnosis_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    document = VANISHING.to_json()
    document["asks"] = document.pop("missing_evidence")
    file = tmp_path / "diagnosis.json"
    for kind in ("Diagnosis", None):  # the first files had no type
        document["type"] = kind
        kept = {name: value for name, value in document.items() if value is not None}
        file.write_text(json.dumps(kept), encoding="utf-8")
        assert tt.load(file).to_json() == VANISHING.to_json()


def test_a_reproduction_is_read_back_also_without_its_type(tmp_path: Path) -> None:
    file = FOUND.save(tmp_path / "reproduction.json")
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["reproduced"] is FOUND.reproduced
    assert tt.load(file) == FOUND
    del document["type"]  # as earlier versions wrote it
    file.write_text(json.dumps(document), encoding="utf-8")
    assert tt.load(file) == FOUND
    assert Reproduction.from_json(document) == FOUND


def test_files_that_are_no_record(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    with pytest.raises(RunError, match="cannot read"):
        tt.load(file)
    file.write_text('{"schema_version": 1, "a": 2}', encoding="utf-8")
    with pytest.raises(RunError, match="type is not given"):
        tt.load(file)
    file.write_text('{"schema_version": 9}', encoding="utf-8")
    with pytest.raises(RunVersionError, match="schema_version 9"):
        tt.load(file)
    with pytest.raises(RunError, match="expected a Diagnosis"):
        Diagnosis.from_json(FOUND.to_json())


def test_a_field_of_another_type_is_named() -> None:
    document = dataclasses.replace(FOUND).to_json()
    document["rows"][0]["seconds"] = "long"
    with pytest.raises(RunError, match=r"rows\[0\].seconds is 'long', not float"):
        Reproduction.from_json(document)
