"""Hundreds of changes to the files of a finished comparison: typed errors, or a reading of them."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from throughtime.core.errors import ThroughtimeError
from throughtime.doctor.sources import from_run
from throughtime.reports import read_comparison
from throughtime.reports.comparison_text import comparison_table, finding
from throughtime.reports.page import render_report
from throughtime.studies import CompareRequest, compare
from throughtime.studies.plan import make_plan, placed
from throughtime.training import load_model

REQUEST = CompareRequest(
    "adding:length=11", ("rnn:hidden=2", "gru:hidden=2"), seeds=1, steps=4, batch_size=4, jobs=1
)
PLAN = make_plan(REQUEST)
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    3.5,
    1e308,
    10**30,
    "",
    "x",
    "../x",
    [],
    [None],
    {},
    {"a": 1},
]
RUN = "gru-hidden-2/seed-0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison."""
    folder = tmp_path_factory.mktemp("comparison")
    compare(REQUEST, folder)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path, unchecked: None) -> Path:
    return shutil.copytree(whole, tmp_path / "copy")


def read(folder: Path, *also: Callable[[Path], object]) -> bool:
    """Whether everything that reads a comparison's folder reads this one; typed errors alone."""
    fine = True
    readers = (look_at, lambda f: placed(PLAN, f), lambda f: load_model(f / RUN))
    for reader in (*readers, *also):
        try:
            reader(folder)
        except ThroughtimeError:
            fine = False
    return fine


def look_at(folder: Path) -> None:
    comparison = read_comparison(folder)
    comparison_table(comparison)
    finding(comparison)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a document."""
    yield path
    inner = document.items() if isinstance(document, dict) else ()
    inner = enumerate(document[:1]) if isinstance(document, list) else inner
    for key, value in inner:
        yield from places(value, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at a path; without one at all for Ellipsis."""
    if not path:
        return [] if value is ... else value
    copy = dict(document) if isinstance(document, dict) else list(document)
    if len(path) == 1 and value is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(document[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize(
    "name",
    ["compare.json", f"{RUN}/config.json", f"{RUN}/result.json", f"{RUN}/gradient_flow.json"],
)
def test_values_of_other_kinds(copied: Path, name: str) -> None:
    file = copied / name
    document = json.loads(file.read_text())
    generator, refused, tried = random.Random(0), 0, 0
    for path in places(document):
        for value in (..., *generator.sample(VALUES, 2)):
            file.write_text(json.dumps(changed(document, path, value)))
            tried += 1
            refused += not read(copied)
    assert tried > 40
    assert refused > tried // 3
    file.write_text(json.dumps(document))
    assert read(copied)


@pytest.mark.parametrize(
    "name",
    [
        *("compare.json", f"{RUN}/config.json", f"{RUN}/result.json"),
        *(f"{RUN}/gradient_flow.json", f"{RUN}/metrics.jsonl", f"{RUN}/latest"),
    ],
)
def test_single_bits(copied: Path, name: str) -> None:
    file = copied / name
    content = file.read_bytes()
    generator = random.Random(1)
    also = [lambda folder: from_run(folder / RUN)] if name.endswith("metrics.jsonl") else []
    for _ in range(25):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        file.write_bytes(damaged)
        read(copied, *also)
    file.write_bytes(content[: len(content) // 2])
    assert not read(copied) or name.endswith("metrics.jsonl")
    file.write_bytes(b"[" * 100_000)
    assert not read(copied) or name.endswith("metrics.jsonl")


def test_what_is_read_can_be_drawn(copied: Path) -> None:
    file = copied / "compare.json"
    document = json.loads(file.read_text())
    for path, value in {
        ("task", "description"): "<script>\x1b[2J\ud800",
        ("models", 0, "label"): "[/b]<b>\u202e",
        ("task", "length"): 10**9,
        ("command",): "",
    }.items():
        document = changed(document, path, value)
    file.write_text(json.dumps(document))
    page = render_report(read_comparison(copied))
    assert "<script>\x1b" not in page
    page.encode("utf-8", "backslashreplace")
