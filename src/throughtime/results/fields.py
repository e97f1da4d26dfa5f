"""Dataclasses to JSON documents and back, each field of its declared type."""

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError

T = TypeVar("T")


class Conversion(NamedTuple):
    """The JSON form of a field whose declared type does not determine it: `field(metadata=...)`.

    Attributes:
        write: Function from the value to a value that `to_document` takes.
        read: Function from the JSON value and its place in the file to the value; it raises
            TypeError.
    """

    write: Callable[[Any], Any]
    read: Callable[[Any, str], Any]


CONVERSION = "conversion"
"""Key of a `Conversion` in the metadata of a field."""

_NOT_FINITE = {text: float(text) for text in ("inf", "-inf", "nan")}


def to_document(value: Any) -> Any:
    """Return a value as JSON has it.

    A dataclass or NamedTuple becomes an object, an enum its name, a float that is not finite the
    text "inf", "-inf" or "nan", a tensor its dtype, shape and values in order. Complex values are
    pairs.

    Raises:
        ConfigurationError: A value that no JSON document holds, such as a module.
    """
    if isinstance(value, Tensor):
        flat = torch.view_as_real(value) if value.is_complex() else value
        kind = str(value.dtype).removeprefix("torch.")
        values = to_document(flat.reshape(-1).tolist())
        return {"dtype": kind, "shape": list(value.shape), "values": values}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _written(f, getattr(value, f.name)) for f in dataclasses.fields(value)}
        # a record within a record: its field may be declared as any record
        tag = {"type": type(value).__name__} if hasattr(value, "from_tagged") else {}
        return {**tag, **{name: to_document(field) for name, field in fields.items()}}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_document(field) for name, field in value._asdict().items()}  # pyright: ignore
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): to_document(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_document(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, slice):
        return [value.start, value.stop]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigurationError(
        "a field of a record", got=type(value).__name__, expected="numbers, texts or tensors"
    )


def from_document(kind: type[T], document: object, where: str = "", *, finite: bool = True) -> T:
    """Return a dataclass whose fields are those of a JSON object.

    Arguments:
        kind: A dataclass of numbers, texts, tensors, lists, tuples, maps, literals, enums and
            dataclasses, or a NamedTuple of them.
        document: The object, as `json.loads` returns it; fields that have defaults may be absent.
        where: Place of the object in the file, for the error message.
        finite: If True, refuse numbers that are not finite.

    Raises:
        TypeError: A field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{where or kind.__name__} is {type(document).__name__}, not an object")
    types_of = typing.get_type_hints(kind)
    readers: dict[str, Callable[[Any, str], Any]] = {}
    if dataclasses.is_dataclass(kind):
        readers = {
            f.name: f.metadata[CONVERSION].read
            for f in dataclasses.fields(kind)
            if CONVERSION in f.metadata
        }
        fields = {
            field.name: field.default is field.default_factory is dataclasses.MISSING
            for field in dataclasses.fields(kind)
        }
    else:
        named: Any = kind
        fields = {name: name not in named._field_defaults for name in named._fields}
    unknown = document.keys() - fields.keys()
    if unknown:
        raise TypeError(f"{where or kind.__name__} has the unknown field {min(map(str, unknown))}")
    values: dict[str, Any] = {}
    for name, required in fields.items():
        at = f"{where}.{name}" if where else name
        if name in document and name in readers:
            values[name] = readers[name](document[name], at)
        elif name in document:
            values[name] = of_type(types_of[name], document[name], at, finite=finite)
        elif required:
            raise TypeError(f"{at} is missing")
    return kind(**values)


def _written(field: "dataclasses.Field[Any]", value: Any) -> Any:
    return field.metadata[CONVERSION].write(value) if CONVERSION in field.metadata else value


def of_type(kind: Any, value: Any, where: str, *, finite: bool = True) -> Any:
    """Return a JSON value as a type: lists as tuples, whole numbers as floats where declared.

    Arguments:
        kind: Declared type of the field.
        value: The value, as `json.loads` returns it.
        where: Place of the value in the file, for the error message.
        finite: If True, refuse numbers that are not finite.

    Raises:
        TypeError: The value is of another type, or a number is not finite.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if isinstance(kind, type) and hasattr(kind, "from_tagged"):
        return typing.cast(Any, kind).from_tagged(value, where)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        return from_document(kind, value, where, finite=finite)
    if origin in (typing.Union, types.UnionType):
        return _of_any(inner, value, where, finite)
    fits, found = False, value
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in inner)
    elif kind is Tensor or getattr(kind, "array_type", None) is Tensor:
        found = _tensor(value, where)
        fits = kind is Tensor or isinstance(found, kind)
    elif origin in (list, tuple) and isinstance(value, list):
        each = inner if origin is tuple and inner[-1] is not Ellipsis else inner[:1] * len(value)
        fits = len(each) == len(value)
        if fits:
            parts = zip(each, value, strict=True)
            found = origin(
                of_type(part, item, f"{where}[{k}]", finite=finite)
                for k, (part, item) in enumerate(parts)
            )
    elif origin in (dict, Mapping) and isinstance(value, dict):
        fits = True
        found = {
            key: of_type(inner[1], item, f"{where}.{key}", finite=finite)
            for key, item in value.items()
        }
    elif kind is float and not finite and value in _NOT_FINITE:
        fits, found = True, _NOT_FINITE[value]
    elif kind in (int, float):
        number = isinstance(value, int if kind is int else int | float)
        fits = number and not isinstance(value, bool) and _is_finite(value)
    elif kind is slice and isinstance(value, list):
        fits, found = len(value) == 2, slice(*value)
    elif kind is Path and isinstance(value, str):
        fits, found = True, Path(value)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        fits = value in kind.__members__
        found = kind[value] if fits else None
    elif isinstance(kind, type):
        fits = isinstance(value, kind)
    if not fits:
        raise TypeError(f"{where} is {_short(value)}, not {_name(kind)}")
    return found


def _tensor(value: Any, where: str) -> Tensor:
    """Return the tensor of `to_document`: values may be not finite."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "values"}:
        raise TypeError(f"{where} is {_short(value)}, not a tensor")
    dtype = getattr(torch, str(value["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{where}.dtype is {_short(value['dtype'])}, not a dtype")
    shape = of_type(list[int], value["shape"], f"{where}.shape")
    number: Any = bool if dtype is torch.bool else float if _real(dtype) else int
    numbers = of_type(list[number], value["values"], f"{where}.values", finite=False)
    parts = torch.float64 if dtype is torch.complex128 else torch.float32
    size = math.prod(shape) * (2 if dtype.is_complex else 1)
    if len(numbers) != size or min(shape, default=0) < 0:
        raise TypeError(f"{where} has {len(numbers)} values, not {size}")
    try:
        if dtype.is_complex:
            return torch.view_as_complex(torch.tensor(numbers, dtype=parts).reshape(*shape, 2))
        return torch.tensor(numbers, dtype=dtype).reshape(shape)
    except (RuntimeError, OverflowError) as error:  # a number that the dtype cannot hold
        raise TypeError(f"{where}: {error}") from error


def _real(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _of_any(kinds: tuple[Any, ...], value: Any, where: str, finite: bool) -> Any:
    """Return the value as the type that fits; with one type beside None, the error is its own."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return of_type(kind, value, where, finite=finite)
        except TypeError:
            continue
    return of_type(others[-1], value, where, finite=finite)


def _is_finite(value: float) -> bool:
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
