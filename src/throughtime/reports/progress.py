"""Progress of a diagnosis: a line in a terminal, a bar in a notebook, nothing elsewhere."""

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from throughtime.core.escaping import escaped
from throughtime.reports.numbers import duration

_NARROW = 60  # columns, below which there is no room for a bar


@contextlib.contextmanager
def progress_shown(
    seconds: float, console: Console | None = None
) -> Iterator[Callable[[str, float], None]]:
    """Yield a function of the stage and the share of the budget that shows both.

    The line is on stderr. It is removed at the end.

    Arguments:
        seconds: the budget.
        console: console for the line; that of stderr by default.
    """
    display = _notebook_display()
    console = Console(stderr=True) if console is None else console
    if display is not None:
        shown = display(_Html(_bar("", 0.0)), display_id=True)
        try:
            yield lambda stage, share: shown.update(_Html(_bar(stage, share)))
        finally:
            shown.update(_Html(""))
    elif console.is_terminal:
        started, stages = time.monotonic(), [""]

        def line() -> RenderableType:
            return _line(stages[-1], time.monotonic() - started, seconds, console.width)

        with Live(get_renderable=line, console=console, transient=True):
            yield lambda stage, share: stages.append(stage)
    else:
        yield lambda stage, share: None


def _line(stage: str, spent: float, seconds: float, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    said = Text(escaped(stage), no_wrap=True, overflow="ellipsis")
    if width < _NARROW:
        table.add_row(Text(duration(spent), style="dim", no_wrap=True), said)
        return table
    times = Text(f"{duration(spent)} of {duration(seconds)}", style="dim", no_wrap=True)
    bar = ProgressBar(total=seconds, completed=min(spent, seconds), width=20)
    table.add_row(bar, times, said)
    return table


class _Html:
    """HTML for a notebook."""

    def __init__(self, text: str):
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def _bar(stage: str, share: float) -> str:
    return (
        f'<progress max="1" value="{min(share, 1.0):.3f}"></progress> {html.escape(escaped(stage))}'
    )


def _notebook_display() -> Any:
    """Return IPython's display function in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display  # pyright: ignore

    return display
