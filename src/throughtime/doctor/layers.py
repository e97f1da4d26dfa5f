"""One diagnosis of a model with several recurrent layers, from a diagnosis of each."""

import dataclasses

from throughtime.results.diagnosis import Cause, Diagnosis, Fact, Picture

_ORDER = (
    Cause.TIME_BATCH_SWAPPED,
    Cause.STATE_LEAK,
    Cause.PADDING_READ,
    Cause.GRADIENT_CUT,
    Cause.EXPLODING,
    Cause.DEAD_UNITS,
    Cause.SATURATED,
    Cause.FORGETTING,
    Cause.VANISHING,
    Cause.UNDERTRAINED,
    Cause.HEALTHY,
    Cause.NO_LONG_DEPENDENCY,
    Cause.INCONCLUSIVE,
)
"""The verdict is the first of these that a layer has: what is proved before what is measured."""


def together(diagnoses: dict[str, Diagnosis]) -> Diagnosis:
    """The worst verdict, with every layer's findings, pictures and facts under its name.

    A layer that is healthy, or from which the data need nothing, does not excuse another. Where one
    layer remembers and no other is at fault, the model does.

    Arguments:
        diagnoses: of each layer, by its name; at least one.
    """
    order = sorted(diagnoses, key=lambda name: _ORDER.index(diagnoses[name].verdict))
    worst = diagnoses[order[0]]
    every = [diagnoses[name] for name in order]
    verdicts = (Fact(f"verdict on {name}", diagnoses[name].verdict.value) for name in order)
    return dataclasses.replace(
        worst,
        sentence=f"{order[0]}: {worst.sentence}",
        findings=tuple(finding for one in every for finding in one.findings),
        remedies=tuple(
            dataclasses.replace(remedy, name=f"{name}: {remedy.name}")
            for name in order
            for remedy in diagnoses[name].remedies
        ),
        pictures=tuple(
            _titled(picture, name) for name in order for picture in diagnoses[name].pictures
        ),
        facts=(
            *verdicts,
            *(
                Fact(f"{name}: {fact.name}", fact.value)
                for name in order
                for fact in diagnoses[name].facts
            ),
        ),
        asks=tuple(dict.fromkeys(ask for one in every for ask in one.asks)),
        seconds=sum(one.seconds for one in every),
        budget=sum(one.budget for one in every),
        model="; ".join(diagnoses[name].model for name in diagnoses),
    )


def _titled(picture: Picture, name: str) -> Picture:
    return dataclasses.replace(picture, title=f"{name}: {picture.title}")
