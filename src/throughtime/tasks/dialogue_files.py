"""Dialogues of files: any file of the user's, and DailyDialog."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, final

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.corpora import read_file
from throughtime.tasks.dialogues import DialogueSet, chance_of, check_dialogue, check_latent_options
from throughtime.tasks.download import RemoteFile, data_folder, found
from throughtime.tasks.kinds import Dialogues
from throughtime.tasks.splits import rows, three_ways
from throughtime.tasks.task import Split, check_at_least
from throughtime.tasks.vocabulary import WordVocabulary

Texts: TypeAlias = Sequence[Sequence[str]]
"""The texts of the utterances of each dialogue."""

_OWN = "task 'dialogue'"


@final
class WordDialogues(DialogueSet):
    """Dialogues of words: each reply from the utterances before it.

    The vocabulary is made of the training dialogues. Words and punctuation marks are apart.

    Arguments:
        texts: dialogues of each split, each of at least two utterances.
        size: largest number of symbols of the vocabulary; None for no limit.
        least_count: number of times that a word has to occur; rarer ones are one symbol.
        lower_case: If True, capital letters are read as small ones.
        longest: largest number of symbols of an utterance in training; dialogues with a longer one
            are left out of training, never of held-out data.
        annealing: steps in which the weight of the KL divergence rises to 1; 0 for 1 at once.
        free_nats: KL divergence in nats an utterance that has no cost in training.
        samples: draws of the latent variables for the importance-weighted perplexity.

    Inputs:
        the utterances.

    Targets:
        the symbols of all utterances but the first.

    Chance:
        frequencies of the symbols of training replies, 1 added to each count, on the validation
        replies.

    Raises:
        ConfigurationError: an option out of range.
        DataError: a split without dialogues, a dialogue of one utterance, or an empty utterance.

    Example:
        >>> texts = [["Hello!", "Hello, who are you?"], ["Bye.", "Bye!"]]
        >>> task = WordDialogues(dict.fromkeys(("training", "validation", "test"), texts))
        >>> batch = next(task.batches("validation", 2))
        >>> batch.symbols.shape, batch.lengths.T.tolist()
        (torch.Size([2, 7, 2]), [[3, 3], [3, 7]])
    """

    name = "dialogue"
    criterion = "none: the run makes all its steps (our choice)"

    def __init__(
        self,
        texts: Mapping[Split, Texts],
        *,
        size: int | None = None,
        least_count: int = 1,
        lower_case: bool = True,
        longest: int = 100,
        annealing: int = 0,
        free_nats: float = 0.0,
        samples: int = 10,
    ):
        check_at_least("longest", longest, 1)
        check_latent_options(self.name, annealing, free_nats, samples)
        for split, dialogues in texts.items():
            _check(split, dialogues)
        self.texts, self.annealing = texts, annealing
        self.free_nats, self.samples = free_nats, samples
        self.vocabulary = WordVocabulary.of(
            "\n".join(text for dialogue in texts["training"] for text in dialogue),
            size=size,
            least_count=least_count,
            begin=True,
            punctuation=True,
            lower_case=lower_case,
        )
        self.vocabularies: Mapping[str, WordVocabulary] = {"dialogue": self.vocabulary}
        assert self.vocabulary.begin is not None
        assert self.vocabulary.end is not None
        self.begin, self.end = self.vocabulary.begin, self.vocabulary.end
        self.inputs = Dialogues(len(self.vocabulary), self.begin)
        self.dialogues = {
            split: [[self.vocabulary.encode(text) for text in dialogue] for dialogue in dialogues]
            for split, dialogues in texts.items()
        }
        short = [d for d in self.dialogues["training"] if max(map(len, d)) <= longest]
        if not short:
            raise DataError(
                "training dialogues",
                got="none",
                expected=f"one whose utterances have at most {longest} symbols",
            )
        self.dialogues["training"] = short
        self.length = max(sum(map(len, d)) + len(d) for d in short)
        self.dependency_length = self.length
        self.chance_loss = chance_of(
            short, self.dialogues["validation"], len(self.vocabulary), self.end
        )

    def spoken(self, split: Split) -> Texts:
        """Return the texts of the utterances of each dialogue of a split.

        Arguments:
            split: training or held-out data.
        """
        return self.texts[split]

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return False.

        Arguments:
            metrics: unused.
        """
        del metrics
        return False


def _check(split: str, dialogues: Texts) -> None:
    if not dialogues:
        raise DataError(f"{split} dialogues", got="none", expected="at least one")
    for number, dialogue in enumerate(dialogues, start=1):
        subject = f"{split} dialogue {number}"
        check_dialogue(subject, len(dialogue))
        for turn, text in enumerate(dialogue, start=1):
            if not text.strip():
                raise DataError(f"{subject}, utterance {turn}", got="no text", expected="text")


def dialogue(
    *,
    file: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    size: int | None = None,
    least_count: int = 2,
    lower_case: bool = True,
    longest: int = 100,
    annealing: int = 0,
    free_nats: float = 0.0,
    samples: int = 10,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> WordDialogues:
    """Replies in dialogues of a file: a line each, with a tab between utterances, or JSON lines.

    A line of JSON lines is a list of texts: ["Hello!", "Hello."]. Such a file ends in .jsonl.
    Without files of their own, validation and test are 5 % of the dialogues each, drawn at random,
    the same in every run.

    Arguments:
        file: path of the training file, in UTF-8.
        validation, test: paths of files of held-out dialogues.
        size: largest number of symbols of the vocabulary; None for no limit.
        least_count: number of times that a word has to occur in the training dialogues.
        lower_case: If True, capital letters are read as small ones.
        longest: largest number of symbols of an utterance in training.
        annealing: steps in which the weight of the KL divergence rises to 1; 0 for 1 at once.
        free_nats: KL divergence in nats an utterance that has no cost in training.
        samples: draws of the latent variables for the importance-weighted perplexity.
        sha256: SHA-256 of the training file, or its first 16 hexadecimal digits or more; other
            content is refused. A run adds it to its configuration.
        data_dir: folder of the files.

    Raises:
        ConfigurationError: no file, or an option out of range.
        DataError: a file that is missing or no text, an empty line, or a dialogue of one utterance.
    """
    if file is None:
        raise ConfigurationError(
            f"file of {_OWN}",
            got="no file",
            expected="file=FILE",
            fix="Write dialogue:file=FILE, a dialogue a line, a tab between utterances.",
        )
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{16,64}", sha256):
        raise ConfigurationError(
            f"sha256 of {_OWN}",
            got=repr(sha256),
            expected="16 to 64 hexadecimal digits in small letters",
        )
    folder = Path(data_dir or "")
    checksum, texts = "", dict[Split, list[list[str]]]()
    named: dict[Split, str | None] = {"training": file, "validation": validation, "test": test}
    for split, each in named.items():
        if each is not None:
            path = (folder / each).expanduser()
            content, sums = read_file(path, sha256 if split == "training" else None)
            checksum = checksum or sums
            texts[split] = read_dialogues(path.name, content)
    task = WordDialogues(
        three_ways(texts, len(texts["training"]), rows, "dialogues"),
        size=size,
        least_count=least_count,
        lower_case=lower_case,
        longest=longest,
        annealing=annealing,
        free_nats=free_nats,
        samples=samples,
    )
    task.sha256 = checksum
    return task


def read_dialogues(name: str, content: str) -> list[list[str]]:
    """Return the dialogues of a file's text.

    Arguments:
        name: name of the file; JSON lines if it ends in .jsonl.
        content: text of the file.

    Raises:
        DataError: an empty line, a dialogue of one utterance, an empty utterance, or a line that is
            no list of texts.

    Example:
        >>> read_dialogues("a.tsv", "Hello!\\tHello.\\tBye!\\n")
        [['Hello!', 'Hello.', 'Bye!']]
    """
    dialogues: list[list[str]] = []
    for number, line in enumerate(content.removesuffix("\n").split("\n"), start=1):
        subject = f"{name}, line {number}"
        if not line.strip():
            raise DataError(subject, got="an empty line", expected="a dialogue", fix="Remove it.")
        texts = _of_json(subject, line) if name.endswith(".jsonl") else line.split("\t")
        fix = "" if name.endswith(".jsonl") else "A tab stands between utterances."
        check_dialogue(subject, len(texts), fix)
        if not all(text.strip() for text in texts):
            raise DataError(subject, got="an empty utterance", expected="text between tabs")
        dialogues.append([" ".join(text.split()) for text in texts])
    return dialogues


def _of_json(subject: str, line: str) -> list[str]:
    try:
        texts = json.loads(line)
    except ValueError as error:
        raise DataError(subject, got=str(error), expected="a list of texts in JSON") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(subject, got=line[:80], expected='a list of texts: ["Hello!", "Hello."]')
    return texts


_TERMS = (
    "DailyDialog (Li et al. 2017): dialogues of websites for learners of English. Licence CC BY-NC-"
    "SA 4.0: not for commercial use."
)
_URL = (
    "https://raw.githubusercontent.com/kent-ai-dev/engram/"
    "9e891cee41c7dc87f40ea490bcccabe30a3dfd2c/dailydialog_raw/EMNLP_dataset/{}.zip"
)


def _remote(name: str, sha256: str) -> RemoteFile:
    return RemoteFile(f"{name}.zip", (_URL.format(name),), sha256, _TERMS)


DAILY_DIALOG: dict[Split, RemoteFile] = {
    "training": _remote(
        "train", "6191257f8250da0e045bfd1d017645e15b2358df975ec4c5c431a5a1f99662a4"
    ),
    "validation": _remote(
        "validation", "f068cf7526a56ab5f26e99b74ce9edbc2766f7b060a3c6cef035920b0dd28153"
    ),
    "test": _remote("test", "5f9526a5ce4b8af4ca237aa3ff38cbf03becbc596c70b0974d7f5f9af2ea0615"),
}
"""11,118, 1,000 and 1,000 dialogues."""

_MOST_BYTES = 1 << 26  # of the text in an archive
_BEFORE_MARK = re.compile(r" +([.,!?;:])")
_JOINED = re.compile(r"(?<=[a-z][.,!?;:])(?=[A-Z])")
_APOSTROPHE = re.compile(r"(\w) +['\u2019] +(s|m|t|d|ll|re|ve)\b", re.IGNORECASE)


def daily_dialog(
    *,
    size: int | None = None,
    least_count: int = 3,
    lower_case: bool = True,
    longest: int = 100,
    annealing: int = 0,
    free_nats: float = 0.0,
    samples: int = 10,
    data_dir: str | None = None,
) -> WordDialogues:
    """DailyDialog: 13,118 everyday dialogues of learners' websites, as the authors split them.

    Blanks before punctuation marks and within words such as "I ' m" are taken out, and those
    between sentences put in, so that a person's typing is read alike. Dialogues of one utterance
    are left out. Symbols are those of our vocabulary: perplexities are compared with each other
    alone.

    Arguments:
        size: largest number of symbols of the vocabulary; None for no limit.
        least_count: number of times that a word has to occur in the training dialogues.
        lower_case: If True, capital letters are read as small ones.
        longest: largest number of symbols of an utterance in training.
        annealing: steps in which the weight of the KL divergence rises to 1; 0 for 1 at once.
        free_nats: KL divergence in nats an utterance that has no cost in training.
        samples: draws of the latent variables for the importance-weighted perplexity.
        data_dir: folder that holds train.zip, validation.zip and test.zip, itself or in a subfolder
            dailydialog; that of THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: an option out of range.
        DataError: a file is missing, or not the one that it should be.

    Source:
        Li, Su, Shen, Li, Cao & Niu, "DailyDialog: a manually labelled multi-turn dialogue dataset",
        IJCNLP 2017.
    """
    folder = data_folder(data_dir, "dailydialog", tuple(DAILY_DIALOG.values()))
    task = WordDialogues(
        {split: read_daily_dialog(folder, file) for split, file in DAILY_DIALOG.items()},
        size=size,
        least_count=least_count,
        lower_case=lower_case,
        longest=longest,
        annealing=annealing,
        free_nats=free_nats,
        samples=samples,
    )
    task.name = "dailydialog"
    return task


def read_daily_dialog(folder: Path, file: RemoteFile) -> list[list[str]]:
    """Return the dialogues of an archive, checked by its sum.

    Arguments:
        folder: folder that holds it, itself or in a subfolder dailydialog.
        file: the archive.

    Raises:
        DataError: the file is missing, or not the one that it should be.
    """
    path = found(folder, "dailydialog", file.name)
    if path is None:
        raise DataError(
            f"no DailyDialog in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {file.name}",
            expected=f"{file.name}, there or in its subfolder dailydialog",
            fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
        )
    try:
        archive = path.read_bytes()
        sha256 = hashlib.sha256(archive).hexdigest()
        if sha256 != file.sha256:
            raise DataError(str(path), got=f"SHA-256 {sha256}", expected=file.sha256)
        name = file.name.removesuffix(".zip")
        with (
            zipfile.ZipFile(io.BytesIO(archive)) as opened,
            opened.open(f"{name}/dialogues_{name}.txt") as member,
        ):
            text = member.read(_MOST_BYTES).decode()
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(
            str(path), got=str(error), expected="an archive with the text of dialogues"
        ) from error
    dialogues = [[*map(plain, line.split("__eou__"))] for line in text.split("\n")]
    dialogues = [[text for text in dialogue if text] for dialogue in dialogues]
    return [dialogue for dialogue in dialogues if len(dialogue) > 1]


def plain(text: str) -> str:
    """Return an utterance with blanks where they usually stand.

    Arguments:
        text: words and marks as a tokeniser leaves them.

    Example:
        >>> plain("I ’ m fine , thanks.And you ? ")
        "I'm fine, thanks. And you?"
    """
    text = _APOSTROPHE.sub(r"\1'\2", text.replace("\u2019", "'"))
    return _JOINED.sub(" ", _BEFORE_MARK.sub(r"\1", " ".join(text.split())))
