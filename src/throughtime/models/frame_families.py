"""Families of models of sequences of frames."""

from throughtime.core.errors import ConfigurationError
from throughtime.models.families import FAMILIES, MakeLayer
from throughtime.models.frame_outputs import (
    BernoulliOutput,
    FrameOutput,
    GaussianOutput,
    NADEOutput,
    PenOutput,
)
from throughtime.models.frame_rnn import FrameRNN
from throughtime.models.vrnn import VRNN
from throughtime.tasks.kinds import Answers, Frames, Inputs, Likelihood


@FAMILIES.register("frame-rnn")
def _frame_rnn(
    inputs: Inputs, answers: Answers, layer: MakeLayer, *, features: int = 0, components: int = 1
) -> FrameRNN:
    """A cell's layer that reads frames, with a distribution of the next one."""
    kind = _frames(inputs, answers, "frame-rnn")
    recurrent = layer(features or kind.width)
    output = _output(kind, features or recurrent.output_size, components, 0, "frame-rnn")
    return FrameRNN(recurrent, output, features)


@FAMILIES.register("rnn-nade")
def _rnn_nade(
    inputs: Inputs, answers: Answers, layer: MakeLayer, *, features: int = 0, units: int = 100
) -> FrameRNN:
    """A cell's layer that reads binary frames, and NADE for the values of the next one."""
    kind = _frames(inputs, answers, "rnn-nade")
    if units < 1:
        raise ConfigurationError("units of model 'rnn-nade'", got=units, expected="at least 1")
    recurrent = layer(features or kind.width)
    output = _output(kind, features or recurrent.output_size, 1, units, "rnn-nade")
    return FrameRNN(recurrent, output, features)


@FAMILIES.register("vrnn")
def _vrnn(
    inputs: Inputs,
    answers: Answers,
    layer: MakeLayer,
    *,
    latent: int = 16,
    features: int = 64,
    components: int = 1,
    nade: int = 0,
) -> VRNN:
    """A cell with latent variables at each step, with prior and posterior (Chung et al. 2015)."""
    kind = _frames(inputs, answers, "vrnn")
    if features < 1:
        raise ConfigurationError("features of model 'vrnn'", got=features, expected="at least 1")
    output = _output(kind, features, components, nade, "vrnn")
    return VRNN(layer(2 * features), output, latent=latent, features=features)


def _output(kind: Frames, features: int, components: int, nade: int, family: str) -> FrameOutput:
    """Return the distribution of a frame: of pens, binary values (NADE with units), or others."""
    if components < 1:
        raise ConfigurationError(
            f"components of model {family!r}", got=components, expected="at least 1"
        )
    if kind.binary:
        if components > 1:
            raise ConfigurationError(
                f"components of model {family!r}",
                got=f"{components} for binary frames",
                expected="1, since mixtures of Gaussians are for real numbers",
            )
        if nade:
            return NADEOutput(features, kind.width, nade)
        return BernoulliOutput(features, kind.width)
    if nade:
        raise ConfigurationError(
            f"model {family!r}",
            got="NADE for frames of real numbers",
            expected="binary frames, such as those of nottingham",
        )
    if kind.pen:
        return PenOutput(features, components)
    return GaussianOutput(features, kind.width, components)


def _frames(inputs: Inputs, answers: Answers, family: str) -> Frames:
    if not (isinstance(inputs, Frames) and isinstance(answers, Likelihood)):
        raise ConfigurationError(
            f"model {family!r}",
            got=f"{inputs} and {answers}",
            expected="sequences of frames, and their likelihood",
        )
    return inputs
