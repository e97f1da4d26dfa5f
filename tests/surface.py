"""The public surface, read from the source: what `__all__` names, and where each name is defined.

Nothing is imported, so that neither decorators nor the Python version change what is read.
"""

import ast
import functools
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "throughtime"

Function = ast.FunctionDef | ast.AsyncFunctionDef
T = TypeVar("T")


def of_each(things: Collection[T]) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """Decorator: one test of a check of many things, which names all that fail it.

    Thousands of tests that take no time each take minutes together.
    """

    def decorate(check: Callable[[T], None]) -> Callable[[], None]:
        def test() -> None:
            assert things, "nothing to check"
            failures: list[str] = []
            for thing in things:
                try:
                    check(thing)
                except AssertionError as error:
                    failures.append(f"{thing}: {str(error).splitlines()[0]}")
            assert not failures, "\n".join(failures)

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        return test

    return decorate


@dataclass(frozen=True)
class Definition:
    """A class, a function or an assignment at the top of a module."""

    module: str
    name: str
    node: ast.stmt

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    def bases(self) -> Iterator["Definition"]:
        """The classes of this package that a class inherits from, nearest first."""
        if isinstance(self.node, ast.ClassDef):
            for base in self.node.bases:
                name = base.value if isinstance(base, ast.Subscript) else base
                found = resolve(self.module, name.id) if isinstance(name, ast.Name) else None
                if isinstance(found, Definition):
                    yield found
                    yield from found.bases()


@functools.cache  # a walk through the folders
def modules() -> tuple[str, ...]:
    """All modules of the package, by their dotted names."""
    parts = [
        ("throughtime", *p.relative_to(PACKAGE).with_suffix("").parts)
        for p in PACKAGE.rglob("*.py")
    ]
    return tuple(sorted(".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts))


def source(module: str) -> Path:
    """The file of a module."""
    folder = PACKAGE.joinpath(*module.split(".")[1:])
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


@functools.cache
def parse(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(source(module).read_text(encoding="utf-8"))


def packages() -> list[str]:
    """The public packages: throughtime and its folders, none of whose names begins with _."""
    found = [m for m in modules() if source(m).name == "__init__.py"]
    return [m for m in found if not any(part.startswith("_") for part in m.split("."))]


def exported(package: str) -> list[str] | None:
    """What `__all__` of a package lists, or None if it has no `__all__`."""
    for statement in parse(package).body:
        if isinstance(statement, ast.Assign) and _targets(statement) == ["__all__"]:
            return list(ast.literal_eval(statement.value))
    return None


def surface() -> dict[str, list[str]]:
    """The public names of each package, and of each module that a package exports as a whole."""
    found = {package: sorted(exported(package) or []) for package in packages()}
    for package, names in list(found.items()):
        for name in names:
            module = resolve(package, name)
            if isinstance(module, str) and module not in found:
                found[module] = sorted(exported(module) or filter(is_public, _defined(module)))
    return dict(sorted(found.items()))


@functools.cache
def resolve(module: str, name: str) -> Definition | str | None:
    """Where a name is defined; a module's name as text; None if it comes from elsewhere."""
    if f"{module}.{name}" in modules():
        return f"{module}.{name}"
    body = parse(module).body
    lazily = [s.body for s in body if isinstance(s, ast.If)]  # imports for type checkers
    for statement in itertools.chain(body, *lazily):
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if (
                statement.name == name
            ):
                return Definition(module, name, statement)
            case ast.Assign() | ast.AnnAssign() if name in _targets(statement):
                return Definition(module, name, statement)
            case ast.ImportFrom(module=origin) if (origin or "").split(".")[0] == "throughtime":
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return resolve(str(origin), alias.name)
    return None


@functools.cache
def exports() -> frozenset[str]:
    """The paths of the definitions that some package exports."""
    found = (resolve(package, name) for package, names in surface().items() for name in names)
    return frozenset(d.path for d in found if isinstance(d, Definition))


@functools.cache
def definitions() -> dict[str, Definition]:
    """All public definitions and the classes of this package that they inherit from, by path."""
    found: dict[str, Definition] = {}
    for package, names in surface().items():
        for name in names:
            definition = resolve(package, name)
            if isinstance(definition, Definition):
                found[definition.path] = definition
                found.update((base.path, base) for base in definition.bases())
    return dict(sorted(found.items()))


def methods(definition: Definition) -> Iterator[Function]:
    """The public methods of a class, and its special ones."""
    if isinstance(definition.node, ast.ClassDef):
        for statement in definition.node.body:
            if isinstance(statement, Function) and is_public(statement.name):
                yield statement


def fields(definition: Definition) -> Iterator[ast.AnnAssign]:
    """The public annotated attributes of a class body."""
    if isinstance(definition.node, ast.ClassDef):
        for statement in definition.node.body:
            if isinstance(statement, ast.AnnAssign) and is_public(ast.unparse(statement.target)):
                yield statement


def is_public(name: str) -> bool:
    """Whether a name is meant for users: no leading underscore, or a special method."""
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def _defined(module: str) -> Iterator[str]:
    for statement in parse(module).body:
        if isinstance(statement, ast.ClassDef | Function):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            yield from _targets(statement)


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = [t.elts if isinstance(t, ast.Tuple) else [t] for t in targets]
    return [n.id for group in names for n in group if isinstance(n, ast.Name)]
