"""A diagnosis in words, and for the terminal: readable at 80 columns."""

import io
import math
from collections.abc import Iterator
from typing import final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from throughtime.core.escaping import escaped
from throughtime.reports.numbers import count, duration, number, power
from throughtime.results.diagnosis import Cause, Certainty, Diagnosis, Estimate, Finding, Remedy

MEANINGS = {
    Cause.HEALTHY: "The answer depends on what is far back, and the gradient reaches it.",
    Cause.NO_LONG_DEPENDENCY: "The answers depend on recent inputs alone: nothing is far back.",
    Cause.NO_DEPENDENCE: "No dependence of the targets on the inputs was found.",
    Cause.TIME_BATCH_SWAPPED: "The layer takes the sequences of a batch for steps of time.",
    Cause.SAMPLES_MIXED: "The samples of a batch influence each other or change places.",
    Cause.STATE_LEAK: "The state of one batch goes into the next one, or an answer depends on "
    "later inputs.",
    Cause.PADDING_READ: "The answer is read after the padding, and not at a sequence's last step.",
    Cause.WRONG_STEP: "The answer is read at a step that has not seen the sequence.",
    Cause.ONE_STEP: "The layer gets sequences of one step: it has nothing to remember.",
    Cause.TARGET_SEEN: "The target is among the inputs that the answer is computed from.",
    Cause.TARGETS_MISPAIRED: "The loss compares a target with the answers of other samples or "
    "steps.",
    Cause.ANSWERS_UNFIT: "The model's answers are not of the kind that the loss expects.",
    Cause.UNSCALED: "The inputs are far from zero mean and unit variance.",
    Cause.NOT_TRAINED: "Training does not change the layer.",
    Cause.NOT_ZEROED: "Gradients of earlier updates are added to those of the present one.",
    Cause.STEP_SIZE: "The learning rate is too large or too small.",
    Cause.WEIGHT_DECAY: "Weight decay removes what the gradient adds.",
    Cause.DROPOUT: "Dropout removes too much of the state or of the answer.",
    Cause.GRADIENT_CUT: "The gradient ends on its way back: nothing before that point is learnt.",
    Cause.VANISHING: "The gradient shrinks on its way back: what is far back is not learnt.",
    Cause.EXPLODING: "The gradient grows on its way back: one update can undo the training.",
    Cause.FORGETTING: "The state loses old inputs before the answer is due.",
    Cause.SATURATED: "Units are at the ends of their range, where the gradient is close to zero.",
    Cause.DEAD_UNITS: "Units have the same value for all inputs: they carry no information.",
    Cause.EXPOSURE_BIAS: "After symbols of its own, the model loses what it has learned after true "
    "ones.",
    Cause.ATTENTION_UNUSED: "Equal weights over the source do as well as those of the attention.",
    Cause.MEMORY_UNUSED: "The vectors that are read from the memory do not depend on what was "
    "written to it, or do not matter.",
    Cause.POSTERIOR_COLLAPSE: "The latent variables tell nothing about the data: their posterior "
    "is their prior.",
    Cause.UNDERTRAINED: "No obstacle was found: the training was too short.",
    Cause.INCONCLUSIVE: "The measurements do not point to one cause.",
}
"""Meaning of each verdict, in a sentence."""

CERTAINTIES: dict[Certainty, str] = {
    "proved": "by an exact experiment",
    "measured": "the interval is clear of the threshold",
    "suspected": "neither proved nor clear of the noise",
}
"""Origin of each degree of certainty."""


def headline(diagnosis: Diagnosis) -> str:
    """Return the verdict in a few words."""
    return diagnosis.verdict.value[0].upper() + diagnosis.verdict.value[1:]


def mood(diagnosis: Diagnosis) -> str:
    """Return "good", "bad" or "open" for a verdict."""
    if diagnosis.faulty:
        return "bad"
    return "open" if diagnosis.verdict is Cause.INCONCLUSIVE else "good"


def certainty(diagnosis: Diagnosis) -> Certainty | None:
    """Return the certainty of the verdict's first finding; None where there is none."""
    for finding in diagnosis.findings:
        if finding.cause is diagnosis.verdict:
            return finding.certainty
    return None


def numbers(estimate: Estimate) -> tuple[str, str, str]:
    """Return the value and both ends of an interval, with enough digits to differ.

    Example:
        >>> numbers(Estimate(0.69314, 0.69301, 0.6933, 12))
        ('0.6931', '0.6930', '0.6933')
    """
    given = (estimate.value, estimate.low, estimate.high)
    largest = max((abs(value) for value in given if math.isfinite(value)), default=0.0)
    plain = 1e-3 <= largest < 1e6 or largest == 0
    texts: list[str] = []
    for digits in range(3 if plain else 2, 7):
        power = math.floor(math.log10(largest)) if largest else digits - 1
        decimals = max(0, digits - 1 - power)
        texts = [
            number(value)
            if not math.isfinite(value)
            else f"{value:,.{decimals}f}"
            if plain
            else _scientific(value, digits)
            for value in given
        ]
        if len(set(texts)) >= len(set(given)):
            break
    return texts[0], texts[1], texts[2]


def _scientific(value: float, digits: int) -> str:
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def exact(estimate: Estimate) -> bool:
    """Return True if an estimate has no interval."""
    return estimate.low == estimate.value == estimate.high or all(
        math.isnan(value) for value in (estimate.low, estimate.high)
    )


def interval(estimate: Estimate) -> str:
    """Return the interval of an estimate, "" where it has none.

    Example:
        >>> interval(Estimate(0.5, 0.4, 0.6, 12))
        '0.400 to 0.600'
    """
    _, low, high = numbers(estimate)
    return "" if exact(estimate) else f"{low} to {high}"


def effect(finding: Finding) -> str:
    """Return the size of an effect, its interval and threshold; "" where there is none."""
    if finding.effect is None:
        return ""
    name, logarithm = finding.effect_name, finding.effect_name.startswith(_LOGARITHM)
    if logarithm:
        name = name.removeprefix(_LOGARITHM)
        ends = (finding.effect.value, finding.effect.low, finding.effect.high)
        value, low, high = (power(end, 1) for end in ends)
        within = "" if exact(finding.effect) else f"{low} to {high}"
    else:
        (value, _, _), within = numbers(finding.effect), interval(finding.effect)
    said = f"{name}: {value}" if name else value
    parts = [within] if within else []
    parts += [f"n = {count(finding.effect.n)}"] if finding.effect.n > 1 else []
    said += f" ({', '.join(parts)})" if parts else ""
    if finding.threshold is not None:
        away = finding.effect.value - finding.threshold
        side = "at" if away == 0 else "below" if away < 0 else "above"
        threshold = power(finding.threshold) if logarithm else number(finding.threshold)
        said += f"; {side} the threshold {threshold}"
    return said


_LOGARITHM = "log10 of "  # begins the name of an effect that is one; it is shown as a power of ten


def how(remedy: Remedy) -> str:
    """Return the way in which a remedy was measured, in words."""
    if remedy.how == "instruments":
        return "instruments on an untrained copy"
    if remedy.updates == 1:
        return "copies with and without it, 1 update each"
    return f"copies with and without it, trained {count(remedy.updates)} updates each"


def helped(remedy: Remedy) -> str:
    """Return in words if a remedy helped."""
    if remedy.how == "instruments":
        return "not trained"
    return "helped" if remedy.helped else "no clear help"


def took(diagnosis: Diagnosis) -> str:
    """Return the duration of the diagnosis and the allowed duration, in words."""
    limited = math.isfinite(diagnosis.budget)
    allowed = f" of {duration(diagnosis.budget)} allowed" if limited else ""
    return f"took {duration(diagnosis.seconds)}{allowed}"


_NARROW = 72  # columns, below which numbers and their intervals leave no room for names
_COLOURS = {"good": "green", "bad": "red", "open": "yellow"}
_SEVERITIES = {"fault": "bold red", "warning": "bold yellow", "note": "bold"}


def diagnosis_text(diagnosis: Diagnosis) -> Group:
    """The verdict, the findings, the remedies, and what to pass for more, for rich to print."""
    return Group(*_parts(diagnosis))


def printed(renderable: RenderableType, width: int = 80) -> str:
    """Return the text without colours that rich prints."""
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
    console.print(renderable)
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
    if diagnosis.missing_evidence:
        yield from _heading("To learn more")
        for item in diagnosis.missing_evidence:
            yield _item("-", Text(item, overflow="fold"))
        yield Text()
    yield Text.assemble(
        (f"This {took(diagnosis)}. Its page, with pictures: ", "dim"),
        ("diagnosis.save(path)", "cyan"),
    )


def _verdict(diagnosis: Diagnosis) -> Panel:
    colour = _COLOURS[mood(diagnosis)]
    known = certainty(diagnosis)
    lines = [
        Text(headline(diagnosis).upper(), style=f"bold {colour}"),
        Text(diagnosis.sentence, overflow="fold"),
        Text.assemble(
            (f"{known}: {CERTAINTIES[known]}. " if known else "", "bold"),
            MEANINGS[diagnosis.verdict],
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
            effect(finding),
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
        f"{numbers(e)[0]} ({interval(e)})" if interval(e) else numbers(e)[0]
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
        return "not trained"
    return "1 update" if remedy.updates == 1 else f"{remedy.updates:,} updates"


def _helped(remedy: Remedy) -> Text:
    if remedy.how == "instruments":
        return Text("-", style="dim")
    return Text("yes", style="bold green") if remedy.helped else Text("no", style="dim")


def _estimate(estimate: Estimate) -> Text:
    value, low, high = numbers(estimate)
    if exact(estimate):
        return Text(value, style="bold")
    return Text.assemble((value, "bold"), (f"\n{low} to {high}", "dim"))
