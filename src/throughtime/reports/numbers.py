"""Numbers as text for people: the same in the terminal and in HTML."""

import json
import math
import statistics
from collections.abc import Iterable

from throughtime.core.scoring import Metric
from throughtime.results.comparison import Spread

_MISSING = "-"


def percent(value: float) -> str:
    """A share in [0, 1] as a percentage with one decimal.

    Example:
        >>> percent(0.9461)
        '94.6 %'
    """
    return f"{100 * value:.1f} %"


def in_percent(value: float) -> str:
    """A measured share: two digits of a percentage, or a power of ten where it is tiny.

    Example:
        >>> [in_percent(v) for v in (1.0, 0.523, 0.0341, 0.00012, 3e-9, 0.0)]
        ['100 %', '52 %', '3.4 %', '0.012 %', '10^-9', '0 %']
    """
    if not math.isfinite(value):
        return number(value)
    if 0 < abs(value) < _SMALL:
        return power(math.log10(abs(value)))
    percentage = 100 * value if abs(value) >= 0.095 else float(f"{100 * value:.2g}")
    return f"{percentage:.0f} %" if abs(value) >= 0.095 else f"{percentage:g} %"


def times(value: float) -> str:
    """A measured factor: two digits, or a power of ten where it is large.

    Example:
        >>> [times(v) for v in (1.26, 31.6, 5230.0, 3e7)]
        ['1.3', '32', '5,200', '10^7']
    """
    if not math.isfinite(value) or value <= 0:
        return number(value)
    if value >= 1 / _SMALL:
        return power(math.log10(value))
    return number(float(f"{value:.2g}"))


def power(logarithm: float, decimals: int = 0) -> str:
    """A power of ten.

    Example:
        >>> power(-8.5231), power(-8.5231, 1), power(-math.inf)
        ('10^-9', '10^-8.5', '0')
    """
    if not math.isfinite(logarithm):
        return "0" if logarithm == -math.inf else number(logarithm)
    return f"10^{logarithm:.{decimals}f}"


_SMALL = 1e-4  # a share below which a percentage is hard to read


def percent_spread(value: Spread | None) -> str:
    """Mean and standard deviation of shares; the mean alone where there is one value.

    Example:
        >>> percent_spread(Spread(0.9461, 0.0123, 0.93, 0.96, 3))
        '94.6 ± 1.2 %'
    """
    if value is None:
        return _MISSING
    return (
        percent(value.mean)
        if value.n == 1
        else f"{100 * value.mean:.1f} ± {100 * value.deviation:.1f} %"
    )


def metric(kind: Metric, value: float | None) -> str:
    """Return the value of a metric as people read it.

    Example:
        >>> metric(Metric("bits_per_character", "bits", "lower"), 2.3456)
        '2.346'
    """
    if value is None:
        return _MISSING
    return percent(value) if kind.unit == "fraction" else f"{value:.4g}"


def metric_spread(kind: Metric, value: Spread | None) -> str:
    """Return mean and standard deviation of a metric; the mean alone where there is one value."""
    return percent_spread(value) if kind.unit == "fraction" else loss_spread(value)


def metric_mean(kind: Metric, value: Spread | None) -> str:
    """Return the mean of a metric in a narrow column: three significant digits, or a percentage.

    Example:
        >>> metric_mean(Metric("bleu", "0 to 100", "higher"), Spread(33.416, 0.2, 33, 34, 2))
        '33.4'
    """
    if value is None:
        return _MISSING
    return percent(value.mean) if kind.unit == "fraction" else f"{value.mean:.3g}"


def loss_spread(value: Spread | None) -> str:
    """Mean and standard deviation of losses, three significant digits."""
    if value is None:
        return _MISSING
    return f"{value.mean:.3g}" if value.n == 1 else f"{value.mean:.3g} ± {value.deviation:.1g}"


def count(value: float) -> str:
    """A number of things, in thousands.

    Example:
        >>> count(12345.6)
        '12,346'
    """
    return f"{value:,.0f}"


def number(value: float) -> str:
    """A measured number.

    Example:
        >>> [number(v) for v in (0.0, 0.69314, 31.6, 12345.6, 3.21e-8, math.inf, math.nan)]
        ['0', '0.693', '31.6', '12,346', '3.21e-8', '∞', 'NaN']
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if 1000 <= abs(value) < 1e6:
        return count(value)
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def reach_change(start: Spread | None, trained: Spread | None) -> str:
    """Return the reach of a gradient before and after training: the means.

    Example:
        >>> reach_change(Spread(7.3, 0.6, 7, 8, 3), Spread(63, 0, 63, 63, 3))
        '7 → 63'
    """
    if start is None or trained is None:
        return _MISSING
    return f"{count(start.mean)} → {count(trained.mean)}"


def duration(seconds: float) -> str:
    """A time for people to read.

    Example:
        >>> [duration(s) for s in (0.42, 18.3, 125, 4000)]
        ['0.4 s', '18 s', '2 min 05 s', '1 h 06 min']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ending(status: str) -> str:
    """The status of a run, with the split on which it was solved.

    Example:
        >>> ending("solved"), ending("completed")
        ('solved on validation', 'completed')
    """
    return "solved on validation" if status == "solved" else status


def plain(value: object) -> str:
    """The value of a setting as a reader writes it.

    Example:
        >>> [plain(value) for value in (None, True, 0.0001, "bptt", {"b": 1})]
        ['none', 'yes', '0.0001', 'bptt', '{"b": 1}']
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def listed(names: list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["rnn", "lstm", "gru"])
        'rnn, lstm and gru'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def mean_count(values: Iterable[float]) -> str:
    """The mean of some counts."""
    return count(statistics.fmean(values))


def mean_duration(values: Iterable[float]) -> str:
    """The mean of some times in seconds."""
    return duration(statistics.fmean(values))
