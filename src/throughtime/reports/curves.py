"""Results of instruments as pictures of curves: gradients, gates, the loss, states over time.

Where a function takes several results by name, the title is about the first. `needed` is the number
of steps between an answer and the inputs that it depends on, to be marked; None if not known.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from throughtime.instruments.cliffs import LossCurve
from throughtime.instruments.decoding import MemoryDecoding
from throughtime.instruments.depth import DepthFlow
from throughtime.instruments.forward_memory import PerturbationSurvival
from throughtime.instruments.gates import GateActivity, GateStatistics
from throughtime.instruments.gradient_flow import GradientFlow, GradientNorms
from throughtime.instruments.input_influence import InputInfluence
from throughtime.instruments.jacobians import Jacobians
from throughtime.instruments.length_extrapolation import LengthExtrapolation
from throughtime.instruments.lyapunov import LyapunovSpectrum
from throughtime.instruments.one_unit import LatchSurvival
from throughtime.reports.lines import by_index, due, points, relative, steps, thinned
from throughtime.reports.numbers import count, number
from throughtime.results.diagnosis import Picture, Series

FRACTION = 0.01
"""Share of a gradient's largest norm from which the gradient counts as arriving."""

SINGLE, CURVES = 7, 8
"""Largest numbers of single examples, and of curves of another kind, in a picture."""

_LAG = "lag: steps before the last one"
_UNITS = "units, in percent"
_AFRESH = "The last step starts afresh: nothing of the state before it is kept."


def gradient_by_lag(flows: Mapping[str, GradientFlow], needed: int | None = None) -> Picture:
    """Show the reach of the gradient: ||dL/dh|| by lag, relative to its largest."""
    name, flow = next(iter(flows.items()))
    reach, last = flow.reach(FRACTION), len(flow.norm) - 1
    title = f"The gradient of {name} reaches {count(reach)} of {steps(last)} back."
    return norms_by_lag(title, {k: f.norm_by_lag for k, f in flows.items()}, needed)


def norms_by_lag(title: str, norms: Mapping[str, Tensor], needed: int | None) -> Picture:
    """Return curves of ||dL/dh|| by lag, relative to their largest, and the 1 % of the reach."""
    return Picture(
        title=title,
        caption="The norm of ∂L/∂h at each step before the last one, relative to its largest "
        f"value; it reaches as far back as it is {100 * FRACTION:g} % or more.",
        x_label=_LAG,
        y_label="‖∂L/∂h‖, relative to its largest",
        series=tuple(by_index(k, relative(norm)) for k, norm in norms.items()),
        logarithmic=True,
        mark=due(needed),
        level=(FRACTION, f"{100 * FRACTION:g} %"),
    )


def gradient_by_depth(flow: DepthFlow) -> Picture:
    """Show the gradient at the output of each layer, and that of its weights."""
    depth = tuple(float(k + 1) for k in range(len(flow.norm)))
    return Picture(
        title="How much of the gradient arrives at each layer",
        caption="The norm of the gradient at the output of each layer, and of the gradient of its "
        "weights, by the layer's number from the input.",
        x_label="layer",
        y_label="norm of the gradient",
        series=(
            Series("at the output", depth, tuple(flow.norm.tolist())),
            Series("of the weights", depth, tuple(flow.contribution.tolist())),
        ),
        logarithmic=True,
    )


def gradient_share(flows: Mapping[str, GradientFlow], needed: int | None = None) -> Picture:
    """Show the share of the weights' gradient that comes from each lag and beyond."""
    name, flow = next(iter(flows.items()))
    share = flow.share_beyond
    half = (share >= 0.5).nonzero()
    title = f"Half of the weights' gradient of {name} comes from within "
    if len(half):
        title += f"{steps(int(half.max()) + 1)}."
    elif bool(flow.contribution.isfinite().all()):
        title = f"The weights of {name} get no gradient."
    else:
        title = f"The gradient of the weights of {name} is not finite."
    return Picture(
        title=title,
        caption="Part of the gradient of the recurrent weights that comes from steps at this lag "
        "and beyond: norms of the summands of ∂L/∂W.",
        x_label=_LAG,
        y_label="share of ∂L/∂W from this lag and beyond",
        series=tuple(by_index(k, f.share_beyond) for k, f in flows.items()),
        mark=due(needed),
    )


def gradient_per_gate(flow: GradientFlow) -> Picture:
    """Show ||dL/da|| of each gate's preactivation by lag."""
    return Picture(
        title="The gradient at each gate.",
        caption="The norm of ∂L/∂a of each gate's preactivation a, over batch and units. A gate "
        "far below the others learns little.",
        x_label=_LAG,
        y_label="‖∂L/∂a‖",
        series=tuple(by_index(name, norm.flip(0)) for name, norm in flow.per_gate.items()),
        logarithmic=True,
    )


def direct_gradient(flow: GradientFlow) -> Picture:
    """Show the steps at which the loss reads the layer: median over sequences, 10 to 90 %."""
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    low, middle, high = torch.nanquantile(flow.answer, levels, dim=1)
    read = int((flow.answer.nan_to_num(nan=1.0) > 0).any(1).sum())
    return Picture(
        title=f"The loss reads the layer at {count(read)} of {steps(len(flow.norm))}.",
        caption="The norm of the gradient that comes into h directly, and not through later "
        "states. Line: median over sequences; band: from 10 to 90 % of them.",
        x_label="step",
        y_label="‖direct ∂L/∂h‖",
        series=(by_index("direct gradient", middle, low=low, high=high),),
    )


def gate_values(activity: GateActivity) -> Picture:
    """Show the mean of each gate for all units, sorted; empty without known gates."""
    return Picture(
        title=f"The mean of each gate over {count(activity.steps)} steps.",
        caption="The mean value of each gate for each unit, units sorted for each gate alone. A "
        "sigmoid lets nothing through at 0 and everything at 1; tanh runs from -1 to 1.",
        x_label=_UNITS,
        y_label="mean value of the gate",
        series=tuple(_sorted(k, g.mean) for k, g in (activity.gates or {}).items()),
    )


def gate_saturation(activity: GateActivity) -> Picture:
    """Show the share of steps at which each gate is saturated, for all units, sorted."""
    gates = activity.gates or {}
    mean = {name: float(gate.saturated.mean()) for name, gate in gates.items()}
    worst = max(mean, key=lambda name: mean[name], default="")
    title = "No gate is ever saturated." if mean else "Saturation of the gates."
    if mean and mean[worst] > 0:
        share = f"{100 * mean[worst]:.3g} %"
        title = f"The gate that is saturated most is {worst}: {share} of the time."
    return Picture(
        title=title,
        caption="The share of the steps at which each gate of each unit is saturated, where it "
        "lets hardly any gradient through; units sorted for each gate alone.",
        x_label=_UNITS,
        y_label="share of saturated steps",
        series=tuple(_sorted(k, g.saturated) for k, g in gates.items()),
    )


def one_gate(gate: GateStatistics) -> Picture:
    """Show the mean of one gate and its share of saturated steps, for all units, sorted."""
    return Picture(
        title=f"The gate is saturated {100 * float(gate.saturated.mean()):.3g} % of the time.",
        caption="The mean value and the share of saturated steps, units sorted for each alone.",
        x_label=_UNITS,
        y_label="value or share",
        series=(_sorted("mean", gate.mean), _sorted("saturated", gate.saturated)),
    )


def time_constants(activity: GateActivity, needed: int | None = None) -> Picture:
    """Show the time for which each unit keeps its memory, sorted; empty if not known."""
    constants = activity.time_constants
    title = "The time for which each unit keeps its memory."
    if constants is not None and needed is not None:
        longer = int((constants > needed).sum())
        title = f"{longer} of {len(constants)} units keep their memory for {count(needed)} steps."
    return Picture(
        title=title,
        caption="The time constant of each unit: in so many steps its memory decays to 1/e. Units "
        "sorted.",
        x_label=_UNITS,
        y_label="time constant, steps",
        series=() if constants is None else (_sorted("time constant", constants),),
        logarithmic=True,
        level=None if needed is None else (float(needed), f"needed, {count(needed)}"),
    )


def _sorted(name: str, values: Tensor) -> Series:
    share = 100 * (torch.arange(len(values)) + 0.5) / len(values)
    return points(name, share, values.sort().values)


def loss_curve(curve: LossCurve) -> Picture:
    """Show the loss along a line in parameter space, and that of single examples if known."""
    singles = [] if curve.examples is None else [*curve.examples.T[:SINGLE]]
    wall = curve.wall
    return Picture(
        title=f"The loss is steepest at distance {number(wall.distance)}: its gradient's norm is "
        f"{number(wall.gradient_norm)} there.",
        caption=f"Along a unit vector in parameter space: {curve.direction}. "
        + (f"{len(singles)} single examples beside their mean." if singles else ""),
        x_label="distance from the present parameters",
        y_label="loss",
        series=(
            points("mean" if singles else "loss", curve.distances, curve.loss),
            *(points(f"example {k}", curve.distances, e) for k, e in enumerate(singles, 1)),
        ),
        mark=(0.0, "here"),
    )


def steepness(curve: LossCurve) -> Picture:
    """Show the slope and the curvature of the loss along a line in parameter space."""
    known = {
        "gradient, its norm": curve.gradient_norm,
        "curvature along the line": curve.curvature,
        "curvature along the gradient": curve.gradient_curvature,
    }
    return Picture(
        title=f"The norm of the gradient is between {number(float(curve.gradient_norm.min()))} and "
        f"{number(float(curve.gradient_norm.max()))} along the line.",
        caption="The norm of the gradient by all parameters, and absolute curvatures, exact."
        if curve.refusal is None
        else f"The norm of the gradient by all parameters. {curve.refusal}",
        x_label="distance from the present parameters",
        y_label="size",
        series=tuple(
            points(name, curve.distances, values.abs())
            for name, values in known.items()
            if values is not None
        ),
        logarithmic=True,
        mark=(0.0, "here"),
    )


def norms_over_batches(norms: GradientNorms, clip: float | None = None) -> Picture:
    """Show the gradient's norm of each batch, sorted; the tail is on the right."""
    rising = norms.norm.nan_to_num(nan=torch.inf).sort().values
    share = "" if clip is None else f", and {100 * norms.clip_rate(clip):.3g} % are clipped"
    return Picture(
        title=f"The largest gradient is {number(norms.tail_ratio)} times the median{share}.",
        caption=f"The norm of the gradient of {count(norms.batches)} batches, sorted; "
        f"{count(norms.not_finite)} of them are not finite.",
        x_label="batches, by the norm of their gradient",
        y_label="‖∂L/∂θ‖",
        series=(by_index("norm", rising),),
        logarithmic=True,
        level=None if clip is None else (clip, f"clipped at {number(clip)}"),
    )


def jacobian_products(jacobians: Jacobians, needed: int | None = None) -> Picture:
    """Show ||J_T ... J_{T-n+1}||, the largest growth of a change n steps ago, and its bounds."""
    bounds = {
        "bound: product of the steps' norms": jacobians.log_norm_bound,
        "bound: (αβ)^n": jacobians.log_power_bound,
        "bound: Hochreiter's": jacobians.log_hochreiter_bound,
    }
    title = _AFRESH
    if len(jacobians.lags):
        last = int(jacobians.lags[-1])
        rate = number(math.exp(float(jacobians.log_norm[-1]) / last))
        title = f"Over {steps(last)} the best kept change is multiplied by {rate} a step."
    cut = f" Step {count(jacobians.cut)} back starts afresh." if jacobians.cut is not None else ""
    return Picture(
        title=title,
        caption="The largest singular value of the product of the last n Jacobians of the state, "
        f"and what it cannot exceed.{cut}",
        x_label=_LAG,
        y_label="‖∂s_T / ∂s_(T-n)‖",
        series=(
            points("norm of the product", jacobians.lags, jacobians.log_norm.exp()),
            *(points(k, jacobians.lags, v.exp()) for k, v in bounds.items() if v is not None),
        ),
        logarithmic=True,
        mark=due(needed),
        level=(1.0, "unchanged"),
    )


def singular_values_of_products(jacobians: Jacobians) -> Picture:
    """Show the singular values of the products for some lags: directions that survive."""
    chosen = thinned(len(jacobians.lags), 5)
    title = _AFRESH
    if len(jacobians.lags):
        alive = int((jacobians.log_products[-1] > math.log(0.01)).sum())
        known = jacobians.log_products.shape[1]
        least = "at least " if alive == known < jacobians.size else ""
        title = (
            f"Of {count(jacobians.size)} directions of the state, {least}{count(alive)} are at "
            f"1 % or more after {steps(int(jacobians.lags[-1]))}."
        )
    return Picture(
        title=title,
        caption="Singular values of the product of the last n Jacobians, the largest first: the "
        "remainder of a change in each direction of the state.",
        x_label="direction, best kept first",
        y_label="singular value",
        series=tuple(
            points(
                steps(int(jacobians.lags[k])),
                torch.arange(1, jacobians.log_products.shape[1] + 1),
                jacobians.log_products[k].exp(),
            )
            for k in chosen
        ),
        logarithmic=True,
        level=(0.01, "1 %"),
    )


def jacobian_steps(jacobians: Jacobians) -> Picture:
    """Show the norm and the spectral radius of each step's Jacobian."""
    norms = jacobians.norms
    radius = jacobians.spectral_radius
    return Picture(
        title=f"A step stretches the state by {number(float(norms.max()))} at most.",
        caption="The largest singular value of each step's Jacobian"
        + ("." if radius is None else ", and its largest absolute eigenvalue: below 1 the state ")
        + ("" if radius is None else "forgets in the long run, however far it is stretched first."),
        x_label="step",
        y_label="‖∂s_t / ∂s_(t-1)‖",
        series=(
            by_index("norm", norms),
            *([] if radius is None else [points("spectral radius", jacobians.measured, radius)]),
        ),
        level=(1.0, "unchanged"),
    )


def lyapunov_exponents(spectra: Mapping[str, LyapunovSpectrum]) -> Picture:
    """Show the spectrum: exponents by rank, with 95 % intervals."""
    name, first = next(iter(spectra.items()))
    largest, error = float(first.exponents[0]), float(first.standard_errors[0])
    clear = abs(largest) > 2 * error
    factor = number(math.exp(largest))
    if largest == -math.inf:
        title = f"A step of {name} keeps nothing of a difference: it forgets at once."
    elif math.isnan(error):
        title = f"Differences in {name} change by a factor {factor} a step; their error is unknown."
    elif largest > 0 and clear:
        title = f"Differences in {name} grow by a factor {factor} a step: it is chaotic."
    elif largest < 0 and clear:
        title = f"Differences in {name} shrink by a factor {factor} a step: it forgets."
    else:
        title = f"Differences in {name} neither grow nor shrink within the errors."
    return Picture(
        title=title,
        caption="Lyapunov exponents along one sequence, with 95 % intervals; in nats per step. "
        f"{count(first.steps)} steps of {name} were counted.",
        x_label="direction, fastest first",
        y_label="exponent, nats per step",
        series=tuple(
            points(
                label,
                torch.arange(1, len(s.exponents) + 1),
                s.exponents,
                low=s.exponents - 1.96 * s.standard_errors,
                high=s.exponents + 1.96 * s.standard_errors,
            )
            for label, s in spectra.items()
        ),
        level=(0.0, "neither grows nor shrinks"),
    )


def lyapunov_convergence(spectrum: LyapunovSpectrum) -> Picture:
    """Show the leading exponents by the number of counted steps: their convergence."""
    leading = min(CURVES, spectrum.history.shape[1])
    return Picture(
        title="The leading exponents by the number of counted steps.",
        caption=f"Each exponent as it stood after so many steps, {count(spectrum.burn_in)} steps "
        "of burn-in apart.",
        x_label="steps counted",
        y_label="exponent, nats per step",
        series=tuple(
            points(f"{k + 1}", spectrum.history_steps, spectrum.history[:, k])
            for k in range(leading)
        ),
    )


def change_survival(
    survivals: Mapping[str, PerturbationSurvival], needed: int | None = None
) -> Picture:
    """Show the remainder of a small change of the state: median by lag, 10 to 90 %."""
    name, first = next(iter(survivals.items()))
    half = first.half_life()
    return Picture(
        title=f"Half of a change of the state of {name} is gone after {steps(half)}."
        if math.isfinite(half)
        else f"The state of {name} keeps more than half of a change to the end.",
        caption="The remainder of a small change of the state after so many steps of the same "
        "inputs. Line: median; band: from 10 to 90 % of the changes.",
        x_label="steps after the change",
        y_label="size of the change, relative to its start",
        series=tuple(
            by_index(k, s.median, low=s.quantiles[0], high=s.quantiles[2])
            for k, s in survivals.items()
        ),
        logarithmic=True,
        mark=due(needed),
        level=(0.5, "one half"),
    )


def decoded_inputs(decodings: Mapping[str, MemoryDecoding], needed: int | None = None) -> Picture:
    """Show R^2 of past inputs decoded from the state: by lag, mean over targets."""
    name, first = next(iter(decodings.items()))
    half = first.lags[first.r2.nanmean(1) >= 0.5]
    curves = [points(k, d.lags, d.r2.nanmean(1)) for k, d in decodings.items()]
    return Picture(
        title=f"The state of {name} shows its inputs up to {steps(int(half.max()))} back."
        if len(half)
        else f"The state of {name} hardly shows its past inputs.",
        caption="R² of a linear decoder on sequences that it was not trained on, mean over the "
        "inputs' components; an input is shown from 0.5 on. Chance: the level below which 95 % of "
        f"decoders from states of other sequences stay. {count(first.samples)} steps were decoded.",
        x_label=_LAG,
        y_label="R² of the input so many steps back",
        series=(*curves, points(f"chance, {name}", first.lags, first.null_level)),
        mark=due(needed),
    )


def influence_of_old_inputs(influence: InputInfluence) -> Picture:
    """Show the loss where older inputs are those of other sequences, by lag."""
    used = influence.used_lag
    error = 1.96 * influence.standard_error
    return Picture(
        title=f"Inputs more than {steps(used)} back still lower the loss."
        if used is not None
        else "No inputs of the past can be shown to lower the loss.",
        caption="The loss where all inputs older than so many steps are those of other sequences; "
        f"mean over {count(influence.permutations)} permutations, with its 95 % interval.",
        x_label="lag: inputs older than this are scrambled",
        y_label="loss",
        series=(
            points(
                "scrambled",
                influence.lags,
                influence.scrambled,
                low=influence.scrambled - error,
                high=influence.scrambled + error,
            ),
        ),
        level=(influence.loss, f"as it is, {number(influence.loss)}"),
    )


def loss_by_length(measured: LengthExtrapolation) -> Picture:
    """Show the loss on sequences of several lengths: mean and spread."""
    exceeds = measured.exceeds_at
    lengths = tuple(map(float, measured.lengths))
    mean, spread = measured.mean, measured.spread
    return Picture(
        title=f"From length {count(exceeds)} on, the loss is larger than at length "
        f"{count(measured.trained)}."
        if exceeds is not None
        else f"No greater length has a loss clearly above that of {count(measured.trained)}.",
        caption="Mean over batches, with their standard deviation. The level is the mean at the "
        "training length.",
        x_label="length of the sequences, steps",
        y_label="loss",
        series=(
            Series(
                "loss",
                lengths,
                tuple(mean.tolist()),
                tuple((mean - spread).tolist()),
                tuple((mean + spread).tolist()),
            ),
        ),
        mark=(float(measured.trained), f"trained on, {count(measured.trained)}"),
        level=(float(mean[measured.lengths.index(measured.trained)]), "at the training length"),
    )


def latch_over_time(survival: LatchSurvival) -> Picture:
    """Show the share of runs of one noisy unit that still hold their bit, by steps."""
    chosen = [*thinned(len(survival.kept))]
    after, kept, held = torch.tensor(chosen) + 1, survival.kept[chosen], survival.held[chosen]
    return Picture(
        title=f"After {steps(len(survival.kept))}, {100 * float(survival.kept[-1]):.3g} % of "
        "the runs have the sign that they began with.",
        caption=f"One unit of weight {number(survival.weight)} with {survival.noise} noise of size "
        f"{number(survival.size)}; {count(survival.runs)} runs. Held: the sign never changed.",
        x_label="steps",
        y_label="share of the runs",
        series=(points("same sign", after, kept), points("held all along", after, held)),
        level=(0.5, "chance"),
    )
