"""`throughtime list`: the tasks, models and learners there are, with their options."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from throughtime.cli.arguments import flag, one_of, parse, position
from throughtime.cli.output import show, show_json
from throughtime.core.registry import Registry

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show the tasks, models and learners there are, each with its options and the values that
    these have when left out. Options follow a name after a colon: lstm:hidden=32,layers=2"""

    what: str = position(
        "KIND",
        "tasks, models, learners or all.",
        "all",
        read=one_of("tasks", "models", "learners", "all"),
        usual="all",
    )
    json: bool = flag("Print one JSON object.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "list", words)

    from throughtime.learning import LEARNERS
    from throughtime.models import MODELS
    from throughtime.tasks import TASKS

    registries: dict[str, Registry[Any]] = {
        "tasks": TASKS,
        "models": MODELS,
        "learners": LEARNERS,
    }
    if arguments.what != "all":
        registries = {arguments.what: registries[arguments.what]}
    if arguments.json:
        show_json({kind: _as_json(registry) for kind, registry in registries.items()})
        return 0
    for kind, registry in registries.items():
        show(_table(kind, registry))
    return 0


def _as_json(registry: Registry[Any]) -> dict[str, Any]:
    return {
        name: {"description": registry.describe(name), "options": registry.options(name)}
        for name in registry
    }


def _table(kind: str, registry: Registry[Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_row(Text(kind, style="bold underline"))
    for name in registry:
        options = " ".join(f"{key}={_text(value)}" for key, value in registry.options(name).items())
        table.add_row(
            Text(name, style="bold"),
            Text.assemble(registry.describe(name), (f"\n{options}" if options else "", "dim")),
        )
    table.add_row("")
    return table


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
