"""A cell as a dynamical system, as pictures: Jacobians and Lyapunov exponents."""

import math
from collections.abc import Mapping

import torch

from throughtime.instruments.jacobians import Jacobians
from throughtime.instruments.lyapunov import LyapunovSpectrum
from throughtime.reports.curves import by_index, due, points, steps, thinned
from throughtime.reports.diagnosis_words import number
from throughtime.reports.numbers import count
from throughtime.results.diagnosis import Picture

CURVES = 8
"""Of one kind in a picture, at most: there are no more colours."""
_AFRESH = "The last step starts afresh: nothing of the state before it is kept."


def jacobian_products(jacobians: Jacobians, needed: int | None = None) -> Picture:
    """How much of a change n steps ago is left, at most: the norm of J_T ... J_{T-n+1}, bounds too.

    Arguments:
        jacobians: along one sequence.
        needed: steps back that the answer needs, if that is known.
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
        title = f"Over {steps(last)} what is kept best of a change is multiplied by {rate} a step."
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
    """How many directions of the state survive: singular values of the products, for some lags."""
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
        caption="Singular values of the product of the last n Jacobians, the largest first: how "
        "much is left of a change in each direction of the state.",
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
    """How each step stretches the state: its Jacobian's norm and spectral radius."""
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
    """The spectrum: exponents by rank, with twice their standard errors.

    Arguments:
        spectra: by name, the one in question first.
    """
    name, first = next(iter(spectra.items()))
    largest, error = float(first.exponents[0]), float(first.standard_errors[0])
    clear = abs(largest) > 2 * error
    if largest > 0 and clear:
        title = (
            f"{name} is chaotic: neighbours part by a factor {number(math.exp(largest))} a step."
        )
    elif largest < 0 and clear:
        title = (
            f"{name} forgets: differences shrink by a factor {number(math.exp(largest))} a step."
        )
    else:
        title = f"{name} neither forgets nor is it chaotic, as far as can be told."
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
    """Whether it was measured for long enough: the leading exponents by counted steps."""
    leading = min(CURVES, spectrum.history.shape[1])
    return Picture(
        title="The leading exponents, as they settle.",
        caption=f"Each exponent as it stood after so many steps, {count(spectrum.burn_in)} steps "
        "of burn-in apart.",
        x_label="steps counted",
        y_label="exponent, nats per step",
        series=tuple(
            points(f"{k + 1}", spectrum.history_steps, spectrum.history[:, k])
            for k in range(leading)
        ),
    )
