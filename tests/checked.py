"""The type checker of the tests: beartype, with two of its habits changed."""

from typing import Self

from beartype import BeartypeConf, FrozenDict, beartype

checked = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # a whole number is a float, as type checkers have it
        # beartype knows Self in whole classes only, and jaxtyping decorates one method at a time
        hint_overrides=FrozenDict({Self: object}),
    )
)
