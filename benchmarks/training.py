"""What the training loop costs beside its updates, and whether its memory stays flat.

MNIST is read from THROUGHTIME_DATA or the cache, as `throughtime train mnist` reads it.
"""

import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.registry import Row, benchmark
from throughtime.models import build_model
from throughtime.tasks import TASKS, Task
from throughtime.training import Event, Progress, RunConfig, train

UPDATES = 30


@benchmark("training")
def training(rounds: int) -> list[Row]:
    """`train` on MNIST (T = 784) against a bare loop over one batch that is at hand."""
    config = RunConfig(
        task="mnist",
        model="lstm:hidden=128",
        steps=UPDATES,
        batch_size=32,
        evaluate_every=10**9,
        checkpoint_every=10**9,
        threads=torch.get_num_threads(),
    )
    task = TASKS.build("mnist")
    updates: list[float] = []
    bare: list[float] = []
    peaks: list[int] = []
    for _ in range(rounds + 1):
        updates.append(_seconds_an_update(config))
        bare.append(_bare_seconds_an_update(config, task))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    shares = [(u - b) / u for u, b in zip(updates[1:], bare[1:], strict=True)]
    low, middle, high = statistics.quantiles(shares, n=4)
    draws = _draw_share(config, task, statistics.median(updates))
    growth = (peaks[-1] - peaks[1]) / 1024
    case = "mnist, LSTM, B=32 T=784 H=128"
    loop, once = "bare loop", "an update"
    return [
        Row(case, "all but the update", loop, 100 * middle, 100 * low, 100 * high, "% of the time"),
        Row(case, "drawing a batch", once, *[100 * draws] * 3, "% of the time"),
        Row(case, "growth of peak memory", "the second round", *[growth] * 3, "MiB"),
    ]


def _seconds_an_update(config: RunConfig) -> float:
    """As the run itself tells: from its first update to its last."""
    seen: list[float] = []

    def observer(event: Event) -> None:
        if isinstance(event, Progress) and event.step == config.steps:
            seen.append(event.seconds)

    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run", observer=observer)
    return seen[-1] / config.steps


def _bare_seconds_an_update(config: RunConfig, task: Task) -> float:
    torch.manual_seed(config.seed)
    model = build_model(config.model, task.inputs, task.answers)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    batch = next(task.batches("training", config.batch_size, seed=config.seed))
    started = time.perf_counter()
    for _ in range(config.steps):
        optimizer.zero_grad()
        task.score(model, batch, step=0).loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / config.steps


def _draw_share(config: RunConfig, task: Task, update: float) -> float:
    batches = task.batches("training", config.batch_size, seed=config.seed)
    started = time.perf_counter()
    for _ in range(200):
        next(batches)
    return (time.perf_counter() - started) / 200 / update
