"""The suite that every engine inherits."""

import abc
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from throughtime.core.cell import Cell
from throughtime.core.errors import EngineRefusalError
from throughtime.core.sequence import steps_since_reset
from throughtime.core.state import map_state
from throughtime.engines import Engine, Outputs, Refusal, Request, Result, recording, run
from throughtime.testing.compare import close, floating, gradients, naive_run

SHAPES = ((1, 1, 1, 1), (1, 3, 2, 5), (7, 1, 3, 4), (11, 5, 2, 17), (6, 4, 1, 8))
"""Time, batch, input and hidden sizes that the suite runs."""


class EngineConformance(abc.ABC):
    """The rules of every engine: it equals the naive loop, or refuses by a typed error.

    Inherit it, supply `engine` and `cells`, and run pytest. Outputs, states and every gradient are
    compared in float64 (and looser in float32) over sizes, lengths, resets, non-zero initial states
    and non-contiguous inputs; each test fails if the engine did not really run.
    """

    tolerance = 1e-10
    tolerance_float32 = 2e-4

    @abc.abstractmethod
    def engine(self) -> Engine:
        """The engine."""

    @abc.abstractmethod
    def cells(self, input_size: int, hidden_size: int) -> Sequence[Cell]:
        """Cells of these sizes that the engine serves, in one dtype or another."""

    def serves(self) -> frozenset[str]:
        """Requests beyond whole sequences that it serves: "lengths", "resets", "last", "states"."""
        return frozenset({"lengths", "resets", "last", "states"})

    def test_whole_sequences(self) -> None:
        """All sequences fill the time axis."""
        self._check(self._requests(), True)

    def test_lengths(self) -> None:
        """Sequences of unequal length."""
        self._check((_with_lengths(r) for r in self._requests()), "lengths" in self.serves())

    def test_resets(self) -> None:
        """Resets at single sequences, at all of them, at the first and at the last step."""
        self._check((_with_resets(r) for r in self._requests()), "resets" in self.serves())

    def test_lengths_and_resets(self) -> None:
        """Both at once."""
        served = {"lengths", "resets"} <= self.serves()
        self._check((_with_resets(_with_lengths(r)) for r in self._requests()), served)

    def test_last_output_alone(self) -> None:
        """`outputs="last"` is the output at each last valid step."""
        requests = itertools.chain(self._requests(), map(_with_lengths, self._requests()))
        self._check((_asking(r, "last") for r in requests), "last" in self.serves())

    def test_states_at_every_step(self) -> None:
        """`outputs="states"` gives all fields after every step, with their gradients."""
        requests = itertools.chain(self._requests(), map(_with_lengths, self._requests()))
        self._check((_asking(r, "states") for r in requests), "states" in self.serves())

    def test_float32(self) -> None:
        """Single precision against the naive loop in double."""
        self._check((_with_lengths(r) for r in self._requests()), "lengths" in self.serves(), True)

    def test_non_contiguous_inputs(self) -> None:
        """Inputs and states whose strides are not those of a fresh tensor."""

        def strided(tensor: Tensor) -> Tensor:
            return torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1)[..., 0]

        self._check(
            (
                dataclasses.replace(
                    r,
                    inputs=r.inputs.transpose(0, 1).contiguous().transpose(0, 1),
                    state=map_state(lambda s: strided(s) if s.is_floating_point() else s, r.state),
                )
                for r in self._requests()
            ),
            True,
        )

    def test_nan_in_is_nan_out(self) -> None:
        """NaN at one step of one sequence reaches its later outputs and no other sequence."""
        for request in self._requests():
            time, batch = request.inputs.shape[:2]
            if batch < 2:
                continue
            inputs = request.inputs.clone()
            inputs[time // 2, 0] = torch.nan
            poisoned = self._run(dataclasses.replace(request, inputs=inputs))
            clean = self._run(request)
            assert bool(poisoned.outputs[time // 2, 0].isnan().all())
            close([poisoned.outputs[:, 1:]], [clean.outputs[:, 1:]], 0)
            close([poisoned.outputs[: time // 2]], [clean.outputs[: time // 2]], 0)

    def test_empty_batch(self) -> None:
        """No sequences: empty outputs of the right shape, zero gradients."""
        for cell in self._prepared_cells(3, 4, torch.float64):
            request = _request(cell, 5, 0, torch.float64)
            for parameter in cell.parameters():
                parameter.requires_grad_()
            result = self._run(request)
            assert result.outputs.shape == (5, 0, cell.output_size)
            gradients = torch.autograd.grad(
                result.outputs.sum(), list(cell.parameters()), allow_unused=True
            )
            assert all(g is None or not bool(g.any()) for g in gradients)

    def test_frozen_parameters(self) -> None:
        """Some parameters without gradient: the others' gradients stay the same."""
        for cell in self._prepared_cells(2, 5, torch.float64):
            request = _request(cell, 4, 3, torch.float64)
            expected = naive_run(request)[0].detach()
            parameters = list(cell.parameters())
            for frozen in range(len(parameters)):
                for i, parameter in enumerate(parameters):
                    parameter.requires_grad_(i != frozen)
                kept = [p for i, p in enumerate(parameters) if i != frozen]
                outputs = self._run(request).outputs
                close([outputs.detach()], [expected], self.tolerance)
                wanted = gradients([naive_run(request)[0]], kept)
                close(gradients([outputs], kept), wanted, self.tolerance)

    def test_two_forwards_before_a_backward(self) -> None:
        """A second run does not disturb the first one's results or gradients; nor a second pass."""
        for request in self._requests():
            tensors = _leaves(request)
            first = self._run(request)
            kept = first.outputs.detach().clone()
            other = dataclasses.replace(request, inputs=request.inputs.detach() + 1)
            self._run(other)
            close([first.outputs], [kept], 0)
            loss = first.outputs.square().sum()
            once = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
            twice = torch.autograd.grad(loss, tensors, allow_unused=True)
            close([g for g in once if g is not None], [g for g in twice if g is not None], 0)

    def test_refusals_are_typed(self) -> None:
        """A request that it does not serve is refused with an EngineRefusalError."""
        request = next(self._requests())
        for asked, wanted in (
            ("lengths", _with_lengths(request)),
            ("resets", _with_resets(request)),
            ("last", _asking(request, "last")),
            ("states", _asking(request, "states")),
        ):
            if asked in self.serves():
                continue
            assert isinstance(self.engine().prepare(wanted), Refusal)
            try:
                run(wanted, self.engine())
            except EngineRefusalError:
                continue
            raise AssertionError(f"{self.engine().name} ran {asked}, which it does not serve")

    def _check(self, requests: Iterator[Request], served: bool, single: bool = False) -> None:
        if not served:
            return
        ran = 0
        for request in requests:
            ran += 1
            tolerance = self.tolerance_float32 if single else self.tolerance
            tensors = _leaves(request)
            expected = _expected(request)
            wanted = gradients(expected, tensors)
            if single:
                request = _as_float32(request)
                tensors = _leaves(request)
            got = _results(self._run(request))
            close([g.double() for g in got], expected, tolerance)
            with torch.no_grad():  # inference may be a path of its own
                inferred = _results(self._run(request))
            close([i.double() for i in inferred], expected, tolerance)
            close([g.double() for g in gradients(got, tensors)], wanted, 10 * tolerance)
        assert ran, "nothing was compared"

    def _run(self, request: Request) -> Result:
        with recording() as names:
            result = run(request, self.engine())
        assert names == [self.engine().name], f"{names} ran instead"
        return result

    def _requests(self) -> Iterator[Request]:
        for time, batch, width, hidden in SHAPES:
            for cell in self._prepared_cells(width, hidden, torch.float64):
                yield _request(cell, time, batch, torch.float64)

    def _prepared_cells(self, width: int, hidden: int, dtype: torch.dtype) -> list[Cell]:
        generator = torch.Generator().manual_seed(hidden)
        cells = [cell.to(dtype) for cell in self.cells(width, hidden)]
        with torch.no_grad():
            for parameter in itertools.chain.from_iterable(c.parameters() for c in cells):
                values = torch.randn(parameter.shape, generator=generator, dtype=dtype)
                parameter.copy_(values / parameter.shape[-1] ** 0.5)
        return cells


def _request(cell: Cell, time: int, batch: int, dtype: torch.dtype) -> Request:
    generator = torch.Generator().manual_seed(100 * time + batch)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=dtype)

    state = cell.initial_state(batch, dtype=dtype, device=torch.device("cpu"))
    state = map_state(lambda s: draw(s) if s.is_floating_point() else s, state)
    request = Request(cell, draw(torch.empty(time, batch, cell.input_size)), state)
    return dataclasses.replace(request, streams=_streams(request))


def _streams(request: Request) -> tuple[Tensor, ...]:
    if not request.cell.streams:
        return ()
    return request.cell.draw_streams(
        steps_since_reset(request.state.steps, request.resets, request.inputs.shape[0]),
        training=True,
        dtype=request.inputs.dtype,
        generator=torch.Generator().manual_seed(3),
    )


def _with_lengths(request: Request) -> Request:
    time, batch = request.inputs.shape[:2]
    generator = torch.Generator().manual_seed(batch)
    lengths = torch.randint(1, time + 1, (batch,), generator=generator)
    inputs = request.inputs.clone()
    for b, length in enumerate(lengths.tolist()):
        inputs[length:, b] = torch.nan
    return dataclasses.replace(request, inputs=inputs, lengths=lengths)


def _with_resets(request: Request) -> Request:
    time, batch = request.inputs.shape[:2]
    generator = torch.Generator().manual_seed(time)
    resets = torch.rand(time, batch, generator=generator) < 0.2
    resets[0, : batch // 2] = True
    resets[-1, batch // 2 :] = True
    if time > 4:
        resets[time // 2] = True
    request = dataclasses.replace(request, resets=resets)
    return dataclasses.replace(request, streams=_streams(request))


def _asking(request: Request, outputs: Outputs) -> Request:
    return dataclasses.replace(request, outputs=outputs)


def _as_float32(request: Request) -> Request:
    return dataclasses.replace(
        request,
        cell=request.cell.float(),
        inputs=request.inputs.detach().float(),
        state=map_state(_float32, request.state),
        streams=tuple(s.float() for s in request.streams),
    )


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor


def _expected(request: Request) -> list[Tensor]:
    outputs, state, states = naive_run(request)
    if request.outputs == "last":
        time, batch = request.inputs.shape[:2]
        lengths = torch.full((batch,), time) if request.lengths is None else request.lengths
        outputs = outputs[lengths - 1, torch.arange(batch)]
    return [
        outputs,
        *floating(state),
        *(floating(states) if request.outputs == "states" else ()),
    ]


def _results(result: Result) -> list[Tensor]:
    states = [] if result.states is None else floating(result.states)
    return [result.outputs, *floating(result.state), *states]


def _leaves(request: Request) -> list[Tensor]:
    tensors = [request.inputs, *floating(request.state), *request.cell.parameters()]
    return [t.requires_grad_() for t in tensors]
