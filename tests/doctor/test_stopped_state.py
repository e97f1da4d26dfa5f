"""Gradients that code stops, and states that code sets to 0: exact experiments."""

import pytest
import torch
from doctor.faulty_models import TIME, WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor import diagnose, exact_checks
from throughtime.doctor.exact_checks import check_stopped
from throughtime.doctor.gradient_cut import check_cut, flow_in_double
from throughtime.doctor.subject import Subject
from throughtime.results.diagnosis import Cause


def subject(model: nn.Module, batches: list) -> Subject:
    return Subject(model, batches, cross_entropy, 6.0)


class Rounded(Classifier):
    """A classifier whose scores are rounded."""

    def forward(self, x: Tensor) -> Tensor:
        return (10 * super().forward(x)).round()


class AfterTheEnd(Classifier):
    """A classifier that reads packed sequences a step after their end."""

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.linspace(TIME - 2, TIME - 4, len(x)).long()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        output, _ = nn.utils.rnn.pad_packed_sequence(
            self.layer(packed)[0], batch_first=True, total_length=TIME
        )
        return self.head(output[:, -1])


class Below(Classifier):
    """A classifier whose scores are rectified above a bound that none reaches."""

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) - 100.0).relu()


class Beyond(Classifier):
    """A classifier whose scores are so large that tanh is flat."""

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) + 1e6).tanh()


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        (Rounded, Cause.NOT_TRAINED, "a function between the two has no gradient"),
        (AfterTheEnd, Cause.PADDING_READ, "after their ends"),
        (Classifier, None, ""),
        (Below, None, ""),  # values, not code
        (Beyond, None, ""),
    ],
)
def test_a_gradient_that_fresh_weights_do_not_have_either(kind, cause, words: str) -> None:
    model = kind(nn.GRU(WIDTH, 5, batch_first=True))
    with torch.no_grad():  # of the right model, a head that is ruined
        model.head.weight.mul_(0.0 if kind is Classifier else 1.0)
    found = check_stopped(subject(model, first_steps()), "layer")
    assert (None if found is None else found.cause) == cause
    assert found is None or words in found.statement


class Masked(nn.Module):
    """A cell in a loop, whose state is multiplied by a mask of (batch, step)."""

    def __init__(self, keep: float):
        super().__init__()
        self.layer, self.head, self.keep = nn.GRUCell(WIDTH, 5), nn.Linear(5, 2), keep

    def forward(self, x: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(0)
        mask = (torch.rand(x.shape[:2], generator=draw) < self.keep).to(x)
        state = x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            state = self.layer(x[:, t], state * mask[:, t, None])
        return self.head(state)


@pytest.mark.parametrize(("keep", "fault"), [(0.1, True), (0.97, False), (1.0, False)])
def test_a_state_that_a_mask_sets_to_zero_over_the_lag(keep: float, fault: bool) -> None:
    s = subject(Masked(keep), first_steps())
    flow = flow_in_double(s, "layer", s.held_out[0])
    found = check_cut(s, "layer", flow, 6, 6)
    assert (found is not None) == fault
    if found is not None:
        assert found.cause is Cause.FORGETTING
        assert found.effect is not None
        assert found.effect.value > 0.9


@pytest.mark.parametrize("learned", [True, False])
def test_a_hinge_loss_without_a_gradient_is_learned_if_it_needs_the_inputs(learned: bool) -> None:
    """The sign of the last step's first feature; or labels that are 1 for all samples."""

    class Margin(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.RNN(WIDTH, 1, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return 10 * self.layer(x)[0][:, -1, 0]

    def hinge(model: nn.Module, batch) -> Tensor:
        return (1 - batch[1] * model(batch[0])).relu().mean()

    model = Margin()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.layer.weight_ih_l0[0, 0] = 5.0 if learned else 0.0
        model.layer.bias_ih_l0.fill_(0.0 if learned else 5.0)
    batches = []
    for x, _ in first_steps():
        x = x.clone()
        x[:, -1, 0] = torch.where(torch.arange(len(x)) % 2 == 0, 1.0, -1.0)
        batches.append((x, x[:, -1, 0] if learned else torch.ones(len(x))))
    found = check_stopped(Subject(model, batches, hinge, 6.0), "layer")
    assert (None if found is None else found.cause) == (Cause.HEALTHY if learned else None)


class Thresholds(nn.Module):
    """A state that comparisons make: no gradient comes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.h, self.head = nn.Linear(WIDTH, 9), nn.Linear(9, 9), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 9)
        for t in range(x.shape[1]):
            state = (self.i(x[:, t]) + self.h(state) > 0).float()
        return self.head(state)


@pytest.mark.parametrize(
    ("solved", "cause"), [(0.1, Cause.GRADIENT_CUT), (0.9, None), (None, None)]
)
def test_states_without_a_gradient_are_a_fault_where_little_is_learned(
    solved: float | None, cause: Cause | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_checks, "solved", lambda *_: solved)
    torch.manual_seed(0)
    diagnosis = diagnose(
        Thresholds(), first_steps(), cross_entropy, budget="1s", remedies=False, progress=False
    )
    assert diagnosis.verdict is (Cause.INCONCLUSIVE if cause is None else cause)
