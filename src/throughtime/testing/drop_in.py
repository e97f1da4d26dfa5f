"""The suite of every recurrent layer: conventions, captured programs, and transforms."""

import abc
import contextlib
import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from throughtime.core import errors
from throughtime.core.state import state_tensors
from throughtime.layers import RecurrentLayer
from throughtime.testing.compare import close, floating

WIDTH = 3
"""The width of the inputs that the suites draw."""


Dim = torch.export.Dim


class Model(nn.Module):
    """A model that holds a layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.rnn = layer
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """The outputs, and the state."""
        output, state = self.rnn(x)
        return output, state


class ModelOfRows(nn.Module):
    """A model that gives lengths and resets to its layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.rnn = layer
        self.eval()

    def forward(self, x: Tensor, lengths: Tensor, reset: Tensor) -> Any:
        """The outputs, and the state."""
        output, state = self.rnn(x, lengths=lengths, reset=reset)
        return output, state


class DropInConformance(abc.ABC):
    """The rules of every recurrent layer that stands in the place of one of torch.nn.

    Inherit it, supply `make`, and `reference` where torch.nn has such a layer, and run pytest. All
    layers are in float64 and run by engine "auto"; results equal the reference's, or those of the
    same layer run by the eager engine.

    Attributes:
        tolerance: relative or absolute, between the results of the two.
    """

    tolerance = 1e-10

    @abc.abstractmethod
    def make(self, **options: Any) -> RecurrentLayer:
        """The layer, of input width `WIDTH`.

        Arguments:
            options: Options of the constructor: `dtype`, `device`, `batch_first`.
        """

    def reference(self, **options: Any) -> nn.Module | None:
        """The layer of torch.nn with the same arguments and names of parameters, or None.

        Arguments:
            options: The options of `make`.
        """
        del options
        return None

    def pair(self, **options: Any) -> tuple[RecurrentLayer, nn.Module]:
        """The layer and its reference, with the same weights; in evaluation mode.

        Arguments:
            options: The options of `make`; `dtype` is float64 if it is left out.
        """
        options = {"dtype": torch.float64, **options}
        ours, theirs = self.make(**options).eval(), self.reference(**options)
        if theirs is None:
            theirs = copy.deepcopy(ours)
            theirs.engine = "eager"
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs.eval()

    def input(self, time: int = 5, batch: int = 2) -> Tensor:
        """Inputs of a fixed draw, (time, batch, WIDTH), float64, with gradient."""
        generator = torch.Generator().manual_seed(time)
        x = torch.randn(time, batch, WIDTH, generator=generator, dtype=torch.float64)
        return x.requires_grad_()

    def test_results_and_gradients(self) -> None:
        """Outputs, state and the gradient of the input equal the reference's."""
        ours, theirs = self.pair()
        x = self.input()
        results = [floating(layer(x)) for layer in (ours, theirs)]
        close(results[0], results[1], self.tolerance)
        gradients = [torch.autograd.grad(r[0].square().sum(), x)[0] for r in results]
        close(gradients[:1], gradients[1:], self.tolerance)

    def test_built_in_inference_mode(self) -> None:
        """A layer that is built and run in inference mode equals one that is not."""
        torch.manual_seed(1)
        expected = self.make(dtype=torch.float64).eval()(self.input().detach())
        torch.manual_seed(1)
        with torch.inference_mode():
            got = self.make(dtype=torch.float64).eval()(self.input().detach())
        assert got[0].is_inference()
        close(floating(got), floating(expected), self.tolerance)

    def test_weights_stay_where_conversion_swaps_them(self) -> None:
        """`set_swap_module_params_on_conversion` leaves a new layer its weights."""
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            torch.manual_seed(1)
            swapped = self.make()
            converted = self.make().to(torch.float64)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
        torch.manual_seed(1)
        close(list(swapped.parameters()), list(self.make().parameters()), 0.0)
        output = converted(self.input())[0]
        assert output.dtype == torch.float64
        assert output.isfinite().all()

    def test_evaluation_draws_nothing(self) -> None:
        """A call in evaluation mode, and `explain`, leave the global generator as it is."""
        layer = self.make(dtype=torch.float64).eval()
        before = torch.get_rng_state()
        layer(self.input(), reset=torch.ones(5, 2, dtype=torch.bool))
        layer.explain(self.input())
        layer.train().explain(self.input())
        assert torch.equal(torch.get_rng_state(), before)

    def test_errors_are_those_of_torch(self) -> None:
        """`except` clauses that are written for torch.nn catch ours."""
        layer, x = self.make(dtype=torch.float64), self.input().detach()
        for wrong in (x[:0], x[..., :1], x[None], x.to_sparse()):
            with pytest.raises(RuntimeError, match="input: got"):
                layer(wrong)
        with pytest.raises(ValueError, match=r"input: got dtype torch\.float32"):
            layer(x.float())
        with pytest.raises(RuntimeError, match="input: got device meta"):
            layer(x.to("meta"))
        state = layer(x)[1]
        first = state_tensors(state)[0][:, :1]
        given = first if isinstance(state, torch.Tensor) else type(state)(first, *state[1:])
        with pytest.raises(RuntimeError, match="got shape") as caught:
            layer(x, given)
        assert isinstance(caught.value, errors.StateError)

    def test_state_is_made_anew_as_a_tuple_is(self) -> None:
        """`type(h)(f(t) for t in h)`, as code for torch's (h, c) detaches a state, works."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input()
        state = layer(x)[1]
        if isinstance(state, torch.Tensor):
            return  # as of torch.nn.GRU
        for make in (iter, list, tuple):
            again = type(state)(make(state))
            assert type(again) is type(state)
            assert all(a is b for a, b in zip(again, state, strict=True))
        close(floating(layer(x, type(state)(s for s in state))), floating(layer(x, state)), 0.0)

    def test_reset_and_lengths_may_change_before_the_backward_pass(self) -> None:
        """Gradients are those of the values that the call was given."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input(time=6)
        first = torch.zeros(6, 2, dtype=torch.bool)
        first[3, 0] = True
        found = []
        for change in (False, True):
            reset, lengths = first.clone(), torch.tensor([6, 4])
            output = layer(x, reset=reset, lengths=lengths)[0]
            if change:
                reset.fill_(True)
                lengths.fill_(1)
            found.append(torch.autograd.grad(output.square().sum(), [x, *layer.parameters()]))
        close(found[1], found[0], 0.0)

    def test_results_may_be_changed_in_place(self) -> None:
        """Gradients are those of the values that the call returned."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input()
        wanted = [x, *layer.parameters()]
        calls: list[dict[str, Any]] = [{}, {"return_states": True}, {"lengths": [5, 3]}]
        for more in calls:
            found = []
            for change in (False, True):
                results = floating(layer(x, **more))
                doubled = [r.mul_(2) if change else 2 * r for r in results]
                loss = torch.stack([d.square().sum() for d in doubled]).sum()
                found.append(torch.autograd.grad(loss, wanted))
            close(found[1], found[0], 1e-12)

    def test_flat_weights(self) -> None:
        """`_flat_weights` lists the parameters; a list that is set is run with until conversion."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input()
        reference = self.reference(dtype=torch.float64)
        names, weights = layer._flat_weights_names, layer._flat_weights
        if reference is not None:
            assert names == reference._flat_weights_names
        assert [id(w) for w in weights] == [id(p) for p in layer.parameters()]
        doubled = [(2 * w.detach()).requires_grad_() for w in weights if w is not None]
        named = dict(zip(names, doubled, strict=True))
        expected = torch.func.functional_call(layer, named, x)[0]
        plain = layer(x)[0]
        layer._flat_weights = doubled
        assert all(a is b for a, b in zip(layer._flat_weights, doubled, strict=True))
        assert [id(w) for w in weights] == [id(p) for p in layer.parameters()]
        output = layer(x)[0]
        close([output], [expected], 0.0)
        found = [torch.autograd.grad(o.square().sum(), doubled) for o in (output, expected)]
        close(found[0], found[1], 0.0)
        close([torch.func.functional_call(layer, named, x)[0]], [expected], 0.0)
        layer.to(torch.float64)
        assert [id(w) for w in layer._flat_weights] == [id(p) for p in layer.parameters()]
        close([layer(x)[0]], [plain], 0.0)
        with pytest.raises(errors.ConfigurationError, match="_flat_weights: got 1 tensors"):
            layer._flat_weights = doubled[:1]

    @pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
    @pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
    def test_autocast_gives_dtypes_that_no_engine_changes(self, lower: torch.dtype) -> None:
        """Outputs and state come in the dtypes of torch.nn's layer, by every engine."""
        layer = self.make(dtype=torch.float32).eval()
        reference = self.reference(dtype=torch.float32)
        for dtype in (torch.float32, lower):
            for packed in (False, True):
                x = self.input().detach().to(dtype)
                found: dict[str, list[torch.dtype]] = {}
                with torch.autocast("cpu", lower):
                    given: Any = pack_padded_sequence(x, [5, 3]) if packed else x
                    for engine in ("auto", "eager", "vendor", "scan"):
                        layer.engine = engine
                        with contextlib.suppress(errors.EngineRefusalError):
                            found[engine] = _dtypes(layer(given))
                    if reference is not None:
                        # of float16, torch has no oneDNN kernel
                        with contextlib.suppress(RuntimeError):
                            found["torch.nn"] = _dtypes(reference(given))
                assert len(found) > 1
                assert all(kinds == found["eager"] for kinds in found.values()), found

    def test_batched_gradients(self) -> None:
        """Gradients of many cotangents at once, and a Jacobian, equal those one by one."""
        ours, theirs = self.pair()
        x = self.input()
        output = ours(x)[0]
        tensors = [x, *ours.parameters()]
        generator = torch.Generator().manual_seed(1)
        cotangents = torch.randn(3, *output.shape, generator=generator, dtype=output.dtype)
        batched = torch.autograd.grad(
            output, tensors, cotangents, retain_graph=True, is_grads_batched=True
        )
        single = [
            torch.autograd.grad(output, tensors, c, retain_graph=True, materialize_grads=True)
            for c in cotangents
        ]
        close(batched, [torch.stack(parts) for parts in zip(*single, strict=True)], self.tolerance)
        jacobians = [
            torch.autograd.functional.jacobian(_output_of(layer), x.detach(), vectorize=vectorize)
            for layer, vectorize in ((ours, True), (theirs, False))
        ]
        close(jacobians[:1], jacobians[1:], self.tolerance)

    def test_vmap(self) -> None:
        """A batch of batches, with and without resets of their own."""
        ours, _ = self.pair()
        x = torch.stack([self.input(), 2 * self.input()]).detach()
        reset = torch.zeros(x.shape[:3], dtype=torch.bool, device="cpu")
        reset[0, 1, 0] = reset[1, 3] = True
        close(
            [
                torch.vmap(_output_of(ours))(x),
                torch.vmap(lambda x, r: ours(x, reset=r)[0])(x, reset),
            ],
            [
                torch.stack([ours(part)[0] for part in x]),
                torch.stack([ours(part, reset=r)[0] for part, r in zip(x, reset, strict=True)]),
            ],
            self.tolerance,
        )

    def test_exported_program(self) -> None:
        """torch.export without gradients: of any batch, saved, loaded, and then differentiated."""
        ours, theirs = self.pair()
        with torch.no_grad():
            program = torch.export.export(
                Model(ours),
                (self.input().detach(),),
                dynamic_shapes={"x": {1: Dim("batch")}},
                strict=False,
            )
        check_operators(program)
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        loaded = torch.export.load(file).module()
        self._check_program(loaded, theirs, self.input(batch=3))
        assert type(loaded(self.input())[1]) in (tuple, torch.Tensor)

    def test_exported_program_of_rows(self) -> None:
        """torch.export of any batch and time, with lengths and resets, and then differentiated."""
        ours, _ = self.pair()
        x, lengths = self.input().detach(), torch.tensor([5, 2], device="cpu")
        reset = torch.zeros(5, 2, dtype=torch.bool, device="cpu")
        time, batch = Dim("time", min=2), Dim("batch")
        program = torch.export.export(
            ModelOfRows(ours),
            (x, lengths, reset),
            dynamic_shapes=({0: time, 1: batch}, {0: batch}, {0: time, 1: batch}),
            strict=False,
        )
        check_operators(program)
        run = program.module()
        x, lengths = self.input(6, 3), torch.tensor([1, 6, 4], device="cpu")
        reset = torch.zeros(6, 3, dtype=torch.bool, device="cpu")
        reset[2, 1] = reset[3] = True
        results = [
            state_tensors(run(x, lengths, reset)),
            state_tensors(ours(x, lengths=lengths, reset=reset)),
        ]
        close(results[0], results[1], self.tolerance)
        gradients = [_gradient(r, x) for r in results]
        close(gradients[:1], gradients[1:], self.tolerance)

    def test_traced(self) -> None:
        """torch.jit.trace, with its own check, of another batch, and then differentiated."""
        ours, theirs = self.pair()
        with torch.no_grad():
            traced: Any = torch.jit.trace(Model(ours), self.input().detach())
        self._check_program(traced, theirs, self.input(batch=4))

    def test_made_by_proxies(self) -> None:
        """make_fx without gradients, and then differentiated."""
        ours, theirs = self.pair()
        with torch.no_grad():
            graph = make_fx(lambda x: state_tensors(Model(ours)(x)))(self.input().detach())
        self._check_program(graph, theirs, self.input())

    def test_symbolic_trace(self) -> None:
        """torch.fx.symbolic_trace of a model takes the layer as one node."""
        ours, theirs = self.pair()
        graph = torch.fx.symbolic_trace(Model(ours))
        assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["rnn"]
        self._check_program(graph, theirs, self.input())

    def test_scripted(self) -> None:
        """torch.jit.script of a model with a layer that torch.nn has; a refusal of others."""
        ours, theirs = self.pair()
        model = Model(ours)
        if any(cell.torch_equivalent is None for cell in ours.cells()):
            try:
                torch.jit.script(model)
            except errors.ConfigurationError as error:
                assert "torch.export or torch.jit.trace" in str(error)  # noqa: PT017
                return
            raise AssertionError("a layer that torch.nn has not was compiled")
        self._check_program(torch.jit.script(model), theirs, self.input())
        # the model still runs our layer in Python
        reset = torch.zeros(5, 2, dtype=torch.bool, device="cpu")
        assert model.rnn(self.input(), reset=reset)[0].shape[:2] == (5, 2)

    def test_without_values(self) -> None:
        """Layers built and run on the meta device and under FakeTensorMode."""
        with FakeTensorMode():
            fake = self.make()(torch.zeros(5, 2, WIDTH))
        with torch.device("meta"):
            layer = self.make()
        x = torch.zeros(5, 2, WIDTH, device="meta")
        reset = torch.zeros(5, 2, dtype=torch.bool, device="meta")
        plain = self.make()(torch.zeros(5, 2, WIDTH))
        for result in (fake, layer(x), layer(x, lengths=[5, 2], reset=reset)):
            pairs = zip(state_tensors(result), state_tensors(plain), strict=True)
            assert all(r.shape == p.shape and r.dtype == p.dtype for r, p in pairs)

    def test_onnx(self) -> None:
        """Both ONNX exporters, of any batch; the newer one of any time too; by ONNX Runtime."""
        ours, _ = self.pair(dtype=torch.float32)
        x = self.input().detach().float()
        dynamic = {"x": {0: Dim("time", min=2), 1: Dim("batch")}}
        run = onnx_of(Model(ours), x, dynamo=True, dynamic_shapes=dynamic)
        traced = onnx_of(
            Model(ours), x, dynamo=False, input_names=["x"], dynamic_axes={"x": {1: "batch"}}
        )
        for program, time in ((run, 7), (traced, 5)):
            x = self.input(time, 3).detach().float()
            close(program(x), state_tensors(ours(x)), 1e-5)

    def _check_program(self, program: Callable[..., Any], theirs: nn.Module, x: Tensor) -> None:
        """Its results, and the gradient of the input, equal the reference's."""
        results = [state_tensors(_tuples(program(x))), state_tensors(theirs(x))]
        close(results[0], results[1], self.tolerance)
        gradients = [_gradient(r, x) for r in results]
        close(gradients[:1], gradients[1:], self.tolerance)


def _dtypes(result: Any) -> list[torch.dtype]:
    output, state = result
    output = output.data if isinstance(output, PackedSequence) else output
    return [output.dtype, *(t.dtype for t in state_tensors(state))]


def check_operators(program: torch.export.ExportedProgram) -> None:
    """Assert that a program has no operators but torch's own."""
    for module in program.graph_module.modules():
        assert isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload):
                assert node.target.namespace == "aten", node.target


def onnx_of(model: nn.Module, x: Tensor, **options: Any) -> Callable[[Tensor], list[Tensor]]:
    """A model exported to ONNX, and run by ONNX Runtime.

    Returns:
        A function of an input that gives all results.
    """
    import onnxruntime

    file: Any = io.BytesIO()
    if options["dynamo"]:
        program = torch.onnx.export(model, (x,), verbose=False, **options)
        assert program is not None
        program.save(file)
    else:
        torch.onnx.export(model, (x,), file, **options)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> list[Tensor]:
        found: Sequence[Any] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        return [torch.from_numpy(array) for array in found]

    return run


def _output_of(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x)[0]


def _gradient(results: Sequence[Tensor], x: Tensor) -> Tensor:
    total = sum((r.square() * (i + 1)).sum() for i, r in enumerate(results) if r.requires_grad)
    assert isinstance(total, Tensor)
    return torch.autograd.grad(total, x)[0]


def _tuples(results: Any) -> Any:
    """Lists as the tuples that they were."""
    return tuple(_tuples(r) for r in results) if isinstance(results, list | tuple) else results
