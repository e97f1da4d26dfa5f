"""What a memory budget costs: bytes that are kept, and times of a training step."""

import torch
from torch import Tensor

import throughtime as tt
from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.errors import ThroughtimeError

BATCH, TIME, WIDTH, HIDDEN = 32, 2000, 8, 64
SHARES = (2, 8, 32)
ALL = "all stored"


@benchmark("budget")
def budget(rounds: int) -> list[Row]:
    """An LSTM with all stored, with sqrt(T) checkpoints, and within parts of what all needs."""
    rows: list[Row] = []
    for engine in ("native", "eager"):
        torch.manual_seed(0)
        layer = tt.LSTM(WIDTH, HIDDEN, engine=engine)
        x = torch.randn(TIME, BATCH, WIDTH, requires_grad=True)
        whole, expected = _kept(layer, x, {}), _train(layer, x, {})
        options = {ALL: {}, "checkpoint=sqrt": {"checkpoint": "sqrt"}} | {
            f"1/{n} of it": {"memory_budget": whole // n} for n in SHARES
        }
        case = f"{engine} LSTM B={BATCH} T={TIME} I={WIDTH} H={HIDDEN}"
        for name, own in options.items():
            kept = _kept(layer, x, own) / 1e6
            rows.append(Row(case, name, "inputs and outputs", kept, kept, kept, "MB kept"))
            for got, right in zip(_train(layer, x, own), expected, strict=True):
                if not torch.allclose(got, right, rtol=1e-3, atol=1e-3 * float(right.abs().max())):
                    raise ThroughtimeError("gradients differ: no figure is given")

        def run(own: dict, layer: tt.LSTM = layer, x: Tensor = x):
            return lambda: _train(layer, x, own)

        times = compare(case, {name: run(own) for name, own in options.items()}, ALL, rounds)
        rows += times
    return rows


def _train(layer: tt.LSTM, x: Tensor, options: dict) -> tuple[Tensor, ...]:
    with tt.engine_options(**options):
        outputs, _ = layer(x)
    return torch.autograd.grad(outputs.square().sum(), [x, *layer.parameters()])


def _kept(layer: tt.LSTM, x: Tensor, options: dict) -> int:
    """Bytes of tensors that the graph keeps after the forward pass, beside the caller's."""
    sizes: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor)
    with tt.engine_options(**options), hooks:
        outputs, (h, c) = layer(x)
    for tensor in (x, outputs, h, c, *layer.parameters()):
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(sizes.values())
