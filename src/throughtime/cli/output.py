"""Output of commands: results to stdout, progress and remarks to stderr."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from throughtime.core.escaping import escaped


@final
class LiteralConsole(Console):
    """A console that prints names and paths as they are: no markup, no emoji codes, and control
    characters written out.

    Arguments:
        options: Options of rich's Console.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # pyright: ignore
        """A text that is not markup, escaped before its width is measured."""
        return super().render_str(escaped(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The segments of what is printed, their texts escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escaped(segment.text))


def show(result: RenderableType) -> None:
    """Print a result for people, wrapped at words; without blanks at the ends of lines where it is
    no terminal."""
    console = LiteralConsole()
    if console.is_terminal:
        console.print(result)
        return
    with console.capture() as captured:
        console.print(result)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def show_place(what: str, place: object) -> None:
    """Print the path of a file or folder on one line, which can be copied."""
    sys.stdout.write(f"{what}: {escaped(str(place))}\n")


def show_json(result: Mapping[str, object]) -> None:
    """Print a result for machines: one JSON object, and nothing else on stdout."""
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False, default=str) + "\n")


def remark(text: str | Text) -> None:
    """Print a remark on stderr: wrapped at words in a terminal, on one line elsewhere."""
    console = error_console()
    console.print(text, soft_wrap=not console.is_terminal)


def error_console() -> Console:
    """The console of progress and remarks."""
    return LiteralConsole(stderr=True)
