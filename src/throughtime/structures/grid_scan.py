"""A scan of images, diagonal by diagonal: the steps, their gradients, and one tensor of each."""

import abc
from typing import Any, Literal, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.capture import batched, capturing, transformed
from throughtime.structures.grid import Grid

Rows: TypeAlias = Float[Tensor, "scan pixel rows"]
Output: TypeAlias = Float[Tensor, "scan pixel hidden"]
Memory: TypeAlias = Float[Tensor, "scan pixel memory"]


class GridStep(abc.ABC):
    """The elementwise function of a pixel, of sums of linear maps, and its gradient.

    Attributes:
        gates: number of row blocks of the weights.
        memory: If True, there is a memory, as wide as the output; else its width is 0.
    """

    gates: int
    memory: bool

    @abc.abstractmethod
    def __call__(self, sums: Rows, left: Memory, above: Memory) -> tuple[Output, Memory]:
        """Return h and c from the gates' sums and the memories to the left and above."""

    @abc.abstractmethod
    def run(self, sums: Rows, left: Memory, above: Memory, h: Output, c: Memory) -> None:
        """Write h and c, and the gates' activations in place of their sums."""

    @abc.abstractmethod
    def gradient(
        self,
        gates: Rows,
        left: Memory,
        above: Memory,
        states: tuple[Output, Memory],
        given: tuple[Output, Memory],
        to: Rows,
    ) -> tuple[Memory, Memory]:
        """Write the gradient of the sums to `to`; return those of the memories left and above.

        Arguments:
            gates: activations that `run` left.
            left, above: memories to the left and above.
            states: h and c.
            given: gradients of h and c.
            to: place of the result.
        """


@final
class LSTMStep(GridStep):
    """The step of a 2-D LSTM, with a forget gate for each direction.

    c = f_left * c_left + f_above * c_above + i * g    h = o * tanh(c)
    """

    gates, memory = 5, True

    def __call__(self, sums: Rows, left: Memory, above: Memory) -> tuple[Output, Memory]:
        """Return h and c."""
        *opening, g = sums.chunk(5, -1)
        i, f_left, f_above, o = (gate.sigmoid() for gate in opening)
        c = f_left * left + f_above * above + i * g.tanh()
        return o * c.tanh(), c

    def run(self, sums: Rows, left: Memory, above: Memory, h: Output, c: Memory) -> None:
        """Write h and c, and the gates' activations."""
        hidden = h.shape[-1]
        sums[..., : 4 * hidden].sigmoid_()
        sums[..., 4 * hidden :].tanh_()
        i, f_left, f_above, o, g = sums.split(hidden, -1)
        torch.mul(i, g, out=c)
        c.addcmul_(f_left, left).addcmul_(f_above, above)
        torch.mul(o, c.tanh(), out=h)

    def gradient(
        self,
        gates: Rows,
        left: Memory,
        above: Memory,
        states: tuple[Output, Memory],
        given: tuple[Output, Memory],
        to: Rows,
    ) -> tuple[Memory, Memory]:
        """Write the gradient of the sums; return those of the memories."""
        (_, c), (dh, dc) = states, given
        hidden, t = c.shape[-1], c.tanh()
        i, f_left, f_above, o, g = gates.split(hidden, -1)
        dc = torch.addcmul(dc, dh * o, torch.addcmul(torch.ones_like(t), t, t, value=-1))
        for part, one, other in zip(
            to.split(hidden, -1), (dc, dc, dc, dh, dc), (g, left, above, t, i), strict=True
        ):
            torch.mul(one, other, out=part)
        opening, s = to[..., : 4 * hidden], gates[..., : 4 * hidden]
        opening.mul_(s).mul_(1 - s)
        to[..., 4 * hidden :].mul_(1 - g * g)
        return dc * f_left, dc * f_above


@final
class RNNStep(GridStep):
    """The step of a 2-D RNN: h = f(sums), without a memory.

    Arguments:
        nonlinearity: f: "tanh" or "relu".
    """

    gates, memory = 1, False

    def __init__(self, nonlinearity: Literal["tanh", "relu"]):
        self.nonlinearity = nonlinearity

    def __call__(self, sums: Rows, left: Memory, above: Memory) -> tuple[Output, Memory]:
        """Return h, and the memory of width 0."""
        del above
        return sums.tanh() if self.nonlinearity == "tanh" else sums.relu(), left

    def run(self, sums: Rows, left: Memory, above: Memory, h: Output, c: Memory) -> None:
        """Write h."""
        del left, above, c
        if self.nonlinearity == "tanh":
            torch.tanh(sums, out=h)
        else:
            torch.clamp(sums, min=0, out=h)

    def gradient(
        self,
        gates: Rows,
        left: Memory,
        above: Memory,
        states: tuple[Output, Memory],
        given: tuple[Output, Memory],
        to: Rows,
    ) -> tuple[Memory, Memory]:
        """Write the gradient of the sums; return memories of width 0."""
        del gates
        (h, _), (dh, _) = states, given
        torch.mul(dh, 1 - h * h if self.nonlinearity == "tanh" else h > 0, out=to)
        return left, above


def scan(
    step: GridStep,
    gates: Rows,
    left: Float[Tensor, "scan rows hidden"],
    above: Float[Tensor, "scan rows hidden"],
    grid: Grid,
) -> tuple[Float[Tensor, "scan number hidden"], Float[Tensor, "scan number memory"]]:
    """Run several scans of all pixels, each pixel after its neighbours to the left and above.

        sums = gates + W_left h_left + W_above h_above    h, c = step(sums, c_left, c_above)

    States outside the images are 0. A diagonal of all images and scans is one product of matrices
    and one call of the step. Memory and time are those of the pixels inside.

    Arguments:
        step: The elementwise function.
        gates: The map of the inputs, in the order of the grid's pixels.
        left, above: W_left and W_above of each scan.
        grid: The order of the steps.

    Returns:
        h and c by number: the first is 0, and stands for the pixels outside.

    Example:
        >>> grid = Grid.of(2, 2, 1)
        >>> one = torch.ones(1, 1, 1)
        >>> h, c = scan(RNNStep("relu"), torch.ones(1, 4, 1), one, one, grid)
        >>> h.flatten().tolist()  # at the last pixel 1 + 2 + 2
        [0.0, 1.0, 2.0, 2.0, 5.0]
    """
    weights = left.to(gates.dtype), above.to(gates.dtype)
    with torch.autocast(gates.device.type, enabled=False):
        if capturing() or transformed():
            return _by_diagonals(step, gates, *weights, grid)
        return _Scan.apply(step, grid, gates, *weights)


def _by_diagonals(
    step: GridStep, gates: Tensor, left: Tensor, above: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Return the results of `scan` by operations without side effects."""
    weight = torch.cat([left, above], -1).mT
    h = gates.new_zeros(len(gates), 1, left.shape[-1])
    c = h if step.memory else h[..., :0]
    found: list[tuple[Tensor, Tensor]] = [(h, c)]
    first = before = 0  # the numbers of the pixels of the diagonal before begin with before + 1
    for count in grid.counts:
        # of the states of the diagonal before, behind one that is 0
        at_left, at_above = (
            (numbers[first : first + count] - before).clamp(min=0)
            for numbers in (grid.left, grid.above)
        )
        read = torch.cat([h[:, at_left], h[:, at_above]], -1)
        sums = gates[:, first : first + count] + read @ weight
        found.append(step(sums, c[:, at_left], c[:, at_above]))
        h, c = (torch.cat(pair, 1) for pair in zip(found[0], found[-1], strict=True))
        before, first = first, first + count
    hs, cs = zip(*found, strict=True)
    return torch.cat(hs, 1), torch.cat(cs, 1)


@final
class _Scan(torch.autograd.Function):
    """`scan` in place: activations of all pixels are kept, and no graph of operations."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, step: GridStep, grid: Grid, gates: Tensor, left: Tensor, above: Tensor
    ) -> tuple[Tensor, Tensor]:
        scans, pixels, _ = gates.shape
        hidden = left.shape[-1]
        activations, weight = gates.clone(), torch.cat([left, above], -1).mT
        h = gates.new_zeros(scans, pixels + 1, hidden)
        c = gates.new_zeros(scans, pixels + 1, hidden if step.memory else 0)
        first = 0
        for count in grid.counts:
            end = first + count
            at = grid.left[first:end], grid.above[first:end]
            sums = activations[:, first:end]
            sums.baddbmm_(torch.cat([h.index_select(1, numbers) for numbers in at], -1), weight)
            left_c, above_c = (c.index_select(1, numbers) for numbers in at)
            own = slice(first + 1, end + 1)
            step.run(sums, left_c, above_c, h[:, own], c[:, own])
            first = end
        ctx.step, ctx.grid = step, grid
        ctx.save_for_backward(gates, left, above, activations, h, c)
        return h, c

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *given: Tensor
    ) -> tuple[Tensor | None, ...]:
        step, grid = ctx.step, ctx.grid
        gates, left, above, activations, h, c = ctx.saved_tensors
        if torch.is_grad_enabled() or batched(given):
            return None, None, *_again(step, grid, (gates, left, above), given)
        to_sums = torch.empty_like(activations)
        # what a pixel gives to its neighbours to the left and above
        to_left, to_above, from_left, from_above = (torch.zeros_like(s) for s in (h, h, c, c))
        c_left, c_above = (c.index_select(1, numbers) for numbers in (grid.left, grid.above))
        end = gates.shape[1]
        for count in reversed(grid.counts):
            first = end - count
            own = slice(first + 1, end + 1)
            right, below = grid.right[first:end], grid.below[first:end]
            dh, dc = (
                g[:, own] + a.index_select(1, right) + b.index_select(1, below)
                for g, a, b in zip(given, (to_left, from_left), (to_above, from_above), strict=True)
            )
            own_gates, *memories = (t[:, first:end] for t in (activations, c_left, c_above))
            sums, states = to_sums[:, first:end], (h[:, own], c[:, own])
            from_left[:, own], from_above[:, own] = step.gradient(
                own_gates, memories[0], memories[1], states, (dh, dc), sums
            )
            to_left[:, own], to_above[:, own] = sums @ left, sums @ above
            end = first
        _, _, to_gates, *to_weights = ctx.needs_input_grad
        return (
            None,
            None,
            to_sums if to_gates else None,
            *(
                to_sums.mT @ h.index_select(1, numbers) if wanted else None
                for wanted, numbers in zip(to_weights, (grid.left, grid.above), strict=True)
            ),
        )


def _again(
    step: GridStep, grid: Grid, inputs: tuple[Tensor, Tensor, Tensor], given: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs by operations that have gradients themselves."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        wanted = [t for t in inputs if t.requires_grad]
        found = _by_diagonals(step, inputs[0], inputs[1], inputs[2], grid)
        kept = [(f, g) for f, g in zip(found, given, strict=True) if f.requires_grad]
        outputs, gradients = zip(*kept, strict=True)
        own = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=create_graph))
    return tuple(next(own) if t.requires_grad else None for t in inputs)
