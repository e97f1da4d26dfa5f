"""The suite that every model of stories inherits."""

import abc
import copy
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.tasks.stories import StoryBatch
from throughtime.testing.compare import close


class StoryConformance(abc.ABC):
    """The rules of models of stories. Inherit it, supply `make_model`, and run pytest.

    The model is run in float64 on the CPU, in evaluation mode, on words below `alphabet`.

    Attributes:
        alphabet: number of words of the model's stories.
        tolerance: largest relative difference between sums in another order.

    Example:
        class TestMyModel(StoryConformance):
            def make_model(self):
                return MyModel(alphabet=12)
    """

    alphabet = 12
    tolerance = 1e-12

    @abc.abstractmethod
    def make_model(self) -> nn.Module:
        """A small model of stories, with new weights at each call."""

    def test_an_answer_is_a_word(self) -> None:
        """There is one row of finite logits for each question, also for one of each."""
        model = self._model()
        for batch in (self._stories(), self._story(1, 1, 1), self._story(90, 3, 2)):
            logits = model(batch)
            assert logits.shape == (batch.size, self.alphabet)
            assert logits.dtype is torch.float64
            assert bool(torch.isfinite(logits).all())
            assert torch.equal(logits, model(batch)), "two calls differ"

    def test_questions_in_a_batch_give_what_each_gives_alone(self) -> None:
        """Logits and gradients, whatever the lengths of the neighbours."""
        model, batch = self._model(), self._stories()
        together = model(batch)
        together.square().sum().backward()
        gradients = _gradients(model)
        for row in range(batch.size):
            alone = model(_row(batch, row))
            close([together[row]], [alone[0]], self.tolerance)
            alone.square().sum().backward()
        close(gradients, _gradients(model), self.tolerance)

    def test_padding_is_never_read(self) -> None:
        """Words beyond the length of a sentence or a question change nothing."""
        model, batch = self._model(), self._stories()
        words = torch.arange(batch.sentences.shape[1])[:, None]
        asked = torch.arange(len(batch.question))[:, None]
        filled = batch._replace(
            sentences=torch.where(words < batch.lengths[:, None], batch.sentences, 3),
            question=torch.where(asked < batch.question_lengths, batch.question, 3),
        )
        assert not torch.equal(filled.sentences, batch.sentences)
        assert torch.equal(model(filled), model(batch)), "padding is read"

    def test_the_question_is_read(self) -> None:
        """Each word of it changes an answer of some story."""
        self._each_word_counts(lambda batch: batch.question, len(self._stories().question))

    def test_the_last_sentence_is_read(self) -> None:
        """Each word of it changes an answer of some story."""
        self._each_word_counts(lambda batch: batch.sentences[-1], 4)

    def test_weights_of_sentences_sum_to_one(self) -> None:
        """A model with `attention` has them in each hop, and none behind the last sentence."""
        model = self._model()
        if not hasattr(model, "attention"):
            return
        batch = self._stories()
        weights = model.attention(batch)
        assert weights.shape[1:] == batch.lengths.shape
        assert not weights.requires_grad
        assert bool((weights >= 0).all())
        assert not bool(weights[:, batch.lengths == 0].any()), "a weight where no sentence is"
        sums = weights.sum(1)
        whole = (sums - 1).abs() < 1e-12
        assert bool((whole | (sums == 0)).all()), "weights sum to neither 1 nor 0"
        assert bool(whole.any())

    def test_a_copy_gives_the_same(self) -> None:
        """Its weights are all in the state_dict."""
        model, other, batch = self._model(), self._model(), self._stories()
        assert not torch.equal(model(batch), other(batch))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model(batch), other(batch))
        assert torch.equal(copy.deepcopy(model)(batch), model(batch))

    def _each_word_counts(self, words: Any, count: int) -> None:
        changed = torch.zeros(count, dtype=torch.bool)
        for seed in range(8):
            model, batch = self._model(), self._story(6, 4, len(self._stories().question), seed)
            before = model(batch)
            for k in range(count):
                other = StoryBatch(*(field.clone() for field in batch))
                place = words(other)
                place[k] = (place[k] + 1) % self.alphabet
                changed[k] |= not torch.equal(model(other), before)
        assert bool(changed.all()), (
            f"words that are not read: {(~changed).nonzero()[:, 0].tolist()}"
        )

    def _model(self) -> Any:
        return self.make_model().double().eval()

    def _story(self, sentences: int, words: int, asked: int, seed: int = 0) -> StoryBatch:
        """Return a batch of one question."""
        random = torch.Generator().manual_seed(seed)
        return StoryBatch(
            torch.randint(self.alphabet, (sentences, words, 1), generator=random),
            torch.full((sentences, 1), words),
            torch.randint(self.alphabet, (asked, 1), generator=random),
            torch.tensor([asked]),
            torch.tensor([2]),
            torch.tensor([[0]]),
        )

    def _stories(self) -> StoryBatch:
        """Return three questions about 5, 1 and 3 sentences of 1 to 4 words."""
        random = torch.Generator().manual_seed(1)
        lengths = torch.tensor([[4, 2, 1], [3, 0, 4], [1, 0, 2], [4, 0, 0], [2, 0, 0]])
        question_lengths = torch.tensor([3, 1, 2])
        beyond = torch.arange(4)[:, None] >= lengths[:, None]
        sentences = torch.randint(self.alphabet, (5, 4, 3), generator=random)
        question = torch.randint(self.alphabet, (3, 3), generator=random)
        return StoryBatch(
            torch.where(beyond, 0, sentences),
            lengths,
            torch.where(torch.arange(3)[:, None] < question_lengths, question, 0),
            question_lengths,
            torch.tensor([2, 5, 11]),
            torch.tensor([[1, 0, 2], [4, -1, -1]]),
        )


def _row(batch: StoryBatch, row: int) -> StoryBatch:
    """Return one question of a batch, cut to its own sizes."""
    count = int((batch.lengths[:, row] > 0).sum())
    words = int(batch.lengths[:, row].max())
    asked = int(batch.question_lengths[row])
    part = slice(row, row + 1)
    return StoryBatch(
        batch.sentences[:count, :words, part],
        batch.lengths[:count, part],
        batch.question[:asked, part],
        batch.question_lengths[part],
        batch.targets[part],
        batch.supports[:, part],
    )


def _gradients(model: nn.Module) -> list[Tensor]:
    """Return the gradients of all parameters, and clear them."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad()
    return found
