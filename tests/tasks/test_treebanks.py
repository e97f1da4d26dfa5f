"""Trees in brackets, and the tasks of their labels."""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from throughtime.cli.main import main
from throughtime.core.errors import ConfigurationError, DataError
from throughtime.models import build_model
from throughtime.tasks import TASKS, Task
from throughtime.tasks import treebanks as module
from throughtime.tasks.brackets import read_brackets
from throughtime.tasks.download import RemoteFile
from throughtime.tasks.treebanks import read_sst
from throughtime.testing import TaskConformance

SOME = "(3 (2 It) (4 (2 really) (4 works)))"


def test_trees_are_read_in_the_order_of_their_brackets() -> None:
    trees = read_brackets("a.txt", f"{SOME}\n\n(1 (2 No)\n   (0 thanks))\n")
    assert trees.labels == ["3", "2", "4", "2", "4", "1", "2", "0"]
    assert trees.words == [None, "It", None, "really", "works", None, "No", "thanks"]
    assert trees.edges.tolist() == [[0, 1], [0, 2], [2, 3], [2, 4], [5, 6], [5, 7]]
    assert trees.sizes == [5, 3]
    assert trees.places[4] == (1, 25)
    assert trees.places[7] == (4, 4)


def test_the_bracket_around_a_tree_of_the_penn_treebank_is_left_out() -> None:
    text = "(0 (1 a))\n( (S (NP (DT The) (NN cat)) (VP (VBZ sleeps)) (. .)) )"
    trees = read_brackets("a.txt", text)
    assert trees.labels == ["0", "1", "S", "NP", "DT", "NN", "VP", "VBZ", "."]
    assert trees.sizes == [2, 7]
    expected = [[0, 1], [2, 3], [3, 4], [3, 5], [2, 6], [6, 7], [2, 8]]
    assert trees.edges.tolist() == expected
    assert trees.places[2] == (2, 3)


def test_a_deep_tree_is_read_without_recursion() -> None:
    depth = 20_000
    trees = read_brackets("a.txt", "(1 " * depth + "word" + ")" * depth)
    assert trees.sizes == [depth]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(3 (2 a)\n(2 b)", r"line 1, column 1: got a bracket that is not closed"),
        ("(3 (2 a) (2 b)))", r"line 1, column 16: got a closing bracket outside a tree"),
        ("(2 a)\n b (2 c)", r"line 2, column 2: got 'b' outside a tree"),
        ("(3 (2 a) ())", r"line 1, column 10: got the bracket \(\) without a word"),
        ("(3 (2 a)\n  (2 ))", r"line 2, column 3: got the bracket \(2\) without a word and with"),
        ("(3 (2 a b))", r"line 1, column 9: got 'b' beside another word"),
        ("(3 (2 a) b)", r"line 1, column 10: got 'b' beside trees"),
        ("(3 a (2 b))", r"line 1, column 6: got a tree after a word"),
        (" \n", r"a.txt: got no tree, expected trees in brackets"),
    ],
)
def test_what_is_no_tree_is_named_by_line_and_column(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_brackets("a.txt", text)


def written(folder: Path, lines: list[str], name: str = "trees.txt") -> str:
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)


def test_a_file_is_split_three_ways(tmp_path: Path) -> None:
    lines = [f"(1 (0 word{k % 3}) (1 other))" for k in range(40)]
    task = module.treebank(file=written(tmp_path, lines))
    assert {split: batch.size for split, batch in task.splits.items()} == {
        "training": 36,
        "validation": 2,
        "test": 2,
    }
    assert (task.inputs.arity, task.answers.count, task.length) == (2, 2, 2)
    batch = next(task.batches("training", 3))
    assert batch.labels.tolist() == [1, 0, 1] * 3
    words = task.vocabularies["source"]
    assert words.symbols[int(batch.trees.inputs[2])] == "other"
    assert batch.trees.inputs[0] == -1
    with pytest.raises(DataError, match="training trees: got 19, expected at least 20"):
        module.treebank(file=written(tmp_path, lines[:19]))


def test_labels_of_held_out_trees_are_those_of_training(tmp_path: Path) -> None:
    file = written(tmp_path, ["(10 (2 a) (9 b))"])
    held = written(tmp_path, ["(2 (9 a) (10 b))", "(2 (2 a) (3 b))"], "held.txt")
    with pytest.raises(DataError, match=r"held.txt, line 2, column 10: got the label '3', exp"):
        module.treebank(file=file, validation=held, test=file)
    task = module.treebank(file=file, validation=file, test=file)
    assert task.splits["test"].labels.tolist() == [2, 0, 1]


def test_nodes_without_a_label_have_no_answer(tmp_path: Path) -> None:
    file = written(tmp_path, ["(1 ((0 a) (1 b)) (0 c))"])
    task = module.treebank(file=file, validation=file, test=file)
    assert task.splits["test"].labels.tolist() == [1, -1, 0, 1, 0]
    none = written(tmp_path, ["((a b))"], "none.txt")
    assert module.treebank(file=none, validation=none, test=none).answers.count == 1


def test_a_held_out_node_with_more_children_than_any_in_training_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, ["(1 (0 a) (1 b))"])
    wide = written(tmp_path, ["(1 (0 a) (1 b) (0 c))"], "wide.txt")
    with pytest.raises(DataError, match="test trees of task 'treebank': got a node with 3 child"):
        module.treebank(file=file, validation=file, test=wide)


def test_a_file_of_another_content_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, ["(1 (0 a) (1 b))"] * 20)
    task = module.treebank(file=file)
    assert module.treebank(file=file, sha256=task.sha256).sha256 == task.sha256
    with pytest.raises(DataError, match="SHA-256"):
        module.treebank(file=file, sha256="0" * 16)
    with pytest.raises(ConfigurationError, match="16 to 64 hexadecimal digits"):
        module.treebank(file=file, sha256="x")
    with pytest.raises(ConfigurationError, match="file=FILE"):
        TASKS.build("treebank")


TEXTS = {
    "train.txt": "(3 (2 It) (4 works))\n(2 (1 It) (2 8\u00a01\\/2))\n",
    "dev.txt": "(0 (2 It) (0 fails))\n",
    "test.txt": "(2 (2 It) (2 is))\n(1 (2 It) (1 fails))\n",
}


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, text in TEXTS.items():
            made.writestr(f"trees/{name}", text)
    return buffer.getvalue()


def test_the_sentiment_treebank_is_read_from_its_archive_or_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    content = archive()
    file = RemoteFile("t.zip", (), hashlib.sha256(content).hexdigest())
    (tmp_path / "one" / "t.zip").write_bytes(content)
    (tmp_path / "two" / "sst").mkdir(parents=True)
    sums = {}
    for split, (name, _) in module._TEXTS.items():
        text = TEXTS[name].encode()
        (tmp_path / "two" / "sst" / f"{name}.gz").write_bytes(gzip.compress(text))
        sums[split] = name, hashlib.sha256(text).hexdigest()
    monkeypatch.setattr(module, "_TEXTS", sums)
    one, two = (read_sst(tmp_path / name, file=file) for name in ("one", "two"))
    assert {split: trees.words for split, trees in one.items()} == {
        split: trees.words for split, trees in two.items()
    }
    fine = module.sentiment(data_dir=str(tmp_path / "two"), least_count=1)
    assert fine.answers.count == 5
    assert "8_1\\/2" in fine.vocabularies["source"].symbols
    binary = module.sentiment(data_dir=str(tmp_path / "two"), binary=True)
    assert binary.splits["training"].labels.tolist() == [1, -1, 1]  # a neutral root is left out
    assert [batch.size for batch in binary.splits.values()] == [1, 1, 1]
    (tmp_path / "one" / "t.zip").write_bytes(content[:-5])
    read_sst.cache_clear()
    with pytest.raises(DataError, match="SHA-256"):
        read_sst(tmp_path / "one", file=file)
    with pytest.raises(DataError, match=r"neither t.zip nor train.txt"):
        read_sst(tmp_path, file=file)
    read_sst.cache_clear()


def test_polarity_follows_from_the_rule() -> None:
    """Each node's label from those of its children, one tree at a time."""
    trees, labels = TASKS.build("polarity:leaves=7,trees=200").splits["training"]  # pyright: ignore
    values = (labels - 2).tolist()
    of: dict[int, list[int]] = {}
    for parent, child in trees.edges.tolist():
        of.setdefault(parent, []).append(child)
    kinds = set()
    for node, symbol in enumerate(trees.inputs.tolist()):
        if node not in of:
            assert values[node] == (0 if symbol < 2 else (symbol - 2) % 5 - 2)
            continue
        left, right = of[node]
        word = int(trees.inputs[left])
        kinds.add(min(word, 2))
        sums = {0: -values[right], 1: 2 * values[right]}
        expected = sums.get(word, values[left] + values[right])
        assert values[node] == max(-2, min(2, expected))
        assert symbol == -1
    assert kinds == {-1, 0, 1, 2}
    assert bool((torch.bincount(labels) > 0).all())


@pytest.mark.parametrize(
    ("lines", "model", "message"),
    [
        (["(1 (0 a) (1 b)"], "recnn", "line 1, column 1: got a bracket that is not closed"),
        (["(1 (0 a) ())"], "recnn", "got the bracket () without a word and without trees"),
        (["(1 (0 a) (1 b))"] * 20, "lstm", "expected one of recnn, rntn, tree-lstm"),
        (["(1 (0 a) (1 b))"] * 20, "recnn:hidden=0", "hidden_size: got 0, expected a whole"),
    ],
)
def test_the_command_line_names_the_fault(
    lines: list[str], model: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, lines)
    out = str(tmp_path / "run")
    assert main(["train", f"treebank:file={file}", model, "--steps", "1", "--out", out]) != 0
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def test_the_command_line_trains_on_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, [f"(1 (0 word{k % 3}) (1 other))" for k in range(40)])
    out = str(tmp_path / "run")
    assert (
        main(["train", f"treebank:file={file}", "rntn:hidden=3", "--steps", "2", "--out", out]) == 0
    )
    assert "test accuracy" in " ".join(capsys.readouterr().out.split())
    assert "sha256=" in (tmp_path / "run" / "config.json").read_text()


class TestTreebank(TaskConformance):
    """Trees of a file: labels at some nodes, nodes with one to three children."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_task(self) -> Task:
        random = Random(0)

        def tree(depth: int) -> str:
            label = random.choice("012")
            if depth == 0 or random.random() < 0.3:
                return f"({label} word{random.randrange(9)})"
            return (
                f"({label} " + " ".join(tree(depth - 1) for _ in range(random.randint(1, 3))) + ")"
            )

        file = written(self.folder, [tree(4) for _ in range(300)])
        return module.treebank(file=file, loss="roots")

    def make_model(self, task: Task) -> nn.Module:
        return build_model("tree-lstm:hidden=4,embedding=3", task.inputs, task.answers)
