"""Tracing a cell: its `pointwise` and the gradients of it, as values of one program."""

import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from throughtime.core.cell import bind, recurrent_weight
from throughtime.core.gated import GatedCell
from throughtime.core.state import State, state_type
from throughtime.engines.trace import arrays
from throughtime.engines.trace.builder import Builder, Value, call
from throughtime.engines.trace.program import Key, Node, UntraceableError
from throughtime.engines.trace.tracer import Tracer

Result = TypeVar("Result")

_lock = threading.Lock()  # torch notes in global variables that a mode is entered


def _renew_lock() -> None:
    """Make a new lock in a forked child, which has no thread that would open its parent's lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@final
@dataclasses.dataclass(frozen=True)
class Trace:
    """A cell's step and its gradients. Inputs are of the kinds "x" and "u" instead of "gate".

    Attributes:
        nodes: All values.
        results: The positions of h and the memories.
        gradients: The positions of the gradients, by input; an input without a gradient is left
            out.
        detached: True if a value that gradients should reach was cut off from them, which the
            nodes do not show.
    """

    nodes: tuple[Node, ...]
    results: tuple[int, ...]
    gradients: dict[Key, int]
    detached: bool


def trace(cell: GatedCell, dtype: torch.dtype) -> Trace:
    """Record the operations of a cell's `pointwise`, and of its vector-Jacobian product.

    It runs twice, on arbitrary numbers, in a thread of its own, apart from the caller's modes,
    transforms and hooks.

    Raises:
        UntraceableError: `pointwise` does something that a program cannot.
    """
    sizes = {1, cell.hidden_size, *(s for t in unit_tensors(cell).values() for s in t.shape)}
    sizes |= {len(cell.gate_names), cell.input_size}
    # no axis but that of sequences may be as long
    first, second = [size for size in range(11, 13 + len(sizes)) if size not in sizes][:2]
    with _lock:
        found = isolated(lambda: _trace(cell, dtype, first))
        again = isolated(lambda: _trace(cell, dtype, second))
    if found != again:
        raise UntraceableError(
            "pointwise does not do the same twice: it depends on values in Python, on the batch "
            "size, or on chance"
        )
    return found


def isolated(function: Callable[[], Result]) -> Result:
    """The result of a function that runs in a fresh thread, free of the caller's modes."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((function(), None))
        except BaseException as error:  # noqa: BLE001  # raised again where it belongs
            outcome.extend((None, error))

    thread = threading.Thread(target=work, name="throughtime-trace")
    thread.start()
    thread.join()
    result, error = outcome
    if error is not None:
        raise error
    return result


def unit_tensors(cell: GatedCell) -> dict[str, Tensor]:
    """The unit parameters and buffers of a cell, by name: (), (1,), (hidden,) or (n, hidden)."""
    weights = {"weight_ih", "bias_ih", "bias_hh", *map(recurrent_weight, cell.lags)}
    named = dict(cell.named_parameters(remove_duplicate=False))
    named |= dict(cell.named_buffers(remove_duplicate=False))
    return {
        name: tensor
        for name, tensor in named.items()
        if name not in weights
        and tensor.is_floating_point()
        and tensor.dim() <= 2
        and tensor.numel()
        and (
            tensor.dim() == 0 or tensor.shape[-1] == cell.hidden_size or tuple(tensor.shape) == (1,)
        )
    }


@final
class _Leaves:
    """Example tensors for all that `pointwise` reads, known to the tracer."""

    def __init__(self, cell: GatedCell, dtype: torch.dtype, batch: int, tracer: Tracer):
        self.tracer, self.dtype = tracer, dtype
        self.whole = (batch, cell.hidden_size)
        self.wanted: list[tuple[Any, Tensor]] = []
        gates = range(len(cell.gate_names))
        self.x = tuple(self._block(Key("x", "", k)) for k in gates)
        self.u = tuple(self._block(Key("u", "", k)) for k in gates) if cell.lags else ()
        self.state = self._state(cell, batch)
        self.cotangents = [
            self._block(Key("cotangent", name), trained=False) for name in ("h", *cell.memories)
        ]
        self.streams = tuple(
            self._stream(i, stream) for i, stream in enumerate(_draw(cell, batch, dtype))
        )
        parameters = {name for name, _ in cell.named_parameters(remove_duplicate=False)}
        self.parameters = {
            name: self._rows(name, tensor.shape, name in parameters)
            for name, tensor in unit_tensors(cell).items()
        }

    def _state(self, cell: GatedCell, batch: int) -> State:
        fields: dict[str, Any] = {n: self._block(Key("state", n)) for n in ("h", *cell.memories)}
        depth = max(cell.lags, default=1)
        if depth > 1:
            fields["past"] = tuple(self._block(Key("past", "", d)) for d in range(2, depth + 1))
        if cell.streams:
            steps = torch.zeros(batch, dtype=torch.int64, device="cpu")
            fields["steps"] = self.tracer.give(steps, "pointwise reads state.steps")
        return state_type(*fields)(**fields)

    def _block(self, key: Key, trained: bool = True) -> Tensor:
        return self._leaf(self._keys([key], (1, 1)), self.whole, trained)

    def _rows(self, name: str, shape: torch.Size, trained: bool) -> Tensor:
        rows = shape[0] if len(shape) == 2 else 1
        keys = [Key("parameter", name, row) for row in range(rows)]
        counts = (rows, 1) if len(shape) == 2 else (1,) * len(shape)
        return self._leaf(self._keys(keys, counts), tuple(shape), trained)

    def _stream(self, index: int, like: Tensor) -> Tensor:
        keys = self._keys([Key("stream", "", index)], (1, 1))
        if like.dtype != torch.bool:
            return self._leaf(keys, tuple(like.shape), False)
        value = call("ne", Value(self.tracer.builder, self.tracer.builder.input(keys.item())), 0.0)
        return self.tracer.give(like.clone(), arrays.filled(value, like.shape))

    @staticmethod
    def _keys(keys: list[Key], shape: tuple[int, ...]) -> Any:
        return arrays.array_of(keys, shape)

    def _leaf(self, keys: Any, shape: tuple[int, ...], trained: bool) -> Tensor:
        builder, count = self.tracer.builder, int(np.prod(shape))
        # other numbers for another batch, so that nothing that depends on them stays unseen
        start, end = self.whole[0] + 0.5, self.whole[0] + 1.5
        tensor = torch.linspace(start, end, count, dtype=self.dtype, device="cpu").view(shape)
        tensor.requires_grad_(trained)
        values = [Value(builder, builder.input(key)) for key in keys.flat]
        self.wanted.append((keys, tensor))
        return self.tracer.give(tensor, arrays.array_of(values, keys.shape))


def _trace(cell: GatedCell, dtype: torch.dtype, batch: int) -> Trace:
    builder = Builder()
    tracer = Tracer(builder, dtype, (batch, cell.hidden_size), lambda t: _name_of(cell, t))
    try:
        leaves = _Leaves(cell, dtype, batch, tracer)
        with torch.enable_grad(), tracer:
            results = _results(cell, leaves)
            if tracer.refused is not None:  # and it was caught
                raise tracer.refused
            _check_results(cell, results, dtype, batch)
            tracer.note_detached(results)
            positions = tuple(tracer.value(r) for r in results)
            gradients = _gradients(tracer, leaves, results)
    except UntraceableError:
        raise
    except Exception as error:  # whatever it is, the eager engine meets it again
        raise UntraceableError(
            f"pointwise raised {type(error).__name__} when it was traced: {error}"
        ) from error
    if tracer.refused is not None:
        raise tracer.refused
    return Trace(tuple(builder.nodes), positions, gradients, tracer.detached)


def _results(cell: GatedCell, leaves: _Leaves) -> tuple[Any, ...]:
    own = (leaves.streams,) if cell.streams else ()
    result = bind(cell, leaves.parameters).pointwise(leaves.x, leaves.u, leaves.state, *own)
    return result if isinstance(result, tuple) else (result,)


def _gradients(tracer: Tracer, leaves: _Leaves, results: tuple[Tensor, ...]) -> dict[Key, int]:
    tracer.of_gradient = tracer.builder.of_gradient = True
    differentiable = [i for i, result in enumerate(results) if result.requires_grad]
    if not differentiable:
        return {}
    wanted = [(keys, t) for keys, t in leaves.wanted if t.requires_grad]
    end = _End.apply(
        [leaves.cotangents[i] for i in differentiable], *(results[i] for i in differentiable)
    )
    found = torch.autograd.grad(end, [tensor for _, tensor in wanted], allow_unused=True)
    gradients: dict[Key, int] = {}
    for (keys, _), gradient in zip(wanted, found, strict=True):
        if gradient is not None:
            values = np.broadcast_to(tracer.array(gradient), keys.shape).flat
            gradients |= {k: v.position for k, v in zip(keys.flat, values, strict=True)}
    return gradients


class _End(torch.autograd.Function):
    """A loss whose gradients are given tensors: torch loads sympy where they are given to it."""

    @staticmethod
    def forward(ctx: Any, cotangents: list[Tensor], *results: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.cotangents = cotangents
        return results[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *ctx.cotangents


def _draw(cell: GatedCell, batch: int, dtype: torch.dtype) -> list[Tensor]:
    """Streams of one step, of which the shapes and dtypes matter."""
    if not cell.streams:
        return []
    drawn = cell.draw_streams(
        torch.zeros(1, batch, dtype=torch.int64, device="cpu"),
        training=False,
        dtype=dtype,
        generator=torch.Generator("cpu").manual_seed(0),
    )
    return [stream[0] for stream in drawn]


def _check_results(cell: GatedCell, results: Any, dtype: torch.dtype, batch: int) -> None:
    names = ", ".join(("h", *cell.memories))
    if len(results) != 1 + len(cell.memories) or not all(isinstance(r, Tensor) for r in results):
        raise UntraceableError(
            "pointwise", got=f"{len(results)} results", expected=f"the tensors ({names})"
        )
    whole = (batch, cell.hidden_size)
    if any(tuple(r.shape) != whole or r.dtype != dtype for r in results):
        found = "; ".join(f"{tuple(r.shape)} {r.dtype}" for r in results)
        raise UntraceableError(
            "results of pointwise", got=found, expected=f"all of {whole} (batch, hidden) {dtype}"
        )


def _name_of(cell: GatedCell, tensor: Tensor) -> str:
    """A description of an unknown tensor in words."""
    named = dict(cell.named_parameters(remove_duplicate=False))
    named |= dict(cell.named_buffers(remove_duplicate=False))
    for name, known in named.items():
        if known is tensor:
            return (
                f"pointwise reads {name}, of shape {tuple(known.shape)}, which is no unit "
                "parameter: those are floating, of (hidden_size,) or (n, hidden_size)"
            )
    return (
        f"pointwise reads a tensor of shape {tuple(tensor.shape)} that is neither given to it nor "
        "a parameter or buffer of the cell: its gradient and its changes would be lost"
    )
