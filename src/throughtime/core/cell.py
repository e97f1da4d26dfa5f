"""The cell: one step of a recurrent network, written once and run by every engine."""

import abc
from typing import ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.state import State

TorchEquivalent: TypeAlias = Literal["LSTM", "GRU", "RNN_TANH", "RNN_RELU"]
Streams: TypeAlias = tuple[Tensor, ...]


class Cell(nn.Module, abc.ABC):
    """One step of a recurrent network: (x_t, state) -> (h_t, new state).

    A subclass supplies `initial_state`, `project` and `step`. All that does not need the past goes
    into `project`, which engines call once for the whole sequence; `step` is pure: it changes
    nothing in place and keeps nothing in the module.

    Attributes:
        input_size: width of x_t.
        hidden_size: width of the cell.
        output_size: width of the output h_t: `hidden_size`, but under a projection.
        gate_names: names of the row blocks of `weight_ih` and `weight_hh`, where there are any.
        remember_gates: gates whose large bias makes the cell keep its memory.
        write_gates: gates whose large bias makes the cell take its input in.
        streams: names of the per-step inputs that `draw_streams` supplies.
    """

    remember_gates: ClassVar[tuple[str, ...]] = ()
    write_gates: ClassVar[tuple[str, ...]] = ()

    input_size: int
    hidden_size: int
    output_size: int
    gate_names: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()

    @abc.abstractmethod
    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """The state before the first step: a NamedTuple of (batch, ...) tensors, `h` the first."""

    @abc.abstractmethod
    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """All that step t needs of x_t and not of the past; any leading axes, one big product."""

    @abc.abstractmethod
    def step(
        self, projected: Float[Tensor, "batch projected"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """The output h_t and the new state, from x_t's projection and the state before.

        A cell that declares `streams` takes a third argument: one tensor for each.
        """

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """The per-step inputs without gradient (masks, schedules), drawn before any engine runs.

        Arguments:
            steps: how many steps since the start or the last reset each step is, from 0.
            training: masks are drawn in training; evaluation gives their expectation.
            dtype: dtype of the streams.
            generator: on the CPU; the only source of randomness that may be used.

        Returns:
            For each name in `streams`, a tensor (time, batch, hidden) or (time, batch, 1); a batch
            axis of 1 stands for all sequences.
        """
        del steps, training, dtype, generator
        return ()

    def prepared(self) -> "Cell":
        """The cell as one run steps it: what depends on its parameters alone is made once."""
        return self

    def linear_step(
        self, projected: Float[Tensor, "*steps projected"]
    ) -> tuple[Float[Tensor, "*steps hidden"], Float[Tensor, "*steps hidden"]]:
        """a and b of a step h_t = a * h_{t-1} + b, for cells that are linear in their past.

        Arguments:
            projected: (..., projected), of any number of steps.

        Raises:
            ConfigurationError: this cell is not.
        """
        del projected
        raise ConfigurationError(
            "linear_step", got=type(self).__name__, expected="a cell that is linear in its past"
        )

    def torch_equivalent(self) -> TorchEquivalent | None:
        """The layer of torch.nn whose equations, weights and gate order are exactly this cell's."""
        return None


def advance(
    cell: Cell, projected: Float[Tensor, "batch projected"], state: State, streams: Streams
) -> tuple[Float[Tensor, "batch output"], State]:
    """One step of any cell, with its streams where it declares some."""
    if streams:
        return cell.step(projected, state, streams)  # pyright: ignore[reportCallIssue]
    return cell.step(projected, state)


def fit_streams(cell: Cell, streams: Streams, time: int, batch: int) -> Streams:
    """Streams with the axes of time and batch that they need; one for all sequences is expanded.

    Arguments:
        cell: that drew them.
        streams: as `draw_streams` returns them.
        time: number of steps.
        batch: number of sequences.

    Raises:
        ShapeError: a stream has other axes.
    """
    found: list[Tensor] = []
    for i, stream in enumerate(streams):
        if stream.dim() < 3 or stream.shape[0] != time or stream.shape[1] not in (1, batch):
            raise ShapeError(
                f"stream {i} of {type(cell).__name__}",
                got=f"shape {tuple(stream.shape)}",
                expected=f"(time {time}, batch {batch}, hidden or 1)",
                fix="draw_streams returns a value for each step and sequence.",
            )
        whole = stream.shape[1] == batch
        found.append(stream if whole else stream.expand(time, batch, *stream.shape[2:]))
    return tuple(found)
