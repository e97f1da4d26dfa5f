"""`throughtime.plot` and `throughtime.load`: every result type of the instruments."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch
from reports.diagnoses import VANISHING
from reports.measured import flow, halving, results
from warm import ENVIRONMENT

import throughtime as tt
from throughtime import instruments
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, RunError, UnknownNameError
from throughtime.core.state import state_type
from throughtime.foreign.recording import UnsavedCell
from throughtime.instruments import (
    gate_activity,
    jacobians,
    lyapunov_spectrum,
    perturbation_survival,
)
from throughtime.instruments.gates import GateStatistics
from throughtime.reports.plot import pictures, plotted_types
from throughtime.results import Reproduction, Run
from throughtime.results.diagnosis import Inspection, Measurement
from throughtime.results.fields import to_document
from throughtime.results.record import Record

NO_RESULTS = {"Dynamics", "Plane", "Steps", "Wall"}
"""Dataclasses of the instruments that are given or derived, not measured."""


def result_types() -> set[type]:
    exported = {getattr(instruments, name) for name in instruments.__all__} | {GateStatistics}
    classes = {each for each in exported if inspect.isclass(each)}
    return {each for each in classes if each.__name__ not in NO_RESULTS}


def test_every_result_type_is_here_and_has_a_picture() -> None:
    assert set(results()) == {kind.__name__ for kind in result_types()}
    assert set(plotted_types()) == result_types() | {Reproduction, Run}


@pytest.mark.parametrize("name", sorted(kind.__name__ for kind in result_types()))
def test_every_result_is_plotted(name: str) -> None:
    result = results()[name]
    for which in pictures(result, 3):
        figure = tt.plot(result, which, lag=3)
        assert isinstance(figure, go.Figure)
        assert figure.layout.title.text
        go.Figure(json.loads(figure.to_json() or ""))  # plotly checks each property
    assert len(tt.plot(result).data) > 0


@pytest.mark.parametrize("name", sorted(kind.__name__ for kind in result_types()))
def test_every_result_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    result = results()[name]
    found = tt.load(result.save(tmp_path / "result.json"))
    assert type(found) is type(result)
    same(found, result)


def same(found: Any, given: Any) -> None:
    """Two values are equal, NaN included, and of the same types."""
    if isinstance(given, torch.Tensor):
        assert found.dtype == given.dtype
        assert torch.equal(found.isnan(), given.isnan())
        assert torch.equal(found.nan_to_num(), given.nan_to_num())
        assert found.shape == given.shape
    elif dataclasses.is_dataclass(given):
        assert type(found) is type(given)
        for field in dataclasses.fields(given):
            same(getattr(found, field.name), getattr(given, field.name))
    elif isinstance(given, dict):
        assert [*found] == [*given]
        for key in given:
            same(found[key], given[key])
    elif isinstance(given, Cell):  # of a module its class alone is saved
        assert isinstance(found, UnsavedCell)
        assert found.name == type(given).__name__
    elif isinstance(given, tuple):
        assert type(found) is type(given)
        assert len(found) == len(given)
        for one, other in zip(found, given, strict=True):
            same(one, other)
    else:
        assert type(found) is type(given)
        assert found == given or (found != found and given != given)


def test_a_recording_from_a_file_has_its_states_and_no_cell(tmp_path: Path) -> None:
    recording = results()["Recording"]
    given = dataclasses.replace(recording, starts={3: recording.before(3)})
    file = given.save(tmp_path / "recording.json")
    found = tt.load(file)
    assert isinstance(found, instruments.Recording)
    same(found, given)
    same(found.before(3), given.before(3))
    assert tt.plot(found).to_json() == tt.plot(given).to_json()
    assert tt.load(found.save(file)).to_json() == given.to_json()
    for instrument in (gate_activity, lyapunov_spectrum, perturbation_survival, jacobians):
        with pytest.raises(ConfigurationError, match=r"not hold the LSTMCell.*Record the model"):
            instrument(tt.load(file))
    assert given.save(tmp_path / "page.html").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": {"h": 1}}, "states.h is 1, not a tensor"),
        ({"states": {}}, "states has no names"),
        ({"starts": {"-1": {}}}, "starts has keys that are no steps"),
        ({"starts": []}, "starts is "),
        ({"cell": {"a": 1}}, "cell is "),
    ],
)
def test_damaged_files_of_a_recording(change: dict[str, Any], message: str) -> None:
    document = {**results()["Recording"].to_json(), **change}
    with pytest.raises(RunError, match=message):
        Record.from_json(document)


def test_a_state_of_any_structure_is_saved_and_loaded() -> None:
    recording = results()["Recording"]
    nested = state_type("h", "memory")(torch.ones(2, 3), (torch.arange(4), torch.zeros(1, 2)))
    given = dataclasses.replace(recording, initial=nested, states=nested)
    found = instruments.Recording.from_json(json.loads(json.dumps(given.to_json())))
    same(found, given)


def test_every_result_is_loaded_in_a_fresh_process(tmp_path: Path) -> None:
    """Where nothing but `load` is imported, and so no module of the types."""
    for name, result in results().items():
        result.save(tmp_path / f"{name}.json")
    measurement = Measurement("gradient_flow", "rnn", flow(halving()), "", 0.5)
    Inspection("LSTM", "runs/a", 40, (measurement,), ()).save(tmp_path / "Inspection.json")
    files = sorted(tmp_path.glob("*.json"))
    code = "import sys, throughtime as tt; [print(type(tt.load(f)).__name__) for f in sys.argv[1:]]"
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT,
    )
    assert found.stdout.split() == [file.stem for file in files]


def test_results_by_name_share_a_figure() -> None:
    figure = tt.plot({"lstm": flow(halving()), "gru": flow(halving(0.9))})
    assert [trace.name for trace in figure.data] == ["lstm", "gru"]


def test_a_diagnosis_is_plotted() -> None:
    assert tt.plot(VANISHING).layout.title.text.startswith(VANISHING.pictures[0].title[:20])


def test_options_of_pictures() -> None:
    basins, points = results()["Basins"], results()["FixedPoints"]
    marked = tt.plot(basins, fixed=points)
    assert len(marked.data) > len(tt.plot(basins).data)
    tanh = instruments.one_unit_map(2.0)
    stairs = instruments.cobweb(tanh, 0.1, 5)
    names = [trace.name for trace in tt.plot(results()["PhaseLine"], f=tanh, stairs=stairs).data]
    assert names[:3] == ["x", "F(x)", "iteration"]
    clipped = tt.plot(results()["GradientNorms"], clip=2.5)
    assert "clipped" in clipped.layout.title.text
    with pytest.raises(UnknownNameError, match="expected one of: fixed"):
        tt.plot(basins, points=points)
    with pytest.raises(UnknownNameError, match="option of the picture"):
        tt.plot(flow(halving()), needed=3)


def test_pictures_that_do_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="by unit"):
        tt.plot(flow(halving()), "by units")
    with pytest.raises(ConfigurationError, match=r"int.*GradientFlow"):
        tt.plot(3)
    with pytest.raises(ConfigurationError, match="LyapunovSpectrum"):
        tt.plot({"a": flow(halving()), "b": results()["Jacobians"]})


def test_a_module_is_no_field_of_a_file() -> None:
    with pytest.raises(ConfigurationError, match="got Linear"):
        to_document({"model": torch.nn.Linear(1, 1)})


def test_measurements_hold_any_result(tmp_path: Path) -> None:
    inspection = Inspection(
        "LSTM, layer 'rnn'",
        "runs/a",
        40,
        (
            Measurement("gradient_flow", "rnn", flow(halving()), "", 0.5),
            Measurement("basins", "", None, "The cell has more than 2 units.", 0.1),
        ),
        (),
    )
    found = tt.load(inspection.save(tmp_path / "inspection.json"))
    assert isinstance(found, Inspection)
    assert found.to_json() == inspection.to_json()
    assert isinstance(found.measurements[0].result, instruments.GradientFlow)
    assert "gradient_flow, by lag" in pictures(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "Nothing"}, "type is 'Nothing'"),
        ({"weight": "1"}, "weight is '1', not float"),
        ({"kept": {"dtype": "float64", "shape": [3], "values": [1.0]}}, "kept has 1 values, not 3"),
        ({"kept": {"dtype": "nn", "shape": [0], "values": []}}, "not a dtype"),
        ({"more": 1}, "unknown field more"),
        ({"kept": {"dtype": "int8", "shape": [1], "values": [300]}}, "kept: "),
    ],
)
def test_damaged_files(change: dict[str, Any], message: str) -> None:
    document = results()["LatchSurvival"].to_json()
    with pytest.raises(RunError, match=message):
        Record.from_json({**document, **change})


def test_a_measurement_is_plotted_and_has_a_page(tmp_path: Path) -> None:
    part = Measurement("gradient_flow", "rnn", flow(halving()), "", 0.5)
    assert tt.plot(part, "share").data == tt.plot(flow(halving()), "share").data
    assert "The gradient of" in part.save(tmp_path / "part.html").read_text(encoding="utf-8")


def test_a_result_without_pictures_has_no_figure() -> None:
    refused = Measurement("basins", "", None, "The cell has more than 2 units.", 0.1)
    for each in (refused, Inspection("LSTM", "", None, (refused,), ())):
        with pytest.raises(ConfigurationError, match="without any"):
            tt.plot(each)


def test_titles_are_about_the_numbers() -> None:
    measured = flow(halving())
    contribution = measured.contribution.clone()
    contribution[-1] = torch.inf
    infinite = dataclasses.replace(measured, contribution=contribution)
    assert "is not finite" in tt.plot(infinite, "share").layout.title.text
    spectrum = results()["LyapunovSpectrum"]
    unknown = torch.tensor([torch.nan, torch.nan]).double()
    found = dataclasses.replace(spectrum, standard_errors=unknown)
    assert "factor 0.819 a step" in tt.plot(found).layout.title.text
    erased = dataclasses.replace(found, exponents=torch.full((2,), -torch.inf).double())
    assert "keeps nothing" in tt.plot(erased).layout.title.text
    gate = results()["GateStatistics"]
    never = dataclasses.replace(gate, low=gate.mean * 0, high=gate.mean * 0)
    gates = dataclasses.replace(results()["GateActivity"], gates={"input": never})
    assert tt.plot(gates, "saturation").layout.title.text == "No gate is ever saturated."


def test_a_file_that_is_no_record(tmp_path: Path) -> None:
    for content in (None, "<html>", "[]", '{"schema_version": 1'):
        if content is not None:
            (tmp_path / "result.json").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"a JSON file that save\(\) wrote"):
            tt.load(tmp_path / "result.json")


def test_a_title_is_text() -> None:
    figure = tt.plot(results()["Bifurcation"], parameter="<b>w</b>")
    assert "&lt;b&gt;w" in figure.layout.title.text
