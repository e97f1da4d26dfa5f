"""The kernels within torch: transforms, second derivatives, autocast, threads, processes."""

import copy
import gc
import os
import threading
import warnings

import pytest
import torch
from cells.samples import MultiplicativeIntegration, StreamedCell
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import throughtime as tt
from throughtime.core import buffers
from throughtime.core.errors import EngineRefusalError
from throughtime.engines import Request, engine_options, recording, run
from throughtime.engines.cpp import kernel as kernels
from throughtime.engines.cpp import operators
from throughtime.engines.cpp.compiler import find_compiler

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


def layer(**options):
    torch.manual_seed(0)
    return tt.LSTM(3, 5, dtype=torch.float64, **{"engine": "native", **options})


def pair(kind=None, **options):
    """The same layer by both engines."""
    native = kind(**options) if kind else layer(**options)
    eager = copy.deepcopy(native)
    eager.engine = "eager"
    return native, eager


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_double_backward():
    native, eager = pair()
    torch.manual_seed(1)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    found = []
    for one in (native, eager):
        inputs = x.clone().requires_grad_()
        leaves = [inputs, *one.parameters()]
        first = torch.autograd.grad(one(inputs)[0].pow(3).sum(), leaves, create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        found.append(torch.autograd.grad(penalty, leaves))
    close(*found)


@pytest.mark.parametrize("lengths", [None, [3, 2]])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("kind", [StreamedCell, MultiplicativeIntegration])
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_gradgradcheck(kind, lengths, resets, fast):
    """Of random projections of the Jacobians; of each of their entries by night."""
    torch.manual_seed(2)
    native = tt.Recurrent(kind, 2, 3, engine="native", dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    reset = None
    if resets:
        reset = torch.zeros(3, 2, dtype=torch.bool)
        reset[2, 0] = reset[1, 1] = True

    def function(inputs, *weights):
        del weights
        torch.manual_seed(3)  # streams are drawn anew for each call
        outputs, state = native(inputs, lengths=lengths, reset=reset)
        return outputs, state.h

    leaves = (x, *native.parameters())
    with recording() as names:
        assert torch.autograd.gradcheck(function, leaves, fast_mode=fast)
        assert torch.autograd.gradgradcheck(function, leaves, fast_mode=fast)
    assert set(names) == {"native"}


@pytest.mark.parametrize("lengths", [None, [4, 2]])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("kind", [StreamedCell, MultiplicativeIntegration])
def test_second_derivatives_are_those_of_eager(kind, lengths, resets):
    """Every one, along random directions of the first derivatives."""
    torch.manual_seed(2)
    native, eager = pair(lambda: tt.Recurrent(kind, 2, 3, dtype=torch.float64))
    native.engine = "native"
    x = torch.randn(4, 2, 2, dtype=torch.float64)
    reset = torch.zeros(4, 2, dtype=torch.bool)
    if resets:
        reset[2, 0] = reset[1, 1] = True
    found = []
    for one in (native, eager):
        torch.manual_seed(3)  # of streams and of directions
        inputs = x.clone().requires_grad_()
        leaves = [inputs, *one.parameters()]
        outputs, state = one(inputs, lengths=lengths, reset=reset)
        directions = [torch.randn_like(t, requires_grad=True) for t in (outputs, state.h)]
        first = torch.autograd.grad((outputs, state.h), leaves, directions, create_graph=True)
        value = sum((g * torch.randn_like(g)).sum() for g in first)
        second = torch.autograd.grad(value, [*leaves, *directions], allow_unused=True)
        found.append([*first, *(g for g in second if g is not None)])
    assert len(found[0]) == len(found[1])
    close(*found)


class StraightThrough(tt.GatedCell):
    """A hard unit whose gradient is another's: the program does not show it."""

    gates = 1

    def pointwise(self, x, u, state):
        soft = torch.tanh(x[0] + u[0])
        return soft + (torch.sign(soft) - soft).detach()


def test_gradients_of_ones_own():
    native, eager = pair(lambda: tt.Recurrent(StraightThrough, 3, 5, dtype=torch.float64))
    native.engine = "native"
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    found = [
        torch.autograd.grad(one(x)[0].pow(2).sum(), [x, *one.parameters()])
        for one in (native, eager)
    ]
    close(*found)
    (first,) = torch.autograd.grad(native(x)[0].pow(2).sum(), x, create_graph=True)
    with pytest.raises(EngineRefusalError, match=r"detach.*Use engine='eager'"):
        first.sum().backward()


def test_third_derivative():
    native, eager = pair()
    torch.manual_seed(1)
    x = torch.randn(3, 1, 3, dtype=torch.float64)
    found = []
    for one in (native, eager):
        value = inputs = x.clone().requires_grad_()
        value = one(inputs)[0].pow(3).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(value, inputs, create_graph=True)
            value = gradient.pow(2).sum()
        found.append(value.detach())
    close(*found)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # by torch.func.jvp itself
@pytest.mark.parametrize("transform", ["grad", "jacrev", "vmap", "jvp"])
def test_functional_transforms_go_to_eager(transform):
    native = layer(engine="auto")
    x = torch.randn(2, 1, 3, dtype=torch.float64)

    def loss(inputs):
        return native(inputs)[0].square().sum()

    with recording() as names:
        if transform == "grad":
            torch.func.grad(loss)(x)
        elif transform == "jacrev":
            torch.func.jacrev(loss)(x)
        elif transform == "vmap":
            torch.func.vmap(loss)(x.expand(4, *x.shape))
        else:
            torch.func.jvp(loss, (x,), (x,))
    assert set(names) == {"eager"}
    native.engine = "native"
    with pytest.raises(EngineRefusalError, match=r"torch\.func|forward-mode"):
        torch.func.grad(loss)(x)


def test_functional_call():
    native = layer()
    doubled = {name: 2 * p for name, p in native.named_parameters()}
    x = torch.randn(2, 1, 3, dtype=torch.float64)
    got = torch.func.functional_call(native, doubled, (x,))[0]
    other = layer()
    other.load_state_dict(doubled)
    close(got, other(x)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype):
    torch.manual_seed(0)
    native = tt.LSTM(3, 5, engine="native")
    x = torch.randn(7, 2, 3)
    plain = native(x)[0]
    plain.sum().backward()
    expected = [p.grad.clone() for p in native.parameters()]
    native.zero_grad()
    with torch.autocast("cpu", dtype=dtype), recording() as names:
        outputs, (h, c) = native(x)
    assert names == ["native"]
    assert outputs.dtype == h.dtype == c.dtype == dtype  # as torch.nn's
    torch.testing.assert_close(outputs, plain.to(dtype), rtol=0, atol=0)
    outputs.float().sum().backward()
    torch.testing.assert_close([p.grad for p in native.parameters()], expected)


def test_activation_checkpointing():
    native, _ = pair()
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(native(x)[0].square().sum(), [x, *native.parameters()])
    again = checkpoint(lambda v: native(v)[0], x, use_reentrant=False).square().sum()
    close(torch.autograd.grad(again, [x, *native.parameters()]), plain, 0)


@pytest.mark.parametrize("lags", [(1,), (1, 3)])
@pytest.mark.parametrize("every", ["sqrt", 1, 3, 100])
def test_checkpoints_change_nothing(every, lags):
    torch.manual_seed(0)
    native = tt.Recurrent(
        tt.cells.ElmanCell if lags != (1,) else tt.cells.LSTMCell,
        3,
        5,
        engine="native",
        **({"lags": lags} if lags != (1,) else {}),
    )
    x = torch.randn(11, 3, 3, requires_grad=True)
    reset = torch.rand(11, 3) < 0.2
    for lengths in (None, [11, 4, 7]):
        found = []
        for options in ({}, {"checkpoint": every}):
            with engine_options(**options):
                outputs, state = native(x, lengths=lengths, reset=reset, return_states=False)
            h = state if isinstance(state, torch.Tensor) else state.h
            loss = outputs.square().sum() + h.sum()
            found.append([outputs, *torch.autograd.grad(loss, [x, *native.parameters()])])
        close(*found, tolerance=1e-5)


def test_checkpoints_with_the_last_output_keep_no_history():
    cell = tt.LSTM(3, 5, engine="native").as_cell()
    x = torch.randn(40, 2, 3)
    state = cell.initial_state(2, dtype=x.dtype, device=x.device)
    found = []
    for options in ({}, {"checkpoint": 6}):
        with engine_options(**options):
            request = Request(cell, x, state, outputs="last")
        outputs = run(request, "native").outputs
        kept = outputs.grad_fn.saved_tensors[-4:]
        assert any(t.numel() >= 40 * 2 * 5 for t in kept) != bool(options)
        found.append(torch.autograd.grad(outputs.sum(), list(cell.parameters())))
    close(*found, tolerance=1e-6)


def test_the_vendor_refuses_checkpoints():
    with engine_options(checkpoint=3), pytest.raises(EngineRefusalError, match="checkpoint"):
        layer(engine="vendor")(torch.ones(4, 1, 3, dtype=torch.float64))


def test_outputs_and_gradients_are_never_overwritten():
    torch.manual_seed(0)
    native = tt.LSTM(64, 96, engine="native")  # large enough for buffers of the pool
    x = torch.randn(200, 20, 64, requires_grad=True)
    first = native(x)[0]
    kept = first.detach().clone()
    gradients = torch.autograd.grad(first.sum(), [x, *native.parameters()], retain_graph=True)
    copies = [g.clone() for g in gradients]
    for _ in range(3):
        second = native(x.detach() + 1)[0]
        second.sum().backward()
    gc.collect()
    close(first.detach(), kept, 0)
    close(list(gradients), copies, 0)
    close(list(torch.autograd.grad(first.sum(), [x, *native.parameters()])), copies, 0)


def test_poisoned_buffers(monkeypatch):
    """Nothing is read that was not written: all memory starts as NaN."""

    def poisoned(shape, dtype):
        tensor = torch.empty(shape, dtype=dtype)
        if dtype.is_floating_point:
            return tensor.fill_(torch.nan)
        return tensor.fill_(255)

    for kind in (StreamedCell, MultiplicativeIntegration):
        native, eager = pair(lambda k=kind: tt.Recurrent(k, 3, 21, dtype=torch.float64))
        native.engine = "native"
        x = torch.randn(9, 5, 3, dtype=torch.float64, requires_grad=True)
        lengths, reset = [9, 1, 4, 9, 8], torch.rand(9, 5) < 0.2
        found = []
        for one in (native, eager):
            torch.manual_seed(4)
            with monkeypatch.context() as patch:
                patch.setattr(operators, "lend", poisoned)
                patch.setattr(kernels, "lend", poisoned)
                outputs, state = one(x, lengths=lengths, reset=reset)
                loss = outputs.square().sum() + state.h.sum()
                found.append([outputs, *torch.autograd.grad(loss, [x, *one.parameters()])])
        close(*found)


def test_several_threads_at_once():
    torch.manual_seed(0)
    native = tt.LSTM(4, 32, engine="native")
    inputs = [torch.randn(50, 6, 4) for _ in range(8)]

    def gradient(x):
        return torch.autograd.grad(native(x)[0].sum(), list(native.parameters()))

    expected = [gradient(x) for x in inputs]
    found: list = [None] * len(inputs)

    def work(i):
        for _ in range(10):
            found[i] = gradient(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, wanted in zip(found, expected, strict=True):
        close(got, wanted, 0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_at_the_same_thread_count(threads):
    torch.manual_seed(0)
    native = tt.LSTM(4, 33, engine="native")
    x = torch.randn(30, 7, 4, requires_grad=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = []
        for _ in range(3):
            outputs = native(x)[0]
            gradients = torch.autograd.grad(outputs.sum(), [x, *native.parameters()])
            runs.append([outputs, *gradients])
    finally:
        torch.set_num_threads(before)
    close(runs[0], runs[1], 0)
    close(runs[0], runs[2], 0)


def test_a_fork_has_threads_of_its_own():
    native = tt.LSTM(4, 8, engine="native")
    x = torch.randn(5, 6, 4)
    expected = native(x)[0].detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a threaded process forks
        child = os.fork()
    if child == 0:
        with torch.no_grad():
            same = bool((native(x)[0] == expected).all())
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_inference_keeps_nothing():
    native = tt.LSTM(4, 64, engine="native")
    x = torch.randn(100, 64, 4)
    with torch.no_grad():
        outputs, _ = native(x)
    assert outputs.grad_fn is None
    gc.collect()
    buffers.clear()
    with torch.inference_mode():
        close(native(x)[0], outputs, 0)


def test_operators_pass_torchs_own_checks():
    from throughtime.engines.cpp.engine import kernel_of
    from throughtime.engines.cpp.operands import gather
    from throughtime.engines.cpp.operators import sequence

    torch.manual_seed(0)
    cell = tt.LSTM(3, 5, dtype=torch.float64).as_cell()
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    state = cell.initial_state(2, dtype=x.dtype, device=x.device)
    kernel = kernel_of(cell, x.dtype)
    operands = gather(kernel.plan, cell, x, state, ())
    for segment in (0, 2):
        arguments = (kernel.name, operands, None, None, "all", True, segment)
        torch.library.opcheck(sequence, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("every", [None, 4])
@pytest.mark.parametrize("kind", [tt.cells.GRUCell, StreamedCell, MultiplicativeIntegration])
def test_threads_that_share_rows(kind, every, threads, monkeypatch):
    """Units cut between threads give what rows cut between them give."""
    torch.manual_seed(0)
    native = tt.Recurrent(kind, 3, 192, engine="native", dtype=torch.float64)
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    reset = torch.rand(9, 2) < 0.2
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for given in ({}, {"lengths": [9, 5], "reset": reset}):
            found = []
            for sharing in (1, threads):
                monkeypatch.setattr(operators, "split_units", lambda *_, n=sharing: n)
                torch.manual_seed(5)
                with engine_options(checkpoint=every):
                    outputs, state = native(x, **given)
                h = state if isinstance(state, torch.Tensor) else state.h
                loss = outputs.square().sum() + h.sum()
                found.append([outputs, h, *torch.autograd.grad(loss, [x, *native.parameters()])])
            close(*found)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@pytest.mark.parametrize("every", [None, 30])
@pytest.mark.parametrize(
    "kind", [tt.cells.LSTMCell, tt.cells.GRUCell, tt.cells.ElmanCell, StreamedCell]
)
def test_input_products_of_several_steps_at_once(kind, every, batch):
    """Small batches with resets and lengths equal the eager engine, over many such products."""
    torch.manual_seed(0)
    layer = tt.Recurrent(kind, 3, 21, dtype=torch.float64)
    x = torch.randn(110, batch, 3, dtype=torch.float64, requires_grad=True)
    given = {"lengths": [110 - 17 * b for b in range(batch)], "reset": torch.rand(110, batch) < 0.1}
    found = []
    for engine in ("native", "eager"):
        layer.engine = engine
        torch.manual_seed(5)
        with engine_options(checkpoint=every if engine == "native" else None):
            outputs, state = layer(x, **given)
        h = state if isinstance(state, torch.Tensor) else state.h
        loss = outputs.square().sum() + h.sum()
        found.append([outputs, h, *torch.autograd.grad(loss, [x, *layer.parameters()])])
    close(*found, tolerance=1e-9)


@pytest.mark.parametrize(
    ("batch", "threads", "weights", "sharing"),
    [
        (1, 2, 2**17, 2),  # an idle thread gets half of the units
        (1, 2, 2**12, 1),  # waits would take longer than the work
        (2, 2, 2**17, 1),  # no thread is idle
        (3, 2, 2**17, 2),
        (16, 2, 2**23, 2),  # weights that a cache does not hold are read by one thread each
        (64, 2, 2**23, 1),
        (1, 64, 2**17, 2),
        (1, 64, 2**23, 23),
        (1, 1, 2**23, 1),
    ],
)
def test_how_many_threads_share_rows(batch, threads, weights, sharing):
    assert operators.split_units(batch, threads, weights) == sharing


def test_threads_that_share_rows_for_several_callers(monkeypatch):
    monkeypatch.setattr(operators, "split_units", lambda *_: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    test_several_threads_at_once()


def test_gradients_of_gradients_pass_torchs_check_of_batched_ones():
    layer = tt.GRU(2, 2, dtype=torch.float64, engine="native")
    x = torch.randn(2, 1, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: layer(x)[0], x, check_batched_grad=True)
    assert gradgradcheck(lambda x: layer(x)[0], x, check_batched_grad=True)


def test_vmap_over_a_backward_pass():
    layer = tt.LSTM(2, 3, dtype=torch.float64, engine="native")
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    output = layer(x)[0]
    cotangents = torch.randn(5, *output.shape, dtype=torch.float64)

    def pulled_back(cotangent: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(output, x, cotangent, retain_graph=True)[0]

    one_by_one = torch.stack([pulled_back(c) for c in cotangents])
    torch.testing.assert_close(torch.vmap(pulled_back)(cotangents), one_by_one)
