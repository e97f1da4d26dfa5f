"""Training steps of the translation studies beside the same models in plain torch.nn.

Batches have the sizes of Multi30k: 128 pairs, 12 to 15 words of a source, 12 to 15 of a target and
its end; a step is a forward and a backward pass. Parts are measured on their own, each from the
values of the part before: the encoder, the decoder with its attention, and the output layer with
the loss.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.core.state import map_state
from throughtime.models import EncoderDecoder, build_model
from throughtime.models.readout_loss import readout_losses
from throughtime.tasks.kinds import Likelihood, Pairs, Tokens
from throughtime.tasks.pairs import PairBatch, collated
from throughtime.tasks.seeding import generator

STUDIES = {
    "reversal": "encoder-decoder:cell=lstm,hidden=256,layers=2,embedding=256,reverse=true",
    "attention": "attention:cell=gru,hidden=512,embedding=256",
    "attention after": "attention:cell=gru,hidden=512,embedding=256,when=after,score=dot",
}
ALPHABETS = {"reversal": (5900, 6300), "attention": (7867, 5977), "attention after": (7867, 5977)}
SOURCE, TARGET = 16, 15


class PlainEncoderDecoder(nn.Module):
    """The equations of `EncoderDecoder` in the modules of torch.nn, with its parameters."""

    def __init__(self, ours: EncoderDecoder):
        super().__init__()
        layer = ours.encoder.layer
        assert layer is not None
        self.ours, self.context = ours, ours.context
        kind = nn.LSTM if hasattr(ours.encoder.form, "c") else nn.GRU
        sizes = (layer.input_size, layer.hidden_size, layer.num_layers)
        self.encoder = kind(*sizes, bidirectional=layer.bidirectional)
        self.encoder.load_state_dict(layer.state_dict())
        if self.context == "attention":
            attending: Any = ours.decoder.cells()[0]
            self.cell = nn.GRUCell(attending.cell.input_size, sizes[1])
            self.cell.load_state_dict(attending.cell.state_dict())
        else:
            self.decoder = kind(ours.decoder.input_size, sizes[1], sizes[2])
            self.decoder.load_state_dict(ours.decoder.state_dict())

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Any, ...]:
        """Return the decoder's start, the memory, its keys and the mask."""
        ours = self.ours
        if ours.encoder.reverse:
            steps = torch.arange(len(source))[:, None]
            order = torch.where(steps < lengths, lengths - 1 - steps, steps)
            source = source.gather(0, order)
        assert ours.encoder.embedding is not None
        x = ours.encoder.embedding(source)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        outputs, state = self.encoder(packed)
        if self.context == "initial":
            return (state,)
        values = pad_packed_sequence(outputs)[0].transpose(0, 1)
        start = torch.tanh(ours.encoder.joined[0](state.transpose(0, 1).flatten(1)))
        attention: Any = ours.attention or ours.decoder.cells()[0].attention
        keys = attention.keys(values)
        padding = torch.arange(values.shape[1]) >= lengths[:, None]
        return start, values, keys, padding

    def features(self, symbols: Tensor, state: tuple[Any, ...]) -> Tensor:
        """Return what the output layer reads."""
        ours = self.ours
        y = ours.embedding(symbols)
        if self.context == "initial":
            return self.decoder(y, state[0])[0]
        h, values, keys, padding = state
        assert ours.combine is not None
        if self.context == "attention-after":
            outputs, _ = self.decoder(y, h[None])
            scores = torch.bmm(outputs.transpose(0, 1), keys.transpose(1, 2))
            weights = scores.masked_fill(padding[:, None], -torch.inf).softmax(-1)
            context = torch.bmm(weights, values).transpose(0, 1)
            return ours.combine(torch.cat([outputs, context], -1)).tanh()
        attention: Any = ours.decoder.cells()[0].attention
        read: list[Tensor] = []
        for step in y:
            compared = torch.tanh(attention.query(h)[:, None] + keys)
            scores = (compared @ attention.vector).masked_fill(padding, -torch.inf)
            context = torch.bmm(scores.softmax(-1)[:, None], values)[:, 0]
            h = self.cell(torch.cat([step, context], -1), h)
            read.append(torch.cat([h, context, step], -1))
        return ours.combine(torch.stack(read)).tanh()

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of the targets that are due."""
        logits = self.ours.readout(features)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def batch_of(study: str) -> PairBatch:
    """Return pairs of random symbols."""
    random = generator(0, "training", 0)
    pairs = []
    for _ in range(128):
        sides = zip(ALPHABETS[study], (SOURCE, TARGET + 1), strict=True)
        pairs.append(tuple(random.integers(3, n, random.integers(12, most)) for n, most in sides))
    return collated(pairs, begin=1, end=2)


def parts(study: str) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the functions to be timed: by part, ours and the plain one."""
    torch.manual_seed(0)
    source, target = ALPHABETS[study]
    kinds = Pairs(Tokens(source), Tokens(target))
    ours = build_model(STUDIES[study], kinds, Likelihood())
    assert isinstance(ours, EncoderDecoder)
    batch = batch_of(study)
    assert batch.source_lengths is not None
    lengths = batch.source_lengths
    plain = PlainEncoderDecoder(ours)
    # the same values for both, as leaves
    start = map_state(_leaf, ours.encode(batch.source, lengths))
    features, _ = ours.features(batch.inputs, start)
    leaf, gradient = _leaf(features), torch.randn_like(features)
    plain_start = _map(_leaf, plain.encode(batch.source, lengths))
    due = int((batch.targets >= 0).sum())

    def our_loss(read: Tensor) -> Tensor:
        return readout_losses(ours.readout, read, batch.targets).sum() / due

    def our_step() -> None:
        state = ours.encode(batch.source, lengths)
        (ours.losses(batch.inputs, batch.targets, state)[0].sum() / due).backward()

    def plain_step() -> None:
        read = plain.features(batch.inputs, plain.encode(batch.source, lengths))
        plain.loss(read, batch.targets).backward()

    def encode(model: Any) -> Callable[[], object]:
        return lambda: _backward(model.encode(batch.source, lengths))

    ours_decoded = lambda: ours.features(batch.inputs, start)[0].backward(gradient)  # noqa: E731
    plain_decoded = lambda: plain.features(batch.inputs, plain_start).backward(gradient)  # noqa: E731
    return {
        "whole step": {"ours": our_step, "torch.nn": plain_step},
        "encoder": {"ours": encode(ours), "torch.nn": encode(plain)},
        "decoder and attention": {"ours": ours_decoded, "torch.nn": plain_decoded},
        "output layer and loss": {
            "ours": lambda: our_loss(leaf).backward(),
            "torch.nn": lambda: plain.loss(leaf, batch.targets).backward(),
        },
    }


@benchmark("translation")
def translation(rounds: int) -> list[Row]:
    """Training steps of the studies input-reversal and attention, and their parts."""
    rows: list[Row] = []
    for study in STUDIES:
        for part, candidates in parts(study).items():
            rows += compare(f"{study}, {part}", candidates, "torch.nn", rounds)
    return rows


def _leaf(tensor: Tensor) -> Tensor:
    made = tensor.detach().clone()
    return made.requires_grad_() if made.is_floating_point() else made


def _map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    return tuple(_map(function, v) for v in value) if isinstance(value, tuple) else function(value)


def _tensors(value: Any) -> list[Tensor]:
    return [t for v in value for t in _tensors(v)] if isinstance(value, tuple) else [value]


def _backward(value: Any) -> None:
    """Backpropagate a gradient of ones from all that an encoder gives."""
    found = [t for t in _tensors(value) if t.requires_grad]
    torch.autograd.backward(found, [torch.ones_like(t) for t in found])
