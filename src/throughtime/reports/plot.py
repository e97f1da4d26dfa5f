"""Plotly figures of results: one table of all pictures by the type of the result."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import plotly.graph_objects as go

from throughtime import instruments as measured
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.instruments.gates import GateStatistics
from throughtime.reports import curves, figures, memory_maps, planes, word_maps
from throughtime.reports.drawing import Drawing, draw
from throughtime.reports.lines import TEMPLATE, wrapped
from throughtime.results.comparison import Comparison, Run
from throughtime.results.diagnosis import Diagnosis, Inspection, Measurement, Picture
from throughtime.results.reproduction import Reproduction

Shown: TypeAlias = Picture | Drawing

_NAMED: dict[type, dict[str, Callable[..., Shown]]] = {
    measured.GradientFlow: {
        "by lag": curves.gradient_by_lag,
        "share": curves.gradient_share,
    },
    measured.PerturbationSurvival: {"survival": curves.change_survival},
    measured.MemoryDecoding: {"decoding": curves.decoded_inputs},
    measured.MemoryAccesses: {"horizon": memory_maps.horizon},
    measured.LyapunovSpectrum: {"exponents": curves.lyapunov_exponents},
    measured.WordInfluence: {"by distance": word_maps.influence_by_steps},
}
"""Pictures of several results of one type, by name."""

_SINGLE: dict[type, dict[str, Callable[..., Shown]]] = {
    measured.GradientFlow: {
        "by gate": curves.gradient_per_gate,
        "by unit": planes.gradient_by_unit,
        "direct": curves.direct_gradient,
    },
    measured.DepthFlow: {"by depth": curves.gradient_by_depth},
    measured.GradientNorms: {"norms": curves.norms_over_batches},
    measured.LossCurve: {
        "loss": curves.loss_curve,
        "steepness": curves.steepness,
    },
    measured.GateActivity: {
        "values": curves.gate_values,
        "saturation": curves.gate_saturation,
        "time constants": curves.time_constants,
    },
    GateStatistics: {"values": curves.one_gate},
    measured.MemoryAccesses: {"reads": memory_maps.reads, "writes": memory_maps.writes},
    measured.InputInfluence: {"influence": curves.influence_of_old_inputs},
    measured.LengthExtrapolation: {"loss": curves.loss_by_length},
    measured.Jacobians: {
        "products": curves.jacobian_products,
        "singular values": curves.singular_values_of_products,
        "steps": curves.jacobian_steps,
    },
    measured.LyapunovSpectrum: {"convergence": curves.lyapunov_convergence},
    measured.FixedPoints: {"map": planes.fixed_point_map, "eigenvalues": planes.eigenvalues},
    measured.Basins: {"basins": planes.basins_of_attraction},
    measured.Recording: {"outputs": planes.recorded_outputs},
    measured.LatchSurvival: {"survival": curves.latch_over_time},
    measured.ScalarFixedPoints: {"slopes": planes.scalar_fixed_points},
    measured.PhaseLine: {"line": planes.phase_line},
    measured.Cycles: {"points": planes.cycles},
    measured.Bifurcation: {"diagram": planes.bifurcation_diagram},
    Reproduction: {"rows": figures.reproduction_rows},
    Run: {
        "loss": figures.validation_loss,
        "headline": figures.validation_headline,
        "gradient": figures.gradient_of_run,
    },
}
"""Pictures of one result, by name."""

_PAIRS: dict[type, Callable[..., Shown]] = {
    measured.Alignment: word_maps.alignment_map,
    measured.WordInfluence: word_maps.influence_map,
}
"""Pictures of one pair of sentences of a result."""


def plot(
    result: Any, which: str | None = None, *, lag: int | None = None, **options: Any
) -> go.Figure:
    """Return a plotly figure of a result.

    Arguments:
        result: A result of an instrument, a Measurement, an Inspection, a Diagnosis, a
            Reproduction, a Run or a Comparison; or several results of one type by name,
            {"lstm": ..., "gru": ...}, in one figure.
        which: Name of the picture, for types with several; None for the first.
        lag: Steps between an answer and the inputs that it depends on, to be marked; or None.
        options: Options of the picture: `fixed` of basins, `visited` of fixed points, `clip` of
            gradient norms, `parameter` of a bifurcation, `f` and `stairs` of a phase line, `pair`
            of a map of words and `sequence` of a map of a memory, from 0.

    Raises:
        ConfigurationError: There is no picture of this type, or the result holds none.
        UnknownNameError: There is no picture or option of that name; the message lists the names.

    Example:
        >>> import torch
        >>> from throughtime.instruments import one_unit_bifurcation
        >>> found = one_unit_bifurcation(torch.linspace(0.5, 2, 4).double(), input=0.0)
        >>> plot(found).layout.title.text
        'Up to 3 fixed points, by parameter.'
    """
    if isinstance(result, Comparison):
        return _comparison(result, which)
    made = _makers(result)
    if not made:
        raise ConfigurationError("pictures", got="a result without any", expected="one or more")
    name = next(iter(made)) if which is None else which
    if name not in made:
        raise UnknownNameError("picture", name, tuple(made))
    return _figure(_make(made[name], lag, **options))


def pictures(result: Any, lag: int | None = None) -> dict[str, Shown]:
    """Return all pictures of a result, by name.

    Raises:
        ConfigurationError: There is no picture of this type.
    """
    return {name: _make(make, lag) for name, make in _makers(result).items()}


def plotted_types() -> list[type]:
    """Return the types of results with pictures in the table."""
    return [*dict.fromkeys((*_NAMED, *_SINGLE, *_PAIRS))]


Maker: TypeAlias = tuple[Callable[..., Shown], Any]


def _makers(result: Any) -> dict[str, Maker]:
    """Return the functions of a result's pictures, each with its argument."""
    if isinstance(result, Diagnosis):
        return {p.title: ((lambda p: p), p) for p in result.pictures}
    if isinstance(result, Measurement):
        return {} if result.result is None else _makers(result.result)
    if isinstance(result, Inspection):
        parts = [m for m in result.measurements if m.result is not None]
        return {
            f"{part.instrument}, {name}": maker
            for part in parts
            for name, maker in _makers(part.result).items()
        }
    group = result if isinstance(result, Mapping) else {_name(result): result}
    kinds = {type(each) for each in group.values()}
    kind = next(iter(kinds), type(None))
    named = {name: (make, group) for name, make in _NAMED.get(kind, {}).items()}
    one = next(iter(group.values()), None)
    single = {name: (make, one) for name, make in _SINGLE.get(kind, {}).items()}
    if kind in _PAIRS and one is not None:
        for pair in range(min(len(one.source_words), word_maps.MOST_PAIRS)):
            make = functools.partial(_PAIRS[kind], pair=pair)
            single[f"pair {pair + 1}"] = (make, one)
    found = {**named, **(single if len(group) == 1 else {})}
    if len(kinds) != 1 or not found:
        raise ConfigurationError(
            "a picture",
            got=", ".join(sorted(each.__name__ for each in kinds)) or "nothing",
            expected=f"{'results of one of' if len(group) > 1 else 'one of'}: "
            + ", ".join(k.__name__ for k in (_NAMED if len(group) > 1 else plotted_types())),
        )
    return found


def _make(maker: Maker, lag: int | None, **options: Any) -> Shown:
    make, argument = maker
    known = [*inspect.signature(make).parameters][1:]
    for name in options:
        if name not in known or name == "needed":
            raise UnknownNameError(
                "option of the picture", name, [n for n in known if n != "needed"]
            )
    return make(argument, **({"needed": lag} if "needed" in known else {}), **options)


def _name(result: Any) -> str:
    return getattr(result, "layer", "") or "the layer"


def _figure(shown: Shown) -> go.Figure:
    if isinstance(shown, Picture):
        return draw(shown)
    title = wrapped(shown.title, 70)
    shown.figure.update_layout(title={"text": title, "x": 0, "xref": "container"})
    shown.figure.update_layout(margin={"t": 56}, showlegend=len(shown.labels) > 1)
    return shown.figure


def _comparison(comparison: Comparison, which: str | None) -> go.Figure:
    headline = comparison.task.headline
    norm = "‖∂L/∂h‖, relative to its largest"
    made: dict[str, tuple[Callable[[Comparison], go.Figure], str]] = {
        "loss": (figures.loss_figure, "validation loss"),
        headline.name: (figures.headline_figure, f"validation {headline.title}"),
        "gradient": (lambda c: figures.gradient_figure(c, "trained"), norm),
        "gradient before training": (lambda c: figures.gradient_figure(c, "start"), norm),
    }
    name = headline.name if which is None else which
    if name not in made:
        raise UnknownNameError("picture", name, tuple(made))
    make, y_label = made[name]
    figure = make(comparison)
    title = wrapped(f"{comparison.task.spec}: {name}", 70)
    figure.update_layout(template=TEMPLATE, title={"text": title, "x": 0, "xref": "container"})
    figure.update_yaxes(title_text=wrapped(y_label, 40))
    return figure
