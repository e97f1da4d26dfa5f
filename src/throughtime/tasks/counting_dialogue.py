"""Two speakers who count: a reply follows from the utterance two turns before."""

import math
from collections.abc import Iterator, Mapping
from typing import final

from throughtime.tasks.dialogues import (
    Dialogue,
    DialogueBatch,
    DialogueTask,
    chance_of,
    check_latent_options,
    collated,
)
from throughtime.tasks.kinds import Dialogues
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Split, check_at_least
from throughtime.tasks.vocabulary import WordVocabulary

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
THINGS = ["apples", "boats", "cups", "dogs", "eggs", "figs", "goats", "hats"]
_HELD_OUT = 500  # dialogues of a held-out split


@final
class CountingDialogue(DialogueTask):
    """Two speakers count in turn, each their own things: "two cups", "nine hats", "three cups" ...

    Number and thing of either speaker's first utterance are drawn uniformly. Each further utterance
    is the speaker's own last one with the next number; "one" comes after "ten". So a reply follows
    from the utterance two turns before, and the one before it says nothing about it.

    Arguments:
        turns: utterances of a dialogue, at least 3.
        annealing: steps in which the weight of the KL divergence rises to 1; 0 for 1 at once.
        free_nats: KL divergence in nats an utterance that has no cost in training.
        samples: draws of the latent variables for the importance-weighted perplexity.

    Inputs:
        the utterances.

    Targets:
        the symbols of all utterances but the first.

    Chance:
        frequencies of symbols.

    Raises:
        ConfigurationError: an option out of range.

    Source:
        Our own task.

    Example:
        >>> task = CountingDialogue(turns=4)
        >>> batch = next(task.batches("validation", 1))
        >>> for turn in batch.symbols[..., 0].tolist():
        ...     print(task.vocabulary.decode(turn[:-1]))
        nine goats
        seven dogs
        ten goats
        eight dogs
    """

    name = "counting-dialogue"

    def __init__(
        self, *, turns: int = 6, annealing: int = 0, free_nats: float = 0.0, samples: int = 10
    ):
        check_at_least("turns of task 'counting-dialogue'", turns, 3)
        check_latent_options("counting-dialogue", annealing, free_nats, samples)
        self.turns, self.annealing = turns, annealing
        self.free_nats, self.samples = free_nats, samples
        self.vocabulary = WordVocabulary.of(" ".join([*NUMBERS, *THINGS]), begin=True)
        self.vocabularies: Mapping[str, WordVocabulary] = {"dialogue": self.vocabulary}
        assert self.vocabulary.begin is not None
        assert self.vocabulary.end is not None
        self.begin, self.end = self.vocabulary.begin, self.vocabulary.end
        self.inputs = Dialogues(len(self.vocabulary), self.begin)
        self.dependency_length, self.length = 6, 3 * turns
        some = [*self._dialogues("validation", 0, 0, 200)]
        self.chance_loss = chance_of(some, some, len(self.vocabulary), self.end)
        self.entropy = math.log(len(NUMBERS) * len(THINGS)) / (3 * (turns - 1))
        bound = math.exp(self.entropy + 0.05)
        self.criterion = f"a perplexity of at most {bound:.4g}, 0.05 nats above the least one"

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[DialogueBatch]:
        """Return new dialogues at each training step, or 500 held-out ones.

        Arguments:
            split: "training", which never ends, or held-out data.
            size: dialogues of a batch.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        if split == "training":
            return self._training(size, seed, start)
        dialogues = [*self._dialogues(split, 0, 0, _HELD_OUT)]
        parts = range(start * size, _HELD_OUT, size)
        return (collated(dialogues[k : k + size], self.end) for k in parts)

    def spoken(self, split: Split) -> list[list[str]]:
        """Return the texts of 500 dialogues of a split.

        Arguments:
            split: training or held-out data.
        """
        decode = self.vocabulary.decode
        dialogues = self._dialogues(split, 0, 0, _HELD_OUT)
        return [[decode(utterance) for utterance in dialogue] for dialogue in dialogues]

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if the loss is at most 0.05 nats above the entropy of the dialogues.

        Arguments:
            metrics: metrics of `report`.
        """
        return metrics["loss"] <= self.entropy + 0.05

    def _training(self, size: int, seed: int, start: int) -> Iterator[DialogueBatch]:
        while True:
            yield collated([*self._dialogues("training", seed, start, size)], self.end)
            start += 1

    def _dialogues(self, split: Split, seed: int, step: int, count: int) -> Iterator[Dialogue]:
        random = generator(seed, split, step)
        for _ in range(count):
            first = random.random(4)  # of two speakers
            texts: list[str] = []
            for turn in range(self.turns):
                own = 2 * (turn % 2)
                number = int(first[own] * len(NUMBERS)) + turn // 2
                thing = THINGS[int(first[own + 1] * len(THINGS))]
                texts.append(f"{NUMBERS[number % len(NUMBERS)]} {thing}")
            yield [self.vocabulary.encode(text) for text in texts]
