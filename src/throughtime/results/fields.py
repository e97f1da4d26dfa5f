"""Dataclasses from JSON documents, each field of its declared type."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

T = TypeVar("T")


def from_document(kind: type[T], document: object, where: str = "") -> T:
    """A dataclass whose fields are what a JSON object holds.

    Arguments:
        kind: a dataclass of numbers, texts, lists, tuples, maps, literals and dataclasses.
        document: the object, as `json.loads` gives it; fields that have defaults may be absent.
        where: its place in the file, for the error message.

    Raises:
        TypeError: a field is missing, unknown or of another type; it says which.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{where or kind.__name__} is {type(document).__name__}, not an object")
    types_of = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = document.keys() - fields.keys()
    if unknown:
        raise TypeError(f"{where or kind.__name__} has the unknown field {min(map(str, unknown))}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        at = f"{where}.{name}" if where else name
        if name in document:
            values[name] = of_type(types_of[name], document[name], at)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise TypeError(f"{at} is missing")
    return kind(**values)


def of_type(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as a type: lists as tuples where those are declared, whole numbers as floats.

    Arguments:
        kind: what a field is declared to be.
        value: as `json.loads` gives it.
        where: its place in the file, for the error message.

    Raises:
        TypeError: the value is of another type, or a number is not finite.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_document(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return _of_any(inner, value, where)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in inner)
    elif origin in (list, tuple):
        if isinstance(value, list):
            return origin(of_type(inner[0], item, f"{where}[{k}]") for k, item in enumerate(value))
        fits = False
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {key: of_type(inner[1], item, f"{where}.{key}") for key, item in value.items()}
        fits = False
    elif kind in (int, float):
        number = isinstance(value, int if kind is int else int | float)
        fits = number and not isinstance(value, bool) and _is_finite(value)
    else:
        fits = isinstance(value, typing.cast(type, kind))
    if not fits:
        raise TypeError(f"{where} is {_short(value)}, not {_name(kind)}")
    return value


def _of_any(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The one that fits; with a single kind beside None, the error is that kind's."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return of_type(kind, value, where)
        except TypeError:
            continue
    return of_type(others[-1], value, where)


def _is_finite(value: float) -> bool:
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
