"""A state over time as pictures: Jacobians, Lyapunov exponents, memory."""

import math
from collections.abc import Mapping

import torch

from throughtime.instruments.decoding import MemoryDecoding
from throughtime.instruments.forward_memory import PerturbationSurvival
from throughtime.instruments.input_influence import InputInfluence
from throughtime.instruments.jacobians import Jacobians
from throughtime.instruments.length_extrapolation import LengthExtrapolation
from throughtime.instruments.lyapunov import LyapunovSpectrum
from throughtime.reports.lines import by_index, due, points, steps, thinned
from throughtime.reports.numbers import count, number
from throughtime.results.diagnosis import Picture, Series

CURVES = 8
"""Largest number of curves of one kind in a picture: there are no more colours."""

_AFRESH = "The last step starts afresh: nothing of the state before it is kept."


def jacobian_products(jacobians: Jacobians, needed: int | None = None) -> Picture:
    """Show ||J_T ... J_{T-n+1}||, the largest growth of a change n steps ago, and its bounds.

    Arguments:
        jacobians: Jacobians along one sequence.
        needed: Steps between an answer and the inputs that it depends on; None if not known.
    """
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
        x_label="lag: steps before the last one",
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
    """Show the spectrum: exponents by rank, with 95 % intervals.

    Arguments:
        spectra: Spectra by name; the title is about the first.
    """
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
    """Show the remainder of a small change of the state: median by lag, 10 to 90 %.

    Arguments:
        survivals: Measured ratios by name; the title is about the first.
        needed: Steps between an answer and the inputs that it depends on; None if not known.
    """
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
    """Show R^2 of past inputs decoded from the state: by lag, mean over targets.

    Arguments:
        decodings: Measured decodings by name; the title is about the first.
        needed: Steps between an answer and the inputs that it depends on; None if not known.
    """
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
        x_label="lag: steps before the last one",
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
