"""A diagnosis for the terminal: readable at 80 columns, and without the page."""

import io
from collections.abc import Iterator
from typing import final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from throughtime.core.escaping import escaped
from throughtime.reports import diagnosis_words as words
from throughtime.results.diagnosis import Diagnosis, Estimate, Finding, Remedy

_NARROW = 72  # columns, below which numbers and their intervals leave no room for names
_COLOURS = {"good": "green", "bad": "red", "open": "yellow"}
_SEVERITIES = {"fault": "bold red", "warning": "bold yellow", "note": "bold"}


def diagnosis_text(diagnosis: Diagnosis) -> Group:
    """The verdict, the findings, the remedies, and what to pass for more, for rich to print."""
    return Group(*_parts(diagnosis))


def plain_text(diagnosis: Diagnosis, width: int = 80) -> str:
    """What `diagnosis_text` prints, as text without colours.

    Arguments:
        diagnosis: what was found.
        width: characters of a line, at most; 40 and more are readable.
    """
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        highlight=False,
        legacy_windows=False,
    )
    console.print(diagnosis_text(diagnosis))
    return "\n".join(line.rstrip() for line in escaped(stream.getvalue()).splitlines())


def _parts(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    yield _verdict(diagnosis)
    yield Text()
    if diagnosis.findings:
        yield from _heading("What was found")
        for k, finding in enumerate(diagnosis.findings, 1):
            yield from _finding(k, finding)
    if diagnosis.remedies:
        yield from _heading("What was tried, on copies of the model")
        yield _Remedies(diagnosis.remedies)
        for remedy in diagnosis.remedies:
            if remedy.helped and remedy.code:
                yield Text(f"{remedy.name}:", style="bold", overflow="fold")
                yield Padding(Text(remedy.code, style="cyan", overflow="fold"), (0, 0, 1, 2))
    if diagnosis.asks:
        yield from _heading("To learn more")
        for ask in diagnosis.asks:
            yield _item("-", Text(ask, overflow="fold"))
        yield Text()
    yield Text.assemble(
        (f"This {words.took(diagnosis)}. Its page, with pictures: ", "dim"),
        ("diagnosis.save(path)", "cyan"),
    )


def _verdict(diagnosis: Diagnosis) -> Panel:
    colour = _COLOURS[words.mood(diagnosis)]
    known = words.certainty(diagnosis)
    lines = [
        Text(words.headline(diagnosis).upper(), style=f"bold {colour}"),
        Text(diagnosis.sentence, overflow="fold"),
        Text.assemble(
            (f"{known}: {words.CERTAINTIES[known]}. " if known else "", "bold"),
            words.MEANINGS[diagnosis.verdict],
            style="dim",
        ),
    ]
    return Panel(
        Group(*lines),
        title=Text(diagnosis.model, style="default", overflow="ellipsis", no_wrap=True),
        title_align="left",
        border_style=colour,
        padding=(0, 1),
    )


def _heading(text: str) -> Iterator[RenderableType]:
    yield Text(text, style="bold underline")
    yield Text()


def _finding(k: int, finding: Finding) -> Iterator[RenderableType]:
    said = Text.assemble(
        (finding.severity.upper(), _SEVERITIES[finding.severity]),
        f" {finding.cause.value} ({finding.certainty})\n{finding.statement}",
        overflow="fold",
    )
    measured = ". ".join(
        part
        for part in (
            words.effect(finding),
            f"Measured on {finding.measured_on}" if finding.measured_on else "",
        )
        if part
    )
    if measured:
        said.append(f"\n{measured}.", "dim")
    if finding.remedy:
        said.append(f"\n→ {finding.remedy}")
    yield _item(f"{k}.", said)
    yield Text()


def _item(mark: str, text: Text) -> Table:
    """A paragraph with its number or dash hanging to the left."""
    item = Table.grid(padding=(0, 1, 0, 0), expand=False)
    item.add_column(no_wrap=True)
    item.add_column(overflow="fold")
    item.add_row(mark, text)
    return item


@final
class _Remedies:
    """The remedies: a table, or paragraphs where the terminal is too narrow for one."""

    def __init__(self, remedies: tuple[Remedy, ...]):
        self._remedies = remedies

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        if options.max_width < _NARROW:
            for remedy in self._remedies:
                yield _paragraph(remedy)
                yield Text()
            return
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("change", overflow="fold")
        table.add_column("measured", overflow="fold")
        table.add_column("before", no_wrap=True)
        table.add_column("after", no_wrap=True)
        table.add_column("helped", no_wrap=True)
        for remedy in self._remedies:
            table.add_row(
                Text(remedy.name, style="bold"),
                Text.assemble(remedy.quantity, (f"\n{_how(remedy)}", "dim")),
                _estimate(remedy.before),
                _estimate(remedy.after),
                _helped(remedy),
            )
            table.add_row()
        yield table


def _paragraph(remedy: Remedy) -> Text:
    before, after = (
        f"{words.numbers(e)[0]} ({words.interval(e)})" if words.interval(e) else words.numbers(e)[0]
        for e in (remedy.before, remedy.after)
    )
    return Text.assemble(
        (remedy.name, "bold"),
        f"\n{remedy.quantity}, {_how(remedy)}: {before} → {after}; helped: ",
        _helped(remedy),
        overflow="fold",
    )


def _how(remedy: Remedy) -> str:
    if remedy.how == "instruments":
        return "instruments alone"
    return "1 update" if remedy.updates == 1 else f"{remedy.updates:,} updates"


def _helped(remedy: Remedy) -> Text:
    return Text("yes", style="bold green") if remedy.helped else Text("no", style="dim")


def _estimate(estimate: Estimate) -> Text:
    value, low, high = words.numbers(estimate)
    if words.exact(estimate):
        return Text(value, style="bold")
    return Text.assemble((value, "bold"), (f"\n{low} to {high}", "dim"))
