"""The tensors of a run: one flat list for operators, and what each of them is."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.core.gated import GatedCell
from throughtime.core.state import State
from throughtime.engines.cpp.job import Job
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.trace.step_plan import StepPlan


class Operands(NamedTuple):
    """What a run reads, by what it is. Empty where the cell has none.

    Attributes:
        inputs: (time, batch, input).
        weights: weight_ih (gates * hidden, input), then weight_hh (gates * hidden, hidden) by lag.
        biases: bias_ih and bias_hh (gates * hidden,).
        parameters: the rows of unit parameters that are read, (hidden,) each.
        initial: h, the memories, then older outputs from the newest on, each (batch, hidden).
        streams: (time, batch, hidden) or (time, batch, 1).
    """

    inputs: Tensor
    weights: Sequence[Any]
    biases: Sequence[Any]
    parameters: Sequence[Any]
    initial: Sequence[Any]
    streams: Sequence[Any]

    def flat(self) -> list[Tensor]:
        """All of them, in order."""
        return [self.inputs, *itertools.chain(*self[1:])]


def gather(
    plan: StepPlan, cell: GatedCell, inputs: Tensor, state: State, streams: Sequence[Tensor]
) -> Operands:
    """The tensors of a cell that is bound to its weights.

    Arguments:
        plan: of the cell.
        cell: whose tensors they are.
        inputs: (time, batch, input).
        state: before the first step.
        streams: of every step.
    """
    named = dict(cell.named_parameters(remove_duplicate=False))
    named |= dict(cell.named_buffers(remove_duplicate=False))
    batch = inputs.shape[1]
    return Operands(
        inputs,
        [cell.weight_ih, *(cell.recurrent_matrix(lag) for lag in plan.lags)],
        [bias for bias in (cell.bias_ih, cell.bias_hh) if bias is not None],
        [_row(named[name], row, cell.hidden_size) for name, row in plan.parameters],
        [state.h, *(getattr(state, name) for name in plan.memories), *getattr(state, "past", ())],
        [s if s.shape[1] == batch else s.expand(-1, batch, -1) for s in streams],
    )


def split(plan: StepPlan, tensors: Sequence[Any], *, streams: bool = True) -> Operands:
    """What each of a flat list is.

    Arguments:
        plan: of the cell.
        tensors: as `Operands.flat` gives them.
        streams: whether they are among them; a list of gradients lacks them.
    """
    rest = iter(tensors)
    counts = [1 + len(plan.lags), 0, len(plan.parameters), len(plan.memories) + plan.depth]
    counts.append(len(plan.streams) if streams else 0)
    counts[1] = len(tensors) - 1 - sum(counts)  # the biases, of which there may be none
    return Operands(next(rest), *(list(itertools.islice(rest, count)) for count in counts))


def split_units(rows: int, weights: int) -> bool:
    """Whether threads shall share rows, each with units of its own, rather than have rows each.

    With few rows a thread reads its weights for little work. Where they do not stay in its cache,
    it is quicker to read a part of them for all rows, and to wait for the others at every step.

    Arguments:
        rows: of the batch that a thread would have.
        weights: bytes of all of them.
    """
    return rows < 12 and weights >= 2**20


def job_of(
    kernel: Kernel,
    operands: Operands,
    lengths: Tensor | None,
    ages: Tensor | None,
    segment: int,
) -> Job:
    """A call with all its inputs filled in.

    Arguments:
        kernel: that runs.
        operands: contiguous, but for the inputs' first two axes.
        lengths: (batch,) int64.
        ages: (time, batch) int64.
        segment: steps between two stored states, or 0.
    """
    time, batch, width = operands.inputs.shape
    hidden, threads = operands.initial[0].shape[1], torch.get_num_threads()
    weights = sum(w.nbytes for w in operands.weights)
    split = threads > 1 and split_units(-(-batch // threads), weights)
    split = split and kernel.reserve_threads(threads)
    job = Job(kernel.start)
    job.numbers(
        time=time,
        batch=batch,
        input=width,
        hidden=hidden,
        threads=threads,
        segment=segment,
        split_units=int(split),
        input_strides=operands.inputs.stride()[:2],
    )
    bias_ih, bias_hh = (*operands.biases, None, None)[:2]
    job.tensors(
        lengths=None if lengths is None else lengths.contiguous(),
        ages=None if ages is None else ages.contiguous(),
        inputs=operands.inputs,
        weight_ih=operands.weights[0],
        bias_ih=bias_ih,
        bias_hh=bias_hh,
    )
    job.whole_numbers(stream_strides=[int(s.shape[2] == hidden) for s in operands.streams])
    job.lists(
        weight_hh=operands.weights[1:],
        initial=operands.initial,
        stream_values=operands.streams,
        parameter_values=operands.parameters,
    )
    return job


def _row(tensor: Tensor, row: int, hidden: int) -> Tensor:
    """A row of a unit parameter, one value for each unit."""
    return (tensor[row] if tensor.dim() == 2 else tensor).expand(hidden)
