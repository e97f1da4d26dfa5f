"""Habits that a reader relies on: short files, telling names, a light import."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import networkx
import pytest
import surface
from torch import nn

FILES = sorted(
    path.relative_to(surface.ROOT)
    for folder in ("src", "tests", "benchmarks")
    for path in (surface.ROOT / folder).rglob("*.py")
)


@surface.of_each(FILES)
def test_file_is_short(path: Path) -> None:
    lines = len((surface.ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= 500, f"{path} has {lines} lines: one file, one idea"


@surface.of_each(FILES)
def test_file_name_says_what_is_in_it(path: Path) -> None:
    assert not {*path.parts[:-1], path.stem} & {"utils", "helpers", "base", "misc", "common"}


@surface.of_each([p for p in FILES if p.parts[0] == "src"])
def test_annotations_are_objects(path: Path) -> None:
    """Shapes are checked in tests, which strings would prevent."""
    text = (surface.ROOT / path).read_text(encoding="utf-8")
    assert "from __future__ import annotations" not in text


@surface.of_each([p for p in FILES if p.parts[0] == "src" and "cpp" not in p.parts])
def test_no_message_advises_to_delete_a_folder(path: Path) -> None:
    """It may hold results: it can be renamed. (A cache of compiled code holds none.)"""
    tree = ast.parse((surface.ROOT / path).read_text(encoding="utf-8"))
    texts = [
        argument.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for argument in ast.walk(call)
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    advice = [text for text in texts if re.search(r"(?i)\b(delete|remove)\b.*\bfolder", text)]
    assert not advice, advice


CLASSES = [
    surface.Definition(module, node.name, node)
    for module in surface.modules()
    for node in surface.parse(module).body
    if isinstance(node, ast.ClassDef)
]


def own_methods(definition: surface.Definition) -> dict[str, bool]:
    """The methods that a class's body defines; True of those that are abstract."""
    assert isinstance(definition.node, ast.ClassDef)
    return {
        node.name: any("abstractmethod" in ast.dump(each) for each in node.decorator_list)
        for node in definition.node.body
        if isinstance(node, surface.Function) and not node.name.startswith("__")
    }


@surface.of_each(CLASSES)
def test_implemented_methods_are_never_overridden(definition: surface.Definition) -> None:
    """A method is abstract or final; those of nn.Module are excepted."""
    inherited = {
        name
        for base in definition.bases()
        if isinstance(base.node, ast.ClassDef)
        for name, abstract in own_methods(base).items()
        if not abstract
    }
    again = (own_methods(definition).keys() & inherited) - set(dir(nn.Module))
    assert not again, f"{sorted(again)} is implemented in a class above"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("throughtime", cache_dir=None)
    imports = networkx.DiGraph(
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    )
    assert not [c for c in networkx.strongly_connected_components(imports) if len(c) > 1]


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_is_light() -> None:
    """`import throughtime` loads nothing; its layers load torch, numpy and jaxtyping alone."""
    for statement, allowed in (("pass", "pass"), ("throughtime.LSTM", "import torch, jaxtyping")):
        extra = imported_by(f"import throughtime; {statement}") - imported_by(allowed)
        extra -= {"throughtime"}
        assert extra <= sys.stdlib_module_names, sorted(extra - sys.stdlib_module_names)


def test_public_names_of_the_package() -> None:
    import throughtime

    assert dir(throughtime) == sorted(throughtime.__all__)
    for name in throughtime.__all__:
        assert getattr(throughtime, name) is getattr(throughtime, name)
    with pytest.raises(AttributeError, match="has no attribute 'lstm'"):
        _ = throughtime.lstm  # pyright: ignore[reportAttributeAccessIssue]


def test_data_files_are_packaged() -> None:
    """What is not Python is named in pyproject.toml: a wheel would lack it otherwise."""
    project = tomllib.loads((surface.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["throughtime"]
    packaged = {path for pattern in patterns for path in surface.PACKAGE.glob(pattern)}
    files = {path for path in surface.PACKAGE.rglob("*") if path.is_file()}
    missing = {p for p in files if p.suffix not in (".py", ".pyc")} - packaged
    assert not missing
