"""Where sequences end, and whether the answer is read after it."""

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from throughtime.doctor.changes import CHANGES
from throughtime.doctor.exact_checks import check_padding, lengths_of, true_lengths
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.remedies import make_condition
from throughtime.doctor.subject import Subject
from throughtime.instruments import record
from throughtime.results.diagnosis import Cause

LENGTHS = torch.tensor([9, 7, 4, 9, 2, 6])


def padded() -> tuple[Tensor, Tensor]:
    x = torch.randn(6, 9, WIDTH)
    x[torch.arange(9) >= LENGTHS[:, None]] = 0
    return x, torch.randint(2, (6,))


class Packed(nn.Module):
    """Reads the last valid step of each sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
        return self.head(self.layer(packed)[1][-1])


def checked(model: nn.Module, batch: tuple[Tensor, Tensor]):
    s = Subject(model, [batch], cross_entropy, 6.0)
    copy = s.copy()
    recording = record(copy, lambda: s.loss(copy, batch), level=0)
    return check_padding(recording, flow_in_double(s, "layer", batch)), recording


def test_lengths_are_told_from_the_inputs() -> None:
    assert lengths_of(padded()[0].transpose(0, 1)).tolist() == LENGTHS.tolist()


def test_padding_that_is_read() -> None:
    found, recording = checked(Classifier(nn.GRU(WIDTH, 5, batch_first=True)), padded())
    assert found is not None
    assert found.cause is Cause.PADDING_READ
    known = true_lengths(recording)
    assert known is not None
    assert known[0].tolist() == LENGTHS.tolist()


def test_padding_is_told_where_the_read_out_is_off_for_most() -> None:
    """A rectified read-out lets no gradient through for five of the six sequences."""
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True))
    batch = padded()
    on = torch.arange(6) == 4  # of length 2

    def loss(model, batch):
        x, y = batch
        answers = model(x)
        return nn.functional.cross_entropy(torch.where(on[:, None], answers, 0.0), y)

    s = Subject(model, [batch], loss, 6.0)
    copy = s.copy()
    recording = record(copy, lambda: s.loss(copy, batch), level=0)
    finding = check_padding(recording, flow_in_double(s, "layer", batch))
    assert finding is not None
    assert "100 % of the 1 sequences" in finding.statement


def test_packed_sequences_are_read_at_their_ends() -> None:
    assert checked(Packed(), padded())[0] is None


@pytest.mark.parametrize("kind", ["noise", "equal ends", "zeros everywhere"])
def test_what_is_no_padding(kind: str) -> None:
    x, y = torch.randn(6, 9, WIDTH), torch.randint(2, (6,))
    if kind == "equal ends":
        x[:, 5:] = 0
    if kind == "zeros everywhere":  # as the dark pixels of pictures
        x[torch.rand(6, 9) < 0.6] = 0
    assert checked(Classifier(nn.GRU(WIDTH, 5, batch_first=True)), (x, y))[0] is None


def test_a_read_out_that_is_held_to_the_end_is_that_of_packed_sequences() -> None:
    batch = padded()
    model, packed = Classifier(nn.GRU(WIDTH, 5, batch_first=True)), Packed()
    packed.load_state_dict(model.state_dict())
    s = Subject(model, [batch], cross_entropy, 6.0)
    (change,) = [c for c in CHANGES if c.causes == (Cause.PADDING_READ,)]
    condition = make_condition(s, "layer", change, 5)
    condition.model.load_state_dict(model.state_dict())
    torch.testing.assert_close(condition.loss(batch), cross_entropy(packed, batch))
