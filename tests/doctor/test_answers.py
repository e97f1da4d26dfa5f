"""Answers and losses: kind, range, and pairs of answers and targets, on untrained models."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from doctor.faulty_models import BATCH, TIME, WIDTH, first_steps
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor import diagnose
from throughtime.doctor.answers import check_answers
from throughtime.doctor.loss_calls import loss_calls
from throughtime.doctor.pairs import check_classes, check_pairs
from throughtime.doctor.sample_axes import SampleAxes, sample_axes
from throughtime.doctor.subject import Subject
from throughtime.results.diagnosis import Cause, Finding

spreads = pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")


class Reader(nn.Module):
    """A recurrent layer, a linear read-out, and a function after it."""

    def __init__(
        self,
        width: int,
        after: Callable[[Tensor], Tensor] = nn.Identity(),  # noqa: B008
        *,
        steps: bool = False,
    ):
        super().__init__()
        self.layer = nn.GRU(WIDTH, 6, batch_first=True)
        self.head = nn.Linear(6, width)
        self.after, self.steps = after, steps

    def forward(self, x: Tensor) -> Tensor:
        """Answers (batch, width), or at every step."""
        outputs, _ = self.layer(x)
        return self.after(self.head(outputs if self.steps else outputs[:, -1]))


def of(model: nn.Module, loss: Any, batches: list | None = None) -> Subject:
    return Subject(model, first_steps(4) if batches is None else batches, loss, 6.0)


def values(shape: tuple[int, ...], scale: float = 1.0, mean: float = 0.0) -> list:
    return [(torch.randn(BATCH, TIME, WIDTH), scale * torch.randn(shape) + mean) for _ in range(4)]


def fault(found: Finding | None, words: str) -> None:
    assert found is not None
    assert (found.cause, found.severity, found.certainty) == (
        Cause.ANSWERS_UNFIT,
        "fault",
        "proved",
    )
    assert words in found.statement + found.remedy


def softmax(x: Tensor) -> Tensor:
    return x.softmax(-1)


def logits(model: nn.Module, batch: Any) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0])[:, 0], batch[1].float())


def test_softmax_before_cross_entropy() -> None:
    fault(check_answers(of(Reader(5, softmax), nn.CrossEntropyLoss())), "they sum to 1")
    module = Reader(5, nn.Softmax(dim=1))
    fault(check_answers(of(module, nn.CrossEntropyLoss())), "at after (Softmax)")


@pytest.mark.parametrize("after", [nn.Identity(), nn.LogSoftmax(dim=1)])
def test_logits_and_their_normalised_kin_fit_cross_entropy(after) -> None:
    assert check_answers(of(Reader(5, after), nn.CrossEntropyLoss())) is None


@pytest.mark.parametrize("dead", [0, 1, 4])
def test_classes_that_a_relu_sets_to_zero(dead: int) -> None:
    """Only those that occur among the targets, 0 and 1, matter."""
    model = Reader(5, nn.ReLU())
    with torch.no_grad():
        model.head.bias.fill_(9.0)
        model.head.bias[dead] = -9.0
    found = check_answers(of(model, nn.CrossEntropyLoss()))
    if dead == 4:
        assert found is None
    else:
        fault(found, f"class {dead} are 0")


class Twins(nn.Module):
    """The logit that two sequences are alike, from their distance."""

    def __init__(self, form: Callable[[Tensor], Tensor]):
        super().__init__()
        self.layer, self.form = nn.GRU(WIDTH, 6, batch_first=True), form
        self.margin = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        one, other = (self.layer(part)[0][:, -1] for part in x.chunk(2, 1))
        return self.form(one - other)[:, None]


@pytest.mark.parametrize(
    "form",
    [
        lambda d: -d.norm(dim=1),
        lambda d: -2.0 * d.square().sum(1).sqrt(),
        lambda d: -d.abs().sum(1),
        lambda d: d.pow(2).mean(1) / -0.5,
    ],
)
def test_negative_distances_are_no_logits(form) -> None:
    """With p the share of the ones, p ln 2 is the least loss, at a distance of 0."""
    torch.manual_seed(0)
    subject = of(Twins(form), logits)
    found = check_answers(subject)
    fault(found, "never above 0")
    assert found is not None
    assert found.effect is not None
    share = torch.cat([batch[1] for batch in subject.held_out]).double().mean()
    entropy = -(share * share.log() + (1 - share) * (1 - share).log())
    assert found.effect.value == pytest.approx(float(share * math.log(2) / entropy), rel=1e-6)


def test_distances_from_a_margin_are_logits() -> None:
    model = Twins(torch.Tensor.clone)
    model.form = lambda d: model.margin - d.norm(dim=1)
    assert check_answers(of(model, logits)) is None


def test_bounded_logits_leave_a_floor_of_the_loss() -> None:
    """ln(1 + (K - 1) e^-2) is the least of logits in [-1, 1]."""
    found = check_answers(of(Reader(5, nn.Tanh()), nn.CrossEntropyLoss()))
    fault(found, "between -1 and 1")
    assert found is not None
    assert found.effect is not None
    least = torch.full((1, 5), -1.0)
    least[0, 0] = 1.0
    floor = F.cross_entropy(least, torch.tensor([0])) / torch.log(torch.tensor(5.0))
    assert found.effect.value == pytest.approx(float(floor), rel=1e-6)


@pytest.mark.parametrize("after", [nn.Sigmoid(), nn.ReLU(), nn.Tanh()])
def test_squashed_answers_do_not_fit_a_loss_of_logits(after) -> None:
    fault(check_answers(of(Reader(1, after), logits)), "binary_cross_entropy_with_logits")


def test_logits_fit_it() -> None:
    assert check_answers(of(Reader(1), logits)) is None


def test_likelihood_of_log_probabilities_alone() -> None:
    loss = nn.NLLLoss()
    fault(check_answers(of(Reader(3, softmax), loss)), "the answers are probabilities")
    fault(check_answers(of(Reader(3), loss)), "not normalised")
    assert check_answers(of(Reader(3, nn.LogSoftmax(dim=1)), loss)) is None
    logged = Reader(3, lambda x: (x.softmax(1) + 1e-9).log())
    assert check_answers(of(logged, loss)) is None


def test_log_softmax_over_another_axis() -> None:
    """Over the steps, and then one row for each step."""
    loss, batches = nn.NLLLoss(), [(x, y.repeat_interleave(TIME)) for x, y in first_steps(4)]
    for axis in (1, 2):
        model = Reader(3, lambda x, axis=axis: x.log_softmax(axis).flatten(0, 1), steps=True)
        found = check_answers(of(model, loss, batches))
        if axis == 1:
            fault(found, "another axis than that of the classes")
        else:
            assert found is None


def test_one_class() -> None:
    batches = [(x, torch.zeros_like(y)) for x, y in first_steps(4)]
    fault(check_answers(of(Reader(1), nn.CrossEntropyLoss(), batches)), "one class")

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.binary_cross_entropy(model(batch[0])[:, 0], batch[1].float())

    fault(check_answers(of(Reader(1, softmax), loss)), "Every answer is 1")
    assert check_answers(of(Reader(1, nn.Sigmoid()), loss)) is None


@pytest.mark.parametrize("after", [nn.Tanh(), nn.Sigmoid(), nn.ReLU()])
def test_targets_out_of_reach(after) -> None:
    batches = values((BATCH, 2), 2.0, -3.0)
    fault(check_answers(of(Reader(2, after), nn.MSELoss(), batches)), "out of their reach")
    assert check_answers(of(Reader(2), nn.MSELoss(), batches)) is None
    scaled = Reader(2, lambda x: 20 * after(x) - 10)
    assert check_answers(of(scaled, nn.MSELoss(), batches)) is None


@pytest.mark.parametrize("after", [nn.Tanh(), nn.Sigmoid(), nn.ReLU()])
def test_targets_within_reach(after) -> None:
    batches = [(x, y.clamp(0.0, 1.0)) for x, y in values((BATCH, 2), 1.0, 0.5)]
    assert check_answers(of(Reader(2, after), nn.MSELoss(), batches)) is None


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_bare_layer(kind) -> None:
    """Also where the difference is the user's own arithmetic."""

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = kind(WIDTH, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.memory(x)[0]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return ((batch[1] - model(batch[0])) ** 2).mean()

    fault(check_answers(of(Bare(), loss, values((BATCH, TIME, 2), 3.0))), "'memory'")
    assert check_answers(of(Bare(), loss, values((BATCH, TIME, 2), 0.2))) is None


def test_a_model_that_is_right_all_the_same() -> None:
    """A softmax of large logits is one-hot; the loss is not 0, the classes are right."""

    class Sure(Reader):
        def forward(self, x: Tensor) -> Tensor:
            sign = 30 * x[:, 0, 0].sign() + 0 * self.layer(x)[0].sum((1, 2))
            return torch.stack([-sign, sign], 1).softmax(1)

    batches = [(x, (x[:, 0, 0] > 0).long()) for x, _ in first_steps(4)]
    found = check_answers(of(Sure(1), nn.CrossEntropyLoss(), batches))
    assert found is not None
    assert found.severity == "warning"


@pytest.mark.parametrize("known", [1, 2])
def test_a_label_that_is_constant_is_not_right_all_the_same(known: int) -> None:
    """Of two labels the model knows one, or both; three of four answers are right at least."""

    class Tagger(Reader):
        def forward(self, x: Tensor) -> Tensor:
            signs = 30 * x[..., :2].sign() + 0 * self.layer(x)[0].sum((1, 2))[:, None, None]
            return torch.where(torch.arange(2) < known, signs, -30.0).sigmoid()

    batches = [(x, (x[..., :2] > torch.tensor([0.0, 1.0])).float()) for x, _ in tokens()]
    if known == 2:
        batches = [(x, (x[..., :2] > 0).float()) for x, _ in batches]
    found = check_answers(of(Tagger(2), nn.BCEWithLogitsLoss(), batches))
    assert found is not None
    assert found.severity == ("fault" if known == 1 else "warning")


def mispaired(model: nn.Module, loss: Any, batches: list, axes: SampleAxes | None = None) -> Any:
    subject = of(model, loss, batches)
    found = sample_axes([*subject.training, *subject.held_out]) if axes is None else axes
    assert found is not None
    return check_pairs(subject, found)


def squared(model: nn.Module, batch: Any) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def weighted(model: nn.Module, batch: Any) -> Tensor:
    return F.huber_loss(model(batch[0])[:, 0], batch[1], reduction="none").mean()


@spreads
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), squared])
def test_column_of_answers_against_row_of_targets(loss) -> None:
    found = mispaired(Reader(1), loss, values((BATCH,)))
    assert found.cause is Cause.TARGETS_MISPAIRED
    assert f"({BATCH}, {BATCH})" in found.statement
    assert found.effect.value == pytest.approx(1 - 1 / BATCH)
    assert mispaired(Reader(1), loss, values((BATCH, 1))) is None
    assert mispaired(Reader(1), weighted, values((BATCH,))) is None


@spreads
def test_row_of_answers_against_column_of_targets() -> None:
    model = Reader(1, lambda x: x[:, 0])
    found = mispaired(model, nn.MSELoss(), values((BATCH, 1)))
    assert found.cause is Cause.TARGETS_MISPAIRED
    assert "targets.squeeze(-1)" in found.remedy


def test_one_target_for_many_answers_is_no_fault() -> None:
    """Quantiles of one target; and one target for every step."""

    def quantiles(model: nn.Module, batch: Any) -> Tensor:
        error = batch[1] - model(batch[0])
        return torch.maximum(0.1 * error, -0.9 * error).mean()

    assert mispaired(Reader(3), quantiles, values((BATCH, 1))) is None

    def every_step(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0])[..., 0] - batch[1][:, None]).square().mean()

    assert mispaired(Reader(1, steps=True), every_step, values((BATCH,))) is None


def tokens(classes: int = 4) -> list:
    return [
        (torch.randn(BATCH, TIME, WIDTH), torch.randint(classes, (BATCH, TIME))) for _ in range(4)
    ]


@pytest.mark.parametrize(
    ("wrong", "arrange"),
    [
        (False, lambda a, y: (a.transpose(1, 2), y)),
        (False, lambda a, y: (a.flatten(0, 1), y.flatten())),
        (False, lambda a, y: (a.transpose(0, 1).flatten(0, 1), y.T.flatten())),
        (True, lambda a, y: (a.transpose(0, 1).flatten(0, 1), y.flatten())),
        (True, lambda a, y: (a.flatten(0, 1), y.T.reshape(-1))),
    ],
)
def test_answers_and_targets_in_another_order_of_axes(wrong: bool, arrange: Any) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(*arrange(model(batch[0]), batch[1]))

    found = mispaired(Reader(4, steps=True), loss, tokens(), SampleAxes((0, 0), BATCH, "given"))
    assert (found is not None) is wrong
    if wrong:
        assert "axes are in another order" in found.statement


@pytest.mark.parametrize("wrong", [True, False])
def test_steps_for_classes(wrong: bool) -> None:
    """A view of (batch, steps, classes) as (batch, classes, steps) cuts the numbers anew."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        answers = model(batch[0])
        answers = answers.reshape(BATCH, 4, TIME) if wrong else answers.transpose(1, 2)
        return F.cross_entropy(answers, batch[1])

    found = check_classes(of(Reader(4, steps=True), loss, tokens()), "layer")
    assert (found is not None) is wrong
    if wrong and found is not None:
        assert found.cause is Cause.TARGETS_MISPAIRED
        assert "several steps or sequences of 'layer'" in found.statement


def test_answers_that_see_all_steps_are_no_mixture() -> None:
    """Attention over the outputs of every step, for each answer."""

    class Attending(Reader):
        def forward(self, x: Tensor) -> Tensor:
            outputs, _ = self.layer(x)
            return self.head((outputs @ outputs.transpose(1, 2)).softmax(-1) @ outputs)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]).transpose(1, 2), batch[1])

    assert check_classes(of(Attending(4), loss, tokens()), "layer") is None


def test_steps_that_are_the_classes() -> None:
    """A pointer: one number for each step, and the step as the target."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0])[..., 0], batch[1])

    batches = [(x, torch.randint(TIME, (BATCH,))) for x, _ in tokens()]
    assert check_classes(of(Reader(1, steps=True), loss, batches), "layer") is None
    assert mispaired(Reader(1, steps=True), loss, batches) is None


def test_all_pairs_that_are_meant() -> None:
    def ranking(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]) - batch[1][None]).square().mean()

    assert mispaired(Reader(1), ranking, values((BATCH,))) is None

    def advantages(model: nn.Module, batch: Any) -> Tensor:
        return -(model(batch[0]) * torch.stack([batch[1], batch[1]]).mean(0)).mean()

    found = mispaired(Reader(1), advantages, values((BATCH,)))
    assert "The product gets answers" in found.statement


def test_losses_over_the_batch_are_no_fault() -> None:
    """Negatives within the batch; a correlation; a weighted mean; a distance of distributions."""

    def negatives(model: nn.Module, batch: Any) -> Tensor:
        answers = model(batch[0])
        return F.cross_entropy(answers @ batch[1].T, torch.arange(len(answers)))

    def correlation(model: nn.Module, batch: Any) -> Tensor:
        answers, targets = model(batch[0]), batch[1]
        return -((answers - answers.mean(0)) * (targets - targets.mean(0))).mean()

    def masked(model: nn.Module, batch: Any) -> Tensor:
        weights = (batch[1] > 0).float()
        return ((model(batch[0]) - batch[1]).abs() * weights).sum() / weights.sum()

    def ranks(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]).sort(0).values - batch[1].sort(0).values).abs().mean()

    for loss in (negatives, correlation, masked, ranks):
        assert mispaired(Reader(2), loss, values((BATCH, 2))) is None


def test_calls_of_losses_are_kept_with_their_operands() -> None:
    """A difference within the model, or of two tensors of the model, is no answer to a target."""

    class Residual(Reader):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - x[:, -1, :1]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        answers = model(batch[0])
        return (answers - batch[1].float().tanh()).abs().mean() + (answers - answers.mean()).mean()

    subject = of(Residual(1), loss, values((BATCH, 1)))
    value, calls = loss_calls(subject, subject.copy(), subject.held_out[0])
    assert value.requires_grad
    assert [call.name for call in calls] == ["sub"]
    assert torch.equal(calls[0].targets, subject.held_out[0][1].tanh())


def test_verdict() -> None:
    found = diagnose(
        Reader(5, softmax), first_steps(), nn.CrossEntropyLoss(), budget="1s", remedies=False
    )
    assert found.verdict is Cause.ANSWERS_UNFIT


COMPILED = """
import torch
from torch import nn
from throughtime.doctor.loss_calls import loss_calls
from throughtime.doctor.subject import Subject

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])

model = torch.compile(Model(), backend="eager")
batches = [(torch.randn(5, 6, 3), torch.randint(2, (5,)))] * 2
subject = Subject(model, batches, nn.CrossEntropyLoss(), 6.0)
calls = loss_calls(subject, subject.copy(), batches[0])[1]
print([call.name for call in calls])
"""


def test_compiled_model() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "['cross_entropy']\n", done.stderr
