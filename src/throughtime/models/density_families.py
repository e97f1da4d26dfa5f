"""Families of models that are distributions: of binary vectors, images and frames."""

from typing import Literal

from throughtime.core.errors import ConfigurationError
from throughtime.models.families import FAMILIES
from throughtime.models.masked_densities import FVSBN, MADE, GroupedNetwork
from throughtime.models.nade import NADE, OrderlessNADE
from throughtime.models.pixel_rnn import PixelCNN, PixelRNN
from throughtime.tasks.kinds import Answers, Inputs, Likelihood, Pixels

OF_PIXELS = ("bengio-bengio", "fvsbn", "made", "nade", "pixelcnn", "pixelrnn")
"""Families for images and binary vectors."""


@FAMILIES.register("fvsbn")
def _fvsbn(inputs: Inputs, answers: Answers, *, orderings: int = 0) -> FVSBN:
    """Logistic autoregression, without hidden units (Frey, Hinton & Dayan 1996)."""
    return FVSBN(pixels(inputs, answers, "fvsbn"), orderings=orderings)


@FAMILIES.register("bengio-bengio")
def _grouped(
    inputs: Inputs, answers: Answers, *, hidden: int = 5, orderings: int = 0
) -> GroupedNetwork:
    """A group of hidden units for each input (Bengio & Bengio 1999)."""
    return GroupedNetwork(pixels(inputs, answers, "bengio-bengio"), hidden, orderings=orderings)


@FAMILIES.register("nade")
def _nade(
    inputs: Inputs,
    answers: Answers,
    *,
    hidden: int = 500,
    orderings: int = 0,
    orderless: bool = False,
) -> NADE | OrderlessNADE:
    """Hidden units whose sums grow by one input at a time (Larochelle & Murray 2011)."""
    kind = pixels(inputs, answers, "nade")
    if orderless:
        return OrderlessNADE(kind, hidden, orderings=orderings or 1)
    return NADE(kind, hidden, orderings=orderings)


@FAMILIES.register("made")
def _made(
    inputs: Inputs,
    answers: Answers,
    *,
    hidden: int = 500,
    layers: int = 1,
    orderings: int = 0,
    direct: bool = False,
) -> MADE:
    """A network with masked weights (Germain et al. 2015)."""
    kind = pixels(inputs, answers, "made")
    return MADE(kind, hidden, layers=layers, orderings=orderings, direct=direct)


@FAMILIES.register("pixelrnn")
def _pixelrnn(
    inputs: Inputs,
    answers: Answers,
    *,
    layer: Literal["diagonal", "row"] = "diagonal",
    hidden: int = 32,
    layers: int = 1,
) -> PixelRNN:
    """Diagonal BiLSTMs or Row LSTMs over the pixels of an image (van den Oord et al. 2016)."""
    return PixelRNN(pixels(inputs, answers, "pixelrnn"), hidden, layers, layer=layer)


@FAMILIES.register("pixelcnn")
def _pixelcnn(inputs: Inputs, answers: Answers, *, hidden: int = 32, layers: int = 7) -> PixelCNN:
    """Convolutions over the pixels before each pixel (van den Oord et al. 2016)."""
    return PixelCNN(pixels(inputs, answers, "pixelcnn"), hidden, layers)


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
