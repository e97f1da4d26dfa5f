"""Families of models: what lies around a cell, by name and by a task's kinds."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from throughtime.cells import LatchUnitCell
from throughtime.core.errors import ConfigurationError
from throughtime.core.registry import Registry
from throughtime.layers import Recurrent
from throughtime.models.language_model import LanguageModel
from throughtime.models.sequence_model import SequenceModel
from throughtime.tasks.kinds import Answers, Classes, Inputs, Likelihood, Tokens, Values, Vectors

MakeLayer: TypeAlias = Callable[[int], Recurrent]
"""A function from an input size to the recurrent layer of a model."""

FAMILIES = Registry[nn.Module]("family")
"""Families of models by name.

A builder takes `inputs` and `answers`, the task's kinds, then `layer`, a `MakeLayer`, and its own
options. A builder without `layer` has a cell of its own, and no options of cells.
"""


def family_for(inputs: Inputs, answers: Answers) -> str:
    """Return the name of the family that fits a task's kinds.

    Arguments:
        inputs: kind of the inputs.
        answers: kind of the answers.

    Raises:
        ConfigurationError: no family fits.
    """
    if isinstance(inputs, Vectors) and isinstance(answers, Classes | Values):
        return "readout"
    if isinstance(inputs, Tokens) and isinstance(answers, Likelihood):
        return "language-model"
    raise ConfigurationError(
        "a model for a task",
        got=f"{inputs} and {answers}",
        expected="vectors, and classes or values; or symbols, and their likelihood",
    )


@FAMILIES.register("readout")
def _readout(inputs: Inputs, answers: Answers, layer: MakeLayer) -> SequenceModel:
    """A cell's layer with a linear read-out, after the last step or at every step."""
    return SequenceModel(layer(_width(inputs, "readout")), _with_width(answers, "readout"))


@FAMILIES.register("language-model")
def _language_model(inputs: Inputs, answers: Answers, layer: MakeLayer) -> LanguageModel:
    """A cell's layer that reads symbols, with a softmax over the next one."""
    if not (isinstance(inputs, Tokens) and isinstance(answers, Likelihood)):
        raise ConfigurationError(
            "model 'language-model'",
            got=f"{inputs} and {answers}",
            expected="symbols, and their likelihood",
        )
    return LanguageModel(layer(inputs.alphabet))


@FAMILIES.register("latch-unit")
def _latch_unit(inputs: Inputs, answers: Answers, *, weight: float = 1.25) -> SequenceModel:
    """One tanh unit with a recurrent weight, its own answer (Bengio et al. 1994)."""
    layer = Recurrent(LatchUnitCell, _width(inputs, "latch-unit"), 1, weight=weight)
    model = SequenceModel(layer, _with_width(answers, "latch-unit"))
    with torch.no_grad():
        model.readout.weight.fill_(1.0)
        model.readout.bias.zero_()
    model.readout.requires_grad_(False)
    return model


def _width(inputs: Inputs, family: str) -> int:
    if isinstance(inputs, Tokens):
        raise ConfigurationError(f"model {family!r}", got=str(inputs), expected="vectors")
    return inputs.width


def _with_width(answers: Answers, family: str) -> Classes | Values:
    if not isinstance(answers, Classes | Values):
        raise ConfigurationError(
            f"model {family!r}", got=str(answers), expected="classes or values"
        )
    return answers
