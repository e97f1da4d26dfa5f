"""The end-to-end memory network: an answer from sentences that are attended to in several hops."""

import math
from typing import Literal, NamedTuple, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Stories
from throughtime.tasks.stories import StoryBatch

Encoding: TypeAlias = Literal["paper", "official", "bag"]
Tying: TypeAlias = Literal["adjacent", "layer-wise"]

_STD = 0.1  # of all weights at the start (Sukhbaatar et al. 2015)


def _places(
    lengths: Int[Tensor, "*rows"],
    words: int,
    width: int,
    encoding: Encoding,
    most: int,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "*rows words"], Float[Tensor, "*rows words"], Float[Tensor, " width"]]:
    """Return a_j, b_j and c_k of the weights l_kj = a_j + b_j c_k; a and b are 0 behind the end.

    Arguments:
        lengths: words of each sentence.
        words: words of the result.
        width: d.
        encoding: name of the equation; see `MemN2N`.
        most: largest number of words of a sentence; "official" alone reads it.
        dtype: dtype of the result.
    """
    j = torch.arange(1, words + 1, device=lengths.device, dtype=dtype)
    k = torch.arange(1, width + 1, device=lengths.device, dtype=dtype)
    count = lengths[..., None]
    if encoding == "paper":
        place = j / count.clamp(min=1)
        found = 1 - place, 2 * place - 1, k / width
    elif encoding == "official":
        along = 4 * (j - (most + 2) / 2) / (most + 1)
        found = torch.ones_like(j), along, (k - (width + 1) / 2) / width
    else:
        found = torch.ones_like(j), torch.zeros_like(j), k
    there = j <= count
    return torch.where(there, found[0], 0.0), torch.where(there, found[1], 0.0), found[2]


class _Memory(NamedTuple):
    """The sentences of a batch in the memory, batch first.

    Attributes:
        times: index of each sentence's time, from 0, the last sentence before the question.
        there: True for a sentence that is in the memory.
    """

    times: Int[Tensor, "batch sentence"]
    there: Bool[Tensor, "batch sentence"]


@final
class MemN2N(nn.Module):
    """End-to-end memory network.

        u_1 = sum_j l_j * B q_j                                   the question
        m_i = sum_j l_j * A x_ij + T_A(i),   c_i = sum_j l_j * C x_ij + T_C(i)
        p_i = softmax_i(u_k . m_i),   o_k = sum_i p_i c_i         hop k
        u_{k+1} = u_k + o_k                 (adjacent)      or   H u_k + o_k  (layer-wise)
        a = softmax(W u_{K+1})

    The weights l of word j = 1 ... J and component k = 1 ... d, by `encoding`:

        paper:     l_kj = (1 - j / J) - (k / d) (1 - 2 j / J)      J: words of the sentence
        official:  l_kj = 1 + 4 (k - (d + 1) / 2) (j - (J + 1) / 2) / (d J)      J: most words + 1
        bag:       l_kj = 1

    The second one is that of the authors' program. It is twice the paper's, centred by half a step,
    with one J for all sentences, and counts the time as one more word.

    Sentences are counted back from the question: i = 1 is the last one before it. With adjacent
    tying, A and T_A of a hop are C and T_C of the hop before, B = A of the first hop, and W = C of
    the last. With layer-wise tying, all hops have the same A, C, T_A and T_C.

    Noise, in training: up to noise * n empty sentences are put between the n sentences of a story,
    so that the times of these have gaps (random numbers of torch's generator). Linear start: in the
    first training steps, p_i = u_k . m_i.

    Arguments:
        kind: kind of the stories.
        hidden: d, width of the memory.
        hops: K, at least 1.
        tying: matrices that hops share.
        encoding: weights l of the words of a sentence.
        memory: most sentences that are read, the last ones before the question.
        noise: most empty sentences, as a part of the sentences; at least 0.
        linear_start: training steps without a softmax over sentences; 0 for none.

    Shapes:
        a `StoryBatch` to logits (batch, alphabet).

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> from throughtime.tasks import TASKS
        >>> task = TASKS.build("questions:kind=one-fact,questions=20")
        >>> model = MemN2N(task.inputs)
        >>> batch = next(task.batches("validation", 4))
        >>> model(batch).shape, model.attention(batch).shape
        (torch.Size([4, 20]), torch.Size([3, 8, 4]))

    Source:
        Sukhbaatar, Szlam, Weston & Fergus, "End-to-end memory networks", NIPS 2015. The authors'
        program: github.com/facebookarchive/MemNN.

    Differs from the paper in:
        a sentence that is not there has no weight, where the official program gives it a score of
        0; linear start ends after a number of steps, where the paper waits for the validation loss;
        in evaluation there is always a softmax.
    """

    def __init__(
        self,
        kind: Stories,
        *,
        hidden: int = 20,
        hops: int = 3,
        tying: Tying = "adjacent",
        encoding: Encoding = "paper",
        memory: int = 50,
        noise: float = 0.1,
        linear_start: int = 0,
    ):
        super().__init__()
        least = {"hidden": (hidden, 1), "hops": (hops, 1), "memory": (memory, 1)}
        for name, (value, minimum) in {**least, "linear_start": (linear_start, 0)}.items():
            if value < minimum:
                raise ConfigurationError(
                    f"{name} of a memory network", got=value, expected=f"at least {minimum}"
                )
        if not 0 <= noise < math.inf:
            raise ConfigurationError(
                "noise of a memory network", got=noise, expected="a number of at least 0"
            )
        self.kind, self.hidden, self.hops, self.tying = kind, hidden, hops, tying
        self.memory, self.noise = memory, noise
        self.encoding: Encoding = encoding
        self.linear_start = linear_start
        tables = hops + 1 if tying == "adjacent" else 2
        self.words = _tables(tables, kind.alphabet, hidden)
        self.times = _tables(tables, memory, hidden)
        if tying == "layer-wise":
            self.question = nn.Parameter(_STD * torch.randn(kind.alphabet, hidden))
            self.answer = nn.Parameter(_STD * torch.randn(kind.alphabet, hidden))
            self.between = nn.Parameter(_STD * torch.randn(hidden, hidden))

    def forward(
        self, batch: StoryBatch, step: int | None = None
    ) -> Float[Tensor, "batch alphabet"]:
        """Return logits of the answers.

        Arguments:
            batch: stories and questions.
            step: training step, for the linear start; None in evaluation.
        """
        u, _ = self._hops(batch, linear=step is not None and step < self.linear_start)
        return u @ (self.words[-1] if self.tying == "adjacent" else self.answer).T

    @torch.no_grad()
    def attention(self, batch: StoryBatch) -> Float[Tensor, "hop sentence batch"]:
        """Return the weights of the sentences in each hop; 0 where there is none.

        Arguments:
            batch: stories and questions.
        """
        _, weights = self._hops(batch, linear=False)
        return torch.stack(weights).transpose(1, 2)

    def _hops(
        self, batch: StoryBatch, *, linear: bool
    ) -> tuple[Float[Tensor, "batch hidden"], list[Float[Tensor, "batch sentence"]]]:
        adjacent = self.tying == "adjacent"
        first = self.words[0] if adjacent else self.question
        u = self._encoded(batch.question.T, batch.question_lengths, first)
        read, tables = self._memory(batch), len(self.words)
        # all tables at once: one large operation in place of several small ones
        sentences = batch.sentences.permute(2, 0, 1)
        told = self._encoded(sentences, batch.lengths.T, torch.cat([*self.words], 1))
        told = told + F.embedding(read.times, torch.cat([*self.times], 1))
        memories = told.unflatten(-1, (tables, self.hidden)).unbind(-2)
        weights: list[Tensor] = []
        for hop in range(self.hops):
            m, c = memories[hop : hop + 2] if adjacent else memories
            scores = (m @ u[..., None])[..., 0]
            p = torch.where(read.there, scores, 0.0) if linear else _softmax(scores, read.there)
            o = (p[:, None] @ c)[:, 0]
            u = (u if adjacent else u @ self.between.T) + o
            weights.append(p)
        return u, weights

    def _encoded(
        self, words: Int[Tensor, "*rows word"], lengths: Int[Tensor, "*rows"], table: Tensor
    ) -> Float[Tensor, "*rows columns"]:
        """Return the weighted sums of the words' rows; the table may be of several side by side."""
        kind, rows = self.kind, words.flatten(0, -2)
        alone, along, components = _places(
            lengths, words.shape[-1], self.hidden, self.encoding, kind.words, table.dtype
        )

        def summed(weights: Tensor) -> Tensor:
            weights = weights.flatten(0, -2)
            return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)

        found = summed(alone)
        if self.encoding != "bag":
            found = found + components.repeat(table.shape[1] // self.hidden) * summed(along)
        return found.unflatten(0, words.shape[:-1])

    def _memory(self, batch: StoryBatch) -> _Memory:
        lengths = batch.lengths.T
        count = (lengths > 0).sum(1, keepdim=True)
        age = count - 1 - torch.arange(lengths.shape[1], device=lengths.device)
        there = (age >= 0) & (age < self.memory)
        times = age.clamp(0, self.memory - 1)
        if self.training and self.noise:
            times = self._spread(count.clamp(max=self.memory)).gather(1, times)
        return _Memory(times, there)

    def _spread(self, count: Int[Tensor, "batch 1"]) -> Int[Tensor, "batch memory"]:
        """Return rising times for `count` sentences, drawn among these and the empty ones."""
        most = (self.noise * count).ceil().long()  # of the empty ones
        empty = (torch.rand(count.shape, device=count.device) * (most + 1)).long()
        width = self.memory + int(most.max())
        place = torch.arange(width, device=count.device)
        keys = torch.rand(len(count), width, device=count.device)
        keys = torch.where(place < count + empty, keys, 2.0)
        taken = keys.argsort(1).argsort(1) < count
        times = torch.where(taken, place, width).sort(1).values
        return times[:, : self.memory].clamp(max=self.memory - 1)


def _tables(count: int, rows: int, width: int) -> nn.ParameterList:
    return nn.ParameterList(_STD * torch.randn(rows, width) for _ in range(count))


def _softmax(
    scores: Float[Tensor, "batch sentence"], there: Bool[Tensor, "batch sentence"]
) -> Float[Tensor, "batch sentence"]:
    """Return the softmax over the sentences that are there."""
    return torch.where(there, scores, -math.inf).softmax(-1)
