"""The suite of every recurrent layer; here its part on captured programs and on transforms."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from throughtime.core.errors import ConfigurationError
from throughtime.core.state import state_tensors
from throughtime.testing.compare import close, floating
from throughtime.testing.conventions import WIDTH, LayerConventions, LayerPair

Dim = torch.export.Dim


class Model(nn.Module):
    """A model that holds a layer.

    Arguments:
        layer: ours, or one of torch.nn.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.rnn = layer
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """The outputs, and the state."""
        output, state = self.rnn(x)
        return output, state


class ModelOfRows(nn.Module):
    """A model that gives lengths and resets to its layer.

    Arguments:
        layer: ours.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.rnn = layer
        self.eval()

    def forward(self, x: Tensor, lengths: Tensor, reset: Tensor) -> Any:
        """The outputs, and the state."""
        output, state = self.rnn(x, lengths=lengths, reset=reset)
        return output, state


class LayerPrograms(LayerPair):
    """A layer under vmap and batched gradients; exported, traced, scripted; on meta and fake."""

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
            except ConfigurationError as error:
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


class DropInConformance(LayerConventions, LayerPrograms):
    """The rules of every recurrent layer that stands in the place of one of torch.nn.

    Inherit it, supply `make`, and `reference` where torch.nn has such a layer, and run pytest. All
    layers are in float64 and run by engine "auto"; results equal the reference's, or those of the
    same layer run by the eager engine.
    """

    def test_results_and_gradients(self) -> None:
        """Outputs, state and the gradient of the input equal the reference's."""
        ours, theirs = self.pair()
        x = self.input()
        results = [floating(layer(x)) for layer in (ours, theirs)]
        close(results[0], results[1], self.tolerance)
        gradients = [torch.autograd.grad(r[0].square().sum(), x)[0] for r in results]
        close(gradients[:1], gradients[1:], self.tolerance)


def check_operators(program: torch.export.ExportedProgram) -> None:
    """Assert that a program has no operators but torch's own."""
    for module in program.graph_module.modules():
        assert isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload):
                assert node.target.namespace == "aten", node.target


def onnx_of(model: nn.Module, x: Tensor, **options: Any) -> Callable[[Tensor], list[Tensor]]:
    """A model exported to ONNX, and run by ONNX Runtime.

    Arguments:
        model: The model, of one input.
        x: an input.
        options: The options of `torch.onnx.export`.

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
