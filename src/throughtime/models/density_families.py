"""Families of models that are distributions: of binary vectors and images."""

from throughtime.core.errors import ConfigurationError
from throughtime.models.families import FAMILIES
from throughtime.models.nade import NADE
from throughtime.tasks.kinds import Answers, Inputs, Likelihood, Pixels

OF_PIXELS = ("nade",)
"""Families for images and binary vectors."""


@FAMILIES.register("nade")
def _nade(inputs: Inputs, answers: Answers, *, hidden: int = 500, orderings: int = 0) -> NADE:
    """Hidden units whose sums grow by one input at a time (Larochelle & Murray 2011)."""
    return NADE(pixels(inputs, answers, "nade"), hidden, orderings=orderings)


def pixels(inputs: Inputs, answers: Answers, family: str) -> Pixels:
    """Return the kind of images or binary vectors of a task.

    Arguments:
        inputs: Kind of the inputs.
        answers: Kind of the answers.
        family: Name of the family, for the error.

    Raises:
        ConfigurationError: The kinds are others.
    """
    if not (isinstance(inputs, Pixels) and isinstance(answers, Likelihood)):
        raise ConfigurationError(
            f"model {family!r}",
            got=f"{inputs} and {answers}",
            expected="images or binary vectors, and their likelihood",
        )
    return inputs
