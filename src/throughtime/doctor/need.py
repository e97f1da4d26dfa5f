"""The need of the data for old inputs, measured by reference predictors of windows of inputs."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.core.state import State, map_state
from throughtime.doctor.brief_training import USUAL, Trial, by_gradient, train_briefly
from throughtime.doctor.intervals import difference, mean
from throughtime.doctor.subject import Clock, Subject
from throughtime.engines import Request, Result
from throughtime.foreign.sites import Place, find_recurrent, run_by, site_of
from throughtime.foreign.unchanged import evaluating

_CURVE = 0.1  # of the budget: the most that the search for the lag takes
_GRACE_SHARE = 0.6  # of the longest time: the most that the predictors take
SHARE = 0.2  # of what all inputs gain over none: the least that counts


@dataclasses.dataclass(frozen=True)
class Need:
    """Need of the data for a memory. Losses are by held-out batch.

    Attributes:
        constant: losses of the best answer without any input.
        short: losses of a predictor of the last `window` inputs.
        full: losses of a predictor of all inputs.
        window: number of inputs of the short one.
        lag: age of the oldest inputs that matter, at least; None if it is not known.
        long: True if inputs beyond the window are needed, False if not, None if it is open.
        curve: loss of the full predictor with inputs from k steps on exchanged, by lag k.
        learned: True if any of the predictors learned anything.
    """

    constant: list[float]
    short: list[float]
    full: list[float]
    window: int
    lag: int | None
    long: bool | None
    curve: dict[int, float]
    learned: bool


def measure_need(
    subject: Subject,
    layer: str,
    answered: Tensor,
    lag: int | None,
    clock: Clock,
    seconds: float,
    updates: int = 500,
) -> Need:
    """Train the reference predictors, and compare their losses.

    Arguments:
        answered: (time,) True at the steps that the loss reads.
    """
    clock.at("training reference predictors")
    time = len(answered)
    window = max(1, (lag if lag is not None else time // 4) // 2)
    seconds = min(seconds, clock.left())
    longest = _GRACE_SHARE * clock.longest()

    def train(window: int, share: float, updates: int) -> tuple[ReferenceModel, Trial]:
        model = ReferenceModel(subject, layer, answered, window)
        trial = model.train(
            seconds=share * seconds,
            longest=share * longest,
            most_updates=updates,
            seed=window,
            enough=enough,
        )
        return model, trial

    def enough(losses: list[float]) -> bool:
        return mean(losses) < 0.05 * mean(constant)  # of losses with a floor at 0

    constant = [-math.inf]
    constant = train(0, 0.1, min(updates, 160))[1].after
    reference, trial = train(time, 0.5, updates)
    full = trial.after
    short = train(window, 0.4, updates)[1].after
    gain = mean(constant) - min(mean(full), mean(short))
    learned = max(
        difference(constant, full).low, difference(constant, short).low
    ) > 0 and gain > 0.03 * abs(mean(constant))
    needs = difference(short, full)
    long: bool | None = None
    if learned:
        if needs.low > 0 and needs.value > SHARE * gain:
            long = True
        elif needs.value < SHARE * gain:
            long = False
    curve: dict[int, float] = {}
    found = lag
    if long and lag is None:
        end = clock.spent() + _CURVE * clock.budget
        for older in ladder(window, time):
            if curve and clock.spent() > end:
                break
            scrambled = reference.scrambled_losses(older, seed=older)
            curve[older] = mean(scrambled)
            harm = difference(scrambled, full)
            if harm.low > 0 and harm.value > SHARE * gain:
                found = older
    return Need(constant, short, full, window, found, long, curve, learned)


def ladder(start: int, end: int) -> list[int]:
    """List whole numbers from start to below end, each about 1.3 times the one before."""
    steps: list[int] = []
    value = float(max(1, start))
    while round(value) < end:
        if not steps or round(value) != steps[-1]:
            steps.append(round(value))
        value = max(value + 1, 1.3 * value)
    return steps


_HEADS, _WIDTH = 4, 32


@final
class WindowPredictor(nn.Module):
    """h_t from the last w inputs at once: nothing has to be carried through time.

        e_s = x_s W + b
        a_ts = softmax over s of (q_t . k_s / sqrt(d) + r_{t-s})      0 <= t - s < w, 4 heads
        h_t = MLP([e_t, sum over s of a_ts v_s])

    Every input of the window is one step away from the answer. If it learns from all inputs and not
    from the last w, the older ones are needed. With w = 0 it is a constant.

    Arguments:
        window: number w of inputs.
    """

    def __init__(self, input_size: int, output_size: int, window: int, longest: int):
        super().__init__()
        self.window = window
        self.embedding = nn.Linear(input_size, _WIDTH)
        self.queries = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.distance = nn.Parameter(torch.zeros(_HEADS, longest))
        self.hidden = nn.Linear(2 * _WIDTH, 2 * _WIDTH)
        self.output = nn.Linear(2 * _WIDTH, output_size)

    def forward(self, x: Tensor, times: Tensor, scrambled: tuple[Tensor, int] | None) -> Tensor:
        """Return the outputs (steps, batch, output) at the given times.

        Arguments:
            x: inputs (time, batch, input).
            times: times (steps,) of the answers.
            scrambled: other inputs, which replace x from so many steps back on.
        """
        time, batch = x.shape[:2]
        if self.window == 0:
            x = torch.zeros_like(x)
        e = torch.tanh(self.embedding(x))
        keys = e if scrambled is None else torch.cat([e, torch.tanh(self.embedding(scrambled[0]))])
        q = self.queries(e[times])[..., :_WIDTH]
        _, k, v = self.queries(keys).chunk(3, -1)

        def split(part: Tensor) -> Tensor:  # (batch, heads, steps, width)
            return part.reshape(part.shape[0], batch, _HEADS, -1).permute(1, 2, 0, 3)

        lag = times[:, None] - torch.arange(time, device=x.device)
        outside = (lag < 0) | (lag >= max(self.window, 1))
        if scrambled is not None:
            old = lag >= scrambled[1]
            outside = torch.cat([outside | old, outside | ~old], -1)
            lag = torch.cat([lag, lag], -1)
        bias = self.distance[:, lag.clamp(0, self.distance.shape[1] - 1)]
        bias = bias.masked_fill(outside, -math.inf)
        mixed = F.scaled_dot_product_attention(
            split(q), split(k), split(v), attn_mask=bias.expand(batch, -1, -1, -1)
        )
        mixed = mixed.permute(2, 0, 1, 3).reshape(len(times), batch, _WIDTH)
        return self.output(torch.relu(self.hidden(torch.cat([e[times], mixed], -1))))


@final
class _PredictorLayer:
    """Runs the predictor in place of a recurrent layer; levels above the bottom pass it on."""

    def __init__(self, answered: Tensor, window: int):
        self.answered, self.window = answered, window  # answered: (time,)
        self.predictor: WindowPredictor | None = None
        self.history: list[Tensor] = []
        self.scramble: tuple[Tensor, int] | None = None

    def run(self, request: Request, place: Place) -> Result:
        """Return the predictor's outputs at the steps that the loss reads, zeros at others."""
        x, width = request.inputs, request.cell.output_size
        if place == (0, 0, 0):
            self.history = []  # of a new loss
        if place.direction:
            outputs = x.new_zeros(*x.shape[:2], width)
        elif place.level == 0:
            outputs = self._predict(x, width)
        else:
            outputs = F.pad(x, (0, max(0, width - x.shape[-1])))[..., :width]
        last = _last(outputs, request.lengths)
        state = map_state(torch.zeros_like, request.state)
        if state.h.shape == last.shape:
            state = state._replace(h=last)
        states: State | None = None
        if request.outputs == "last":
            outputs = last
        return Result(outputs, state, states)

    def _predict(self, x: Tensor, width: int) -> Tensor:
        start = sum(part.shape[0] for part in self.history)
        self.history.append(x)
        everything = torch.cat(self.history) if start else x
        if self.predictor is None:
            longest = max(len(self.answered), len(everything))
            self.predictor = WindowPredictor(x.shape[-1], width, self.window, longest)
            self.predictor.to(x.device, x.dtype)
        here = self.answered[start : start + x.shape[0]].nonzero()[:, 0]
        outputs = x.new_zeros(*x.shape[:2], width)
        if len(here) == 0:
            return outputs
        scrambled = None
        if self.scramble is not None:
            permutation, older = self.scramble
            scrambled = (everything[:, permutation], older)
        return outputs.index_copy(0, here, self.predictor(everything, here + start, scrambled))


def _last(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return outputs[-1]
    rows = torch.arange(outputs.shape[1], device=outputs.device)
    return outputs[lengths.to(outputs.device, torch.int64) - 1, rows]


@final
class ReferenceModel:
    """A copy of the user's model with a window predictor in place of its recurrent layer.

    Arguments:
        answered: (time,) True at the steps that the loss reads.
    """

    def __init__(self, subject: Subject, layer: str, answered: Tensor, window: int):
        self.subject, self.layer = subject, layer
        self.model = subject.copy(training=True)
        _, self.module = find_recurrent(self.model, layer)
        self.site = site_of(self.module)
        self.substitute = _PredictorLayer(answered, window)

    def loss(self, batch: Any, scramble: tuple[Tensor, int] | None = None) -> Tensor:
        """Return the user's loss of a batch.

        Arguments:
            scramble: permutation of the sequences, and the age from which on inputs are taken from
                those; None for no exchange.
        """
        self.substitute.scramble = scramble
        with run_by(self.module, self.substitute.run, self.site):
            return self.subject.loss(self.model, batch)

    def held_out_losses(self) -> list[float]:
        """Return the loss of each held-out batch, in evaluation mode."""
        with evaluating(self.model):
            return [float(self.loss(batch)) for batch in self.subject.held_out]

    def scrambled_losses(self, older: int, seed: int) -> list[float]:
        """Return held-out losses with inputs from `older` steps back on from other sequences."""
        generator = torch.Generator().manual_seed(seed)
        losses: list[float] = []
        with evaluating(self.model):
            for batch in self.subject.held_out:
                self.loss(batch)
                count = self.substitute.history[0].shape[1]
                shift = int(torch.randint(1, max(count, 2), (), generator=generator))
                permutation = torch.arange(count).roll(shift).to(self.subject.device)
                losses.append(float(self.loss(batch, (permutation, older))))
        return losses

    def parameters(self) -> Sequence[nn.Parameter]:
        """Return the predictor's parameters, and the model's but for its recurrent layer's."""
        own = {id(p) for p in self.module.parameters()}
        rest = [p for p in self.model.parameters() if id(p) not in own and p.requires_grad]
        assert self.substitute.predictor is not None
        return [*self.substitute.predictor.parameters(), *rest]

    def train(
        self,
        *,
        seconds: float,
        most_updates: int,
        seed: int,
        enough: Callable[[list[float]], bool] | None = None,
        longest: float = math.inf,
    ) -> Trial:
        """Train, and restore the best state.

        At least a quarter of the updates are made, within the longest time.
        """
        best: list[Any] = [math.inf, None]

        def evaluate() -> list[float]:
            losses = self.held_out_losses()
            if math.fsum(losses) < best[0]:
                best[:] = math.fsum(losses), copy.deepcopy((self.model, self.substitute.predictor))
            return losses

        rate = USUAL.learning_rate * (1 if self.substitute.window else 3)
        trial = train_briefly(
            lambda: by_gradient(
                self.loss, torch.optim.Adam(self.parameters(), lr=rate), USUAL.clip_norm
            ),
            evaluate,
            self.subject.training,
            seconds=seconds,
            most_updates=most_updates,
            seed=seed,
            enough=enough,
            patience=4,
            least_updates=most_updates // 4,
            longest=longest,
        )
        if best[1] is not None:
            self.model, self.substitute.predictor = best[1]
            _, self.module = find_recurrent(self.model, self.layer)
            self.site = site_of(self.module)
        return trial
