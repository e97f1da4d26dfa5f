"""Stories and questions about them: batches, and the score of a model's answers."""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from throughtime.core.errors import DataError
from throughtime.core.scoring import Mean, Metric, Score, merged
from throughtime.tasks.kinds import Classes, Stories
from throughtime.tasks.seeding import shuffled
from throughtime.tasks.task import Split, Task, check_at_least
from throughtime.tasks.vocabulary import WordVocabulary


class Line(NamedTuple):
    """One line of a story: a sentence, or a question with its answer.

    Attributes:
        text: words of the sentence or the question.
        answer: answer of one word; "" for a sentence.
        supports: numbers of the lines that the answer follows from, counted from 1, in the order in
            which they are needed.
    """

    text: str
    answer: str = ""
    supports: tuple[int, ...] = ()


Story: TypeAlias = Sequence[Line]
"""The lines of a story. A question is about the sentences before it."""


class StoryBatch(NamedTuple):
    """Questions, each with the sentences before it.

    Attributes:
        sentences: (sentence, word, batch) int64: words of each sentence, from the first sentence.
        lengths: (sentence, batch) int64: words of each sentence; 0 behind the last sentence.
        question: (word, batch) int64: words of the question.
        question_lengths: (batch,) int64: words of each question.
        targets: (batch,) int64: answers.
        supports: (fact, batch) int64: numbers of the sentences that the answer follows from, from
            0; -1 behind the last fact.
    """

    sentences: Int[Tensor, "sentence word batch"]
    lengths: Int[Tensor, "sentence batch"]
    question: Int[Tensor, "word batch"]
    question_lengths: Int[Tensor, " batch"]
    targets: Int[Tensor, " batch"]
    supports: Int[Tensor, "fact batch"]

    @property
    def size(self) -> int:
        """The number of questions."""
        return len(self.targets)

    def to(self, device: torch.device) -> "StoryBatch":
        """Return the batch on a device.

        Arguments:
            device: device of the model.
        """
        return StoryBatch(*(field.to(device) for field in self))


class _Grid(NamedTuple):
    """The sentences and questions of a split in arrays, padded with 0."""

    sentences: np.ndarray  # (story, sentence, word)
    lengths: np.ndarray  # (story, sentence)
    story: np.ndarray  # (question,)
    counts: np.ndarray  # (question,) sentences before each
    question: np.ndarray  # (question, word)
    question_lengths: np.ndarray
    answers: np.ndarray
    supports: np.ndarray  # (question, fact), -1 beyond

    def batch(self, rows: np.ndarray) -> StoryBatch:
        """Return some questions, cut to the most sentences and words."""
        story, counts = self.story[rows], self.counts[rows]
        most = counts.max()
        there = np.arange(most) < counts[:, None]
        lengths = np.where(there, self.lengths[story, :most], 0)
        sentences = self.sentences[story, :most, : lengths.max()]
        words = self.question_lengths[rows]
        fields = (
            np.where(there[..., None], sentences, 0).transpose(1, 2, 0),
            lengths.T,
            self.question[rows, : words.max()].T,
            words,
            self.answers[rows],
            self.supports[rows].T,
        )
        return StoryBatch(*(torch.from_numpy(field.astype(np.int64)) for field in fields))


def _grid(stories: Sequence[Story], vocabulary: WordVocabulary) -> _Grid:
    """Return the questions of stories as numbers."""
    encoded = functools.cache(lambda text: vocabulary.encode(plain(text)))
    told: list[list[list[int]]] = []
    rows: list[tuple[int, int, list[int], int, list[int]]] = []
    for number, story in enumerate(stories):
        sentences: list[list[int]] = []
        places: dict[int, int] = {}  # of sentences, by their lines
        for line, (text, answer, supports) in enumerate(story, start=1):
            words = encoded(text)
            if not answer:
                places[line] = len(sentences)
                sentences.append(words)
                continue
            (symbol,) = vocabulary.encode(answer.lower())
            facts = [places[support] for support in supports]
            rows.append((number, len(sentences), words, symbol, facts))
        told.append(sentences)
    lengths = _padded([[len(s) for s in sentences] for sentences in told])
    words = max(len(s) for sentences in told for s in sentences)
    grid = np.zeros((*lengths.shape, words), np.int32)
    for number, sentences in enumerate(told):
        grid[number, : len(sentences)] = _padded(sentences, words)
    story, counts, questions, answers, supports = zip(*rows, strict=True)
    return _Grid(
        grid,
        lengths,
        np.array(story),
        np.array(counts),
        _padded(questions),
        np.array([len(question) for question in questions]),
        np.array(answers),
        _padded(supports, 1, fill=-1),
    )


def _padded(rows: Sequence[Sequence[int]], width: int = 0, fill: int = 0) -> np.ndarray:
    width = max(width, *(len(row) for row in rows))
    found = np.full((len(rows), width), fill, np.int32)
    for row, values in zip(found, rows, strict=True):
        row[: len(values)] = values
    return found


@functools.lru_cache(maxsize=1 << 14)
def plain(text: str) -> str:
    """Return the words of a text in small letters, without punctuation marks at their ends.

    Arguments:
        text: sentence or question.

    Example:
        >>> plain("Where is Anna? ")
        'where is anna'
    """
    return " ".join(filter(None, (word.strip(".,?!") for word in text.lower().split())))


@final
class StoryQuestions(Task):
    """Answers of one word to questions about the sentences before them.

        loss = - log p(answer | sentences, question) in nats

    A model takes a `StoryBatch` and the training step, and returns logits over the words. In
    training, the `training_losses` of a model are minimised in their place, if it has them.

    Arguments:
        name: name of the task.
        stories: stories of each split. The words of the training stories are the vocabulary.

    Attributes:
        stories: stories of each split.
        vocabulary: words of sentences, questions and answers.

    Inputs:
        the sentences before a question, and the question.

    Targets:
        (batch,) words. An answer that no training story has is always wrong.

    Chance:
        the most frequent answer of the training questions; frequencies of these, 1 added to each
        count; both on the validation questions.

    Training:
        each epoch has its own order, a function of seed and epoch.

    Raises:
        DataError: a split without a question.

    Example:
        >>> story = [Line("Anna went to the attic."), Line("Where is Anna?", "attic", (1,))]
        >>> task = StoryQuestions("own", dict.fromkeys(("training", "validation", "test"), [story]))
        >>> batch = next(task.batches("validation", 1))
        >>> batch.sentences.shape, batch.lengths.tolist(), batch.supports.tolist()
        (torch.Size([1, 5, 1]), [[5]], [[0]])
        >>> task.vocabulary.decode(batch.targets.tolist())
        'attic'

    Source:
        Weston, Bordes, Chopra, Rush, van Merriënboer, Joulin & Mikolov, "Towards AI-complete
        question answering: a set of prerequisite toy tasks", arXiv:1502.05698, 2015.
    """

    criterion = "accuracy of at least 95 % (Weston et al. 2015)"

    def __init__(self, name: str, stories: Mapping[Split, Sequence[Story]]):
        for split, told in stories.items():
            if not any(line.answer for story in told for line in story):
                raise DataError(
                    f"{split} stories of task {name!r}", got="no question", expected="at least one"
                )
        self.name, self.stories = name, stories
        lines = [line for story in stories["training"] for line in story]
        words = "\n".join(f"{plain(line.text)} {line.answer.lower()}" for line in lines)
        self.vocabulary = WordVocabulary.of(words)
        self.vocabularies: Mapping[str, WordVocabulary] = {"story": self.vocabulary}
        self._grids = {split: _grid(told, self.vocabulary) for split, told in stories.items()}
        grid = self._grids["training"]
        assert self.vocabulary.end is not None
        self.inputs = Stories(
            alphabet=len(self.vocabulary),
            end=self.vocabulary.end,
            words=max(grid.sentences.shape[2], grid.question.shape[1]),
            facts=int((grid.supports >= 0).sum(1).max()),
        )
        self.answers = Classes(len(self.vocabulary))
        self.dependency_length, self.length = _lengths(grid)
        self.chance, self.chance_loss = _chance(grid.answers, self._grids["validation"].answers)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, loss, and the error on the training questions after training."""
        return (
            Metric("accuracy", "fraction", "higher", self.chance),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
            Metric("training_error", "fraction", "lower", 1 - self.chance, tables=False),
        )

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[StoryBatch]:
        """Return batches of endless shuffled epochs, or held-out questions in order.

        Arguments:
            split, size, seed, start: arguments of `Task.batches`.
        """
        check_at_least("batch_size", size, 1)
        grid = self._grids[split]
        count = len(grid.answers)
        if split == "training":
            steps = itertools.count(start)
            return (grid.batch(shuffled(count, step, size, seed)) for step in steps)
        return self._in_order(split, size, start)

    def _in_order(self, split: Split, size: int, start: int = 0) -> Iterator[StoryBatch]:
        grid = self._grids[split]
        rows = np.arange(len(grid.answers))
        return (grid.batch(rows[k : k + size]) for k in range(start * size, len(rows), size))

    def score(
        self, model: nn.Module, batch: StoryBatch, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the mean negative log-likelihood of the answers in nats.

        Arguments:
            model: model of stories. In training, its `training_losses` are taken, if it has them.
            batch: questions.
            state: unused.
            step: training step; None in evaluation, which also has the part "accuracy".
        """
        del state
        count = torch.tensor(batch.size, device=batch.targets.device)
        own: Any = getattr(model, "training_losses", None)
        if step is not None and own is not None:
            losses = own(batch)
            return Score(losses.mean(), {"loss": Mean(losses.detach().double().sum(), count)})
        logits = model(batch, step)
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        parts = {"loss": Mean(losses.detach().double().sum(), count)}
        if step is None:
            known = batch.targets != self.vocabulary.unknown
            right = (logits.argmax(-1) == batch.targets) & known
            parts["accuracy"] = Mean(right.sum(), count)
        return Score(losses.mean(), parts)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss" and "accuracy".

        Arguments:
            parts: merged parts of scores in evaluation.
        """
        return {"loss": parts["loss"].value, "accuracy": parts["accuracy"].value}

    @torch.no_grad()
    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return "training_error": the fraction of training questions with a wrong answer.

        Arguments:
            model: trained model, in evaluation mode.
            split: unused.
        """
        del split
        device = next(model.parameters()).device
        batches = self._in_order("training", 128)
        parts = merged(self.score(model, batch.to(device)).parts for batch in batches)
        return {"training_error": 1 - parts["accuracy"].value}

    def last_answers(self, batch: StoryBatch) -> StoryBatch:
        """Return the batch: a question has one answer.

        Arguments:
            batch: questions.
        """
        return batch

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.95.

        Arguments:
            metrics: held-out metrics.
        """
        return metrics["accuracy"] >= 0.95


def _lengths(grid: _Grid) -> tuple[int, int]:
    """Return the longest dependency and the longest text, in words with a word behind sentences."""
    ends = (grid.lengths + 1).cumsum(1)[grid.story]  # of each sentence; a question ends the text
    rows = np.arange(len(grid.counts))
    length = ends[rows, grid.counts - 1] + grid.question_lengths
    begins = ends - grid.lengths[grid.story] - 1
    first = np.where(grid.supports >= 0, grid.supports, grid.counts[:, None]).min(1)
    known = first < grid.counts
    start = np.where(known, begins[rows, np.where(known, first, 0)], 0)
    return int((length - start).max()) - 1, int(length.max())


def _chance(training: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """Return accuracy and loss of the frequencies of the training answers."""
    counts = Counter(training.tolist())
    total = len(training) + len(counts) + 1  # 1 added to each count, and for an unknown answer
    usual = max(counts, key=lambda answer: counts[answer])
    nats = [math.log(total / (counts[answer] + 1)) for answer in held_out.tolist()]
    return float((held_out == usual).mean()), sum(nats) / len(nats)
