"""The choice of an engine, by name or the first that can; and a record of the engines that ran."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from throughtime.core.errors import EngineRefusalError, UnknownNameError
from throughtime.core.state import State, map_state
from throughtime.engines.cpp import NativeEngine
from throughtime.engines.eager import EagerEngine
from throughtime.engines.engine import Engine, Refusal, Request, Result, Runner, autocasts
from throughtime.engines.scan import ScanEngine
from throughtime.engines.vendor import VendorEngine

ENGINES: dict[str, Engine] = {
    e.name: e for e in (NativeEngine(), VendorEngine(), EagerEngine(), ScanEngine())
}
"""All engines by name, in the order in which "auto" tries them. The scan is run by name alone: it
refuses all that the eager engine refuses (checkpoints under a transform)."""

_record: contextvars.ContextVar[tuple[list[str], ...]] = contextvars.ContextVar(
    "record", default=()
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The engine of a request, and the refusals of those before it.

    Attributes:
        engine: The name of the engine that runs.
        refusals: The reason of each engine before it, by name.
        requested: "auto", or the requested name.
    """

    engine: str
    refusals: dict[str, str]
    requested: str

    def __str__(self) -> str:
        why = [f"  not {name}: {reason}" for name, reason in self.refusals.items()]
        how = "chosen by auto" if self.requested == "auto" else "chosen by name"
        return "\n".join([f"{self.engine} ({how})", *why])


def check_engine(engine: str | Engine) -> None:
    """Raise UnknownNameError unless it is an engine, "auto", or the name of one."""
    if not isinstance(engine, Engine) and engine not in ("auto", *ENGINES):
        raise UnknownNameError("engine", str(engine), ("auto", *ENGINES))


def choose(request: Request, engine: str | Engine = "auto") -> tuple[Runner, Choice]:
    """Return the run of a request, and its engine: a function of the request, never of a timing.

    Arguments:
        request: The request.
        engine: "auto", a name in `ENGINES`, or an engine object.

    Raises:
        UnknownNameError: No engine of that name.
        EngineRefusalError: The named engine refuses, or all do.
    """
    if engine == "auto":
        refusals: dict[str, str] = {}
        for name, candidate in ENGINES.items():
            runner = candidate.prepare(request)
            if not isinstance(runner, Refusal):
                return runner, Choice(name, refusals, "auto")
            refusals[name] = runner.reason
        raise EngineRefusalError(
            "engine 'auto' found none that can",
            got="; ".join(f"{name}: {reason}" for name, reason in refusals.items()),
            fix="Without checkpoints, or without the transform, the eager engine runs everything.",
        )
    check_engine(engine)
    chosen = ENGINES[engine] if isinstance(engine, str) else engine
    runner = chosen.prepare(request)
    if isinstance(runner, Refusal):
        raise EngineRefusalError(f"engine {chosen.name!r} cannot: {runner}", fix=runner.fix)
    return runner, Choice(chosen.name, {}, chosen.name)


def run(request: Request, engine: str | Engine = "auto") -> Result:
    """Run a request by the engine that `choose` names, and enter the name in open recordings.

    Arguments:
        request: The request.
        engine: "auto", a name in `ENGINES`, or an engine object.

    Returns:
        Outputs and states as in `Result`.

    Raises:
        UnknownNameError: No engine of that name.
        EngineRefusalError: The named engine refuses.
    """
    runner, choice = choose(request, engine)
    for names in _record.get():
        names.append(choice.engine)
    result = runner()
    if not torch._C._is_any_autocast_enabled() or not autocasts(request.inputs):
        return result
    return _as_torch_casts(request, result)


@contextlib.contextmanager
def recording() -> Iterator[list[str]]:
    """Record the name of each engine that runs within the block.

    Example:
        >>> with recording() as names:
        ...     pass
        >>> names
        []
    """
    names: list[str] = []
    token = _record.set((*_record.get(), names))
    try:
        yield names
    finally:
        _record.reset(token)


def being_recorded() -> bool:
    """Return True within a block of `recording`."""
    return bool(_record.get())


def _as_torch_casts(request: Request, result: Result) -> Result:
    """Return a result in the dtypes that torch.nn's layer of this cell returns under autocast.

    A cell that torch.nn does not have returns its outputs in autocast's dtype, and its state in the
    dtype of the state before the first step: a state that is carried on keeps its last bits.
    """
    lower = torch.get_autocast_dtype(request.inputs.device.type)
    lowered = _lowered(request)

    def cast(state: State) -> State:
        fields = [
            map_state(
                lambda s, b, n=name: _to(s, lower if n in lowered else b.dtype), field, before
            )
            for name, field, before in zip(state._fields, state, request.state, strict=True)
        ]
        return type(state)(*fields)

    own = request.cell.torch_equivalent is None
    outputs = _to(result.outputs, lower if own or "h" in lowered else request.state.h.dtype)
    states = None if result.states is None else cast(result.states)
    return Result(outputs, cast(result.state), states)


def _lowered(request: Request) -> tuple[str, ...]:
    """Return the fields of the state that come in autocast's dtype; the others stay as given."""
    cell, fields = request.cell, request.state._fields
    equivalent = cell.torch_equivalent
    if equivalent is None:
        return ()
    if request.inputs.device.type != "cpu":
        return fields  # kernels of whole sequences, to which all operands are cast
    if equivalent == "GRU":
        return ()
    if equivalent == "LSTM":
        if cell.output_size != cell.hidden_size:  # h is a matrix product, c is none
            return ("h",)
        return fields if request.lengths is None else ()  # oneDNN's kernel knows no lengths
    return fields


def _to(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
