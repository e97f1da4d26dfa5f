"""Whether the data need old inputs, and how old: by reference predictors that see windows."""

import dataclasses
import math

from torch import Tensor

from throughtime.doctor.intervals import difference, mean
from throughtime.doctor.reference import ReferenceModel
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.trial import Trial

SHARE = 0.2  # of what all inputs gain over none: the least that counts


@dataclasses.dataclass(frozen=True)
class Need:
    """What the data ask of a memory. Losses are by held-out batch.

    Attributes:
        constant: of the best answer that sees no input.
        short: of a predictor that sees the last `window` inputs.
        full: of one that sees all.
        window: of the short one.
        lag: how far back inputs matter, at least; None if it is not known.
        long: True if inputs beyond the window are needed, False if not, None if it cannot be told.
        curve: by lag k, the loss of the full predictor with inputs from k steps on exchanged.
        learned: whether any of the predictors learned anything.
    """

    constant: list[float]
    short: list[float]
    full: list[float]
    window: int
    lag: int | None
    long: bool | None
    curve: dict[int, float]
    learned: bool


def measure_need(
    subject: Subject,
    layer: str,
    answered: Tensor,
    lag: int | None,
    clock: Clock,
    seconds: float,
    updates: int = 500,
) -> Need:
    """Train the predictors.

    Arguments:
        subject: data, loss and the rest of the model.
        layer: name of the recurrent layer that they stand in for.
        answered: (time,) which steps the loss reads.
        lag: the dependency's length, where the user knows it.
        clock: of the diagnosis.
        seconds: that it may take.
        updates: of each predictor, at most.
    """
    time = len(answered)
    window = max(1, (lag if lag is not None else time // 4) // 2)
    seconds = min(seconds, clock.left())

    def train(window: int, share: float, updates: int) -> tuple[ReferenceModel, Trial]:
        model = ReferenceModel(subject, layer, answered, window)
        trial = model.train(
            seconds=share * seconds, most_updates=updates, seed=window, enough=enough
        )
        return model, trial

    def enough(losses: list[float]) -> bool:
        return mean(losses) < 0.05 * mean(constant)  # of losses with a floor at 0

    constant = [-math.inf]
    constant = train(0, 0.1, min(updates, 160))[1].after
    reference, trial = train(time, 0.5, updates)
    full = trial.after
    short = train(window, 0.4, updates)[1].after
    gain = mean(constant) - min(mean(full), mean(short))
    learned = max(
        difference(constant, full).low, difference(constant, short).low
    ) > 0 and gain > 0.03 * abs(mean(constant))
    needs = difference(short, full)
    long: bool | None = None
    if learned:
        if needs.low > 0 and needs.value > SHARE * gain:
            long = True
        elif needs.value < SHARE * gain:
            long = False
    curve: dict[int, float] = {}
    found = lag
    if long and lag is None:
        for older in ladder(window, time):
            scrambled = reference.scrambled_losses(older, seed=older)
            curve[older] = mean(scrambled)
            harm = difference(scrambled, full)
            if harm.low > 0 and harm.value > SHARE * gain:
                found = older
    return Need(constant, short, full, window, found, long, curve, learned)


def ladder(start: int, end: int) -> list[int]:
    """Whole numbers from start to below end, each about 1.3 times the one before."""
    steps: list[int] = []
    value = float(max(1, start))
    while round(value) < end:
        if not steps or round(value) != steps[-1]:
            steps.append(round(value))
        value = max(value + 1, 1.3 * value)
    return steps
