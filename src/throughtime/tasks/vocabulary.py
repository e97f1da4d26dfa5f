"""Vocabularies: text as numbers, by characters, words or subwords."""

import abc
import collections
import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, final

from throughtime.core.errors import ConfigurationError, DataError

UNKNOWN, BEGIN, END = "<unk>", "<bos>", "<eos>"
_SPECIAL = (UNKNOWN, BEGIN, END)
_JOINT = "\uffed"  # of a punctuation mark, at each side where no blank stands
_MARKS = re.compile(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]")


class Vocabulary(abc.ABC):
    """A map between text and the numbers of its symbols. Special symbols have the first numbers.

    A line break is the end symbol where there is one.

    Arguments:
        symbols: The spelling of each symbol, special ones as `UNKNOWN`, `BEGIN`, `END`.
        special: The spellings that are special.

    Attributes:
        symbols: The spelling of each symbol.
        unknown: The number of the symbol for words that are not in the vocabulary, or None.
        begin: The number of the symbol that begins a text, or None.
        end: The number of the symbol that ends a line, or None.

    Raises:
        DataError: A symbol occurs twice, or there is none.
    """

    def __init__(self, symbols: Sequence[str], special: Collection[str] = _SPECIAL):
        self.symbols = tuple(symbols)
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        if not self.symbols or len(self._numbers) < len(self.symbols):
            counts = collections.Counter(self.symbols).most_common(1)
            raise DataError(
                "symbols of a vocabulary",
                got=f"{counts[0][0]!r} twice" if counts else "none",
                expected="at least one, each once",
            )
        self.unknown, self.begin, self.end = (
            self._numbers.get(symbol) if symbol in special else None for symbol in _SPECIAL
        )

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        """Return True for a vocabulary with the same symbols and options."""
        return isinstance(other, Vocabulary) and self.to_json() == other.to_json()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def encode(self, text: str, *, prompt: bool = False) -> list[int]:
        """Return the numbers of a text's symbols.

        Arguments:
            text: The text.
            prompt: If True, the error of an unknown symbol is a ConfigurationError.

        Raises:
            DataError: A symbol is not in the vocabulary, and there is none for unknown ones.
        """
        lines = [text] if self.end is None else text.split("\n")
        numbers: list[int] = []
        for place, line in enumerate(lines):
            if place and self.end is not None:
                numbers.append(self.end)
            numbers += self._encoded(line, ConfigurationError if prompt else DataError)
        return numbers

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of some symbols. Each end symbol is a line break; begins are left out.

        Arguments:
            numbers: Numbers of symbols.

        Raises:
            ConfigurationError: A number is outside the vocabulary.
        """
        strange = [n for n in numbers if not 0 <= n < len(self)]
        if strange:
            raise ConfigurationError(
                "a symbol", got=strange[0], expected=f"0 to {len(self) - 1}, the vocabulary"
            )
        lines: list[list[int]] = [[]]
        for number in numbers:
            if number == self.end:
                lines.append([])
            elif number != self.begin:
                lines[-1].append(number)
        return "\n".join(map(self._decoded, lines))

    @abc.abstractmethod
    def _encoded(self, line: str, error: type[ConfigurationError | DataError]) -> list[int]:
        """Return the numbers of a line's symbols, without its end."""

    @abc.abstractmethod
    def _decoded(self, numbers: Sequence[int]) -> str:
        """Return the text of a line."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the vocabulary as JSON values; `from_json` reads them."""

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Vocabulary":
        """Return the vocabulary whose `to_json` gave the document.

        Raises:
            DataError: The document is no vocabulary.
            ConfigurationError: Its package is not installed.
        """
        makers: dict[str, Callable[..., Vocabulary]] = {
            "characters": CharacterVocabulary,
            "words": WordVocabulary,
            "subwords": SubwordVocabulary,
        }
        try:
            options = {key: value for key, value in document.items() if key != "kind"}
            return makers[document["kind"]](**options)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "a vocabulary",
                got=f"{type(error).__name__}: {error}",
                expected="the document of Vocabulary.to_json",
            ) from error


@final
class CharacterVocabulary(Vocabulary):
    """The characters of a text.

    Arguments:
        symbols: The characters, and special symbols.

    Example:
        >>> vocabulary = CharacterVocabulary.of("to be")
        >>> vocabulary.encode("bet"), vocabulary.decode([1, 2, 4])
        ([1, 2, 4], 'bet')
    """

    @classmethod
    def of(cls, text: str, *, ends: bool = False) -> "CharacterVocabulary":
        """Return the vocabulary of all characters of a text, in the order of their code points.

        Arguments:
            text: The text.
            ends: If True, there are symbols that begin and end a text; a line break is the latter.
        """
        own = set(text) - {"\n"} if ends else set(text)
        return cls([*((BEGIN, END) if ends else ()), *sorted(own)])

    def _encoded(self, line: str, error: type[ConfigurationError | DataError]) -> list[int]:
        try:
            return [self._numbers[character] for character in line]
        except KeyError as missing:
            known = "".join(s for s in self.symbols if s not in _SPECIAL)
            raise error(
                "a character",
                got=repr(missing.args[0]),
                expected=f"one of {known[:200]!r}" + (" ..." if len(known) > 200 else ""),
                fix="Leave it out, or train a model on a text that has it.",
            ) from None

    def _decoded(self, numbers: Sequence[int]) -> str:
        return "".join(self.symbols[number] for number in numbers)

    def to_json(self) -> dict[str, Any]:
        """Return the symbols."""
        return {"kind": "characters", "symbols": list(self.symbols)}


@final
class WordVocabulary(Vocabulary):
    """The words of a text: those that are most frequent, and one symbol for all others.

    Words stand between blanks. With `punctuation`, punctuation marks are words of their own;
    a mark that touches a word has a sign at that side, so that decoding joins them again.

    Arguments:
        symbols: The words, and special symbols.
        punctuation: If True, punctuation marks are words of their own.
        lower_case: If True, capital letters are read as small ones.

    Raises:
        DataError: There is no symbol for unknown words.

    Example:
        >>> vocabulary = WordVocabulary.of("the cat, the dog", punctuation=True)
        >>> vocabulary.decode(vocabulary.encode("the dog, the bird"))
        'the dog, the <unk>'
    """

    def __init__(
        self, symbols: Sequence[str], *, punctuation: bool = False, lower_case: bool = False
    ):
        super().__init__(symbols)
        self.punctuation, self.lower_case = punctuation, lower_case
        if self.unknown is None:
            raise DataError("words of a vocabulary", got=f"no {UNKNOWN}", expected="one")

    @classmethod
    def of(
        cls,
        text: str,
        *,
        size: int | None = None,
        least_count: int = 1,
        begin: bool = False,
        punctuation: bool = False,
        lower_case: bool = False,
    ) -> "WordVocabulary":
        """Return the vocabulary of a text's words: the most frequent first, equals by alphabet.

        Arguments:
            text: The text.
            size: The largest number of symbols, special ones included; None for no limit.
            least_count: The number of times that a word has to occur, at least 1.
            begin: If True, there is a symbol that begins a text.
            punctuation: If True, punctuation marks are words of their own.
            lower_case: If True, capital letters are read as small ones.

        Raises:
            ConfigurationError: A size that special symbols alone fill, or a count below 1.
        """
        special = [UNKNOWN, *((BEGIN,) if begin else ()), END]
        _check_size(size, len(special))
        if least_count < 1:
            raise ConfigurationError("least_count", got=least_count, expected="at least 1")
        counts = collections.Counter(_words(text, punctuation, lower_case))
        words = sorted(counts.keys() - {*_SPECIAL}, key=lambda word: (-counts[word], word))
        frequent = [word for word in words if counts[word] >= least_count]
        symbols = [*special, *frequent][:size]
        return cls(symbols, punctuation=punctuation, lower_case=lower_case)

    def _encoded(self, line: str, error: type[ConfigurationError | DataError]) -> list[int]:
        del error
        assert self.unknown is not None
        words = _words(line, self.punctuation, self.lower_case)
        return [self._numbers.get(word, self.unknown) for word in words]

    def _decoded(self, numbers: Sequence[int]) -> str:
        line = " ".join(self.symbols[number] for number in numbers)
        if self.punctuation:
            line = line.replace(f"{_JOINT} ", "").replace(f" {_JOINT}", "").replace(_JOINT, "")
        return line

    def to_json(self) -> dict[str, Any]:
        """Return the symbols and the options."""
        options = {"punctuation": self.punctuation, "lower_case": self.lower_case}
        return {"kind": "words", "symbols": list(self.symbols), **options}


def _words(text: str, punctuation: bool, lower_case: bool) -> list[str]:
    chunks = (text.lower() if lower_case else text).split()
    if not punctuation:
        return chunks
    words: list[str] = []
    for chunk in chunks:
        if chunk.isalnum():  # most are one word
            words.append(chunk)
            continue
        parts = [chunk] if chunk in _SPECIAL else _MARKS.findall(chunk)
        alone = [part[0].isalnum() or part[0] == "_" or part in _SPECIAL for part in parts]
        for k, part in enumerate(parts):
            # between two marks, the second has the sign
            before = _JOINT if k and not alone[k] else ""
            after = _JOINT if k + 1 < len(parts) and not alone[k] and alone[k + 1] else ""
            words.append(f"{before}{part}{after}")
    return words


@final
class SubwordVocabulary(Vocabulary):
    """Subwords by byte pair encoding of bytes, learned from a text: any text can be encoded.

    Source:
        R. Sennrich, B. Haddow, A. Birch, Neural machine translation of rare words with subword
        units, ACL 2016. The `tokenizers` package carries it out, on bytes.

    Arguments:
        tokenizer: A tokenizer as JSON text of the `tokenizers` package.

    Raises:
        ConfigurationError: The package is not installed.
        DataError: The text is no tokenizer.
    """

    def __init__(self, tokenizer: str):
        package = _tokenizers()
        try:
            self._tokenizer = package.Tokenizer.from_str(tokenizer)
        except Exception as error:  # the package raises Exception itself
            raise DataError(
                "a tokenizer", got=str(error), expected="JSON of the package tokenizers"
            ) from error
        numbers = self._tokenizer.get_vocab()
        # a text may make the package merge letters to the spelling of a special symbol
        added = {str(token) for token in self._tokenizer.get_added_tokens_decoder().values()}
        super().__init__(sorted(numbers, key=lambda symbol: numbers[symbol]), added)

    @classmethod
    def of(cls, text: str, *, size: int = 1000, begin: bool = False) -> "SubwordVocabulary":
        """Return the subwords of a text: the 256 bytes, and pairs merged by their frequency.

        Arguments:
            text: The text.
            size: The largest number of symbols, special ones and bytes included.
            begin: If True, there is a symbol that begins a text.

        Raises:
            ConfigurationError: A size that bytes alone fill, or the package is not installed.
        """
        package = _tokenizers()
        special = [*((BEGIN,) if begin else ()), END]
        _check_size(size, 256 + len(special))
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = package.decoders.ByteLevel()
        trainer = package.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(text.split("\n"), trainer)
        return cls(tokenizer.to_str())

    def lengths(self) -> list[int]:
        """Return the number of characters that begin in each symbol: 1 for an end, 0 for a begin.

        The sum over a text's symbols is the number of its characters.
        """
        # The package spells a byte as a printable character: itself, or one from 256 on.
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        bytes_of = {chr(byte): byte for byte in printable}
        bytes_of |= {chr(256 + k): byte for k, byte in enumerate(others)}

        def length(number: int) -> int:
            if number in (self.begin, self.end):
                return int(number == self.end)
            # a byte from 0x80 to 0xBF goes on with a character in UTF-8
            return sum(not 0x80 <= bytes_of[sign] < 0xC0 for sign in self.symbols[number])

        return [length(number) for number in range(len(self))]

    def _encoded(self, line: str, error: type[ConfigurationError | DataError]) -> list[int]:
        del error
        return self._tokenizer.encode(line, add_special_tokens=False).ids

    def _decoded(self, numbers: Sequence[int]) -> str:
        return self._tokenizer.decode(list(numbers), skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer."""
        return {"kind": "subwords", "tokenizer": self._tokenizer.to_str()}


def _tokenizers() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise ConfigurationError(
            "subwords need the package tokenizers",
            got=str(error),
            fix="Run: pip install 'throughtime[subwords]', or use words or characters.",
        ) from error


def _check_size(size: int | None, least: int) -> None:
    if size is not None and size <= least:
        raise ConfigurationError(
            "size of a vocabulary", got=size, expected=f"more than {least}, the special symbols"
        )
