"""How the state of one call of a layer comes to the next, where the model handles it itself."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from throughtime.core import errors
from throughtime.instruments import gradient_flow, record


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_a_state_that_the_model_masks_between_steps_goes_on(kind) -> None:
    """The usual loop over padded sequences: h stays where a sequence has ended."""
    torch.manual_seed(0)
    cell = kind(2, 3, dtype=torch.float64)
    x = torch.randn(6, 4, 2, dtype=torch.float64)
    lengths = torch.tensor([6, 4, 2, 5])

    def run(x_t, state):
        after = cell(x_t, state)
        return after if isinstance(after, tuple) else (after,)

    def loss():
        state = None
        for t, x_t in enumerate(x):
            given = None if state is None else state if kind is nn.LSTMCell else state[0]
            after = run(x_t, given)
            mask = (lengths > t)[:, None]
            old = after if state is None else state
            state = tuple(torch.where(mask, a, b) for a, b in zip(after, old, strict=True))
        return state[0].square().sum()

    flow = gradient_flow(cell, loss)
    assert set(flow.links[1:]) == {"connected", "changed"}
    read = (flow.answer > 1e-12).nonzero().tolist()
    assert sorted(read) == sorted([int(n) - 1, b] for b, n in enumerate(lengths))
    recording = record(cell, loss)
    assert recording.resets is None
    for t in sorted(recording.starts):
        assert not torch.equal(recording.before(t).h, recording.states.h[t - 1])


def test_a_state_without_its_graph_is_detached_however_it_is_made() -> None:
    cell = nn.GRUCell(2, 3)
    x = torch.randn(4, 5, 2)

    def loss():
        state = None
        for x_t in x:
            state = cell(x_t, None if state is None else 0.5 * state.detach())
        return state.sum()

    assert gradient_flow(cell, loss).links == ("fresh", *3 * ("detached",))


def test_two_calls_on_packed_sequences_follow_each_other() -> None:
    """Each call is as alone; steps beyond a length start afresh, so that nothing crosses them."""
    torch.manual_seed(0)
    layer = nn.LSTM(2, 3)
    lengths = torch.tensor([5, 2, 4])
    one, two = (
        pack_padded_sequence(torch.randn(5, 3, 2), lengths, enforce_sorted=False) for _ in range(2)
    )

    def loss():
        return layer(one)[0].data.square().sum() + layer(two)[0].data.sum()

    recording = record(layer, loss)
    assert recording.calls == (5, 5)
    assert recording.lengths is None
    padding = torch.arange(5)[:, None] >= lengths
    assert recording.resets is not None
    assert torch.equal(recording.resets[:5], padding)
    assert bool(recording.resets[5].all())
    assert torch.equal(recording.resets[6:], padding[1:])
    for k, packed in enumerate((one, two)):
        alone = record(layer, lambda packed=packed: layer(packed)[0].data.sum())
        assert torch.equal(recording.states.h[5 * k :][:5][~padding], alone.states.h[~padding])

    def connected():
        _, state = layer(one)
        return layer(two, state)[0].data.sum()

    with pytest.raises(errors.ConfigurationError, match="one goes on from the state of another"):
        record(layer, connected)
