"""The memory network of 2014: sentences are chosen one after the other, and taught as such."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Stories
from throughtime.tasks.stories import StoryBatch

_STD = 0.1  # of all weights at the start: our choice


@final
class MemoryNetwork(nn.Module):
    """Memory network with strong supervision: the supporting sentences are given in training.

        s(x, y) = Phi_x(x)^T U^T U Phi_y(y)
        o_k = argmax_i s_O([q, m_o1, ..., m_o(k-1)], m_i),   k = 1 ... K
        r = argmax_w s_R([q, m_o1, ..., m_oK], w)

    Phi are bags of words. A word has three columns of U_O: in the question, in a sentence that was
    chosen, and in a sentence that may be chosen. Sentences are compared two by two, with three
    features of the time at which they were written:

        s_t(x, y, y') = Phi_x(x)^T U^T U (Phi_y(y) - Phi_y(y') + Phi_t(x, y, y'))
        Phi_t = [x older than y, x older than y', y older than y']
        o = m_1; for each further i: o = i if s_t(x, o, i) < 0

    Training minimises the margin ranking loss, with the true sentences o_k and the answer r:

        sum_k sum_{i != o_k} max(0, g - s_t(x_k, o_k, i)) + max(0, g + s_t(x_k, i, o_k))
        + sum_{w != r} max(0, g - s_R(x, r) + s_R(x, w))

    One more sentence, empty and without a time, follows the last supporting one, where an answer
    has fewer than K (Weston et al. 2015).

    Arguments:
        kind: kind of the stories.
        hidden: width of U Phi.
        hops: K; 0 for the most supporting sentences of the training stories.
        margin: g, above 0.

    Shapes:
        a `StoryBatch` to scores s_R (batch, alphabet); in training, `training_losses`.

    Raises:
        ConfigurationError: an option out of range, or stories without supporting sentences.

    Example:
        >>> from throughtime.tasks import TASKS
        >>> task = TASKS.build("questions:kind=two-facts,questions=20")
        >>> model = MemoryNetwork(task.inputs)
        >>> batch = next(task.batches("validation", 4))
        >>> model.training_losses(batch).shape, model.attention(batch).sum(1).tolist()[0]
        (torch.Size([4]), [1.0, 1.0, 1.0, 1.0])

    Source:
        Weston, Chopra & Bordes, "Memory networks", ICLR 2015; the empty sentence is that of Weston
        et al., arXiv:1502.05698.

    Differs from the paper in:
        "x" of the time features is the sentence that was chosen last, and the question is younger
        than all; the losses of all sentences and words are added, where the paper draws one of
        each. Left out: words never seen, exact matches, segmentation of a stream of words, hashing.
    """

    def __init__(self, kind: Stories, *, hidden: int = 50, hops: int = 0, margin: float = 0.1):
        super().__init__()
        if not kind.facts:
            raise ConfigurationError(
                "model 'memory-network'",
                got="stories without supporting sentences",
                expected="the numbers of lines that each answer follows from",
                fix="Choose memn2n, which learns from answers alone.",
            )
        for name, value, least in (("hidden", hidden, 1), ("hops", hops, 0)):
            if value < least:
                raise ConfigurationError(
                    f"{name} of model 'memory-network'", got=value, expected=f"at least {least}"
                )
        if not 0 < margin < float("inf"):
            raise ConfigurationError(
                "margin of model 'memory-network'", got=margin, expected="a number above 0"
            )
        self.kind, self.hops, self.margin = kind, hops or kind.facts, margin
        columns = 3 * kind.alphabet
        self.output = nn.Parameter(_STD * torch.randn(columns, hidden))  # U_O, transposed
        self.times = nn.Parameter(_STD * torch.randn(3, hidden))  # its columns of Phi_t
        self.response = nn.Parameter(_STD * torch.randn(columns, hidden))  # U_R

    def forward(
        self, batch: StoryBatch, step: int | None = None
    ) -> Float[Tensor, "batch alphabet"]:
        """Return the scores s_R of all words, after the sentences that the network chooses.

        Arguments:
            batch: stories and questions.
            step: unused.
        """
        del step
        return self._answers(batch, self._chosen(batch))

    def training_losses(self, batch: StoryBatch) -> Float[Tensor, " batch"]:
        """Return the margin ranking loss of each question.

        Arguments:
            batch: stories and questions, with the supporting sentences.
        """
        true, rows = self._true(batch), torch.arange(batch.size, device=batch.targets.device)
        there, total = self._there(batch), 0.0
        for hop in range(self.hops):
            scores = self._compared(batch, true[:hop])
            o = true[hop]
            wrong = there.index_put((rows, o), torch.tensor(False, device=o.device))
            losses = F.relu(self.margin - scores[rows, o]) + F.relu(
                self.margin + scores[rows, :, o]
            )
            total = total + torch.where(wrong, losses, 0.0).sum(1)
        answers = self._answers(batch, true)
        right = answers.gather(1, batch.targets[:, None])
        losses = F.relu(self.margin - right + answers)
        return total + losses.scatter(1, batch.targets[:, None], 0.0).sum(1)

    @torch.no_grad()
    def attention(self, batch: StoryBatch) -> Float[Tensor, "hop sentence batch"]:
        """Return 1 for the sentence that is chosen in each hop; 0 for all others.

        Arguments:
            batch: stories and questions.
        """
        chosen = F.one_hot(self._chosen(batch), len(batch.lengths) + 1)
        return chosen[..., :-1].transpose(1, 2).to(self.output)

    def _true(self, batch: StoryBatch) -> Int[Tensor, "hop batch"]:
        """Return the supporting sentences, then the empty one, whose number is the last."""
        empty = len(batch.lengths)
        found = torch.where(batch.supports < 0, empty, batch.supports)[: self.hops]
        missing = self.hops - len(found)
        return torch.cat([found, found.new_full((missing, batch.size), empty)])

    @torch.no_grad()
    def _chosen(self, batch: StoryBatch) -> Int[Tensor, "hop batch"]:
        there, rows = self._there(batch), torch.arange(batch.size, device=batch.targets.device)
        chosen = batch.supports.new_zeros((0, batch.size))
        for _ in range(self.hops):
            scores = self._compared(batch, chosen)
            best = torch.zeros_like(rows)
            for i in range(1, there.shape[1]):
                better = (scores[rows, best, i] < 0) & there[:, i]
                best = torch.where(better, i, best)
            chosen = torch.cat([chosen, best[None]])
        return chosen

    def _there(self, batch: StoryBatch) -> Bool[Tensor, "batch candidate"]:
        """Return True for the sentences of each story, and for the empty one."""
        return F.pad(batch.lengths.T > 0, (0, 1), value=True)

    def _compared(
        self, batch: StoryBatch, chosen: Int[Tensor, "hop batch"]
    ) -> Float[Tensor, "batch candidate candidate"]:
        """Return s_t(x, y, y') of all pairs of candidates."""
        x = self._read(self.output, batch, chosen)
        candidates = self._sentences(self.output, 2 * self.kind.alphabet, batch)
        own = (candidates @ x[..., None])[..., 0]
        before_one, before_other, older = (x @ self.times.T).unbind(1)
        age = torch.arange(len(batch.lengths), device=own.device)  # sentences are in order
        later = torch.zeros_like(self._there(batch))
        if len(chosen):
            later[:, :-1] = chosen[-1][:, None] < age
        one = own + before_one[:, None] * later
        other = own - before_other[:, None] * later
        pairs = F.pad(age[:, None] < age, (0, 1, 0, 1))
        return one[:, :, None] - other[:, None] + older[:, None, None] * pairs

    def _answers(
        self, batch: StoryBatch, chosen: Int[Tensor, "hop batch"]
    ) -> Float[Tensor, "batch alphabet"]:
        x = self._read(self.response, batch, chosen)
        return x @ self.response[2 * self.kind.alphabet :].T

    def _read(
        self, table: Tensor, batch: StoryBatch, chosen: Int[Tensor, "hop batch"]
    ) -> Float[Tensor, "batch hidden"]:
        """Return U Phi_x of the question and the chosen sentences."""
        steps = torch.arange(len(batch.question), device=table.device)
        words = F.embedding(batch.question.T, table)
        x = torch.where((steps < batch.question_lengths[:, None])[..., None], words, 0.0).sum(1)
        if len(chosen) == 0:
            return x
        sentences = self._sentences(table, self.kind.alphabet, batch)
        rows = torch.arange(batch.size, device=table.device)
        return x + sentences[rows, chosen].sum(0)

    def _sentences(
        self, table: Tensor, offset: int, batch: StoryBatch
    ) -> Float[Tensor, "batch candidate hidden"]:
        """Return the sums of the columns of each sentence's words; then that of the empty one.

        The empty sentence has the word that ends a sentence.
        """
        steps = torch.arange(batch.sentences.shape[1], device=table.device)
        there = steps < batch.lengths.T[..., None]
        words = F.embedding(batch.sentences.permute(2, 0, 1) + offset, table)
        sums = torch.where(there[..., None], words, 0.0).sum(2)
        empty = table[offset + self.kind.end].expand(batch.size, 1, -1)
        return torch.cat([sums, empty], 1)
