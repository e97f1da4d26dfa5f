"""Treebanks: files of the user's, and the Stanford Sentiment Treebank."""

import functools
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.structures import Forest
from throughtime.tasks.brackets import BracketedTrees, read_brackets
from throughtime.tasks.corpora import read_file
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.splits import three_ways
from throughtime.tasks.task import Split
from throughtime.tasks.trees import TreeBatch, TreeLabels
from throughtime.tasks.vocabulary import WordVocabulary

Read: TypeAlias = dict[Split, BracketedTrees]
_OWN = "task 'treebank'"


def treebank(
    *,
    file: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    least_count: int = 2,
    lower_case: bool = False,
    loss: Literal["nodes", "roots"] = "nodes",
    sha256: str | None = None,
    data_dir: str | None = None,
) -> TreeLabels:
    """The label of each node of the trees of a file, in brackets: (3 (2 It) (4 works)).

    Without files of their own, validation and test are 5 % of the trees each, drawn at random, the
    same in every run. The classes are the labels of the training trees; nodes without a label have
    no answer.

    Arguments:
        file: path of the training file, in UTF-8.
        validation, test: paths of files of held-out trees.
        least_count: number of times that a word has to occur in the training trees; rarer words are
            one symbol.
        lower_case: If True, capital letters are read as small ones.
        loss: nodes whose loss is minimised: all "nodes", or "roots" alone.
        sha256: SHA-256 of the training file, or its first 16 hexadecimal digits or more; other
            content is refused. A run adds it to its configuration.
        data_dir: folder of the files.

    Raises:
        ConfigurationError: no file, or a checksum that is none.
        DataError: a file that is missing or no text, brackets that form no trees, or a label of
            held-out trees that no training tree has; the message has the line and the column.
    """
    if file is None:
        raise ConfigurationError(
            f"file of {_OWN}",
            got="no file",
            expected="file=FILE",
            fix="Write treebank:file=FILE, with trees as (3 (2 It) (4 works)).",
        )
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{16,64}", sha256):
        raise ConfigurationError(
            f"sha256 of {_OWN}",
            got=repr(sha256),
            expected="16 to 64 hexadecimal digits in small letters",
        )
    checksum, read = "", Read()
    named: dict[Split, str | None] = {"training": file, "validation": validation, "test": test}
    for split, each in named.items():
        if each is not None:
            path = Path(data_dir or "", each).expanduser()
            content, sums = read_file(path, sha256 if split == "training" else None)
            checksum = checksum or sums
            read[split] = read_brackets(path.name, content)
    known = sorted({*read["training"].labels} - {""}, key=lambda label: (len(label), label))
    if not known:
        raise DataError(file, got="no labels", expected="a label at some nodes")
    for trees in read.values():
        trees.check_labels({*known, ""})
    classes = {label: number for number, label in enumerate(known)}
    symbols = _vocabulary(read["training"], least_count, lower_case)
    batches: dict[Split, TreeBatch] = {
        split: _batch(trees, symbols, classes) for split, trees in read.items()
    }
    task = TreeLabels(
        "treebank",
        three_ways(batches, batches["training"].size, TreeBatch.select, "trees"),
        alphabet=len(symbols),
        classes=len(known),
        loss=loss,
    )
    task.vocabularies = {"source": symbols}
    task.sha256 = checksum
    return task


def _vocabulary(trees: BracketedTrees, least_count: int, lower_case: bool) -> WordVocabulary:
    return WordVocabulary.of(_text(trees), least_count=least_count, lower_case=lower_case)


def _batch(
    trees: BracketedTrees, vocabulary: WordVocabulary, classes: Mapping[str, int]
) -> TreeBatch:
    """Return the symbols and classes of trees; labels that have no class are -1."""
    own = torch.tensor([word is not None for word in trees.words])
    symbols = torch.full((len(own),), -1)
    symbols[own] = torch.tensor(vocabulary.encode(_text(trees)))
    labels = torch.tensor([classes.get(label, -1) for label in trees.labels])
    return TreeBatch(Forest.of(symbols, trees.edges, trees.sizes), labels)


def _text(trees: BracketedTrees) -> str:
    """Return the words with blanks between them, and none within them."""
    return " ".join(re.sub(r"\s", "_", word) for word in trees.words if word is not None)


SST = RemoteFile(
    "trainDevTestTrees_PTB.zip",
    ("https://nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip",),
    "5c613a4f673fc74097d523a2c83f38e0cc462984d847b82c7aaf36b01cbbbfcc",
    "Stanford Sentiment Treebank (Socher et al. 2013): sentences of film reviews. The authors "
    "state no licence.",
)
"""8,544 trees for training, 1,101 for validation, 2,210 for test."""

_TEXTS: dict[Split, tuple[str, str]] = {
    "training": (
        "train.txt",
        "e2f3f41b0b1e6d4dddc0effe3bfc2d27ed8928079aa9a03d652311614fc5feb7",
    ),
    "validation": (
        "dev.txt",
        "0e9336aed6e4730e19f58d00a77b3f0297efdb755f7b5e598c98a05e3f97ea40",
    ),
    "test": (
        "test.txt",
        "6e54806dee95cf80cd918e7dfb3f6770f6df24bf826f289a4d1f709e1c8f6761",
    ),
}
_MOST_BYTES = 1 << 23
_FINE = {str(k): k for k in range(5)}
_BINARY = {"0": 0, "1": 0, "3": 1, "4": 1}


def sentiment(
    *,
    binary: bool = False,
    least_count: int = 2,
    lower_case: bool = False,
    loss: Literal["nodes", "roots"] = "nodes",
    data_dir: str | None = None,
) -> TreeLabels:
    """The Stanford Sentiment Treebank: film reviews, each phrase from very negative to positive.

    Five classes at every node of 11,855 trees, as the authors split them. The binary accuracy of
    the five classes compares the sums of the probabilities of both signs, without neutral nodes.

    Arguments:
        binary: If True, there are two classes: neutral nodes have no answer, and sentences with a
            neutral root are left out: 6,920, 872 and 1,821 are left.
        least_count: number of times that a word has to occur in the training trees; rarer words are
            one symbol.
        lower_case: If True, capital letters are read as small ones.
        loss: nodes whose loss is minimised: all "nodes", or "roots" alone.
        data_dir: folder that holds trainDevTestTrees_PTB.zip, or train.txt, dev.txt and test.txt or
            their gzip forms, itself or in a subfolder sst; that of THROUGHTIME_DATA if None;
            downloaded if that is unset.

    Raises:
        DataError: a file is missing, or not the one that it should be.

    Source:
        Socher, Perelygin, Wu, Chuang, Manning, Ng & Potts, "Recursive deep models for semantic
        compositionality over a sentiment treebank", EMNLP 2013.
    """
    read = read_sst(data_folder(data_dir, "sst", (SST,)))
    symbols = _vocabulary(read["training"], least_count, lower_case)
    splits: dict[Split, TreeBatch] = {}
    for split, trees in read.items():
        batch = _batch(trees, symbols, _BINARY if binary else _FINE)
        answered = (batch.labels[batch.trees.roots] >= 0).nonzero()[:, 0]
        splits[split] = batch.select(answered.numpy())
    task = TreeLabels(
        "sentiment",
        splits,
        alphabet=len(symbols),
        classes=2 if binary else 5,
        loss=loss,
        signs=None if binary else (-1, -1, 0, 1, 1),
    )
    task.vocabularies = {"source": symbols}
    return task


@functools.lru_cache(maxsize=1)
def read_sst(folder: Path, *, file: RemoteFile = SST) -> Mapping[Split, BracketedTrees]:
    """Return the trees of the Stanford Sentiment Treebank, checked by sums.

    Arguments:
        folder: folder that holds the archive, or its texts, itself or in a subfolder sst.
        file: the archive.

    Raises:
        DataError: a file is missing, or not the one that it should be.
    """
    archive = found(folder, "sst", file.name)
    if archive is not None:
        return {split: read_brackets(*text) for split, text in _unzipped(archive, file).items()}
    read = Read()
    for split, (name, sha256) in _TEXTS.items():
        path = found(folder, "sst", name)
        if path is None:
            raise DataError(
                f"no Stanford Sentiment Treebank in {folder}",
                got="no such folder" if not folder.is_dir() else f"neither {file.name} nor {name}",
                expected="one of them, there or in its subfolder sst",
                fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
            )
        content = unpacked(path, _MOST_BYTES)
        _check_sum(path, content, sha256)
        read[split] = read_brackets(name, content.decode())
    return read


def _unzipped(path: Path, file: RemoteFile) -> dict[Split, tuple[str, str]]:
    """Return name and content of each text of the archive."""
    try:
        archive = path.read_bytes()
        _check_sum(path, archive, file.sha256)
        texts: dict[Split, tuple[str, str]] = {}
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for split, (name, _) in _TEXTS.items():
                with opened.open(f"trees/{name}") as member:
                    texts[split] = name, member.read(_MOST_BYTES).decode()
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(
            str(path), got=str(error), expected="an archive with the trees of the treebank"
        ) from error
    return texts


def _check_sum(path: Path, content: bytes, sha256: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise DataError(str(path), got=f"SHA-256 {got}", expected=sha256)
