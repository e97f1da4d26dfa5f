"""Every public name is documented, the sections agree with the signature, and the examples run.

What has to be there is said in CONTRIBUTING.md, "Docstrings".
"""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator

import pytest
import surface

SECTIONS = (
    "Arguments",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Example",
    "Source",
    "Differs",
)
MISSPELT = re.compile(r"^\s*(Args|Parameters|Params|Return|Raise|Examples|Throws)\s*:?\s*$", re.M)
SHAPED = re.compile(r"\b(?:Float|Int|Bool|Shaped|Num|Inexact|Complex|Integer)\d*\[[^\]]*\]")
SHAPE_IN_WORDS = re.compile(r"\([^()]*\)|\bshape|\bscalar|\bas (for|in)\b", re.I)


def _callables() -> Iterator[tuple[str, surface.Definition, surface.Function]]:
    for path, definition in surface.definitions().items():
        if isinstance(definition.node, surface.Function):
            yield path, definition, definition.node
        for method in surface.methods(definition):
            constructor = method.name == "__init__" and path in surface.exports()
            if constructor or not method.name.startswith("__"):
                yield f"{path}.{method.name}", definition, method


NO_NOUN = re.compile(
    r"(?i)(of|what|how|whether|when|where|which|who|whose|why|as|in|from|by|with|at|on|to|for|that"
    r"|told|than|until|so|see|those|before|after|between|beside)\b"
)
"""The beginnings of a description that does not start with its noun."""


def entries_without_noun(text: str) -> list[str]:
    """The summary and the entries of arguments and attributes that do not start with a noun."""
    listed = {
        name: entry.strip()
        for title in ("Arguments", "Attributes")
        for name, entry in (section(text, title) or {}).items()
    }
    return [
        f"{name}: {entry.splitlines()[0][:60]}"
        for name, entry in {"summary": text, **listed}.items()
        if NO_NOUN.match(entry)
    ]


@surface.of_each(surface.modules())
def test_descriptions_start_with_their_noun(module: str) -> None:
    """Or, the summary of a function, with a verb, and a flag with "If True,"."""
    breaches = []
    for node in ast.walk(surface.parse(module)):
        if isinstance(node, ast.Module | ast.ClassDef | surface.Function):
            breaches += entries_without_noun(ast.get_docstring(node) or "")
    assert not breaches, "; ".join(breaches)


def test_a_description_without_noun_is_found() -> None:
    text = "Of the gradient.\n\nArguments:\n    norm: how large it is.\n    bound: The bound.\n"
    assert entries_without_noun(text) == ["summary: Of the gradient.", "norm: how large it is."]
    assert not entries_without_noun("Return the norm.\n\nArguments:\n    x: If True, a flag.\n")


DEFINITIONS = surface.definitions()
CALLABLES = {path: (definition, node) for path, definition, node in _callables()}


def documentation(definition: surface.Definition, node: surface.Function) -> str:
    """A function's docstring with those that it overrides; for a constructor, that of its class."""
    texts = [ast.get_docstring(node)]
    if isinstance(definition.node, ast.ClassDef):
        if node.name == "__init__":
            return ast.get_docstring(definition.node) or ""
        overridden = (m for base in definition.bases() for m in surface.methods(base))
        texts += [ast.get_docstring(m) for m in overridden if m.name == node.name]
    return "\n\n".join(text for text in texts if text)


def section(text: str, title: str) -> dict[str, str] | None:
    """The entries `name: what it is` of the sections of a title, or None if there is none."""
    found = re.findall(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", text, re.M)
    entries: dict[str, str] = {}
    names: list[str] = []
    for line in "\n".join(found).splitlines():
        entry = re.match(r" {4}(\*{0,2}\w[\w, *]*):(.*)", line)
        if entry:
            names = [name.strip(" *") for name in entry[1].split(",")]
            entries |= dict.fromkeys(names, entry[2])
        else:
            entries |= {name: f"{entries[name]} {line.strip()}" for name in names}
    return entries if found else None


def parameters(node: surface.Function) -> dict[str, ast.expr | None]:
    """The public parameters of a function with their annotations, without self."""
    a = node.args
    listed = [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]
    found = {p.arg: p.annotation for p in listed if p is not None and not p.arg.startswith("_")}
    return {name: kind for name, kind in found.items() if name not in ("self", "cls")}


def without_shape(annotation: ast.expr | None) -> bool:
    """Whether an annotation has a single tensor, not a collection of many, and not its shape."""
    text = SHAPED.sub("", ast.unparse(annotation)) if annotation else ""
    single = re.sub(r"\b(Mapping|dict|list|Sequence|Iterable|Iterator)\[.*\]", "", text)
    return re.search(r"\bTensor\b", single) is not None


@surface.of_each(surface.modules())
def test_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(surface.parse(module)), f"{surface.source(module)} has no docstring"


@surface.of_each(DEFINITIONS)
def test_public_name_is_documented(path: str) -> None:
    definition = DEFINITIONS[path]
    node = definition.node
    if isinstance(node, ast.ClassDef | surface.Function):
        text = ast.get_docstring(node) or ""
        assert text, "no docstring"
        assert text.partition("\n")[0].endswith((".", ":", "?")), "the first line is one sentence"
    else:  # a constant or a type: a string below it, or a comment above or beside it
        lines = surface.source(definition.module).read_text(encoding="utf-8").splitlines()
        body = surface.parse(definition.module).body
        below = body[body.index(node) + 1 :][:1]
        text = [s for s in below if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)]
        beside = re.search(r"#\s*\w", "\n".join(lines[node.lineno - 1 : node.end_lineno]))
        above = lines[node.lineno - 2].lstrip().startswith("#")
        assert text or beside or above, "neither a docstring below it nor a comment"


@surface.of_each(CALLABLES)
def test_function_is_documented(path: str) -> None:
    definition, node = CALLABLES[path]
    text = documentation(definition, node)
    assert text, "no docstring"
    assert not MISSPELT.search(text), f"sections are: {', '.join(SECTIONS)}"


@surface.of_each(CALLABLES)
def test_arguments_are_those_of_the_signature(path: str) -> None:
    """All, and none that is gone; a function of one argument may say it in its first sentence."""
    definition, node = CALLABLES[path]
    constructor = node.name == "__init__"
    own = documentation(definition, node) if constructor else ast.get_docstring(node) or ""
    listed = section(own, "Arguments")
    # what a constructor keeps as it is may stand under "Attributes:" instead
    kept = set(section(own, "Attributes") or {}) if constructor else set()
    if listed is not None:
        assert set(listed) | (kept & set(parameters(node))) == set(parameters(node))
    elif isinstance(definition.node, surface.Function) or constructor:
        assert len(set(parameters(node)) - kept) <= 1, "no 'Arguments:' section"


@surface.of_each(CALLABLES)
def test_tensors_have_shapes(path: str) -> None:
    """In the annotation, or in words beside the name where no single annotation can say it."""
    definition, node = CALLABLES[path]
    text = documentation(definition, node)
    listed = section(text, "Arguments")
    for name, annotation in parameters(node).items():
        if without_shape(annotation):
            said = text if listed is None else listed.get(name, "")
            assert SHAPE_IN_WORDS.search(said), f"{name}: no shape"
    if without_shape(node.returns):
        rest = re.sub(r"^(Arguments|Raises|Example):\n((?:[ ]+.*\n?|\n)+)", "", text, flags=re.M)
        assert SHAPE_IN_WORDS.search(rest), "the shape of what is returned is not said"


@surface.of_each([p for p, d in DEFINITIONS.items() if any(surface.fields(d))])
def test_fields_are_documented(path: str) -> None:
    """A class, or one that it inherits from, speaks of each of its fields, and gives shapes."""
    definition = DEFINITIONS[path]
    family = [d.node for d in (definition, *definition.bases())]
    text = "\n\n".join(ast.get_docstring(n) or "" for n in family if isinstance(n, ast.ClassDef))
    for field in surface.fields(definition):
        if "Parameter" in ast.unparse(field.annotation):
            continue  # the weights go by torch's names
        name = ast.unparse(field.target)
        assert re.search(rf"\b{name}\b", text, re.I), f"the docstring does not speak of {name}"
        if without_shape(field.annotation):
            said = (section(text, "Attributes") or {}).get(name, "")
            assert SHAPE_IN_WORDS.search(said), f"{name}: no shape"


@surface.of_each(CALLABLES)
def test_errors_are_named(path: str) -> None:
    """What a function raises itself is named, or the error that it is a kind of.

    Broken invariants (AssertionError) are our mistakes, not something that a caller meets.
    """
    definition, node = CALLABLES[path]
    text = documentation(definition, node)
    for statement in ast.walk(node):
        if isinstance(statement, ast.Raise) and isinstance(statement.exc, ast.Call):
            name = ast.unparse(statement.exc.func)
            found = surface.resolve(definition.module, name)
            kinds = [*found.bases()] if isinstance(found, surface.Definition) else []
            names = {name, *(kind.name for kind in kinds)} - {"ThroughtimeError"}
            known = name == "AssertionError" or any(name in text for name in names)
            assert known, f"{name} is raised and not documented"


def _examples() -> Iterator[tuple[str, doctest.DocTest]]:
    parser = doctest.DocTestParser()
    for module in surface.modules():
        for node in ast.walk(surface.parse(module)):
            documented = isinstance(node, ast.Module | ast.ClassDef | surface.Function)
            text = (ast.get_docstring(node) or "") if documented else ""
            if ">>>" in text:
                name = f"{module}.{getattr(node, 'name', '')}".rstrip(".")
                line = getattr(node, "lineno", 1) - 1
                yield module, parser.get_doctest(text, {}, name, str(surface.source(module)), line)


@pytest.mark.without_compiler
@pytest.mark.parametrize(
    ("module", "example"), [pytest.param(*e, id=e[1].name) for e in _examples()]
)
def test_example(module: str, example: doctest.DocTest, tmp_path, monkeypatch) -> None:
    """An example sees the names of its module, and may write into an empty folder."""
    monkeypatch.chdir(tmp_path)
    example.globs.update(vars(importlib.import_module(module)))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(example, out=failures.append)
    assert not failures, "".join(failures)


PAGES = {
    path.name: blocks
    for path in [surface.ROOT / "README.md", *sorted((surface.ROOT / "docs").glob("*.md"))]
    if (blocks := re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S))
}


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page(page: str, tmp_path, monkeypatch) -> None:
    """The Python of the README and of each page of the documentation runs as it stands."""
    assert {"README.md", "cells.md"} <= set(PAGES)
    monkeypatch.chdir(tmp_path)
    for block in PAGES[page]:
        exec(compile(block, page, "exec"), {})
