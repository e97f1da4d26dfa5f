"""The held-out parts of data that a user gives without them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from throughtime.core.errors import DataError
from throughtime.tasks.seeding import permutation
from throughtime.tasks.task import Split

Items = TypeVar("Items")


def three_ways(
    given: Mapping[Split, Items],
    count: int,
    select: Callable[[Items, Sequence[int]], Items],
    what: str,
    *,
    unit: str = "",
    least: int = 20,
    part: int = 20,
) -> dict[Split, Items]:
    """Return items of all splits; those that are missing are drawn from the training items.

    Arguments:
        given: items of the training split, and of others where there are some.
        count: number of training items.
        select: function that returns the items of some numbers.
        what: name of the items in errors, in the plural.
        unit: word behind their number in errors; "" for none.
        least: smallest number of training items that are split.
        part: a missing split gets one of so many training items.

    Raises:
        DataError: too few training items to be split.

    Example:
        >>> parts = three_ways({"training": [*range(40)]}, 40, rows, "numbers")
        >>> {split: len(items) for split, items in parts.items()}
        {'training': 36, 'validation': 2, 'test': 2}
    """
    missing: list[Split] = [split for split in ("validation", "test") if split not in given]
    whole, made = given["training"], dict(given)
    if not missing:
        return made
    if count < least:
        raise DataError(
            f"training {what}",
            got=f"{count} {unit}".rstrip(),
            expected=f"at least {least}, since some are held out",
            fix="Name files for validation and test.",
        )
    order, share = permutation(count, 0, "split").tolist(), count // part
    for split in missing:
        made[split], order = select(whole, order[:share]), order[share:]
    made["training"] = select(whole, sorted(order))
    return made


def rows(items: list[Items], numbers: Sequence[int]) -> list[Items]:
    """Return the items of a list that have these numbers."""
    return [items[k] for k in numbers]
