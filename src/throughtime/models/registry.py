"""Models by name: `lstm:hidden=64,layers=2` names a cell, `readout:cell=lstm` a family too."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias, final

from torch import nn

# Cells and families enter their registries when their modules are imported.
from throughtime import memory, wiring  # noqa: F401
from throughtime.core import initializers
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.initializers import Initializer
from throughtime.core.registry import (
    CELLS,
    Parameters,
    option_parameters,
    read_options,
    split_spec,
)
from throughtime.layers import Recurrent
from throughtime.models import (
    density_families,
    dialogue_families,  # noqa: F401 enters its builders
    frame_families,  # noqa: F401 enters its builders
    story_families,  # noqa: F401 enters its builders
    tree_families,
)
from throughtime.models.families import FAMILIES
from throughtime.tasks.kinds import (
    Answers,
    Bits,
    Classes,
    Dialogues,
    Frames,
    Images,
    Inputs,
    Likelihood,
    Pairs,
    Pixels,
    Stories,
    Tokens,
    Trees,
    Values,
    Vectors,
)


def family_for(inputs: Inputs, answers: Answers) -> str:
    """Return the name of the family that fits a task's kinds.

    Raises:
        ConfigurationError: no family fits.
    """
    if isinstance(inputs, Vectors | Tokens) and isinstance(answers, Classes | Values | Bits):
        return "readout"
    if isinstance(inputs, Stories) and isinstance(answers, Classes):
        return "readout"
    if isinstance(inputs, Tokens) and isinstance(answers, Likelihood):
        return "language-model"
    if isinstance(inputs, Pairs) and isinstance(answers, Likelihood):
        return "encoder-decoder"
    if isinstance(inputs, Dialogues) and isinstance(answers, Likelihood):
        return "hred"
    if isinstance(inputs, Images) and isinstance(answers, Classes):
        return "raster"
    if isinstance(inputs, Pixels) and isinstance(answers, Likelihood):
        raise ConfigurationError(
            "a model of images",
            got="the name of a cell",
            expected=f"one of {', '.join(density_families.OF_PIXELS)}",
        )
    if isinstance(inputs, Frames) and isinstance(answers, Likelihood):
        return "frame-rnn"
    if isinstance(inputs, Trees):
        raise ConfigurationError(
            "a model of trees",
            got="the name of a cell",
            expected=f"one of {', '.join(tree_families.OF_TREES)}",
        )
    raise ConfigurationError(
        "a model for a task",
        got=f"{inputs} and {answers}",
        expected="vectors or symbols, and classes, values or bits; images, and classes; or "
        "symbols, pairs or frames, and their likelihood",
    )


Start: TypeAlias = Literal["torch", "orthogonal", "identity", "sparse"]
_USUAL_CELL = "lstm"
# read first, since the options of the cell follow from it
_CELL = {"cell": inspect.Parameter("cell", inspect.Parameter.KEYWORD_ONLY, annotation=str)}


def recurrent_layer(
    cell: str,
    own: Mapping[str, object],
    input_size: int,
    *,
    hidden: int = 64,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    init: Start = "torch",
    forget_bias: float | None = None,
    chrono: int | None = None,
    engine: str = "auto",
) -> Recurrent:
    """Build the recurrent layer of a model. Its keyword-only arguments are options of every cell.

    Arguments:
        cell: name of the cell.
        own: options of that cell alone.
        input_size: width of x_t.
        hidden: width of the cell.
        layers: number of cells on top of each other.
        bidirectional: If True, a second cell in each layer runs from the end.
        dropout: probability that an output of a layer, except the last, is zeroed in training.
        init: recurrent matrix: torch's uniform one; orthogonal or the identity at the longest lag,
            with 0 at shorter ones; or sparse with a spectral radius of 0.95
            ("smart_tanh" of Pascanu et al. 2013).
        forget_bias: bias of the gates that keep the memory.
        chrono: longest dependency in steps, for chrono initialisation.
        engine: name of the engine.

    Raises:
        ConfigurationError, UnknownNameError: the cell cannot take an option.
    """
    start: dict[Start, list[Initializer]] = {
        "torch": [],
        "orthogonal": [initializers.orthogonal()],
        "identity": [initializers.identity()],
        "sparse": [
            initializers.normal(0.01),
            initializers.sparse(15),
            initializers.spectral_radius(0.95),
        ],
    }
    applied = start[init]
    applied += [] if forget_bias is None else [initializers.forget_bias(forget_bias)]
    applied += [] if chrono is None else [initializers.chrono(chrono)]
    return Recurrent(
        functools.partial(CELLS[cell], **own),
        input_size,
        hidden,
        layers,
        bidirectional=bidirectional,
        dropout=dropout,
        engine=engine,
        initializers=applied,
    )


SHARED_OPTIONS = option_parameters(recurrent_layer)
"""The options of every cell."""


@final
class Models:
    """The names of all models, their descriptions and options.

    A name is a cell's or a family's. A cell's name stands for the family that fits the task.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*CELLS, *FAMILIES}))

    def __contains__(self, name: str) -> bool:
        return name in CELLS or name in FAMILIES

    def describe(self, name: str) -> str:
        """Return one line about a model."""
        return FAMILIES.describe(name) if name in FAMILIES else CELLS.describe(name)

    def own_options(self, name: str) -> dict[str, object]:
        """Return the options of a model that are not shared by all cells, with their defaults."""
        if name in FAMILIES:
            usual = {"cell": _USUAL_CELL} if _takes_cell(name) else {}
            return {**usual, **FAMILIES.options(name)}
        self._check(name)
        return CELLS.options(name)

    def options(self, name: str) -> dict[str, object]:
        """Return all options of a model with their defaults."""
        shared = {p.name: p.default for p in SHARED_OPTIONS.values()}
        takes = name not in FAMILIES or _takes_cell(name)
        return {**(shared if takes else {}), **self.own_options(name)}

    def parse(self, spec: str) -> tuple[str, dict[str, object]]:
        """Split `name:option=value,...` into a known name and typed options.

        Raises:
            UnknownNameError: no such name or option.
            ConfigurationError: a value is not of the option's type, or an option is given twice.
        """
        name, texts = split_spec("model", spec)
        self._check(name)
        subject = f"model {name!r}"
        if name not in FAMILIES:
            parameters = _parameters_of(name)
            for key in texts.keys() - parameters.keys():
                families = [each for each in FAMILIES if key in FAMILIES.options(each)]
                if families:
                    raise ConfigurationError(
                        subject,
                        got=f"{key}, an option of a family",
                        expected=" or ".join(families),
                        fix=f"Name the one that fits the task: FAMILY:cell={name},{key}=...",
                    )
            return name, read_options(subject, texts, parameters)
        if not _takes_cell(name):
            return name, read_options(subject, texts, option_parameters(FAMILIES[name]))
        chosen: dict[str, object] = {"cell": texts.pop("cell")} if "cell" in texts else {}
        cell = str(chosen.get("cell", _USUAL_CELL))
        parameters = {**_CELL, **_parameters_of(cell), **option_parameters(FAMILIES[name])}
        return name, {**chosen, **read_options(subject, texts, parameters)}

    def cell(self, spec: str) -> str:
        """Return the name of a model's cell; the name of a family that takes no cell.

        Raises:
            UnknownNameError, ConfigurationError: as for `parse`.
        """
        name, options = self.parse(spec)
        if name in FAMILIES and _takes_cell(name):
            return str(options.get("cell", _USUAL_CELL))
        return name

    def _check(self, name: str) -> None:
        if name not in self:
            raise UnknownNameError("model", name, self)


MODELS = Models()
"""All models by name."""


def build_model(spec: str, inputs: Inputs, answers: Answers) -> nn.Module:
    """Build the model that a text names, for a task's kinds of inputs and answers.

    The weights are drawn from torch's generator, on the CPU.

    Arguments:
        spec: text: "lstm:hidden=64", "readout:cell=lstm,hidden=64".
        inputs: kind of the inputs.
        answers: kind of the answers.

    Raises:
        UnknownNameError, ConfigurationError: no such model, or it cannot take an option.

    Example:
        >>> import torch
        >>> from throughtime.tasks.kinds import Classes, Vectors
        >>> build_model("gru:hidden=4", Vectors(2), Classes(3))(torch.ones(5, 1, 2)).shape
        torch.Size([1, 3])
    """
    name, options = MODELS.parse(spec)
    if name in FAMILIES:
        family, cell = name, str(options.pop("cell", _USUAL_CELL))
    else:
        family, cell = family_for(inputs, answers), name
    build: Callable[..., nn.Module] = FAMILIES[family]
    around = {key: options.pop(key) for key in option_parameters(build) if key in options}
    if not _takes_cell(family):
        return build(inputs, answers, **around)
    shared: dict[str, Any] = {key: options.pop(key) for key in SHARED_OPTIONS if key in options}
    layer = functools.partial(recurrent_layer, cell, options, **shared)
    return build(inputs, answers, layer, **around)


def _parameters_of(cell: str) -> Parameters:
    return {**SHARED_OPTIONS, **option_parameters(CELLS[cell])}


def _takes_cell(family: str) -> bool:
    """Return True for a builder with an argument `layer`; an option of that name is none."""
    layer = inspect.signature(FAMILIES[family]).parameters.get("layer")
    return layer is not None and layer.kind is not layer.KEYWORD_ONLY
