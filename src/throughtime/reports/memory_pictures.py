"""What a state keeps, and what the loss makes of it, as pictures."""

import math
from collections.abc import Mapping

from throughtime.instruments.decoding import MemoryDecoding
from throughtime.instruments.forward_memory import PerturbationSurvival
from throughtime.instruments.input_influence import InputInfluence
from throughtime.instruments.length_extrapolation import LengthExtrapolation
from throughtime.reports.curves import by_index, due, points, steps
from throughtime.reports.diagnosis_words import number
from throughtime.reports.numbers import count
from throughtime.results.diagnosis import Picture, Series


def change_survival(
    survivals: Mapping[str, PerturbationSurvival], needed: int | None = None
) -> Picture:
    """How long the state keeps a small change: median ratio by lag, band from 10 to 90 %.

    Arguments:
        survivals: measured ratios by name, the one in question first.
        needed: steps that have to be remembered, if that is known.
    """
    name, first = next(iter(survivals.items()))
    half = first.half_life()
    return Picture(
        title=f"Half of a change of the state of {name} is gone after {steps(half)}."
        if math.isfinite(half)
        else f"The state of {name} keeps more than half of a change to the end.",
        caption="What is left of a small change of the state after so many steps of the same "
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
    """What can be read from the state about past inputs: R^2 by lag, mean over targets.

    Arguments:
        decodings: measured decoding by name, the one in question first.
        needed: steps that have to be remembered, if that is known.
    """
    name, first = next(iter(decodings.items()))
    half = first.lags[first.r2.nanmean(1) >= 0.5]
    curves = [points(k, d.lags, d.r2.nanmean(1)) for k, d in decodings.items()]
    return Picture(
        title=f"The state of {name} shows its inputs up to {steps(int(half.max()))} back."
        if len(half)
        else f"The state of {name} hardly shows its past inputs.",
        caption="R² of a linear decoder on sequences that it was not trained on, mean over the "
        "inputs' components; what it shows has 0.5 or more. Chance: what 95 % of decoders from "
        f"states of other sequences stay below. {count(first.samples)} steps were decoded.",
        x_label="lag: steps before the last one",
        y_label="R² of the input so many steps back",
        series=(*curves, points(f"chance, {name}", first.lags, first.null_level)),
        mark=due(needed),
    )


def influence_of_old_inputs(influence: InputInfluence) -> Picture:
    """How much the loss rises where older inputs are those of other sequences: by lag."""
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
    """The loss on sequences of other lengths than those of the training: mean and spread."""
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
