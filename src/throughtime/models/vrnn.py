"""A recurrent network with a latent variable at each step (VRNN)."""

from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, Streams, advance, fit_streams, prepare, set_sizes
from throughtime.core.density import Bound
from throughtime.core.errors import ConfigurationError
from throughtime.core.gaussian import DiagonalGaussian, deviation_of
from throughtime.core.latent import Draws, Latents, Random
from throughtime.core.state import State
from throughtime.layers import Recurrent, RecurrentLayer
from throughtime.models.frame_outputs import FrameOutput
from throughtime.models.frame_rnn import Frames, check_recurrent, checked_frames, known_frames


class _Run(NamedTuple):
    """The latent variables of all steps, of (samples * batch) rows.

    Attributes:
        frames: lengths and places of the frames of one sample.
        latents: posterior and prior, (time, rows, latent).
        z: draws of the posterior, (time, rows, latent).
        log_prob: ln p(x_t | z_t, h_{t-1}), (time, rows); 0 behind the end of a sequence.
        due: 1 for frames, 0 behind the end, (time, rows).
    """

    frames: Frames
    latents: Latents
    z: Tensor
    log_prob: Tensor
    due: Tensor


@final
class VRNNCell(Cell):
    """One step of a VRNN: posterior, draw, and the step of another cell, whose state it has.

        q = N(m', s'^2), from relu(A g(x_t) + B h_{t-1})    z_t = m' + s' noise_t
        h_t = cell([g(x_t), k(z_t)], h_{t-1})
        output  [m', raw s', z_t, k(z_t), h_{t-1}]

    As a cell it runs on every engine, and every instrument finds it.

    Arguments:
        cell: cell that reads 2 * features; the first field of its state is its output.
        latent: width of z_t.
        features: width of g(x_t) and k(z_t).

    Example:
        >>> from throughtime.cells import GRUCell
        >>> cell = VRNNCell(GRUCell(8, 5), latent=2, features=4)
        >>> state = cell.initial_state(3, dtype=torch.float32, device=torch.device("cpu"))
        >>> output, state = cell.step(cell.project(torch.ones(3, 4 + 2)), state)
        >>> [part.shape[1] for part in cell.parts(output)]
        [4, 2, 4, 5]
    """

    def __init__(self, cell: Cell, *, latent: int, features: int):
        super().__init__()
        width = cell.output_size
        self.latent, self.features = latent, features
        self.cell = cell
        self.posterior_x = nn.Linear(features, features)
        self.posterior_h = nn.Linear(width, features, bias=False)
        self.posterior = nn.Linear(features, 2 * latent)
        self.read_z = nn.Linear(latent, features)
        self._widths = [2 * latent, latent, features, width]
        set_sizes(self, features + latent, cell.hidden_size, sum(self._widths))
        self.streams, self.lasting = cell.streams, cell.lasting

    def parts(self, output: Float[Tensor, "*steps output"]) -> tuple[Tensor, ...]:
        """Return the parts of an output: [m', raw s'], z_t, k(z_t) and h_{t-1}.

        Shapes: (..., 2 latent), (..., latent), (..., features) and (..., width of h).

        Arguments:
            output: output of steps.
        """
        return output.split(self._widths, -1)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cell's own initial state."""
        return self.cell.initial_state(batch_size, dtype=dtype, device=device)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return [g(x_t), A g(x_t), noise_t]; the input is [g(x_t), noise_t]."""
        read, noise = x.split([self.features, self.latent], -1)
        return torch.cat([read, self.posterior_x(read), noise], -1)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the cell's streams."""
        return self.cell.draw_streams(steps, training=training, dtype=dtype, generator=generator)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return [m', raw s', z_t, k(z_t), h_{t-1}] and the cell's new state."""
        read, of_x, noise = projected.split([self.features, self.features, self.latent], -1)
        raw = self.posterior(F.relu(of_x + self.posterior_h(state.h)))
        mean, deviation = raw.split([self.latent, self.latent], -1)
        z = mean + deviation_of(deviation) * noise
        k = F.relu(self.read_z(z))
        inputs = self.cell.project(torch.cat([read, k], -1))
        _, new = advance(self.cell, inputs, state, streams)
        return torch.cat([raw, z, k, state.h], -1), new


@final
class VRNN(nn.Module):
    """A recurrent network with a Gaussian latent variable at each step.

        prior      z_t ~ N(m, s^2) given h_{t-1}
        output     x_t ~ p(x_t | z_t, h_{t-1})
        state      h_t = cell([g(x_t), k(z_t)], h_{t-1})
        posterior  z_t ~ N(m', s'^2) given g(x_t), h_{t-1}
        bound      ln p(x) >= E sum_t ln p(x_t | z_t, h_{t-1}) - KL(posterior || prior)

    g, k, and the nets of prior, posterior and output each have one layer of rectified units.
    h_0 = 0. Scales are softplus(.) + 1e-4.

    Arguments:
        recurrent: layer of any cell, which reads 2 * features; its cell runs step by step.
        output: distribution of a frame, given `features`.
        latent: width of z_t.
        features: width of g, k and the layers of rectified units.

    Attributes:
        width: width of a frame.
        latent: width of z_t.

    Raises:
        ConfigurationError: a bidirectional layer, dropout between its levels, or widths that do not
            meet.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.models.frame_outputs import GaussianOutput
        >>> model = VRNN(GRU(16, 8), GaussianOutput(8, 3), latent=2, features=8)
        >>> bound = model.bound(torch.ones(5, 4, 3))
        >>> bound.kl.shape, bool((bound.kl > 0).all())
        (torch.Size([4]), True)

    Differs from the source in:
        one layer of rectified units in each net, where the source has up to four (our choice); any
        cell.

    Source:
        Chung et al. 2015, A recurrent latent variable model for sequential data.
    """

    def __init__(
        self,
        recurrent: RecurrentLayer[Any, Any],
        output: FrameOutput,
        *,
        latent: int,
        features: int,
    ):
        super().__init__()
        for name, value in (("latent", latent), ("features", features)):
            if value < 1:
                raise ConfigurationError(f"{name} of a VRNN", got=value, expected="at least 1")
        check_recurrent(recurrent, 2 * features)
        own = recurrent.as_cell()  # refuses dropout between levels
        hidden = own.output_size
        self.width, self.latent, self.features = output.width, latent, features
        self.read_x = nn.Sequential(nn.Linear(output.width, features), nn.ReLU())
        self.recurrent = Recurrent(
            VRNNCell(own, latent=latent, features=features), engine=recurrent.engine
        )
        self.prior = nn.Sequential(
            nn.Linear(hidden, features), nn.ReLU(), nn.Linear(features, 2 * latent)
        )
        self.between_z = nn.Linear(features, features)
        self.between_h = nn.Linear(hidden, features, bias=False)
        self.output = output

    def bound(
        self,
        x: Float[Tensor, "time batch width"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        random: Random = None,
    ) -> Bound:
        """Return the bound of each sequence, from one draw of its latent variables.

        Arguments:
            x: frames.
            lengths: frames of each sequence; None for all.
            random: source of the random numbers; each sequence has its own.

        Raises:
            ShapeError, DataError, LengthsError, ConfigurationError: what does not fit.
        """
        run = self._run(x, lengths, 1, random)
        kl = run.latents.posterior.kl(run.latents.prior) * run.due
        return Bound(run.log_prob.sum(0), kl.sum(0))

    def importance_weighted(
        self,
        x: Float[Tensor, "time batch width"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        samples: int,
        random: Random = None,
    ) -> Float[Tensor, " batch"]:
        """Return ln mean_k p(x, z_k) / q(z_k | x) of each sequence.

        The mean is over the draws of one sequence, never over the batch. Its expectation is at most
        ln p(x), and rises with the number of draws.

        Arguments:
            x: frames.
            lengths: frames of each sequence; None for all.
            samples: number of draws of the latent variables of each sequence.
            random: source of the random numbers; each sequence has its own.

        Raises:
            ShapeError, DataError, LengthsError, ConfigurationError: what does not fit.
        """
        if samples < 1:
            raise ConfigurationError("samples", got=samples, expected="at least 1")
        run = self._run(x, lengths, samples, random)
        posterior, prior = run.latents
        ratio = posterior.log_prob(run.z) - prior.log_prob(run.z)
        each = (run.log_prob - ratio * run.due).sum(0)
        weights = each.view(samples, x.shape[1])
        return weights.logsumexp(0) - torch.tensor(float(samples)).log().to(weights)

    def latents(
        self,
        x: Float[Tensor, "time batch width"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        random: Random = None,
    ) -> Latents:
        """Return posterior and prior of the latent variables of all frames, (frames, latent).

        Arguments:
            x: frames.
            lengths: frames of each sequence; None for all.
            random: source of the random numbers of the draws that the later steps depend on.

        Raises:
            ShapeError, DataError, LengthsError, ConfigurationError: what does not fit.
        """
        run = self._run(x, lengths, 1, random)
        pack = run.frames.packing.pack
        return Latents(*(DiagonalGaussian(pack(m), pack(s)) for m, s in run.latents))

    @torch.no_grad()
    def sample(
        self,
        count: int,
        length: int,
        *,
        known: Float[Tensor, "known _ width"] | None = None,
        random: Random = None,
    ) -> Float[Tensor, "length count width"]:
        """Return drawn sequences: z_t from the prior, x_t from the output, and x_t is read.

        Where frames are known, z_t is drawn from the posterior.

        Arguments:
            count: number of sequences.
            length: number of frames, known ones included.
            known: first frames of one sequence or of each; None for none.
            random: source of the random numbers; each sequence has its own.

        Raises:
            ConfigurationError, ShapeError: numbers below 1, or known frames that do not fit.
        """
        like = self.between_h.weight
        known = known_frames(known, count, length, self.output, like)
        cell = self._cell()
        where: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        state = cell.initial_state(count, **where)
        draws, streams = Draws(random, count, like), self._streams(cell, length, count)
        found: list[Tensor] = []
        for t in range(length):
            noise = draws.normal(self.latent)
            if t < len(known):
                x = known[t]
                read = torch.cat([self.read_x(x), noise], -1)
                _, state = advance(cell, cell.project(read), state, streams[t])
            else:
                z = DiagonalGaussian.from_outputs(self.prior(state.h)).at(noise)
                k = F.relu(cell.read_z(z))
                x = self.output.sample(self._output_features(k, state.h), draws)
                read = cell.cell.project(torch.cat([self.read_x(x), k], -1))
                _, state = advance(cell.cell, read, state, streams[t])
            found.append(x)
        return torch.stack(found)

    def _run(self, x: Tensor, lengths: Tensor | None, samples: int, random: Random) -> _Run:
        frames = checked_frames(x, lengths, self.output)
        time, batch = x.shape[:2]
        normal = Draws(random, batch, x).normal(time, samples, self.latent)
        noise = normal.permute(1, 2, 0, 3).reshape(time, samples * batch, self.latent)
        read = torch.cat([self.read_x(x).repeat(1, samples, 1), noise], -1)
        output, _ = self.recurrent(read, lengths=frames.lengths.repeat(samples))
        raw, z, k, h = self._cell().parts(output)
        latents = Latents(
            DiagonalGaussian.from_outputs(raw), DiagonalGaussian.from_outputs(self.prior(h))
        )
        due = torch.arange(time)[:, None] < frames.lengths.repeat(samples)
        due = due.to(x.device)
        features = self._output_features(k[due], h[due])
        found = self.output.log_prob(features, x.repeat(1, samples, 1)[due])
        log_prob = found.new_zeros(due.shape).masked_scatter(due, found)
        return _Run(frames, latents, z, log_prob, due.to(x.dtype))

    def _output_features(self, k: Tensor, h: Tensor) -> Tensor:
        return F.relu(self.between_z(k) + self.between_h(h))

    def _cell(self) -> VRNNCell:
        cell = prepare(self.recurrent.as_cell())
        assert isinstance(cell, VRNNCell)
        return cell

    def _streams(self, cell: Cell, time: int, rows: int) -> list[Streams]:
        if not cell.streams:
            return [()] * time
        like = self.between_h.weight
        drawn = cell.draw_streams(
            torch.arange(time)[:, None].expand(time, rows),
            training=self.training,
            dtype=like.dtype,
            generator=torch.default_generator,
        )
        fitted = fit_streams(cell, drawn, time, rows)
        return [*zip(*(s.to(like.device).unbind(0) for s in fitted), strict=True)]
