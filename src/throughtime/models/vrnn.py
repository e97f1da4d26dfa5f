"""A recurrent network with a latent variable at each step (VRNN)."""

from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, advance, fit_streams, prepare
from throughtime.core.density import Bound
from throughtime.core.errors import ConfigurationError
from throughtime.core.gaussian import DiagonalGaussian
from throughtime.core.latent import Draws, Latents, Random
from throughtime.core.state import State
from throughtime.layers import RecurrentLayer
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
        recurrent.as_cell()  # refuses dropout between levels
        hidden = recurrent.output_size
        self.width, self.latent, self.features = output.width, latent, features
        self.recurrent, self.output = recurrent, output
        self.read_x = nn.Sequential(nn.Linear(output.width, features), nn.ReLU())
        self.read_z = nn.Sequential(nn.Linear(latent, features), nn.ReLU())
        self.prior = nn.Sequential(
            nn.Linear(hidden, features), nn.ReLU(), nn.Linear(features, 2 * latent)
        )
        # the posterior's first layer reads [g(x_t), h_{t-1}]: the first part runs for all t at once
        self.posterior_x = nn.Linear(features, features)
        self.posterior_h = nn.Linear(hidden, features, bias=False)
        self.posterior = nn.Linear(features, 2 * latent)
        self.between_z = nn.Linear(features, features)
        self.between_h = nn.Linear(hidden, features, bias=False)

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
        like = self.posterior_h.weight
        known = known_frames(known, count, length, self.output, like)
        draws, steps = Draws(random, count, like), _Steps(self, length, count)
        found: list[Tensor] = []
        for t in range(length):
            h = steps.h
            if t < len(known):
                x = known[t]
                raw = self.posterior(self._joined(self.posterior_x(self.read_x(x)), h))
            else:
                x, raw = None, self.prior(h)
            law = DiagonalGaussian.from_outputs(raw)
            z = self.read_z(law.at(draws.normal(self.latent)))
            if x is None:
                x = self.output.sample(self._output_features(z, h), draws)
            steps.advance(torch.cat([self.read_x(x), z], -1))
            found.append(x)
        return torch.stack(found)

    def _run(self, x: Tensor, lengths: Tensor | None, samples: int, random: Random) -> _Run:
        frames = checked_frames(x, lengths, self.output)
        time, batch = x.shape[:2]
        normal = Draws(random, batch, x).normal(time, samples, self.latent)
        noise = normal.permute(1, 2, 0, 3).reshape(time, samples * batch, self.latent)
        read = self.read_x(x).repeat(1, samples, 1)
        of_x, steps = self.posterior_x(read), _Steps(self, time, samples * batch)
        parts: list[tuple[Tensor, ...]] = []  # raw parameters, z, k(z) and h_{t-1} of each step
        for read_t, of_x_t, noise_t in zip(read, of_x, noise, strict=True):
            h = steps.h
            raw = self.posterior(self._joined(of_x_t, h))
            z = DiagonalGaussian.from_outputs(raw).at(noise_t)
            read_z = self.read_z(z)
            steps.advance(torch.cat([read_t, read_z], -1))
            parts.append((raw, z, read_z, h))
        raw, z, read_z, h = (torch.stack(each) for each in zip(*parts, strict=True))
        latents = Latents(
            DiagonalGaussian.from_outputs(raw), DiagonalGaussian.from_outputs(self.prior(h))
        )
        due = torch.arange(time)[:, None] < frames.lengths.repeat(samples)
        due = due.to(x.device)
        features = self._output_features(read_z[due], h[due])
        found = self.output.log_prob(features, x.repeat(1, samples, 1)[due])
        log_prob = found.new_zeros(due.shape).masked_scatter(due, found)
        return _Run(frames, latents, z, log_prob, due.to(x.dtype))

    def _joined(self, of_x: Tensor, h: Tensor) -> Tensor:
        return F.relu(of_x + self.posterior_h(h))

    def _output_features(self, z: Tensor, h: Tensor) -> Tensor:
        return F.relu(self.between_z(z) + self.between_h(h))


class _Steps:
    """The cell of a VRNN, one step at a time, with gradients."""

    def __init__(self, model: VRNN, time: int, rows: int):
        like = model.posterior_h.weight
        self.cell: Cell = prepare(model.recurrent.as_cell())
        where = {"dtype": like.dtype, "device": like.device}
        self.state: State = self.cell.initial_state(rows, **where)
        self.h = like.new_zeros(rows, self.cell.output_size)
        self.streams: list[tuple[Tensor, ...]] = [()] * time
        if self.cell.streams:
            drawn = self.cell.draw_streams(
                torch.arange(time)[:, None].expand(time, rows),
                training=model.training,
                dtype=like.dtype,
                generator=torch.default_generator,
            )
            fitted = fit_streams(self.cell, drawn, time, rows)
            self.streams = [*zip(*(s.to(like.device).unbind(0) for s in fitted), strict=True)]
        self.t = 0

    def advance(self, x: Tensor) -> None:
        """Run one step."""
        projected = self.cell.project(x)
        self.h, self.state = advance(self.cell, projected, self.state, self.streams[self.t])
        self.t += 1
