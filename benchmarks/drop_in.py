"""torch's own table of module inputs: what exports and runs with torch.nn, and with ours."""

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing._internal.common_modules import module_db
from torch.utils._pytree import tree_leaves

import throughtime as tt
from benchmarks.registry import Row, benchmark

# torch's table forbids its whole process to set flags of a backend, which training does.
torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True

KINDS: tuple[type[nn.RNNBase], ...] = (nn.RNN, nn.LSTM, nn.GRU)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one input in one way of exporting.

    Attributes:
        way: of exporting.
        theirs: why torch.nn's layer failed, or None.
        ours: why ours failed, or None.
    """

    way: str
    theirs: str | None
    ours: str | None


def exported(layer: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """By torch.export."""
    return tree_leaves(torch.export.export(layer, arguments, strict=False).module()(*arguments))


def exported_strictly(layer: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """By strict torch.export."""
    return tree_leaves(torch.export.export(layer, arguments, strict=True).module()(*arguments))


def onnx(layer: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """By ONNX's exporter of programs, and ONNX Runtime."""
    file: Any = io.BytesIO()
    program = torch.onnx.export(layer, arguments, dynamo=True, verbose=False)
    assert program is not None
    program.save(file)
    return _run(file, arguments)


def onnx_traced(layer: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """By ONNX's exporter of traces, and ONNX Runtime."""
    file: Any = io.BytesIO()
    torch.onnx.export(layer, arguments, file, dynamo=False)
    return _run(file, arguments)


WAYS: dict[str, Callable[[nn.Module, tuple[Any, ...]], list[Tensor]]] = {
    "torch.export": exported,
    "torch.export strict": exported_strictly,
    "ONNX": onnx,
    "ONNX, traced": onnx_traced,
}


def outcomes(
    kind: type[nn.RNNBase], ways: tuple[str, ...] = tuple(WAYS), step: int = 1
) -> Iterator[Outcome]:
    """What becomes of the inputs of one of torch's layers.

    Arguments:
        kind: of torch's layers.
        ways: of exporting, of `WAYS`.
        step: every which input of the table is taken.
    """
    (info,) = (m for m in module_db if m.module_cls is kind)
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=False
    )
    for given in inputs[::step]:
        built, called = given.constructor_input, given.forward_input
        theirs = kind(*built.args, **built.kwargs).eval()
        ours = getattr(tt, kind.__name__)(*built.args, **built.kwargs).eval()
        ours.load_state_dict(theirs.state_dict())
        arguments = (*called.args, *called.kwargs.values())
        with warnings.catch_warnings(action="ignore"):  # oneDNN has no projections
            expected = tree_leaves(theirs(*arguments))
        for way in ways:
            fails = [_failure(WAYS[way], layer, arguments, expected) for layer in (theirs, ours)]
            yield Outcome(way, *fails)


@benchmark("drop-in")
def drop_in(rounds: int) -> list[Row]:
    """How many inputs work with ours, of those that work with torch.nn, and of the others."""
    del rounds
    rows: list[Row] = []
    for kind in KINDS:
        found = list(outcomes(kind))
        for way in WAYS:
            of_way = [o for o in found if o.way == way]
            for name, chosen in (
                ("with torch.nn works", [o for o in of_way if o.theirs is None]),
                ("with torch.nn fails", [o for o in of_way if o.theirs is not None]),
            ):
                works = sum(o.ours is None for o in chosen)
                unit = f"inputs work, of {len(chosen)}"
                rows.append(Row(f"{kind.__name__}, {way}", "ours", name, works, works, works, unit))
                for reason in sorted({o.ours for o in chosen if o.ours is not None}):
                    print(f"{kind.__name__}, {way}, {name}: ours: {reason}")
    return rows


def _failure(
    way: Callable[[nn.Module, tuple[Any, ...]], list[Tensor]],
    layer: nn.Module,
    arguments: tuple[Any, ...],
    expected: list[Tensor],
) -> str | None:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        logging.disable(logging.ERROR)
        try:
            got = way(layer, arguments)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        except Exception as error:  # noqa: BLE001  # exporters raise what they like
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        finally:
            logging.disable(logging.NOTSET)
    return None


def _run(file: io.BytesIO, arguments: tuple[Any, ...]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    feed = dict(zip(names, (t.numpy() for t in tree_leaves(arguments)), strict=True))
    found: Any = session.run(None, feed)
    return [torch.from_numpy(array) for array in found]
