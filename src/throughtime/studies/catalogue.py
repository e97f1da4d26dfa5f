"""A published result and how it is measured here: a folder with a study.json."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.studies.request import CompareRequest, Variant

FOLDER = Path(__file__).parent / "published"

Quantity: TypeAlias = Literal["accuracy", "loss", "loss over chance", "bits", "solved"]
"""What is in the table, of the test set: the loss in nats, over that of the best answer that
remembers nothing, or in bits; or the share of runs that met the task's criterion."""

Kind: TypeAlias = Literal["difference", "ratio", "order", "below", "above"]
"""a - b and a / b at least the bound; each at least the bound above the one before; a below or
above the bound."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of the paper, and the model that stands for it here.

    Attributes:
        label: label in the paper.
        model: its label in the comparison: registry text, and ", variant" where there are several.
        paper: its number; None where there is none to compare with.
        expected: the range in which ours is expected; None where none is known.
        part: part of the scale in which the model is.
    """

    label: str
    model: str
    paper: float | None
    expected: tuple[float, float] | None
    part: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """A part of the effect, as a condition on the means of rows.

    Attributes:
        statement: the condition in words.
        kind: comparison of the rows.
        of: labels of rows.
        bound: number of `Kind`.
    """

    statement: str
    kind: Kind
    of: tuple[str, ...]
    bound: float

    def value(self, means: Mapping[str, float]) -> float:
        """Return the number that is compared with the bound: the least rise, for "order".

        Arguments:
            means: means by label of row.
        """
        values = [means[label] for label in self.of]
        if self.kind == "difference":
            return values[0] - values[1]
        if self.kind == "ratio":
            return values[0] / values[1]
        if self.kind == "order":
            return min(b - a for a, b in itertools.pairwise(values))
        return values[0]

    def holds(self, means: Mapping[str, float]) -> bool:
        """Return True if the condition is met; False where a mean is missing or not a number.

        Arguments:
            means: means by label of row.
        """
        if any(label not in means for label in self.of):
            return False
        value = self.value(means)
        return value <= self.bound if self.kind == "below" else value >= self.bound


@dataclasses.dataclass(frozen=True)
class Scale:
    """One size at which a study can be run.

    Attributes:
        about: content and cost.
        parts: the comparisons by name; "" for the only one.
        rows: rows of the table.
        checks: conditions of the effect.
    """

    about: str
    parts: Mapping[str, CompareRequest]
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]


@dataclasses.dataclass(frozen=True)
class Publication:
    """A study.

    Attributes:
        name: name of its folder.
        title: the effect in a line.
        source: paper and table.
        effect: expected result, in a sentence.
        differs: known differences from the paper.
        quantity: quantity of the table.
        scales: sizes by name, "small" and "full".
    """

    name: str
    title: str
    source: str
    effect: str
    differs: str
    quantity: Quantity
    scales: Mapping[str, Scale]


def publications() -> list[str]:
    """The names of all studies.

    Example:
        >>> "skip-coefficient" in publications()
        True
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/study.json"))


def publication(name: str) -> Publication:
    """A study by name.

    Arguments:
        name: name in `publications`.

    Raises:
        UnknownNameError: no such study.
        ConfigurationError: its file names no quantity that there is.
    """
    if name not in publications():
        raise UnknownNameError("study", name, publications())
    document: dict[str, Any] = json.loads((FOLDER / name / "study.json").read_text())
    scales = {key: _scale(scale) for key, scale in document["scales"].items()}
    fields = ("title", "source", "effect", "differs", "quantity")
    if document["quantity"] not in get_args(Quantity):
        raise ConfigurationError(
            f"quantity of {name}", got=document["quantity"], expected=get_args(Quantity)
        )
    return Publication(name, scales=scales, **{field: document[field] for field in fields})


def _request(asked: dict[str, Any]) -> CompareRequest:
    variants = asked.get("variants", {})
    return CompareRequest(
        **{
            **asked,
            "models": tuple(asked["models"]),
            "variants": tuple(Variant(name, settings) for name, settings in variants.items()),
        }
    )


def _scale(document: dict[str, Any]) -> Scale:
    parts = document.get("comparisons") or {"": document["comparison"]}
    rows = tuple(
        Row(
            row["label"],
            row["model"],
            row["paper"],
            None if row["expected"] is None else (row["expected"][0], row["expected"][1]),
            row.get("part", ""),
        )
        for row in document["rows"]
    )
    checks = tuple(
        Check(check["statement"], check["kind"], tuple(check["of"]), check["bound"])
        for check in document["checks"]
    )
    requests = {name: _request(asked) for name, asked in parts.items()}
    return Scale(document["about"], requests, rows, checks)
