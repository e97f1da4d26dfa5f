"""The suite that every cell inherits."""

import abc
import copy
import dataclasses
import itertools
import pickle

import torch
from torch import Tensor

from throughtime.core.cell import Cell, bind
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import ENGINES, Refusal, Request, Result, run
from throughtime.engines.eager import unroll
from throughtime.testing.compare import close, floating, gradients

SHAPES = ((1, 1, 1, 2), (5, 3, 2, 3), (12, 2, 3, 5))
"""Time, batch, input and hidden sizes that the suites run."""


class CellConformance(abc.ABC):
    """The rules of every cell. Inherit it, supply `make_cell` and `reference`, and run pytest.

    All in float64 on the CPU, with parameters and states drawn so that no term is zero.

    Example:
        class TestMyCell(CellConformance):
            def make_cell(self, input_size, hidden_size):
                return MyCell(input_size, hidden_size)

            def reference(self, parameters, x, state):
                ...  # the equation, written naively
    """

    tolerance = 1e-10

    @abc.abstractmethod
    def make_cell(self, input_size: int, hidden_size: int) -> Cell:
        """A cell of these sizes."""

    @abc.abstractmethod
    def reference(
        self, parameters: dict[str, Tensor], x: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """The cell's equation as naive code that shares nothing with the cell.

        Arguments:
            parameters: The parameters by name, float64.
            x: (time, batch, input).
            state: The state before the first step.

        Returns:
            Outputs (time, batch, output), and the state after the last step.
        """

    def test_equation(self) -> None:
        """Outputs, final state and every gradient equal the naive equation's."""
        for time, batch, width, hidden in SHAPES:
            cell, request = self._request(time, batch, width, hidden)
            tensors = [request.inputs, *floating(request.state), *cell.parameters()]
            tensors = [t.requires_grad_() for t in tensors]
            result = run(request, "eager")
            outputs, state = self.reference(
                dict(cell.named_parameters()), request.inputs, request.state
            )
            self._same_results(
                [result.outputs, *floating(result.state)],
                [outputs, *floating(state)],
                tensors,
            )

    def test_gradients_are_those_of_finite_differences(self) -> None:
        """They agree for the input, the state and the parameters, along random directions."""
        cell, request = self._request(3, 2, 2, 3)
        names = [name for name, _ in cell.named_parameters()]
        parameters = [p.detach().clone().requires_grad_() for p in cell.parameters()]
        fields = floating(request.state)
        fields = [t.detach().clone().requires_grad_() for t in fields]

        def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            values = iter(rest)
            given = map_state(lambda s: next(values) if s.is_floating_point() else s, request.state)
            bound = bind(cell, dict(zip(names, values, strict=True)))
            result = run(self._with(request, bound, x, given), "eager")
            ends = floating(result.state)
            return (result.outputs, *ends)

        x = request.inputs.detach().clone().requires_grad_()
        torch.autograd.gradcheck(function, (x, *fields, *parameters), fast_mode=True)

    def test_step_is_pure(self) -> None:
        """It changes neither its arguments nor the module, and gives the same twice."""
        cell, request = self._request(1, 3, 2, 3)
        projected = cell.project(request.inputs[0])
        before = [t.clone() for t in (projected, *state_tensors(request.state), *_tensors(cell))]
        attributes = dict(vars(cell))
        results = [run(request, "eager") for _ in range(2)]
        after = (projected, *state_tensors(request.state), *_tensors(cell))
        close(after, before, 0)
        assert vars(cell).keys() == attributes.keys(), "step left something in the module"
        close(_all(results[0]), _all(results[1]), 0)

    def test_projection_is_step_by_step(self) -> None:
        """Projecting all steps at once equals projecting each, so the past is not in it."""
        cell, request = self._request(5, 3, 2, 3)
        together = cell.project(request.inputs)
        for t, x in enumerate(request.inputs):
            close([together[t]], [cell.project(x)], self.tolerance)

    def test_sizes(self) -> None:
        """Output and state are as wide as the cell declares, and the state keeps its structure."""
        for time, batch, width, hidden in SHAPES:
            cell, request = self._request(time, batch, width, hidden)
            result = run(request, "eager")
            assert cell.input_size == width
            assert result.outputs.shape == (time, batch, cell.output_size)
            assert type(result.state) is type(request.state)
            assert result.state.h.shape == (batch, cell.output_size)
            for end, start in zip(_all(result)[1:], state_tensors(request.state), strict=True):
                assert end.shape == start.shape
                assert end.dtype == start.dtype
            single = cell.float().initial_state(
                batch, dtype=torch.float32, device=torch.device("cpu")
            )
            inputs = request.inputs.float()
            for tensor in _all(run(self._with(request, cell, inputs, single), "eager")):
                assert tensor.dtype in (torch.float32, torch.int64)

    def test_state_carries_on(self) -> None:
        """Two runs, the second from the state of the first, equal one run over both."""
        _, request = self._request(9, 3, 2, 3)
        whole = run(request, "eager")
        for cut in (1, 4, 8):
            first = run(self._part(request, slice(0, cut), request.state), "eager")
            second = run(self._part(request, slice(cut, None), first.state), "eager")
            joined = torch.cat([first.outputs, second.outputs])
            close([whole.outputs], [joined], self.tolerance)
            close(_all(whole)[1:], _all(second)[1:], self.tolerance)

    def test_reset_starts_afresh(self) -> None:
        """The steps after a reset equal a run of its own, and no gradient crosses it."""
        cell, request = self._request(9, 3, 2, 3)
        resets = torch.zeros(9, 3, dtype=torch.bool)
        resets[4] = True
        request.inputs.requires_grad_()
        whole = run(self._with(request, cell, request.inputs, request.state, resets), "eager")
        fresh = cell.initial_state(3, dtype=torch.float64, device=torch.device("cpu"))
        tail = run(self._part(request, slice(4, None), fresh), "eager")
        close([whole.outputs[4:]], [tail.outputs], self.tolerance)
        close(_all(whole)[1:], _all(tail)[1:], self.tolerance)
        (gradient,) = torch.autograd.grad(whole.outputs[4:].square().sum(), request.inputs)
        close([gradient[:4]], [torch.zeros_like(gradient[:4])], 0)

    def test_padding_is_never_read(self) -> None:
        """NaN beyond a sequence's length changes no valid output, state or gradient."""
        cell, request = self._request(6, 3, 2, 3)
        lengths = torch.tensor([6, 1, 4])
        poisoned = request.inputs.clone()
        for b, length in enumerate(lengths.tolist()):
            poisoned[length:, b] = torch.nan
        parameters = [p.requires_grad_() for p in cell.parameters()]
        result = run(
            self._with(request, cell, poisoned.requires_grad_(), request.state, None, lengths),
            "eager",
        )
        found = gradients(_all(result), [poisoned, *parameters])
        assert all(bool(g.isfinite().all()) for g in found), "padding reached a gradient"
        for b, length in enumerate(lengths.tolist()):
            alone = self._row(request, b, length)
            single = run(alone, "eager")
            close([result.outputs[:length, b : b + 1]], [single.outputs], self.tolerance)
            ends = map_state(lambda s, b=b: s[b : b + 1], result.state)
            close(state_tensors(ends), state_tensors(single.state), self.tolerance)
            assert not bool(result.outputs[length:, b].any()), "outputs beyond the length"

    def test_whole_runs_are_steps(self) -> None:
        """A cell's `run_sequence` gives the outputs, states and gradients of its steps.

        In float64, over sequences of unequal length, with resets, and with one step.
        """
        resets = torch.zeros(9, 3, dtype=torch.bool)
        resets[4, 1] = resets[6, 0] = True
        for time, lengths, reset in (
            (9, None, None),
            (9, torch.tensor([3, 9, 5]), None),
            (9, torch.tensor([7, 2, 8]), resets),
            (1, None, None),
        ):
            cell, request = self._request(time, 3, 2, 3)
            if cell.run_sequence is None:
                return
            tensors = [request.inputs, *floating(request.state), *cell.parameters()]
            tensors = [t.requires_grad_() for t in tensors]
            request = self._with(request, cell, request.inputs, request.state, reset, lengths)
            before = [t.clone() for t in state_tensors(request.state)]
            whole, steps = run(request, "eager"), unroll(request)
            assert whole.outputs.grad_fn is not None
            close(state_tensors(request.state), before, 0)
            self._same_results(
                [whole.outputs, *floating(whole.state)],
                [steps.outputs, *floating(steps.state)],
                tensors,
            )
            close(state_tensors(whole.state), state_tensors(steps.state), self.tolerance)
            last = run(dataclasses.replace(request, outputs="last"), "eager").outputs
            close([last], [unroll(dataclasses.replace(request, outputs="last")).outputs], 1e-10)

    def test_twice_differentiable(self) -> None:
        """The gradient has a gradient that equals finite differences."""
        cell, request = self._request(3, 2, 2, 2)

        def function(x: Tensor) -> Tensor:
            return run(self._with(request, cell, x, request.state), "eager").outputs

        x = request.inputs.detach().clone().requires_grad_()
        torch.autograd.gradgradcheck(function, (x,), fast_mode=True)

    def test_copies(self) -> None:
        """A deep copy and a pickled copy, of cell and state, give the same."""
        cell, request = self._request(4, 2, 2, 3)
        expected = _all(run(request, "eager"))
        for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):  # noqa: S301
            request_of_copy = self._with(
                request, duplicate(cell), request.inputs, duplicate(request.state)
            )
            close(_all(run(request_of_copy, "eager")), expected, 0)

    def test_functional_transforms(self) -> None:
        """vmap over parameters equals a loop; jacrev equals autograd."""
        cell, request = self._request(4, 2, 2, 3)
        names = [name for name, _ in cell.named_parameters()]
        stacked = {
            name: torch.stack([p.detach(), 0.5 * p.detach()]) for name, p in cell.named_parameters()
        }

        def function(parameters: dict[str, Tensor]) -> Tensor:
            bound = bind(cell, parameters)
            return run(self._with(request, bound, request.inputs, request.state), "auto").outputs

        together = torch.func.vmap(function)(stacked)
        for i in range(2):
            alone = function({name: stacked[name][i] for name in names})
            close([together[i]], [alone], self.tolerance)
        jacobian = torch.func.jacrev(function)({name: stacked[name][0] for name in names})
        leaves = {name: stacked[name][0].clone().requires_grad_() for name in names}
        outputs = function(leaves)
        weights = torch.randn_like(outputs)
        gradients = torch.autograd.grad(
            (outputs * weights).sum(), list(leaves.values()), allow_unused=True
        )
        for name, gradient in zip(names, gradients, strict=True):
            product = torch.tensordot(weights, jacobian[name], weights.dim())
            close([product], [torch.zeros_like(product) if gradient is None else gradient], 1e-9)

    def test_torch_equivalent(self) -> None:
        """A cell that names a layer of torch equals its kernel, gradients too."""
        for time, batch, width, hidden in SHAPES:
            cell, request = self._request(time, batch, width, hidden)
            if isinstance(ENGINES["vendor"].prepare(request), Refusal):
                assert cell.torch_equivalent is None, "an equivalent that cannot run"
                return
            tensors = [request.inputs, *state_tensors(request.state), *cell.parameters()]
            tensors = [t.requires_grad_() for t in tensors]
            ours, theirs = (_all(run(request, engine)) for engine in ("eager", "vendor"))
            self._same_results(ours, theirs, tensors)

    def _same_results(
        self, got: list[Tensor], expected: list[Tensor], tensors: list[Tensor]
    ) -> None:
        close(got, expected, self.tolerance)
        close(gradients(got, tensors), gradients(expected, tensors), self.tolerance)

    def _request(self, time: int, batch: int, width: int, hidden: int) -> tuple[Cell, Request]:
        cell = self.make_cell(width, hidden).double()
        generator = torch.Generator().manual_seed(time * 1000 + hidden)

        def draw(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, dtype=torch.float64) * 0.7

        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.copy_(draw(parameter))
        state = cell.initial_state(batch, dtype=torch.float64, device=torch.device("cpu"))
        state = map_state(lambda s: draw(s) if s.is_floating_point() else s, state)
        inputs = draw(torch.empty(time, batch, width))
        return cell, self._with(Request(cell, inputs, state), cell, inputs, state)

    def _with(
        self,
        request: Request,
        cell: Cell,
        inputs: Tensor,
        state: State,
        resets: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Request:
        streams = ()
        if cell.streams:
            time, batch = inputs.shape[:2]
            steps = torch.arange(time)[:, None].expand(time, batch) + state.steps
            if resets is not None:
                first = int(resets.any(1).nonzero()[0])
                steps = torch.cat(
                    [steps[:first], torch.arange(time - first)[:, None].expand(-1, batch)]
                )
            streams = cell.draw_streams(
                steps,
                training=False,
                dtype=inputs.dtype,
                generator=torch.Generator().manual_seed(0),
            )
        return Request(cell, inputs, state, lengths, resets, streams)

    def _part(self, request: Request, steps: slice, state: State) -> Request:
        streams = tuple(s[steps] for s in request.streams)
        part = self._with(request, request.cell, request.inputs[steps], state)
        # evaluation's streams know the step alone, so a part's own draw must equal the whole's
        if "steps" in state._fields and int(state.steps[0]) != 0:
            close(part.streams, streams, 0)
        return part

    def _row(self, request: Request, b: int, length: int) -> Request:
        state = map_state(lambda s: s[b : b + 1], request.state)
        return self._with(request, request.cell, request.inputs[:length, b : b + 1], state)


def _all(result: Result) -> list[Tensor]:
    return [result.outputs, *state_tensors(result.state)]


def _tensors(cell: Cell) -> list[Tensor]:
    return list(itertools.chain(cell.parameters(), cell.buffers()))
