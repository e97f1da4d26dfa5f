"""A recurrent layer that reads frames, and the distribution of the next one."""

from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, DataError, ShapeError
from throughtime.core.latent import Draws, Random
from throughtime.core.sequence import Packing, check_lengths, packing
from throughtime.layers import RecurrentLayer
from throughtime.models.frame_outputs import FrameOutput


@final
class FrameRNN(nn.Module):
    """Sequences of frames, each given all frames before it.

        p(x) = prod_t p(x_t | f(h_t))    h_t = layer(g(x_{t-1}), h_{t-1})    x_0 = 0

    The first frame is scored, too. With a Gaussian output this is RNN-Gauss, with a mixture
    RNN-GMM, with binary values an RNN with logistic outputs, with NADE RNN-NADE. f and g are each
    one layer of rectified units, or nothing. The number of frames is given, and has no probability
    (our choice).

    Arguments:
        recurrent: layer that goes forward in time.
        output: distribution of a frame.
        features: width of f and g; 0 for none.

    Attributes:
        width: width of a frame.

    Raises:
        ConfigurationError: a bidirectional layer, which reads the frames that it is to predict; or
            widths that do not meet.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.models.frame_outputs import BernoulliOutput
        >>> model = FrameRNN(GRU(3, 8), BernoulliOutput(8, 3))
        >>> model.log_prob(torch.ones(5, 2, 3), torch.tensor([5, 2])).shape
        torch.Size([2])
        >>> model.sample(4, 6).shape
        torch.Size([6, 4, 3])

    Source:
        Chung et al. 2015, A recurrent latent variable model for sequential data, for the models
        with f and g; Boulanger-Lewandowski, Bengio and Vincent 2012 for RNN-NADE.
    """

    def __init__(self, recurrent: RecurrentLayer[Any, Any], output: FrameOutput, features: int = 0):
        super().__init__()
        check_recurrent(recurrent, features or output.width)
        self.width, self.features, self.recurrent, self.output = (
            output.width,
            features,
            recurrent,
            output,
        )
        self.reader: nn.Module = nn.Identity()
        self.between: nn.Module = nn.Identity()
        if features:
            self.reader = nn.Sequential(nn.Linear(self.width, features), nn.ReLU())
            self.between = nn.Sequential(nn.Linear(recurrent.output_size, features), nn.ReLU())

    def log_prob(
        self, x: Float[Tensor, "time batch width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Return ln p(x) of each sequence in nats, summed over its frames.

        Arguments:
            x: frames.
            lengths: frames of each sequence; None for all.

        Raises:
            ShapeError, DataError, LengthsError, ConfigurationError: what does not fit.
        """
        return self.frame_log_probs(x, lengths).sum(0)

    def frame_log_probs(
        self, x: Float[Tensor, "time batch width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "time batch"]:
        """Return ln p(x_t | x_1 ... x_{t-1}) of each frame; 0 behind the end of a sequence.

        Arguments:
            x: frames.
            lengths: frames of each sequence; None for all.

        Raises:
            ShapeError, DataError, LengthsError, ConfigurationError: what does not fit.
        """
        frames = checked_frames(x, lengths, self.output)
        shifted = torch.cat([x.new_zeros(1, *x.shape[1:]), x[:-1]])
        h, _ = self.recurrent(self.reader(shifted), lengths=frames.lengths)
        rows, places = frames.packing.pack(h), frames.packing
        found = self.output.log_prob(self.between(rows), places.pack(x))
        return places.unpack(found, len(x))

    @torch.no_grad()
    def sample(
        self,
        count: int,
        length: int,
        *,
        known: Float[Tensor, "known _ width"] | None = None,
        random: Random = None,
    ) -> Float[Tensor, "length count width"]:
        """Return drawn sequences, in the model's mode.

        Arguments:
            count: number of sequences.
            length: number of frames, known ones included.
            known: first frames of one sequence or of each; None for none.
            random: source of the random numbers; each sequence has its own.

        Raises:
            ConfigurationError, ShapeError: numbers below 1, or known frames that do not fit.
        """
        like = next(self.output.parameters())
        known = known_frames(known, count, length, self.output, like)
        draws, step = Draws(random, count, like), self.recurrent.stepper(count)
        before, found = like.new_zeros(count, self.width), list[Tensor]()
        for t in range(length):
            h = step(self.reader(before))
            before = known[t] if t < len(known) else self.output.sample(self.between(h), draws)
            found.append(before)
        return torch.stack(found)

    def sample_and_log_prob(
        self, count: int, length: int, *, random: Random = None
    ) -> tuple[Float[Tensor, "length count width"], Float[Tensor, " count"]]:
        """Return drawn sequences and ln p(x) of each in nats.

        Arguments:
            count: number of sequences.
            length: number of frames.
            random: source of the random numbers; each sequence has its own.

        Raises:
            ConfigurationError: numbers below 1.
        """
        x = self.sample(count, length, random=random)
        return x, self.log_prob(x)


class Frames(NamedTuple):
    """Checked lengths, and the places of the frames that are no padding.

    Attributes:
        lengths: frames of each sequence, on the CPU.
        packing: places of the frames.
    """

    lengths: Int[Tensor, " batch"]
    packing: Packing


def checked_frames(x: Tensor, lengths: Tensor | None, output: FrameOutput) -> Frames:
    """Return the lengths and places of frames that a model can score.

    Arguments:
        x: frames.
        lengths: frames of each sequence; None for all.
        output: distribution of a frame.

    Raises:
        ShapeError: other axes than (time, batch, width).
        DataError: no frames.
        LengthsError: lengths that do not fit.
        ConfigurationError: values other than 0 and 1 where they are to be binary.
    """
    if x.dim() != 3 or x.shape[2] != output.width:
        raise ShapeError(
            "frames", got=f"shape {tuple(x.shape)}", expected=f"(time, batch, {output.width})"
        )
    time, batch = x.shape[:2]
    if time == 0 or batch == 0:
        raise DataError(
            "frames",
            got=f"{time} frames of {batch} sequences",
            expected="at least one frame of one sequence",
        )
    known = None if lengths is None else check_lengths(lengths, time, batch)
    whole = torch.full((batch,), time) if known is None else known
    places = packing(whole, x.device)
    if output.binary:
        check_binary(places.pack(x))
    return Frames(whole, places)


def check_binary(x: Tensor) -> None:
    """Raise ConfigurationError for a value other than 0 and 1.

    Arguments:
        x: values of binary frames.
    """
    wrong = (x != 0) & (x != 1)
    if bool(wrong.any()):
        raise ConfigurationError(
            "binary frames",
            got=f"the value {float(x[wrong][0]):.4g}",
            expected="0 and 1",
            fix="Choose an output for real numbers, such as output=gaussian.",
        )


def known_frames(
    known: Tensor | None, count: int, length: int, output: FrameOutput, like: Tensor
) -> Tensor:
    """Return the first frames of each sequence, (known, count, width).

    Arguments:
        known: frames of one sequence or of each; None for none.
        count: number of sequences.
        length: number of frames to draw.
        output: distribution of a frame.
        like: tensor whose dtype and device they get.

    Raises:
        ConfigurationError, ShapeError: numbers below 1, or known frames that do not fit.
    """
    for name, value in (("count", count), ("length", length)):
        if value < 1:
            raise ConfigurationError(f"{name} of a sample", got=value, expected="at least 1")
    if known is None:
        return like.new_zeros(0, count, output.width)
    fits = known.dim() == 3 and known.shape[1] in (1, count) and known.shape[2] == output.width
    if not fits or len(known) > length:
        raise ShapeError(
            "known frames",
            got=f"shape {tuple(known.shape)}",
            expected=f"at most {length} frames, of 1 or {count} sequences, {output.width} wide",
        )
    if output.binary:
        check_binary(known)
    return known.to(like).expand(-1, count, -1)


def check_recurrent(recurrent: RecurrentLayer[Any, Any], width: int) -> None:
    """Raise ConfigurationError for a layer that cannot predict frames.

    Arguments:
        recurrent: layer of a model of frames.
        width: width of what it is to read.
    """
    if recurrent.bidirectional:
        raise ConfigurationError(
            "a model of frames",
            got="a bidirectional layer",
            expected="a layer that goes forward in time",
            fix="Leave bidirectional=true out.",
        )
    if recurrent.input_size != width:
        raise ConfigurationError(
            "the layer of a model of frames",
            got=f"input_size={recurrent.input_size}",
            expected=f"{width}",
        )
