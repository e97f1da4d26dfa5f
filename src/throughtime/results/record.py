"""A record: a dataclass that is saved as JSON, read back, and shown as a page."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, cast

from throughtime.core.errors import ConfigurationError, RunError, RunVersionError
from throughtime.results.atomic import SCHEMA_VERSION, read_json, write_whole
from throughtime.results.fields import from_document, to_document


class Views(NamedTuple):
    """Functions that show one type of record.

    Attributes:
        text: Text of 80 columns.
        terminal: An object that rich prints.
        page: The text of an HTML file that needs no network.
        fragment: HTML for a notebook, without scripts.
        image: A picture as a file of a format, "svg" or "png".
    """

    text: Callable[[Any], str]
    terminal: Callable[[Any], Any]
    page: Callable[..., str]
    fragment: Callable[[Any], str]
    image: Callable[[Any, str], bytes]


_VIEWS: dict[type, Callable[[], Views]] = {}
# `throughtime.reports` registers the views, so that records need no library for text or pictures


def register_views(kind: type, views: Callable[[], Views]) -> None:
    """Register a function that returns the views of a type of record and of its subclasses.

    The function is called on first use. The views of a subclass take precedence.
    """
    _VIEWS[kind] = views


def views_of(record: object) -> Views:
    """Return the views of a record.

    Raises:
        ConfigurationError: No view is registered for its type.
    """
    for kind in type(record).__mro__:
        if kind in _VIEWS:
            return _VIEWS[kind]()
    raise ConfigurationError(
        f"views of {type(record).__name__}", got="none", fix="Import throughtime.reports first."
    )


_KINDS: dict[str, type["Record"]] = {}


class Record:
    """Parent of all results. Each is a frozen dataclass of numbers, texts, tensors and such.

    Attributes:
        derived: Names of properties that `to_json` writes beside the fields.
        former_names: Names of fields in files of earlier versions, each with its name now.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    former_names: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the type by its name, which `to_json` writes."""
        super().__init_subclass__(**options)
        _KINDS[cls.__name__] = cls

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, tensors included.

        Numbers that are not finite are the texts "inf", "-inf" and "nan".
        """
        properties = {name: to_document(getattr(self, name)) for name in self.derived}
        return {"schema_version": SCHEMA_VERSION, **to_document(self), **properties}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "the document") -> Self:
        """Return the record that `to_json` wrote.

        Arguments:
            document: The JSON object. Those of earlier versions have no "type".
            where: Name of the document, for the error message.

        Raises:
            RunVersionError: The document has another schema version.
            RunError: The document is not such a record.
        """
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise RunVersionError(
                f"{where} was written in another version of the format",
                got=f"schema_version {version}",
                expected=str(SCHEMA_VERSION),
            )
        try:
            return cls.from_tagged(document, "")
        except TypeError as error:
            expected = "a record" if cls is Record else f"a {cls.__name__}"
            raise RunError(
                f"{where} cannot be read",
                got=str(error),
                expected=expected,
                fix="Bring the file back from a copy.",
            ) from error

    @classmethod
    def from_tagged(cls, document: Any, where: str) -> Self:
        """Return the record of an object with its type and schema version.

        Raises:
            TypeError: The object is no such record; the message names the field.
        """
        if not isinstance(document, Mapping):
            raise TypeError(f"{where or cls.__name__} is no object")
        fields = {k: v for k, v in document.items() if k not in ("schema_version", "type")}
        kind: type[Record] = cls
        if "type" in document:
            found = _KINDS.get(str(document["type"]))
            if found is None or not issubclass(found, cls):
                raise TypeError(f"the type is {document['type']!r}")
            kind = found
        elif cls is Record:
            alike = [k for k in _KINDS.values() if _fields(k) == {_present(k, n) for n in fields}]
            if not alike:
                raise TypeError("the type is not given")
            kind = alike[0]
        named = {_present(kind, name): value for name, value in fields.items()}
        kept = {name: value for name, value in named.items() if name not in kind.derived}
        return cast(Self, from_document(kind, kept, where, finite=False))

    def save(self, path: str | Path, drawings: Sequence[Any] = ()) -> Path:
        """Write the record, whole or not at all.

        `throughtime.load` reads the JSON file back. The page is one HTML file that opens anywhere,
        without a network.

        Arguments:
            path: A file in a folder that exists. It is replaced. Its suffix selects the form: JSON
                by ".json", text by ".txt", the first picture by ".svg", ".png" or ".pdf", and a
                page by ".html" or no suffix.
            drawings: More figures for a page.

        Returns:
            The path.

        Raises:
            RunWriteError: The file cannot be written, or the disk is full.
            ConfigurationError: The suffix is another; or the package that makes such a picture is
                not installed.
        """
        path = Path(path)
        check_suffix(path)
        if path.suffix == ".json":
            content = json.dumps(self.to_json(), allow_nan=False).encode()
        elif path.suffix in _PICTURES:
            content = views_of(self).image(self, path.suffix[1:])
        else:
            views = views_of(self)
            text = views.text(self) + "\n" if path.suffix == ".txt" else views.page(self, drawings)
            content = text.encode("utf-8", "backslashreplace")
        write_whole(path, content)
        return path


_PICTURES = (".svg", ".png", ".pdf")
_SUFFIXES = (".html", ".htm", "", ".json", ".txt", *_PICTURES)


def check_suffix(path: str | Path) -> None:
    """Check that a record can be saved under a name.

    Raises:
        ConfigurationError: Its suffix is none of those that `Record.save` takes.
    """
    suffix = Path(path).suffix
    if suffix not in _SUFFIXES:
        raise ConfigurationError(
            f"form of {Path(path).name}",
            got=repr(suffix),
            expected=", ".join(filter(None, _SUFFIXES)),
        )


def read_record(path: str | Path) -> Record:
    """Return the record that `Record.save` wrote as JSON.

    The module that defines the type of the record has to be imported; `throughtime.load` does so.

    Raises:
        RunError: There is no such file, it is damaged, or its content is no record.
        RunVersionError: The file has another schema version.
    """
    path = Path(path)
    document = read_json(path, "Give a folder, or a JSON file that save() wrote, undamaged.")
    return Record.from_json({"schema_version": SCHEMA_VERSION, **document}, str(path))


def _present(kind: type[Record], name: str) -> str:
    """Return the present name of a field."""
    return kind.former_names.get(name, name)


def _fields(kind: type[Record]) -> set[str]:
    """Return the names that `to_json` writes, the type left out."""
    return {field.name for field in dataclasses.fields(kind)} | {*kind.derived}  # pyright: ignore[reportArgumentType]
