"""`throughtime list`: the tasks, models, learners and kinds of feedback, with their options."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from throughtime.cli.arguments import flag, one_of, parse, position
from throughtime.cli.output import show, show_json

if TYPE_CHECKING:
    from rich.table import Table

    from throughtime.core.registry import Registry
    from throughtime.models.registry import Models


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show tasks, models, learners and kinds of feedback, each with its options and their default
    values. Options follow a name after a colon: lstm:hidden=32,layers=2. A model's name is that of
    its cell; all cells share some options."""

    what: str = position(
        "KIND",
        "tasks, models, learners, feedback or all.",
        "all",
        read=one_of("tasks", "models", "learners", "feedback", "all"),
        usual="all",
    )
    json: bool = flag("Print one JSON object.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "list", words)

    from throughtime.core.registry import CELLS
    from throughtime.learning import LEARNERS
    from throughtime.models import MODELS
    from throughtime.models.registry import FAMILIES, SHARED_OPTIONS
    from throughtime.tasks import TASKS
    from throughtime.training import FEEDBACKS

    registries = {"tasks": TASKS, "models": MODELS, "learners": LEARNERS, "feedback": FEEDBACKS}
    kinds = tuple(registries) if arguments.what == "all" else (arguments.what,)
    if arguments.json:
        show_json({kind: _as_json(registries[kind]) for kind in kinds})
        return 0
    own = MODELS.own_options
    shared = {p.name: p.default for p in SHARED_OPTIONS.values()}
    for kind in kinds:
        if kind == "models":
            note = "A cell's name is a model's. The task chooses the family around the cell."
            show(_table("cells", CELLS, own, note, ("every cell", "Options of all cells.", shared)))
            note = "A family may be named, with its cell: readout:cell=gru,hidden=32"
            show(_table("families", FAMILIES, own, note))
        else:
            registry: Registry[Any] = registries[kind]
            show(_table(kind, registry, registry.options))
    return 0


def _as_json(registry: "Registry[Any] | Models") -> dict[str, Any]:
    return {
        name: {"description": registry.describe(name), "options": registry.options(name)}
        for name in registry
    }


def _table(
    title: str,
    registry: "Registry[Any]",
    options: Callable[[str], Mapping[str, object]],
    note: str = "",
    *more: tuple[str, str, Mapping[str, object]],
) -> "Table":
    """Make a table of names, each with its description and its options."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_row(Text(title, style="bold underline"), note)
    rows = [(name, registry.describe(name), options(name)) for name in registry]
    for name, description, values in (*more, *rows):
        listed = " ".join(f"{key}={_text(value)}" for key, value in values.items())
        line = Text.assemble(description, (f"\n{listed}" if listed else "", "dim"))
        table.add_row(Text(name, style="bold"), line)
    table.add_row("")
    return table


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
