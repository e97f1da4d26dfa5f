"""Recurrent networks as users write them, and the mistakes that can be made in writing them."""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from benchmarks.doctor.tasks import Task

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN, "tt_lstm": tt.LSTM, "tt_gru": tt.GRU}
FAST = {"lstm": tt.LSTM, "gru": tt.GRU, "rnn": tt.RNN, "tt_lstm": tt.LSTM, "tt_gru": tt.GRU}


@dataclasses.dataclass(frozen=True)
class Design:
    """A user's network, without its mistakes.

    Attributes:
        cell: "lstm", "gru", "rnn" of torch; "tt_lstm", "tt_gru" of throughtime.
        hidden, layers, bidirectional: of the recurrent layer.
        activation: of the plain network, "tanh" or "relu".
        layer_batch_first: the order of the recurrent layer.
        data_batch_first: the order in which the loader gives inputs.
        loop: the network loops over an `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell` itself.
        read: "last" step, "final" state, "mean", "max" or "attention" over time, or all "steps".
        head: "linear", "mlp", "norm" (layer norm and linear), "log_softmax".
        before: width of a linear layer and ReLU on the inputs; 0 for none.
        packed: the network packs its padded sequences.
        stateful: the network takes a state and returns its last one beside its answer.
        initial: "default"; "orthogonal" or "identity" recurrent weights; or "remember", biases of 2
            on the gates that keep the past.
    """

    cell: str = "lstm"
    hidden: int = 32
    layers: int = 1
    bidirectional: bool = False
    activation: str = "tanh"
    layer_batch_first: bool = True
    data_batch_first: bool = True
    loop: bool = False
    read: str = "last"
    head: str = "linear"
    before: int = 0
    packed: bool = False
    stateful: bool = False
    initial: str = "default"


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """What the user got wrong in writing the network; by default nothing.

    Attributes:
        swapped: the recurrent layer has the other order of axes than the network thinks.
        reshaped: inputs are reshaped where they had to be transposed.
        keeps_state: the last state is kept in the network and starts the next call.
        views_state: the final states are viewed as (batch, all) without moving the batch first.
        softmax_over_batch: the answer is normalised over axis 0.
        reads_padding: the last step is read whatever the length of the sequence.
        detach_every, zero_every: the state is detached, or zeroed, every so many steps; 0: never.
        no_grad_share: share of the steps that run without a gradient.
    """

    swapped: bool = False
    reshaped: bool = False
    keeps_state: bool = False
    views_state: bool = False
    softmax_over_batch: bool = False
    reads_padding: bool = False
    detach_every: int = 0
    zero_every: int = 0
    no_grad_share: float = 0.0


class CellLoop(nn.Module):
    """A loop over time by hand, inputs (batch, time, channels)."""

    def __init__(self, cell: str, inputs: int, hidden: int, activation: str):
        super().__init__()
        kinds = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
        if cell == "rnn":
            self.cell = nn.RNNCell(inputs, hidden, nonlinearity=activation)
        else:
            self.cell = kinds[cell](inputs, hidden)

    def forward(self, x: Tensor, state=None):
        """Outputs (batch, time, hidden) and the last state."""
        outputs = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1), state


def detached(state):
    """A state without its history."""
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


class Network(nn.Module):
    """Inputs, perhaps an embedding, a recurrent layer, a read-out, a head."""

    def __init__(self, task: Task, design: Design, mistakes: Mistakes, fast: bool = False):
        super().__init__()
        self.design, self.mistakes = design, mistakes
        width = task.inputs
        if task.tokens:
            width = 12
            self.embedding = nn.Embedding(task.inputs, width)
        if design.before:
            self.before = nn.Sequential(nn.Linear(width, design.before), nn.ReLU())
            width = design.before
        self.rnn = self._recurrent(width, fast)
        outputs = design.hidden * (1 + design.bidirectional)
        if design.read == "final":
            outputs *= design.layers
        if design.read == "attention":
            self.score = nn.Linear(outputs, 1)
        if design.head == "mlp":
            self.head = nn.Sequential(
                nn.Linear(outputs, 32), nn.ReLU(), nn.Linear(32, task.classes)
            )
        elif design.head == "norm":
            self.head = nn.Sequential(nn.LayerNorm(outputs), nn.Linear(outputs, task.classes))
        else:
            self.head = nn.Linear(outputs, task.classes)
        self.kept = None
        self._initialise()

    def _initialise(self) -> None:
        """The user's own initial weights of the recurrent layer."""
        kind, hidden = self.design.initial, self.design.hidden
        with torch.no_grad():
            for name, weight in self.rnn.named_parameters():
                if "weight_hh" in name and kind == "orthogonal":
                    nn.init.orthogonal_(weight)
                if "weight_hh" in name and kind == "identity":
                    nn.init.eye_(weight)
                if "bias" in name and kind in ("orthogonal", "identity"):
                    weight.zero_()
                if "bias_hh" in name and kind == "remember":
                    weight[hidden : 2 * hidden] = 2.0

    def _recurrent(self, width: int, fast: bool) -> nn.Module:
        design = self.design
        if design.loop and not fast:
            return CellLoop(design.cell, width, design.hidden, design.activation)
        more = {"nonlinearity": design.activation} if design.cell == "rnn" else {}
        return (FAST if fast else LAYERS)[design.cell](
            width,
            design.hidden,
            design.layers,
            batch_first=design.layer_batch_first != self.mistakes.swapped,
            bidirectional=design.bidirectional,
            **more,
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None, state=None):
        """The answer (batch, classes), or at each step in the loader's order of axes."""
        design, mistakes = self.design, self.mistakes
        if hasattr(self, "embedding"):
            x = self.embedding(x)
        if design.before:
            x = self.before(x)
        if mistakes.reshaped:
            x = x.reshape(x.shape[1], x.shape[0], *x.shape[2:])
        elif design.layer_batch_first != design.data_batch_first:
            x = x.transpose(0, 1)
        out, state = self._run(x, lengths, state)
        answer = self.head(self._read(out, state, lengths))
        if design.read == "steps" and design.layer_batch_first != design.data_batch_first:
            answer = answer.transpose(0, 1)
        if design.head == "log_softmax":
            answer = F.log_softmax(answer, dim=0 if mistakes.softmax_over_batch else -1)
        return (answer, state) if design.stateful else answer

    def _run(self, x: Tensor, lengths: Tensor | None, state):
        mistakes = self.mistakes
        axis = 1 if self.design.layer_batch_first else 0
        if mistakes.keeps_state:
            state = self.kept
        if self.design.packed and lengths is not None:
            packed = pack_padded_sequence(
                x, lengths, batch_first=self.design.layer_batch_first, enforce_sorted=False
            )
            out, state = self.rnn(packed)
            return pad_packed_sequence(out, batch_first=self.design.layer_batch_first)[0], state
        every = mistakes.detach_every or mistakes.zero_every
        if every:
            outs = []
            for chunk in x.split(every, axis):
                if outs:
                    state = detached(state) if mistakes.detach_every else None
                out, state = self.rnn(chunk, state)
                outs.append(out)
            return torch.cat(outs, axis), state
        if mistakes.no_grad_share:
            first = int(x.shape[axis] * mistakes.no_grad_share)
            early, late = x.split([first, x.shape[axis] - first], axis)
            with torch.no_grad():
                before, state = self.rnn(early, state)
            after, state = self.rnn(late, state)
            return torch.cat([before, after], axis), state
        out, state = self.rnn(x, state)
        if mistakes.keeps_state:
            self.kept = detached(state)
        return out, state

    def _read(self, out: Tensor, state, lengths: Tensor | None) -> Tensor:
        design = self.design
        if design.read == "steps":
            return out
        if design.read == "final":
            final = state[0] if isinstance(state, tuple) else state
            if design.loop and final.dim() == 2:
                return final
            if self.mistakes.views_state:
                return final.reshape(final.shape[1], -1)
            return final.transpose(0, 1).reshape(final.shape[1], -1)
        out = out if design.layer_batch_first else out.transpose(0, 1)
        if design.read == "last" and (lengths is None or self.mistakes.reads_padding):
            return out[:, -1]
        if lengths is None or self.mistakes.reads_padding:
            valid = torch.ones(out.shape[:2], dtype=torch.bool)
        else:
            valid = torch.arange(out.shape[1]) < lengths[:, None]
        if design.read == "last":
            return out[torch.arange(len(out)), valid.sum(1) - 1]
        if design.read == "max":
            return out.masked_fill(~valid[..., None], -2.0).amax(1)
        if design.read == "attention":
            scores = self.score(out).squeeze(-1).masked_fill(~valid, -torch.inf)
            return (scores.softmax(1)[..., None] * out).sum(1)
        return (out * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
