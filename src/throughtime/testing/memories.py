"""The suite that every cell with a memory of words inherits."""

import abc

import torch

from throughtime.core.state import map_state, state_tensors
from throughtime.engines import Request, run
from throughtime.memory import MemoryCell
from throughtime.testing.cells import CellConformance
from throughtime.testing.compare import close

_CPU = torch.device("cpu")


class MemoryConformance(CellConformance, abc.ABC):
    """The rules of cells with a memory, beside those of all cells.

    Example:
        class TestMyMemory(MemoryConformance):
            def make_cell(self, input_size, hidden_size):
                return MyMemoryCell(input_size, hidden_size)

            def reference(self, parameters, x, state):
                ...  # the equation, written naively
    """

    @abc.abstractmethod
    def make_cell(self, input_size: int, hidden_size: int) -> MemoryCell:
        """A cell of these sizes, whose memory is small."""

    def test_the_first_memory_is_a_small_constant(self) -> None:
        """All words of all sequences begin alike, and no weight of the cell changes that."""
        cell = self.make_cell(2, 3)
        memory = cell.initial_state(4, dtype=torch.float64, device=_CPU).memory
        assert memory.shape == (4, cell.memory_words, cell.memory_width)
        assert len(memory.unique()) == 1
        assert abs(float(memory[0, 0, 0])) <= 1e-3

    def test_the_output_ends_with_what_was_read(self) -> None:
        """It is as wide as the controller and the vectors of all read heads."""
        cell = self.make_cell(2, 3)
        assert cell.output_size == cell.hidden_size + cell.read_heads * cell.memory_width

    def test_a_sequence_alone_gives_the_same(self) -> None:
        """No sequence of a batch depends on another one."""
        cell, inputs = self._drawn(6, 3)
        start = cell.initial_state(3, dtype=torch.float64, device=_CPU)
        together = run(Request(cell, inputs, start), "eager")
        for b in range(3):
            state = map_state(lambda s, b=b: s[b : b + 1], start)
            alone = run(Request(cell, inputs[:, b : b + 1], state), "eager")
            close([together.outputs[:, b : b + 1]], [alone.outputs], self.tolerance)
            ends = map_state(lambda s, b=b: s[b : b + 1], together.state)
            close(state_tensors(ends), state_tensors(alone.state), self.tolerance)

    def test_weights_of_accesses(self) -> None:
        """No weight is negative. Those of a read sum to 1, those of a write to 1 at most."""
        cell, inputs = self._drawn(6, 3)
        state = cell.initial_state(3, dtype=torch.float64, device=_CPU)
        for projected in cell.project(inputs):
            before = state
            _, state = cell.step(projected, before)
            read, written = cell.accesses(before, state)
            assert read.shape == (3, cell.read_heads, cell.memory_words)
            assert written.shape[0] == 3
            assert written.shape[2] == cell.memory_words
            for weights in (read, written):
                assert bool((weights >= 0).all())
                assert bool((weights.sum(-1) <= 1 + 1e-9).all())
            close([read.sum(-1)], [torch.ones_like(read.sum(-1))], 1e-9)

    def test_large_inputs_give_no_nan(self) -> None:
        """Inputs of 1e4 give finite outputs, states and gradients, in float32 as well."""
        cell, inputs = self._drawn(12, 3)
        for kind in (torch.float64, torch.float32):
            cell = cell.to(kind)
            start = cell.initial_state(3, dtype=kind, device=_CPU)
            result = run(Request(cell, inputs.to(kind) * 1e4, start), "eager")
            parameters = list(cell.parameters())
            found = torch.autograd.grad(
                result.outputs.square().sum(), parameters, allow_unused=True
            )
            values = [result.outputs, *state_tensors(result.state)]
            for tensor in [*values, *(g for g in found if g is not None)]:
                assert bool(tensor.isfinite().all())

    def _drawn(self, time: int, batch: int) -> tuple[MemoryCell, torch.Tensor]:
        """A cell with weights, and inputs, of a standard normal distribution."""
        cell = self.make_cell(2, 3).double()
        generator = torch.Generator().manual_seed(time)
        with torch.no_grad():
            for p in cell.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        return cell, torch.randn(time, batch, 2, generator=generator, dtype=torch.float64)
