"""The words of a diagnosis: the same in the terminal, in a notebook and on the page."""

import math

from throughtime.reports.numbers import count, duration
from throughtime.results.diagnosis import Cause, Certainty, Diagnosis, Estimate, Finding, Remedy

MEANINGS = {
    Cause.HEALTHY: "What the past holds reaches the answer, and the gradient finds its way back.",
    Cause.NO_LONG_DEPENDENCY: "The answers depend on no distant past: there is little to remember.",
    Cause.TIME_BATCH_SWAPPED: "The layer takes the sequences of a batch for steps of time.",
    Cause.STATE_LEAK: "The state of one sequence goes into the next one.",
    Cause.PADDING_READ: "The answer is read after the padding, and not at a sequence's last step.",
    Cause.GRADIENT_CUT: "The gradient ends at a step on its way back: nothing before it is learnt.",
    Cause.VANISHING: "The gradient shrinks on its way back: what is far in the past is not learnt.",
    Cause.EXPLODING: "The gradient grows on its way back: an update can undo what was learnt.",
    Cause.FORGETTING: "The state loses what it has read before the answer is due.",
    Cause.SATURATED: "Units sit at the ends of their range, and let hardly any gradient through.",
    Cause.DEAD_UNITS: "Units answer the same to everything: they carry nothing.",
    Cause.UNDERTRAINED: "Nothing stands in the way: it has not been trained for long enough.",
    Cause.INCONCLUSIVE: "What was measured does not settle on one cause.",
}
"""What each verdict means, in a sentence."""

CERTAINTIES: dict[Certainty, str] = {
    "proved": "by an exact experiment",
    "measured": "the interval is clear of the threshold",
    "suspected": "neither proved nor clear of the noise",
}
"""How each degree of certainty is come by."""


def headline(diagnosis: Diagnosis) -> str:
    """The verdict in a few words."""
    return diagnosis.verdict.value[0].upper() + diagnosis.verdict.value[1:]


def mood(diagnosis: Diagnosis) -> str:
    """Whether the verdict is "good", "bad" or "open"."""
    if diagnosis.verdict in (Cause.HEALTHY, Cause.NO_LONG_DEPENDENCY):
        return "good"
    return "open" if diagnosis.verdict is Cause.INCONCLUSIVE else "bad"


def certainty(diagnosis: Diagnosis) -> Certainty | None:
    """How the verdict is known: that of its first finding; None where it has none."""
    for finding in diagnosis.findings:
        if finding.cause is diagnosis.verdict:
            return finding.certainty
    return None


def number(value: float, digits: int = 3) -> str:
    """A measured number.

    Arguments:
        value: any, also one that is not finite.
        digits: significant ones.

    Example:
        >>> [number(v) for v in (0.0, 0.69314, 31.6, 12345.6, 3.21e-8, math.inf, math.nan)]
        ['0', '0.693', '31.6', '12,346', '3.21e-8', '∞', 'NaN']
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if 1000 <= abs(value) < 1e6:
        return count(value)
    mantissa, e, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def numbers(estimate: Estimate) -> tuple[str, str, str]:
    """Value and both ends of an interval, with as many digits as it takes to tell them apart.

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
    """Whether an estimate has no interval."""
    return estimate.low == estimate.value == estimate.high or all(
        math.isnan(value) for value in (estimate.low, estimate.high)
    )


def interval(estimate: Estimate) -> str:
    """The interval of an estimate, "" where it has none.

    Example:
        >>> interval(Estimate(0.5, 0.4, 0.6, 12))
        '0.400 to 0.600'
    """
    _, low, high = numbers(estimate)
    return "" if exact(estimate) else f"{low} to {high}"


def effect(finding: Finding) -> str:
    """The size of what was found, its interval and threshold; "" where it has no size."""
    if finding.effect is None:
        return ""
    value, _, _ = numbers(finding.effect)
    said = f"{finding.effect_name}: {value}" if finding.effect_name else value
    parts = [interval(finding.effect)] if interval(finding.effect) else []
    parts += [f"n = {count(finding.effect.n)}"] if finding.effect.n > 1 else []
    said += f" ({', '.join(parts)})" if parts else ""
    if finding.threshold is not None:
        side = "below" if finding.effect.value < finding.threshold else "above"
        said += f"; {side} the threshold {number(finding.threshold)}"
    return said


def how(remedy: Remedy) -> str:
    """How a remedy was measured."""
    if remedy.how == "instruments":
        return "instruments on an untrained copy"
    if remedy.updates == 1:
        return "copies with and without it, 1 update each"
    return f"copies with and without it, trained {count(remedy.updates)} updates each"


def helped(remedy: Remedy) -> str:
    """Whether a remedy helped."""
    return "helped" if remedy.helped else "no clear help"


def took(diagnosis: Diagnosis) -> str:
    """How long the diagnosis took, of what it might have taken."""
    limited = math.isfinite(diagnosis.budget)
    allowed = f" of {duration(diagnosis.budget)} allowed" if limited else ""
    return f"took {duration(diagnosis.seconds)}{allowed}"
