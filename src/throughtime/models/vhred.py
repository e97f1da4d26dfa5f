"""VHRED: a dialogue model with a latent variable for each utterance."""

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.density import Bound
from throughtime.core.errors import ConfigurationError
from throughtime.core.gaussian import DiagonalGaussian
from throughtime.core.latent import Draws, Latents, Random
from throughtime.models.dialogue import DialogueModel, Replies, check_dialogues, of_dialogues
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.history import Hierarchy
from throughtime.tasks.dialogues import ReplyRows, reply_rows
from throughtime.tasks.kinds import Dialogues


@final
class VHRED(DialogueModel):
    """The latent variable hierarchical recurrent encoder-decoder.

        u_n = last output of utterance(symbols of n)      c_n = context(u_n, c_{n-1})
        prior:      p(z_n | c_{n-1}) = N(mean, deviation) = f(c_{n-1})
        posterior:  q(z_n | c_{n-1}, u_n) = N(mean, deviation) = g([c_{n-1}; u_n])
        log p(u_n | u_1 ... u_{n-1}) >= E_q log p(u_n | [c_{n-1}; z_n]) - KL(q || p)

    f and g are a tanh layer and a linear one; deviations are softplus + 0.0001. Given the
    utterances, the z_n do not depend on each other. So bounds of utterances add up to the bound of
    the dialogue, and importance weights are taken for each utterance, which is tighter than for the
    whole dialogue:

        log p(dialogue) >= sum_n log mean_k p(u_n, z_n^k) / q(z_n^k)

    A decoder may learn to do without z. Against this, a second readout gives the symbols of u_n,
    in any order, from [c_{n-1}; z_n] (Zhao et al. 2017); in training its loss is added:

        auxiliary_n = -bag_of_words sum_t log b(w_t | [c_{n-1}; z_n])    b = softmax of two layers

    Arguments:
        kind: kind of the dialogues.
        history: layers over symbols and over utterances.
        decoder: decoder of a source of one vector, [c; z].
        latent: width of z.
        bag_of_words: weight of the auxiliary loss; 0 for none.

    Raises:
        ConfigurationError: parts that do not fit each other, a width below 1, or a weight below 0.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.tasks.kinds import Pairs, Tokens, Vector
        >>> decoder = EncoderDecoder(Pairs(Vector(10), Tokens(7)), None, GRU(4, 8))
        >>> history = Hierarchy(GRU(4, 8), GRU(8, 8))
        >>> model = VHRED(Dialogues(7, begin=1), history, decoder, latent=2)
        >>> symbols, lengths = torch.zeros(3, 5, 2, dtype=torch.int64), torch.full((3, 2), 5)
        >>> model.bound(symbols, lengths).kl.shape
        torch.Size([2])

    Source:
        Serban et al., "A hierarchical latent variable encoder-decoder model for generating
        dialogues", AAAI 2017; Zhao, Zhao & Eskenazi, "Learning discourse-level diversity for neural
        dialog models using conditional variational autoencoders", ACL 2017. The first utterance is
        not predicted here. Sizes of f, g and b, the readout, and words that are dropped as zeros
        are our choices.
    """

    def __init__(
        self,
        kind: Dialogues,
        history: Hierarchy,
        decoder: EncoderDecoder,
        latent: int,
        bag_of_words: float = 0.0,
    ):
        if latent < 1:
            raise ConfigurationError("latent of model 'vhred'", got=latent, expected="at least 1")
        if not 0 <= bag_of_words < math.inf:
            raise ConfigurationError(
                "bag_of_words of model 'vhred'", got=bag_of_words, expected="a weight of at least 0"
            )
        super().__init__(kind, history, decoder, latent)
        width, own = history.output_size, history.utterance.output_size
        self.prior = _two_layers(width, width, 2 * latent)
        self.posterior = _two_layers(width + own, width, 2 * latent)
        self.bag_of_words = float(bag_of_words)
        self.bag = _two_layers(width + latent, width, kind.alphabet) if bag_of_words else None

    def latents(
        self,
        x: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        *,
        random: Random = None,
    ) -> Latents:
        """Return posterior and prior of the latent variables of all replies, (row, latent).

        Arguments:
            x: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
            random: unused: the laws do not depend on draws.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """
        del random
        return self._encoded(x, lengths)[2]

    def replies(
        self,
        symbols: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        random: Random = None,
    ) -> Replies:
        """Return the decoder's state before each utterance but the first, after a posterior draw.

        Arguments:
            symbols: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
            random: source of the random numbers; each dialogue has its own.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """
        rows, contexts, latents = self._encoded(symbols, lengths)
        (noise,) = self._noise(rows, lengths, 1, random)
        source = torch.cat([contexts, latents.posterior.at(noise)], -1)
        kl = latents.posterior.kl(latents.prior)
        auxiliary = torch.zeros_like(kl)
        if self.training and self.bag is not None:
            targets = rows.targets
            logits = self.bag(source).log_softmax(-1)
            found = logits.gather(1, targets.T.clamp(min=0))
            auxiliary = -self.bag_of_words * (found * (targets.T >= 0)).sum(1)
        return Replies(rows, self.decoder.encode(source), kl, auxiliary)

    def source(
        self, contexts: Float[Tensor, "row width"], random: Random
    ) -> Float[Tensor, "row source"]:
        """Return the contexts, each with a draw from the prior.

        Arguments:
            contexts: vectors of the utterances before.
            random: source of the random numbers; each row has its own.
        """
        noise = Draws(random, len(contexts), contexts).normal(self.latent_size)
        prior = DiagonalGaussian.from_outputs(self.prior(contexts))
        return torch.cat([contexts, prior.at(noise)], -1)

    def bound(
        self,
        x: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        *,
        random: Random = None,
    ) -> Bound:
        """Return the bound of all replies of each dialogue, from one draw of their variables.

        Arguments:
            x: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
            random: source of the random numbers; each dialogue has its own.

        Raises:
            ShapeError: other axes, or a dialogue without an utterance.
        """
        rows, state, kl, _ = self.replies(x, lengths, random)
        found = self.reply_log_prob(rows, state)
        sums = (of_dialogues(each, rows.dialogue, x.shape[2]) for each in (found, kl))
        return Bound(*sums)

    def importance_weighted(
        self,
        x: Int[Tensor, "turn time batch"],
        lengths: Int[Tensor, "turn batch"],
        *,
        samples: int,
        random: Random = None,
    ) -> Float[Tensor, " batch"]:
        """Return sum_n log mean_k p(u_n, z_n^k) / q(z_n^k) of each dialogue, in nats.

        Arguments:
            x: utterances, each with its end.
            lengths: symbols of each, on the CPU; 0 behind the last turn.
            samples: draws of the latent variable of each utterance, at least 1.
            random: source of the random numbers; each dialogue has its own.

        Raises:
            ConfigurationError: no sample.
            ShapeError: other axes, or a dialogue without an utterance.
        """
        if samples < 1:
            raise ConfigurationError("samples", got=samples, expected="at least 1")
        rows, contexts, (posterior, prior) = self._encoded(x, lengths)
        weights: list[Tensor] = []
        for noise in self._noise(rows, lengths, samples, random):
            z = posterior.at(noise)
            state = self.decoder.encode(torch.cat([contexts, z], -1))
            ratio = prior.log_prob(z) - posterior.log_prob(z)
            weights.append(self.reply_log_prob(rows, state) + ratio)
        found = torch.stack(weights).logsumexp(0) - math.log(samples)
        return of_dialogues(found, rows.dialogue, x.shape[2])

    def _encoded(self, symbols: Tensor, lengths: Tensor) -> tuple[ReplyRows, Tensor, Latents]:
        """Return the replies, c_{n-1} of each, and the laws of its latent variable."""
        check_dialogues(symbols, lengths)
        assert isinstance(self.history, Hierarchy)
        vectors = self.history.vectors(symbols, lengths, self.embed)
        rows = reply_rows(symbols, lengths, self.kind.begin)
        before = self.history.over(vectors, lengths)[rows.turn - 1, rows.dialogue]
        own = vectors[rows.turn, rows.dialogue]
        prior = DiagonalGaussian.from_outputs(self.prior(before))
        posterior = DiagonalGaussian.from_outputs(self.posterior(torch.cat([before, own], -1)))
        return rows, before, Latents(posterior, prior)

    def _noise(
        self, rows: ReplyRows, lengths: Tensor, samples: int, random: Random
    ) -> Float[Tensor, "samples row latent"]:
        turns, batch = lengths.shape
        draws = Draws(random, batch, next(self.prior.parameters()))
        noise = draws.normal(turns, samples, self.latent_size)
        return noise[rows.dialogue, rows.turn].transpose(0, 1)


def _two_layers(width: int, hidden: int, output: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, output))
