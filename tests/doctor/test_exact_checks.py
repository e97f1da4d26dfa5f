"""Time, samples and batches kept apart, or not: exact experiments on untrained models."""

import pytest
import torch
from doctor.faulty_models import (
    BATCH,
    TIME,
    WIDTH,
    Chunked,
    Classifier,
    Keeping,
    cross_entropy,
    echoes,
    first_steps,
)
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.exact_checks import check_future, check_reached, check_state
from throughtime.doctor.gradient_cut import check_cut, check_training_step, flow_in_double
from throughtime.doctor.sample_axes import regroup, sample_axes
from throughtime.doctor.sample_checks import check_order, check_samples
from throughtime.doctor.subject import Subject
from throughtime.results.diagnosis import Cause


def subject(model: nn.Module, batches: list, loss=cross_entropy) -> Subject:
    return Subject(model, batches, loss, 6.0)


def axes_of(found: Subject):
    axes = sample_axes([*found.training, *found.held_out])
    assert axes is not None
    return axes


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_right_model_passes_every_check(kind) -> None:
    s = subject(Classifier(kind(WIDTH, 5, batch_first=True)), first_steps())
    assert check_samples(s, "layer", axes_of(s)) is None
    assert check_state(s, "layer") is None
    flow = flow_in_double(s, "layer", s.held_out[0])
    assert check_cut(s, "layer", flow, None) is None
    assert check_future(s, "layer", axes_of(s), (flow.answer > 0).any(1)) is None


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch", [BATCH, TIME])
def test_time_and_batch_swapped(kind, batch: int) -> None:
    """Also where there are as many samples as steps, and only the data tell which is which."""
    s = subject(Classifier(kind(WIDTH, 5)), first_steps(24, batch))
    found = check_samples(s, "layer", axes_of(s))
    assert found is not None
    assert found.cause is Cause.TIME_BATCH_SWAPPED
    assert found.effect is not None
    assert found.effect.value == TIME


def test_answers_at_every_step_tell_time_by_their_dependence() -> None:
    right = Classifier(nn.GRU(WIDTH, 5, batch_first=True), read="steps")
    wrong = Classifier(nn.GRU(WIDTH, 5), read="steps")
    s = subject(right, echoes())
    assert axes_of(s).axes == (0, 0)
    assert check_samples(s, "layer", axes_of(s)) is None
    found = check_samples(subject(wrong, echoes()), "layer", axes_of(s))
    assert found is not None
    assert found.cause is Cause.TIME_BATCH_SWAPPED


def test_sizes_and_data_that_tell_nothing_are_not_guessed() -> None:
    noise = [(torch.randn(6, 6, 2), torch.randn(6, 6, 1)) for _ in range(4)]
    assert sample_axes(noise) is None


class Mixing(nn.Module):
    """A read-out that is normalised over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1]).softmax(0)


class Reshaping(nn.Module):
    """A view that crosses the axes of time and batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.reshape(TIME, -1, WIDTH))[0][-1])


class Sure(nn.Module):
    """Normalises over the samples answers that are exactly the same for all of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(WIDTH, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Classes."""
        sign = x[:, 0, 0].sign() + 0 * self.layer(x)[0].sum((1, 2))
        return (20 * torch.stack([-sign, sign], 1)).log_softmax(0)


def test_samples_that_are_mixed_by_a_model_that_is_sure() -> None:
    """Nothing shows where a sample is replaced by one that is answered alike."""
    for seed in range(4):
        torch.manual_seed(seed)
        s = subject(Sure(), first_steps())
        found = check_samples(s, "layer", axes_of(s))
        assert found is not None
        assert found.cause is Cause.SAMPLES_MIXED


def test_a_view_that_puts_two_samples_into_each_step() -> None:
    """Each sample changes one step alone, but there are twice as many samples as steps."""

    class Viewed(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            outputs, _ = self.layer(x.view(TIME, 2 * TIME, WIDTH))
            return self.head(outputs[-1])

    s = subject(Viewed(nn.GRU(WIDTH, 5)), first_steps(4, 2 * TIME))
    found = check_samples(s, "layer", axes_of(s))
    assert found is not None
    assert found.cause is Cause.SAMPLES_MIXED
    assert f"{TIME} of its sequences" in found.statement


@pytest.mark.parametrize("model", [Mixing(), Reshaping()], ids=["after", "before"])
def test_samples_that_are_mixed(model) -> None:
    s = subject(model, first_steps())
    found = check_samples(s, "layer", axes_of(s))
    assert found is not None
    assert found.cause is Cause.SAMPLES_MIXED


class Sorting(nn.Module):
    """Sorts sequences by length, as for packing; puts the answers back in order or does not."""

    def __init__(self, restored: bool) -> None:
        super().__init__()
        self.layer, self.restored = nn.GRU(WIDTH, 5, batch_first=True), restored
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Classes."""
        order = lengths.argsort(descending=True)
        answers = self.head(self.layer(x[order])[0][:, -1])
        return answers[order.argsort()] if self.restored else answers


@pytest.mark.parametrize("restored", [True, False])
def test_the_order_of_samples(restored: bool) -> None:
    batches = [(x, torch.randperm(BATCH) + 1, y) for x, y in first_steps()]
    model = Sorting(restored)
    s = subject(model, batches, lambda m, b: nn.functional.cross_entropy(m(b[0], b[1]), b[2]))
    assert check_samples(s, "layer", axes_of(s)) is None
    found = check_order(s, "layer", axes_of(s))
    assert (found is None) == restored
    if found is not None:
        assert found.cause is Cause.SAMPLES_MIXED


class Hierarchical(nn.Module):
    """Runs each half of a sequence by itself: two rows of the layer are of one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(WIDTH, 5, batch_first=True), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        halves = x.reshape(2 * len(x), -1, WIDTH)
        return self.head(self.layer(halves)[0][:, -1].reshape(len(x), 10))


def test_several_rows_of_one_sample_are_in_order() -> None:
    batches = [(x[:, : TIME // 2 * 2], y) for x, y in first_steps()]
    s = subject(Hierarchical(), batches)
    assert check_samples(s, "layer", axes_of(s)) is None


def test_a_mask_tells_which_axis_is_time() -> None:
    """It is alike in all batches; samples are not."""
    batches = []
    for _ in range(8):
        mask = torch.zeros(16, 16)
        mask[-1] = 1
        batches.append((torch.randn(16, 16, 3), torch.randint(2, (16, 16)), mask))
    axes = sample_axes(batches)
    assert axes is not None
    assert axes.axes == (1, 1, 1)


class Detached(nn.Module):
    """A layer whose outputs lose their graph, that is frozen, or that is never called."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.layer, self.fault = nn.GRU(WIDTH, 5, batch_first=True), fault
        self.head = nn.Linear(5, 2)
        if fault == "frozen":
            self.layer.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "never calls":
            return self.head(torch.zeros(len(x), 5))
        with torch.set_grad_enabled(self.fault != "without a graph"):
            h = self.layer(x)[0][:, -1]
        return self.head(h.detach() if self.fault == "lose their graph" else h)


@pytest.mark.parametrize(
    "fault", ["none", "frozen", "never calls", "without a graph", "lose their graph"]
)
def test_a_layer_that_the_loss_does_not_train(fault: str) -> None:
    found = check_reached(subject(Detached(fault), first_steps()), "layer")
    if fault == "none":
        assert found is None
        return
    assert found is not None
    cut = fault in ("without a graph", "lose their graph")
    assert found.cause is (Cause.GRADIENT_CUT if cut else Cause.NOT_TRAINED)
    assert fault in found.statement


class Twins(nn.Module):
    """Runs the layer on two sequences; reads both results, or the second alone."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.layer, self.both = nn.GRU(WIDTH, 5, batch_first=True), both
        self.head = nn.Linear(5, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Classes."""
        first, second = self.layer(a)[0][:, -1], self.layer(b)[0][:, -1]
        return self.head(first * second if self.both else second * second)


@pytest.mark.parametrize("both", [True, False])
def test_two_calls_on_two_inputs_are_two_sequences(both: bool) -> None:
    batches = [(x, torch.randn_like(x), y) for x, y in first_steps()]
    model = Twins(both)
    s = subject(model, batches, lambda m, b: nn.functional.cross_entropy(m(b[0], b[1]), b[2]))
    flow = flow_in_double(s, "layer", s.held_out[0])
    found = check_cut(s, "layer", flow, None)
    assert (found is None) == both
    if found is not None:
        assert "does not depend on call 1" in found.statement


class GraphKeeping(nn.Module):
    """Keeps its state for the next batch, with its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.state = nn.GRU(WIDTH, 5, batch_first=True), None
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        outputs, self.state = self.layer(x, self.state)
        return self.head(outputs[:, -1])


def test_a_state_that_is_kept_with_its_graph() -> None:
    found = check_state(subject(GraphKeeping(), first_steps()), "layer")
    assert found is not None
    assert found.cause is Cause.STATE_LEAK
    assert "backward through the graph a second time" in found.statement


def test_batches_are_regrouped() -> None:
    pairs = first_steps()
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    whole = subject(Detached("none"), [(x, y)])
    assert "split into" in regroup(whole)
    assert len(whole.held_out) > 1
    single = subject(Detached("none"), [(x[[k]], y[[k]]) for k in range(len(x))])
    assert "put together" in regroup(single)
    joined = torch.cat([b[0] for b in [*single.training, *single.held_out]])
    assert torch.equal(joined, x[: len(joined)])
    usual = subject(Detached("none"), pairs)
    assert regroup(usual) == ""


def test_a_state_that_is_kept_between_batches() -> None:
    found = check_state(subject(Keeping(), first_steps()), "layer")
    assert found is not None
    assert found.cause is Cause.STATE_LEAK


class Carrying(nn.Module):
    """Keeps what came last, which is what the next batch asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.RNN(1, 1, batch_first=True, bias=False)
        nn.init.constant_(self.layer.weight_ih_l0, 1.0)
        nn.init.constant_(self.layer.weight_hh_l0, 0.0)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros(x.shape[0]) if self.last is None else self.last
        outputs, _ = self.layer(x)
        self.last = outputs[:, -1, 0].detach()
        return before + 0 * outputs[:, 0, 0]


def test_a_state_that_is_kept_because_batches_follow_each_other_is_no_leak() -> None:
    """The answer of a batch is how the batch before ended."""
    stream = torch.randn(13, BATCH, 1)
    batches = [(stream[k + 1, :, None], stream[k].tanh()[:, 0]) for k in range(12)]

    def loss(model: nn.Module, batch) -> Tensor:
        return (model(batch[0]) - batch[1]).square().mean()

    assert check_state(subject(Carrying(), batches, loss), "layer") is None


class Averaging(nn.Module):
    """Subtracts the mean over all steps: early answers see late inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x - x.mean(1, keepdim=True))[0])


def test_the_future_is_seen() -> None:
    s = subject(Averaging(), echoes())
    found = check_future(s, "layer", axes_of(s), torch.ones(TIME, dtype=torch.bool))
    assert found is not None
    assert found.cause is Cause.STATE_LEAK
    assert "future" in found.statement


@pytest.mark.parametrize(
    ("between", "cause"),
    [
        ("carry", None),
        ("detach", Cause.GRADIENT_CUT),
        ("no_grad", Cause.GRADIENT_CUT),
        ("drop", Cause.FORGETTING),
    ],
)
def test_cuts_between_chunks(between: str, cause: Cause | None) -> None:
    s = subject(Chunked(between), first_steps())
    flow = flow_in_double(s, "layer", s.held_out[0])
    found = check_cut(s, "layer", flow, None)
    assert (None if found is None else found.cause) is cause
    if found is not None:
        assert found.effect is not None
        assert found.effect.value == (8 if between == "no_grad" else 4)
        assert check_cut(s, "layer", flow, 2) is None  # a dependency of two steps is inside


def test_answers_before_the_first_cut() -> None:
    """Short sequences are read in the part that runs without a graph."""
    model = Chunked("no_grad")
    lengths = torch.tensor([3] * 5 + [12] * 5)

    def loss(model, batch):
        x, y = batch
        with torch.no_grad():
            first, state = model.layer(x[:, :4])
        outputs = torch.cat([first, model.layer(x[:, 4:], state)[0]], 1)
        ends = outputs[torch.arange(10), lengths - 1]
        return nn.functional.cross_entropy(model.head(ends), y)

    s = subject(model, first_steps(), loss)
    finding = check_cut(s, "layer", flow_in_double(s, "layer", s.held_out[0]), 11)
    assert finding is not None
    assert finding.cause is Cause.GRADIENT_CUT
    assert "further back than 8 steps" in finding.statement


def test_a_state_that_is_dropped_under_answers_at_every_step_is_no_cut() -> None:
    """Earlier answers do change with earlier inputs."""

    def loss(model, batch):
        x, y = batch
        outputs = torch.cat([model.layer(chunk)[0] for chunk in x.split(5, 1)], 1)
        return nn.functional.cross_entropy(model.head(outputs).flatten(0, 1), y.flatten())

    s = subject(Chunked("drop"), echoes(), loss)
    finding = check_cut(s, "layer", flow_in_double(s, "layer", s.held_out[0]), 11)
    assert finding is not None
    assert finding.cause is Cause.FORGETTING


def test_zeros_of_rectified_units_are_no_cut() -> None:
    """No gradient crosses a step at which all units are off, though the state may on other data."""
    layer = nn.RNN(WIDTH, 4, nonlinearity="relu", batch_first=True)
    model = Classifier(layer)
    with torch.no_grad():
        layer.bias_ih_l0.fill_(-0.5)  # off at once without a large input
    s = subject(model, first_steps(12))
    flow = flow_in_double(s, "layer", s.held_out[0])
    assert int((flow.norm > 0).nonzero().min()) > 0
    assert check_cut(s, "layer", flow, 11) is None


def test_dead_units_are_no_cut() -> None:
    layer = nn.RNN(WIDTH, 5, nonlinearity="relu", batch_first=True)
    nn.init.constant_(layer.bias_ih_l0, -50.0)
    s = subject(Classifier(layer), first_steps())
    flow = flow_in_double(s, "layer", s.held_out[0])
    assert (flow.norm[:-1] == 0).all()
    assert check_cut(s, "layer", flow, None) is None


class Silent(nn.Module):
    """Runs its layer for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.layer(x)
        return self.head(x[:, -1])


def test_a_layer_that_the_loss_does_not_read_is_told() -> None:
    s = subject(Silent(), first_steps())
    with pytest.raises(ConfigurationError, match="do not reach"):
        flow_in_double(s, "layer", s.held_out[0])


@pytest.mark.parametrize("cut", [True, False])
def test_truncation_in_the_training_step(cut: bool) -> None:
    s = subject(Classifier(nn.GRU(WIDTH, 5, batch_first=True)), first_steps())

    def step(model, optimizer, batch) -> None:
        x, y = batch
        state = None
        for chunk in x.split(4, 1):
            outputs, state = model.layer(chunk, state)
            state = state.detach() if cut else state
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.head(outputs[:, -1]), y).backward()
        optimizer.step()

    found = check_training_step(s, "layer", step, None, 11)
    assert (found is not None) == cut
    if found is not None:
        assert found.cause is Cause.GRADIENT_CUT
        assert found.effect is not None
        assert found.effect.value == 4
