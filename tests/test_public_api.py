"""The public API is what `public_api.txt` says: names, and signatures as written in the source.

After an intended change: `make api`, and say so in CHANGELOG.md.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import surface

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def render() -> str:
    """The whole public API as text: first the names of each package, then every definition."""
    lines: list[str] = []
    for package, names in surface.surface().items():
        lines.append(package)
        for name in names:
            found = surface.resolve(package, name)
            lines.append(
                f"    {name} = {found.path if isinstance(found, surface.Definition) else found}"
            )
        lines.append("")
    for definition in surface.definitions().values():
        lines += [definition.module, *_definition(definition), ""]
    return "\n".join(lines)


def _definition(definition: surface.Definition) -> Iterator[str]:
    node = definition.node
    if isinstance(node, surface.Function):
        yield from _function(node, "    ")
    elif isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(b) for b in [*node.bases, *node.keywords])
        yield from (f"    @{ast.unparse(d)}" for d in node.decorator_list)
        yield f"    class {node.name}({bases})" if bases else f"    class {node.name}"
        for statement in node.body:
            if isinstance(statement, surface.Function) and surface.is_public(statement.name):
                yield from _function(statement, "        ")
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                text = ast.unparse(statement)
                if surface.is_public(text.partition("=")[0].partition(":")[0].strip()):
                    yield f"        {text}"
    else:
        yield f"    {ast.unparse(node)}"


def _function(node: surface.Function, indent: str) -> Iterator[str]:
    yield from (f"{indent}@{ast.unparse(d)}" for d in node.decorator_list)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    yield f"{indent}def {node.name}({ast.unparse(node.args)}){returns}"


def test_snapshot() -> None:
    assert render() == SNAPSHOT.read_text(encoding="utf-8"), (
        "the public API has changed: if that is intended, run `make api` and add it to CHANGELOG.md"
    )


@pytest.mark.parametrize("package", surface.packages())
def test_every_package_says_what_is_public(package: str) -> None:
    names = surface.exported(package)
    if names is None:
        only_a_docstring = len(surface.parse(package).body) <= 1
        assert only_a_docstring, f"{package}/__init__.py has content and no __all__"
        return
    assert len(names) == len(set(names))
    module = importlib.import_module(package)
    for name in names:
        assert hasattr(module, name), f"{package}.{name} does not exist"
        assert surface.resolve(package, name) is not None, (
            f"{package}.{name} is not from this package"
        )


if __name__ == "__main__":
    SNAPSHOT.write_text(render(), encoding="utf-8")
