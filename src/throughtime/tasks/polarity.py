"""Made-up phrases whose polarity follows from that of their parts by a rule."""

import numpy as np
import torch

from throughtime.structures import Forest
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Split, check_at_least
from throughtime.tasks.trees import TreeBatch, TreeLabels

_NOT, _VERY, _SYNONYMS = 0, 1, 4
_HELD_OUT: dict[Split, int] = {"validation": 1_024, "test": 2_560}


def polarity(*, leaves: int = 10, trees: int = 4_000) -> TreeLabels:
    """The polarity of each phrase of a tree of words, where some negate and some strengthen.

        v(not x) = - v(x)       v(very x) = 2 v(x)      v(x y) = v(x) + v(y)        in [-2, 2]

    Words are "not", "very", and four for each polarity from -2 to 2. Each tree joins neighbours at
    random, two at a time. Labels at every node are v + 2; those of "not" and "very" are 2. Sums
    beyond -2 and 2 are cut. The task is ours: it has the form of the Stanford Sentiment Treebank,
    and its rule is known.

    Arguments:
        leaves: largest number of words of a tree, at least 2; each number from 2 on is as likely.
        trees: number of training trees.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = polarity(leaves=3, trees=50)
        >>> task.inputs.alphabet, task.answers.count, task.length
        (22, 5, 3)
    """
    check_at_least("leaves of task 'polarity'", leaves, 2)
    check_at_least("trees of task 'polarity'", trees, 1)
    counts: dict[Split, int] = {"training": trees, **_HELD_OUT}
    return TreeLabels(
        "polarity",
        {split: _drawn(split, count, leaves) for split, count in counts.items()},
        alphabet=2 + 5 * _SYNONYMS,
        classes=5,
        signs=(-1, -1, 0, 1, 1),
        goal=0.99,
    )


def _drawn(split: Split, count: int, leaves: int) -> TreeBatch:
    random = generator(0, split)
    symbols: list[int] = []
    values: list[int] = []
    edges: list[tuple[int, int]] = []
    sizes: list[int] = []
    for words in random.integers(2, leaves + 1, count).tolist():
        drawn = random.integers(0, 2 + 5 * _SYNONYMS, words).tolist()
        joints = random.random(words - 1).tolist()
        own = [*range(len(symbols), len(symbols) + words)]
        symbols += drawn
        values += [0 if word < 2 else (word - 2) % 5 - 2 for word in drawn]
        for joint in joints:
            k = int(joint * (len(own) - 1))
            left, right = own[k : k + 2]
            own[k : k + 2] = [len(symbols)]
            edges += [(len(symbols), left), (len(symbols), right)]
            values.append(_joined(symbols[left], values[left], values[right]))
            symbols.append(-1)
        sizes.append(2 * words - 1)
    places = torch.arange(len(edges)) % 2
    forest = Forest.of(torch.tensor(symbols), torch.tensor(edges), sizes, positions=places)
    return TreeBatch(forest, torch.tensor(values) + 2)


def _joined(word: int, left: int, right: int) -> int:
    """Return the polarity of two parts; `word` is the symbol of the left one, or -1."""
    value = -right if word == _NOT else 2 * right if word == _VERY else left + right
    return int(np.clip(value, -2, 2))
