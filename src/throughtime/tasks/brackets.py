"""A reader of trees in brackets: (3 (2 It) (4 (2 is) (4 good)))."""

import re
from collections.abc import Collection
from typing import NamedTuple, final

import torch
from jaxtyping import Int
from torch import Tensor

from throughtime.core.errors import DataError

_PART = re.compile(r"[()]|[^ \t\r()]+")  # a no-break space may be within a word


@final
class BracketedTrees(NamedTuple):
    """Trees of a text. Nodes are numbered in the order of their opening brackets.

    Attributes:
        name: name of the file.
        labels: label of each node; "" for none.
        words: word of each node; None for nodes with children.
        edges: (edge, 2) numbers of the parent and of the child.
        sizes: number of nodes of each tree.
        places: line and column of each node, from 1.
    """

    name: str
    labels: list[str]
    words: list[str | None]
    edges: Int[Tensor, "edge 2"]
    sizes: list[int]
    places: list[tuple[int, int]]

    def check_labels(self, known: Collection[str]) -> None:
        """Raise DataError if a label is not among the known ones.

        Arguments:
            known: labels.
        """
        for node, label in enumerate(self.labels):
            if label not in known:
                raise DataError(
                    _at(self.name, self.places[node]),
                    got=f"the label {label!r}" if label else "no label",
                    expected=f"one of {', '.join(sorted(known))}",
                )


class _Open(NamedTuple):
    """A bracket that is not closed yet."""

    node: int
    children: list[int]


def read_brackets(name: str, text: str) -> BracketedTrees:
    """Return the trees of a text.

    A tree is (label word) or (label tree tree ...), also over several lines. The label may be
    missing where there are trees. A bracket without a label around one whole tree, as the Penn
    Treebank has, is left out.

    Arguments:
        name: name of the file, for errors.
        text: content of the file.

    Raises:
        DataError: a bracket that is not closed or not opened, a bracket without a word and without
            trees, several words in one, a word beside trees, text outside brackets, or no tree; the
            message has the line and the column.

    Example:
        >>> trees = read_brackets("a.txt", "(3 (2 It) (4 works))")
        >>> trees.labels, trees.words, trees.edges.tolist()
        (['3', '2', '4'], [None, 'It', 'works'], [[0, 1], [0, 2]])
    """
    labels: list[str] = []
    words: list[str | None] = []
    places: list[tuple[int, int]] = []
    edges: list[tuple[int, int]] = []
    sizes: list[int] = []
    open_: list[_Open] = []
    for row, line in enumerate(text.split("\n"), start=1):
        for match in _PART.finditer(line):
            part, place = match[0], (row, match.start() + 1)
            if part == "(":
                node = len(labels)
                if open_:
                    if words[open_[-1].node] is not None:
                        raise _wrong(name, place, "a tree after a word", "one word, or trees")
                    edges.append((open_[-1].node, node))
                    open_[-1].children.append(node)
                labels.append("")
                words.append(None)
                places.append(place)
                open_.append(_Open(node, []))
            elif not open_:
                got = "a closing bracket" if part == ")" else repr(part)
                raise _wrong(name, place, f"{got} outside a tree", "an opening bracket")
            elif part == ")":
                node, children = open_.pop()
                if words[node] is None and not children:
                    got = f"the bracket ({labels[node]}) without a word and without trees"
                    raise _wrong(name, places[node], got, "(label word) or (label tree ...)")
                if not open_:
                    if not labels[node] and len(children) == 1:
                        _leave_out(node, labels, words, places, edges)
                    sizes.append(len(labels) - node)
            elif words[open_[-1].node] is not None or open_[-1].children:
                beside = "trees" if open_[-1].children else "another word"
                raise _wrong(name, place, f"{part!r} beside {beside}", "one word, or trees")
            elif labels[open_[-1].node]:
                words[open_[-1].node] = part
            else:
                labels[open_[-1].node] = part
    if open_:
        place = places[open_[-1].node]
        raise _wrong(name, place, "a bracket that is not closed", "as many brackets closed")
    if not sizes:
        raise DataError(name, got="no tree", expected="trees in brackets: (3 (2 It) (4 works))")
    made = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    return BracketedTrees(name, labels, words, made, sizes, places)


def _leave_out(
    node: int,
    labels: list[str],
    words: list[str | None],
    places: list[tuple[int, int]],
    edges: list[tuple[int, int]],
) -> None:
    """Take the root out of the last tree; all nodes behind it are that tree's."""
    for of_nodes in (labels, words, places):
        del of_nodes[node]
    first = next(k for k in range(len(edges)) if edges[k][0] == node)
    edges[first:] = [(parent - 1, child - 1) for parent, child in edges[first + 1 :]]


def _wrong(name: str, place: tuple[int, int], got: str, expected: str) -> DataError:
    return DataError(_at(name, place), got=got, expected=expected)


def _at(name: str, place: tuple[int, int]) -> str:
    return f"{name}, line {place[0]}, column {place[1]}"
