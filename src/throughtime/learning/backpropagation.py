"""Backpropagation through time: through each chunk, or a window that moves along a stream."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import State, map_state
from throughtime.engines import Request, Result, run
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    draw,
    generator_of,
    starts,
    trained,
)


@final
class BPTT(Learner):
    """Backpropagation through time, through each chunk; its gradient ends where the chunk starts.

    With one chunk a sequence it is the whole gradient; with chunks of k steps it is truncated
    backpropagation with k1 = k2 = k.

    With `cut=("h",)` and `LSTM1997Cell` it is the gradient of Hochreiter and Schmidhuber (1997):
    errors go back through the memories alone, h_{t-1} is taken for a constant.

    Arguments:
        engine: name of the engine that runs the cell.
        cut: fields of the state by which no gradient goes from one step to the one before; then the
            cell runs step by step.

    Raises:
        ConfigurationError: a cut beside an engine that has none.

    Example:
        >>> from throughtime.cells import ElmanCell
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> model = StepwiseModel(ElmanCell(2, 5), torch.nn.Linear(5, 1), squared)
        >>> learner = BPTT()
        >>> state = learner.init(model, batch_size=3)
        >>> chunk = Chunk(torch.ones(7, 3, 2), torch.ones(7, 3, 1))
        >>> loss, gradients, state = learner.update(model, state, chunk)
        >>> gradients["cell.weight_hh"].shape
        torch.Size([5, 5])

    Source: P. Werbos, "Backpropagation through time: what it does and how to do it", 1990.
    """

    def __init__(self, engine: str = "auto", cut: tuple[str, ...] = ()):
        if cut and engine not in ("auto", "eager"):
            raise ConfigurationError(
                "cut", got=f"{cut} with engine={engine!r}", expected="the eager engine, or auto"
            )
        self.engine, self.cut = engine, cut

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """None.

        Raises:
            ConfigurationError: a cut field that the cell's state does not have.
        """
        like = next(model.cell.parameters())
        state = model.cell.initial_state(batch_size, dtype=like.dtype, device=like.device)
        if missing := [name for name in self.cut if name not in state._fields]:
            raise ConfigurationError("cut", got=missing, expected=f"fields of {state._fields}")
        return ()

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk, and backward."""
        random, resets = generator_of(state), starts(state, chunk)
        streams = draw(model, state.cell, resets, random)
        with torch.enable_grad():
            cell = CutCell(model.cell, self.cut) if self.cut else model.cell
            request = Request(cell, chunk.inputs, state.cell, None, resets, streams)
            outputs, end, _ = run(request, "eager" if self.cut else self.engine)
            loss, gradients = graded(model, outputs, chunk)
        cell = map_state(torch.Tensor.detach, end)
        started = torch.ones_like(state.started)
        return Update(loss, gradients, LearnerState(cell, started, (), random.get_state()))


@final
class CutCell(Cell):
    """A cell by some of whose fields no gradient goes from a step to the one before.

    No tensor of a state that it returns is made of another one, and the output is one of them where
    the cell's is: h_t of an LSTM is made of c_t, and its view is not.
    """

    def __init__(self, cell: Cell, cut: tuple[str, ...] = ()):
        super().__init__()
        self.cell, self.cut = cell, cut
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.output_size, self.streams = cell.output_size, cell.streams

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cell's."""
        return self.cell.initial_state(batch_size, dtype=dtype, device=device)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the cell's."""
        return self.cell.project(x)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Take the cell's step from constants in place of the fields that are cut."""
        cut = {name: map_state(torch.Tensor.detach, getattr(state, name)) for name in self.cut}
        output, after = advance(self.cell, projected, state._replace(**cut), streams)
        views: dict[int, Tensor] = {}
        after = map_state(lambda s: views.setdefault(id(s), s.view_as(s)), after)
        return views.get(id(output), output), after


@final
class TruncatedBPTT(Learner):
    """Truncated backpropagation: every `every` steps, through the last `window` steps.

        k1 = every: losses of so many steps are taken together
        k2 = window: their gradient goes back through so many steps, across chunks

    A stream is cut every k1 steps from the start of each chunk, so that chunks of a multiple of k1
    steps give the same whatever their length.

    Arguments:
        every: k1, at least 1.
        window: k2, at least k1.

    Raises:
        ConfigurationError: numbers out of range.

    Source: R. J. Williams and J. Peng, "An efficient gradient-based algorithm for on-line training
    of recurrent network trajectories", Neural Computation 2(4), 1990.
    """

    def __init__(self, every: int, window: int):
        if not 1 <= every <= window:
            raise ConfigurationError(
                "TruncatedBPTT",
                got=f"every={every}, window={window}",
                expected="1 <= every <= window",
            )
        self.every, self.window = every, window

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """The last steps but one of a window, and the state before them."""
        like = next(model.cell.parameters())
        nothing = torch.zeros(0, batch_size, dtype=like.dtype, device=like.device)
        start = model.cell.initial_state(batch_size, dtype=like.dtype, device=like.device)
        empty = torch.zeros(0, batch_size, dtype=torch.bool, device=like.device)
        inputs = nothing[..., None].expand(-1, -1, model.cell.input_size)
        resets = torch.ones(1, batch_size, dtype=torch.bool, device=like.device)
        kept = tuple(s[:0] for s in draw(model, start, resets, torch.Generator()))
        return (map_state(torch.Tensor.detach, start), inputs, empty, kept)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Piece by piece of `every` steps."""
        total: dict[str, Tensor] = {n: torch.zeros_like(p) for n, p in trained(model).items()}
        losses: list[Tensor] = []
        before: Streams = ()
        for start in range(0, len(chunk), self.every):
            piece = chunk.part(start, min(start + self.every, len(chunk)))
            (loss, gradients, state), before = self._piece(model, state, piece, before)
            losses.append(loss)
            for name, gradient in gradients.items():
                total[name] += gradient
        return Update(torch.stack(losses).sum(), total, state)

    def _piece(
        self, model: StepwiseModel, state: LearnerState, piece: Chunk, before: Streams
    ) -> tuple[Update, Streams]:
        """Return the update of a piece that follows a step of these streams, and its last ones."""
        random, resets = generator_of(state), starts(state, piece)
        start, inputs, earlier, kept = self._last(model, state, self.window - len(piece))
        streams = draw(model, state.cell, resets, random, before)
        inputs = torch.cat([inputs, piece.inputs])
        resets = torch.cat([earlier, resets])
        streams = tuple(torch.cat(pair) for pair in zip(kept, streams, strict=True))
        with torch.enable_grad():
            request = Request(model.cell, inputs, start, None, resets, streams, "states")
            result: Result = run(request, "auto")
            outputs = result.outputs[inputs.shape[0] - len(piece) :]
            loss, gradients = graded(model, outputs, piece)
        drop = max(0, inputs.shape[0] - (self.window - 1))
        if drop:
            states = result.states
            assert states is not None
            start = map_state(lambda s: s[drop - 1].detach(), states)
        memory = (start, inputs[drop:], resets[drop:], tuple(s[drop:] for s in streams))
        cell = map_state(torch.Tensor.detach, result.state)
        started = torch.ones_like(state.started)
        after = LearnerState(cell, started, memory, random.get_state())
        return Update(loss, gradients, after), tuple(s[-1:] for s in streams)

    def _last(self, model: StepwiseModel, state: LearnerState, count: int) -> State:
        """The memory, of so many steps at most."""
        start, inputs, resets, streams = state.memory
        excess = inputs.shape[0] - count
        if excess <= 0:
            return state.memory
        if count == 0:
            start = state.cell
        else:
            with torch.no_grad():
                early = tuple(s[:excess] for s in streams)
                request = Request(
                    model.cell, inputs[:excess], start, None, resets[:excess], early, "last"
                )
                start = run(request, "auto").state
        return (start, inputs[excess:], resets[excess:], tuple(s[excess:] for s in streams))


def graded(
    model: StepwiseModel, outputs: Float[Tensor, "time batch output"], chunk: Chunk
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The loss of a chunk, and its gradients by the model's parameters.

    Arguments:
        outputs: outputs of its cell, with their graph.
    """
    losses = model.losses(outputs, chunk.targets, chunk.weights)
    loss = losses.sum() / losses.shape[1]
    parameters = trained(model)
    found = torch.autograd.grad(
        loss, list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    return loss.detach(), dict(zip(parameters, found, strict=True))
