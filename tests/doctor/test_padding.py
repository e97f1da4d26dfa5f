"""Where sequences end, and whether the answer is read after it."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.changes import CHANGES
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.need import Need
from throughtime.doctor.padding import check_padding, lengths_of, true_lengths
from throughtime.doctor.pooled_padding import _left_out, check_pooled_padding
from throughtime.doctor.remedies import Condition, Trainer, make_condition
from throughtime.doctor.subject import Clock, Subject
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
    return check_padding(recording, flow_in_double(s, "layer", batch), batch), recording


def test_lengths_are_told_from_the_inputs() -> None:
    assert lengths_of(padded()[0].transpose(0, 1)).tolist() == LENGTHS.tolist()


def test_padding_that_is_read() -> None:
    found, recording = checked(Classifier(nn.GRU(WIDTH, 5, batch_first=True)), padded())
    assert found is not None
    assert found.cause is Cause.PADDING_READ
    known = true_lengths(recording, padded())
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
    finding = check_padding(recording, flow_in_double(s, "layer", batch), batch)
    assert finding is not None
    assert "100 % of the 1 sequences" in finding.statement


@pytest.mark.parametrize("kind", ["lengths", "mask", "labels"])
def test_lengths_are_told_from_the_batch(kind: str) -> None:
    """Zeros are steps too, so that the inputs alone do not tell; labels are no lengths."""
    x, y = padded()
    x[:, 1::2] = 0
    mask = torch.arange(9) < LENGTHS[:, None]
    batch = (x, {"lengths": LENGTHS, "mask": mask, "labels": LENGTHS % 3}[kind], y)
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True))
    recording = record(model, lambda: model(x).sum(), level=0)
    known = true_lengths(recording, batch)
    assert (known is None) is (kind == "labels")
    if known is not None:
        assert known[0].tolist() == LENGTHS.tolist()
        assert known[1] == "lengths in the batch"


class Pooled(nn.Module):
    """Reads all steps by their mean or maximum, with or without the padding."""

    def __init__(self, pool: str, masked: bool = False, **options: Any):
        super().__init__()
        self.layer = nn.LSTM(WIDTH, 5, **options)
        width = 10 if self.layer.bidirectional else 5
        self.head, self.pool, self.masked = nn.Linear(width, 2), pool, masked

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.layer(x if self.layer.batch_first else x.transpose(0, 1))
        outputs = outputs if self.layer.batch_first else outputs.transpose(0, 1)
        outside = (torch.arange(x.shape[1]) >= lengths[:, None])[..., None] & self.masked
        if self.pool == "mean":
            return self.head(outputs.masked_fill(outside, 0).sum(1) / (~outside).sum(1))
        return self.head(outputs.masked_fill(outside, -torch.inf).amax(1))


def of_lengths(model: nn.Module, batch: Any) -> Tensor:
    x, lengths, y = batch
    return nn.functional.cross_entropy(model(x, lengths), y)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_copy_without_padding_pools_as_sequences_alone(pool: str, both: bool, first: bool):
    """Lengths that divide 12: each true step is there as often as the others."""
    x, lengths = torch.randn(4, 12, WIDTH), torch.tensor([12, 4, 3, 6])
    y = torch.randint(2, (4,))
    model = Pooled(pool, num_layers=2, bidirectional=both, batch_first=first)
    condition = Condition(model, lambda b: of_lengths(model, b), lambda: list(model.parameters()))
    loss = _left_out(condition, "layer", lambda batch: batch[1]).loss((x, lengths, y))
    alone = torch.cat([model(x[[k], :n], lengths[[k]]) for k, n in enumerate(lengths.tolist())])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(alone, y))


@pytest.mark.parametrize(
    ("masked", "after", "severity"),
    [(False, 0.1, "fault"), (False, 0.5, "note"), (True, 0.1, None)],
)
def test_pooled_padding_is_a_fault_where_a_copy_without_it_learns_more(
    masked: bool, after: float, severity: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(self: FreshCopies, name: str, *arguments: Any, **options: Any) -> Trial:
        del self, arguments
        assert options["given"]
        loss = 0.5 if name.startswith("as it is") else after
        return Trial([0.7] * 3, [loss, 1.01 * loss, 0.99 * loss], 128, diverged=False)

    monkeypatch.setattr(FreshCopies, "train", train)
    x, y = padded()
    batch = (x, LENGTHS, y)
    s = Subject(Pooled("mean", masked, batch_first=True), [batch], of_lengths, 6.0)
    copy = s.copy()
    recording = record(copy, lambda: s.loss(copy, batch), level=0)
    need = Need([0.7] * 3, [0.7] * 3, [0.1] * 3, 3, None, True, {}, learned=True)
    copies = FreshCopies(Trainer(s, 0), "layer", need, Clock(60.0))
    found = check_pooled_padding(copies, recording, flow_in_double(s, "layer", batch), "here")
    assert (None if found is None else found.severity) == severity
    assert len(copies.remedies) == (severity == "fault")


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
