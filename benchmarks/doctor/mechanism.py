"""Is the planted mechanism still there after training? Measured apart from the doctor."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.doctor.models import Design, Network
from benchmarks.doctor.recipes import BATCH, Recipe, answer_loss, collate, unpack
from benchmarks.doctor.tasks import TASKS, without_far_inputs
from throughtime.foreign.recording import Recording, record
from throughtime.instruments import gradient_flow

BOUNDS = {
    "EXPLODING": ("peak", 100.0, math.inf),
    "VANISHING": ("growth", 0.0, 1e-2),
    "FORGETTING": ("echo", 0.0, 0.05),
    "SATURATED": ("saturated", 0.5, 1.0),
    "DEAD_UNITS": ("dead", 0.5, 1.0),
}
"""Which figure must be within which bounds for a case of a cause to count."""


def still_there(cause: str, figures: dict[str, float | None]) -> bool:
    """Whether a cause's own mechanism is in the trained model; True for causes without a figure.

    A figure that is None stands for one that is not finite.
    """
    if cause not in BOUNDS:
        return True
    name, low, high = BOUNDS[cause]
    value = figures.get(name)
    return low <= (math.inf if value is None else value) <= high


def mechanism(recipe: Recipe, model: Network) -> dict[str, float]:
    """Figures of a trained model on one batch.

    Returns:
        growth: ||dL/dh|| at the far inputs over that at the answer, for the loss of the last step;
            infinite where the loss or a gradient is not finite.
        peak: the largest ||dL/dh|| of any step over that at the answer; likewise.
        echo: relative change of each sequence's last output when its far inputs change.
        saturated: share of gate values within 0.02 of their bounds, over units, steps, samples.
        dead: share of units that are zero at every step of every sample.
    """
    task, design = TASKS[recipe.task], recipe.design
    generator = torch.Generator().manual_seed(77)
    examples = task.draw(generator, BATCH)
    batch = collate(recipe, examples)
    other = collate(recipe, without_far_inputs(examples))

    def answer(given: object) -> Tensor:
        inputs, lengths, _ = unpack(given)
        model.kept = None
        out = model(inputs) if lengths is None else model(inputs, lengths)
        return out[0] if design.stateful else out

    def loss() -> Tensor:
        targets = unpack(batch)[2]
        if task.answer == "steps":
            asked = torch.zeros(targets.shape, dtype=torch.bool)
            (asked[:, -1:] if design.data_batch_first else asked[-1:])[:] = True
            targets = targets.masked_fill(~asked, -100)
        return answer_loss(task, design, answer(batch), targets)

    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        return {"growth": math.inf, "peak": math.inf}
    flow = gradient_flow(model, loss)
    last = int(flow.norm.nonzero().max()) if bool((flow.norm != 0).any()) else 0
    far = max(0, last - task.lag)
    growth = float(flow.norm[far] / flow.norm[last]) if float(flow.norm[last]) else 0.0
    peak = float(flow.norm.max() / flow.norm[last]) if float(flow.norm[last]) else 0.0
    one, two = (record(model, lambda b=b: answer(b).sum()) for b in (batch, other))
    ends = torch.full((BATCH,), last) if examples.lengths is None else examples.lengths - 1
    at_end = (ends, torch.arange(BATCH))
    size = float(one.outputs[at_end].norm())
    change = float((one.outputs[at_end] - two.outputs[at_end]).norm())
    dead = float((one.outputs == 0).all(0).all(0).double().mean())
    return {
        "growth": growth if math.isfinite(growth) else math.inf,
        "peak": peak if math.isfinite(peak) else math.inf,
        "echo": change / size if size else 0.0,
        "saturated": saturated(one, design),
        "dead": dead,
    }


@torch.no_grad()
def saturated(recording: Recording, design: Design) -> float:
    """Share of the values of all squashing functions within 0.02 of a bound; 0 for ReLU."""
    weights = dict(recording.cell.named_parameters())
    past = torch.cat([recording.initial.h[None], recording.states.h[:-1]])
    x = F.linear(recording.inputs, weights["weight_ih"], weights["bias_ih"])
    u = F.linear(past, weights["weight_hh"], weights["bias_hh"])
    if design.cell == "rnn":
        values = [] if design.activation == "relu" else [(x + u).tanh().abs()]
    elif "gru" in design.cell:
        (xr, xz, xn), (ur, uz, un) = x.chunk(3, -1), u.chunk(3, -1)
        reset = (xr + ur).sigmoid()
        values = [two_sided(reset), two_sided((xz + uz).sigmoid()), (xn + reset * un).tanh().abs()]
    else:
        i, f, g, o = (x + u).chunk(4, -1)
        values = [two_sided(gate.sigmoid()) for gate in (i, f, o)] + [g.tanh().abs()]
    return float((torch.cat(values, -1) > 0.96).double().mean()) if values else 0.0


def two_sided(gate: Tensor) -> Tensor:
    """A gate in [0, 1], as its distance from 1/2 in [0, 1]."""
    return (2 * gate - 1).abs()
