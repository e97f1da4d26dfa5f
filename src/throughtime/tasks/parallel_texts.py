"""Parallel texts: any two files of the user's, and Multi30k."""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.splits import three_ways
from throughtime.tasks.task import Split
from throughtime.tasks.translation import Parallel, TokenKind, Translation, check_parallel

Language: TypeAlias = Literal["en", "de", "fr"]
"""A language of Multi30k."""

_MOST_BYTES = 1 << 28


def _read(path: Path) -> tuple[bytes, list[str]]:
    """Return the bytes and the lines of a text file, or of its gzip form."""
    content = unpacked(path, _MOST_BYTES)
    if len(content) > _MOST_BYTES:
        raise DataError(str(path), got=f"more than {_MOST_BYTES:,} bytes", expected="fewer")
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline=None).read()
    except UnicodeDecodeError as error:
        raise DataError(
            str(path),
            got=str(error),
            expected="a text file in UTF-8",
            fix="Convert it: iconv -f LATIN1 -t UTF-8 FILE.",
        ) from error
    return content, text.removesuffix("\n").split("\n")


def translation(
    *,
    source: str | None = None,
    target: str | None = None,
    validation_source: str | None = None,
    validation_target: str | None = None,
    test_source: str | None = None,
    test_target: str | None = None,
    tokens: TokenKind = "words",
    size: int | None = None,
    least_count: int = 2,
    lower_case: bool = False,
    longest: int = 100,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> Translation:
    """Translation from any two text files whose lines belong together; BLEU and chrF at the end.

    Without files of their own, validation and test are 5 % of the lines each, drawn at random, the
    same in every run.

    Arguments:
        source, target: paths of the files, in UTF-8, plain or gzip.
        validation_source, validation_target: paths of validation files.
        test_source, test_target: paths of test files.
        tokens: kind of the symbols. Words and punctuation marks are apart; "subwords" need the
            package tokenizers.
        size: largest number of symbols of each vocabulary; None for no limit, or 4,000 subwords.
        least_count: number of times that a word has to occur in the training lines.
        lower_case: If True, capital letters are read as small ones.
        longest: largest number of symbols of a training source or target.
        sha256: SHA-256 of all files' bytes, one after the other, or its first 16 hexadecimal digits
            or more; other content is refused. A run adds it to its configuration.
        data_dir: folder of the files.

    Raises:
        ConfigurationError: a file is not named, or an option is out of range.
        DataError: a file that is missing or no text, files of unequal length, or an empty line.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{16,64}", sha256):
        raise ConfigurationError(
            "sha256 of task 'translation'",
            got=repr(sha256),
            expected="16 to 64 hexadecimal digits in small letters",
        )
    named: dict[Split, tuple[str | None, str | None]] = {
        "training": (source, target),
        "validation": (validation_source, validation_target),
        "test": (test_source, test_target),
    }
    digest, texts = hashlib.sha256(), dict[Split, Parallel]()
    for split, files in named.items():
        if not any(files) and split != "training":
            continue
        sides: list[list[str]] = []
        for side, file in zip(("source", "target"), files, strict=True):
            if file is None:
                name = side if split == "training" else f"{split}_{side}"
                raise ConfigurationError(
                    f"{name} of task 'translation'",
                    got="no file",
                    expected=f"{name}=FILE",
                    fix="Write translation:source=FILE,target=FILE.",
                )
            content, lines = _read(Path(data_dir or "", file).expanduser())
            digest.update(content)
            sides.append(lines)
        texts[split] = Parallel(*sides)
        check_parallel(f"{files[0]} and {files[1]}", texts[split])
    checksum = digest.hexdigest()
    if sha256 is not None and not checksum.startswith(sha256):
        raise DataError(
            f"{source} and {target}",
            got=f"SHA-256 {checksum[: len(sha256)]}",
            expected=sha256,
            fix="Bring the files back as they were, or leave sha256 out in a new folder.",
        )
    task = Translation(
        three_ways(texts, len(texts["training"].source), _lines, "texts", unit="lines"),
        tokens=tokens,
        size=size,
        least_count=least_count,
        lower_case=lower_case,
        longest=longest,
    )
    task.sha256 = checksum[:16]
    return task


def _lines(texts: Parallel, numbers: Sequence[int]) -> Parallel:
    return Parallel([texts.source[k] for k in numbers], [texts.target[k] for k in numbers])


_URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
_TERMS = (
    "Multi30k (Elliott et al. 2016, 2017): captions and translations of pictures of Flickr30k. The "
    "authors state no licence; Flickr30k is for research."
)
_FILES: dict[Split, str] = {
    "training": "train",
    "validation": "val",
    "test": "test_2016_flickr",
}
_SUMS = {  # SHA-256 of the gzip file that is sent, and of the text in it
    "train.en": (
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    ),
    "train.de": (
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    ),
    "train.fr": (
        "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
        "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    ),
    "val.en": (
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    ),
    "val.de": (
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    ),
    "val.fr": (
        "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
        "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    ),
    "test_2016_flickr.en": (
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
        "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    ),
    "test_2016_flickr.de": (
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    ),
    "test_2016_flickr.fr": (
        "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
        "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
    ),
}


def multi30k(
    *,
    source: Language = "en",
    target: Language = "fr",
    tokens: TokenKind = "words",
    size: int | None = None,
    least_count: int = 2,
    lower_case: bool = True,
    longest: int = 100,
    data_dir: str | None = None,
) -> Translation:
    """Multi30k: 29,000 descriptions of pictures in English, German, French; test is flickr 2016.

    Arguments:
        source, target: languages, two different ones.
        tokens, size, least_count, lower_case, longest: options of `translation`.
        data_dir: folder that holds train.en ... test_2016_flickr.fr or their .gz, itself or in a
            subfolder multi30k; that of THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: one language twice, or an option out of range.
        DataError: a file is missing, or not the one that it should be.

    Source:
        Elliott, Frank, Sima'an & Specia, "Multi30K: multilingual English-German image
        descriptions", 2016; Elliott et al., "Findings of the second shared task on multimodal
        machine translation", 2017, for French.
    """
    if source == target:
        raise ConfigurationError(
            "languages of task 'multi30k'", got=f"{source} twice", expected="two of en, de, fr"
        )
    names = [f"{file}.{language}" for file in _FILES.values() for language in (source, target)]
    remote = [RemoteFile(f"{n}.gz", (f"{_URL}/{n}.gz",), _SUMS[n][0], _TERMS) for n in names]
    folder = data_folder(data_dir, "multi30k", remote)
    texts: dict[Split, Parallel] = {}
    for split, file in _FILES.items():
        sides = [_checked(folder, f"{file}.{language}") for language in (source, target)]
        texts[split] = Parallel(*sides)
    task = Translation(
        texts,
        tokens=tokens,
        size=size,
        least_count=least_count,
        lower_case=lower_case,
        longest=longest,
    )
    task.name = "multi30k"
    return task


def _checked(folder: Path, name: str) -> list[str]:
    path = found(folder, "multi30k", name)
    if path is None:
        raise DataError(
            f"no Multi30k in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {name}",
            expected=f"{name} or {name}.gz, there or in its subfolder multi30k",
            fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
        )
    content, lines = _read(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != _SUMS[name][1]:
        raise DataError(str(path), got=f"SHA-256 {sha256}", expected=_SUMS[name][1])
    return lines
