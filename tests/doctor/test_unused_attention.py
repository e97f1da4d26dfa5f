"""Attention that is not used: weights by hand, and uniform ones in their place."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from throughtime.doctor.need import Need
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.unused_attention import UnusedAttention, make_uniform
from throughtime.layers import GRU
from throughtime.memory import AdditiveAttention, DotAttention
from throughtime.models import EncoderDecoder
from throughtime.results.diagnosis import Cause
from throughtime.tasks.kinds import Pairs, Tokens
from throughtime.tasks.pairs import collated

PAIRS = [([1, 2, 3], [4, 2]), ([4, 5], [1, 3, 0, 2])]
BATCH = collated(PAIRS, 5, 6)


def translator(context: Literal["attention", "attention-after"], attention: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    width = 3 + 4 * (context == "attention")
    return EncoderDecoder(
        Pairs(Tokens(6), Tokens(7)), GRU(3, 4), GRU(width, 4), context=context, attention=attention
    )


@pytest.mark.parametrize("attention", [AdditiveAttention(4, 4, 5), DotAttention(4, 4)])
@pytest.mark.parametrize("context", ["attention", "attention-after"])
def test_weights_become_those_of_a_mean_over_the_source(context: Any, attention: Any) -> None:
    model = translator(context, attention)
    seen = make_uniform(model)
    state = model.encode(BATCH.source, BATCH.source_lengths)
    model(BATCH.inputs, state)
    weights = model.alignment(BATCH.inputs, state)
    torch.testing.assert_close(weights[:, 0], torch.full((5, 3), 1 / 3))
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.5, 0.5, 0.0]).expand(5, 3))
    name = "decoder.attention" if context == "attention" else "attention"
    assert seen == {name: 3}


@pytest.mark.parametrize("width", [4, 6])
def test_weights_of_torch_become_a_mean_over_what_is_not_masked(width: int) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"a": nn.MultiheadAttention(4, 2, kdim=width, vdim=width, batch_first=True)}
    )
    nn.init.normal_(model["a"].in_proj_bias)
    seen = make_uniform(model)
    mask = torch.tensor([[False, False, True]])
    memory = torch.randn(1, 3, width)
    _, weights = model["a"](torch.randn(1, 2, 4), memory, memory, key_padding_mask=mask)
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5, 0.0]).expand(1, 2, 3))
    assert seen == {"a": 3}


class Marked(nn.Module):
    """The value at the marked step, found by attention; `sharp` 0 makes it a mean."""

    def __init__(self, sharp: float):
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        with torch.no_grad():
            for parameter in self.attention.parameters():
                parameter.zero_()
            self.attention.in_proj_bias[0] = sharp  # the query
            self.attention.in_proj_weight[2, 0] = 1.0  # the key: the mark
            self.attention.in_proj_weight[5, 1] = 1.0  # the value
            self.attention.out_proj.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x[:, :1], x, x)[0][:, 0, 1]


def marked(steps: int = 6) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    made = []
    for _ in range(16):
        values, place = torch.randn(32, steps), torch.randint(steps, (32,))
        marks = nn.functional.one_hot(place, steps).float()
        x = torch.stack([marks, values], -1)
        made.append((x, values[torch.arange(32), place]))
    return made


def measured(model: nn.Module, data: Any) -> UnusedAttention:
    found = UnusedAttention(
        Subject(model, data, lambda m, b: (m(b[0]) - b[1]).square().mean(), 5, data)
    )
    found.measure(Clock(60))
    return found


def need(full: float) -> Need:
    return Need([1.0] * 16, [1.0] * 16, [full + 0.001 * k for k in range(16)], 1, 5, True, {}, True)


def test_attention_that_is_needed_has_no_finding() -> None:
    found = measured(Marked(30.0), marked())
    assert found.names == ["attention"]
    assert max(found.given) < 1e-6
    assert min(found.uniform) > 0.3
    assert found.finding([need(0.0)], "here") is None


def test_attention_that_is_a_mean_is_a_fault_where_a_predictor_learns_more() -> None:
    finding = measured(Marked(0.0), marked()).finding([need(0.0)], "here")
    assert finding is not None
    assert (finding.cause, finding.severity) == (Cause.ATTENTION_UNUSED, "fault")
    assert finding.effect is not None
    assert finding.effect.value == 0
    assert "(attention) do not matter" in finding.statement


def test_attention_that_is_a_mean_is_a_note_where_the_model_is_good() -> None:
    words = "a mean over the positions does as well"
    for needs, remedy in (([], "the need for attention is open"), ([need(0.8)], words)):
        finding = measured(Marked(0.0), marked()).finding(needs, "here")
        assert finding is not None
        assert finding.severity == "note"
        assert remedy in finding.remedy


def test_one_position_and_attention_that_never_runs_are_left_out() -> None:
    assert measured(Marked(0.0), marked(1)).finding([], "here") is None

    class Idle(Marked):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 1] * self.attention.out_proj.weight[0, 0]

    found = measured(Idle(0.0), marked())
    assert found.names == []
    assert found.finding([], "here") is None


def test_a_spent_budget_calls_no_loss() -> None:
    def fail(model: nn.Module, batch: Any) -> Tensor:
        raise AssertionError

    found = UnusedAttention(Subject(Marked(0.0), marked(), fail, 5))
    found.measure(Clock(10, 0))
    assert found.given == []
