"""Memory and time of the sparse access memory against the number of words, beside DAM and NTM.

The setting is the paper's: an LSTM of 100, words of 32, 4 heads, K = 4, a batch of one sequence.
Times are CPU time of one thread: other programs of the machine take none of it.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import throughtime as tt
from benchmarks.registry import Row, benchmark
from throughtime.core.state import State, state_tensors
from throughtime.engines import Request, run
from throughtime.memory import DAMCell, NTMCell, SAMCell, sparse_run
from throughtime.memory.nearest import Index, IndexName
from throughtime.reports.picture_svg import picture_svg
from throughtime.results import Picture, Series
from throughtime.tasks import TASKS

INPUT, HIDDEN, WIDTH, HEADS, READS, STEPS = 8, 100, 32, 4, 4, 100
WORDS = (1_000, 10_000, 100_000, 1_000_000)
DENSE_KEPT, DENSE_TIMED = (1_000, 10_000, 65_536), (1_000, 10_000, 100_000, 1_000_000)
MOST_UPDATES, SOLVED = 4000, 0.03
DOCS = Path(__file__).parents[1] / "docs"
CPU = torch.device("cpu")


@benchmark("sparse-memory")
def sparse_memory(rounds: int) -> list[Row]:
    """Bytes, times and recall, with pictures of the first two."""
    keys, queries = trained_keys(max(WORDS))
    rows = [*recall(keys, queries), *kept()]
    for words in WORDS:
        rows += times(words, keys, rounds)
    figures(rows)
    return rows


def cell_of(words: int, index: IndexName = "auto") -> SAMCell:
    """The SAM of the paper's setting."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"words": words, "width": WIDTH, "heads": HEADS, "reads": READS}
    return SAMCell(INPUT, HIDDEN, index=index, **sizes)


def dense_of(kind: str, words: int) -> tt.Cell:
    """DAM with the same heads, or NTM with as many heads that read and that write."""
    torch.manual_seed(0)
    if kind == "DAM":
        return DAMCell(INPUT, HIDDEN, words=words, width=WIDTH, heads=HEADS)
    heads = 1 if "1 head" in kind else HEADS
    return NTMCell(INPUT, HIDDEN, words=words, width=WIDTH, reads=heads, writes=heads)


def start_of(cell: tt.Cell, keys: Tensor | None = None) -> State:
    """The initial state; with the keys of a trained model in all words, if they are given."""
    state = cell.initial_state(1, dtype=torch.float32, device=CPU)
    if keys is None:
        return state
    return state._replace(memory=keys[: state.memory.shape[1]][None].clone())


# bytes


class Live(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, and the most that live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0  # of the dead ones too, until they are left out

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = function(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, Tensor):
                self._enter(tensor.untyped_storage())
        return found

    def _enter(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._live and not self._live[key][0].expired():
            return
        self._live[key] = StorageWeakRef(storage), storage.nbytes()
        self._bytes += storage.nbytes()
        if self._bytes > self.peak:
            self.peak = max(self.peak, self.now())

    def now(self) -> int:
        """The bytes of the storages that live."""
        self._live = {k: v for k, v in self._live.items() if not v[0].expired()}
        self._bytes = sum(size for _, size in self._live.values())
        return self._bytes


def peak_beyond_start(words: int) -> int:
    """The most bytes of tensors that live at once in a training step of 100 steps.

    The copy of the memory, and what the index holds of each word, are there before.
    """
    cell, x = cell_of(words), torch.randn(STEPS, 1, INPUT)
    state = start_of(cell)
    counts: list[int] = []
    with Live() as live:

        def at_first() -> None:
            counts.append(live.now())
            live.peak = counts[0]

        with first_call(at_first):
            run(Request(cell, x, state), "eager").outputs.square().sum().backward()
    return live.peak - counts[0]


@contextmanager
def first_call(function: Callable[[], None]) -> Iterator[None]:
    """Call a function before the first update of an index: all is ready for the first step."""
    update, called = Index.update, list[Index]()

    def watched(index: Index, *arguments: Any) -> None:
        if not called:
            called.append(index)  # which stays alive, so that no array of it is set off
            function()
        update(index, *arguments)

    Index.update = watched
    try:
        yield
    finally:
        Index.update = update


def kept_by_graph(cell: tt.Cell, steps: int) -> int:
    """Bytes of the storages that the graph of a run saves, beside parameters and first state."""
    state, x = start_of(cell), torch.randn(steps, 1, INPUT)
    own = {t.untyped_storage().data_ptr() for t in [*cell.parameters(), *state_tensors(state), x]}
    sizes: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        result = run(Request(cell, x, state), "eager")
    total = sum(sizes.values())
    del result
    return total


def kept() -> list[Row]:
    """Bytes of 100 steps by the number of words."""
    rows: list[Row] = []

    def add(words: int, name: str, against: str, number: float, unit: str) -> None:
        rows.append(Row(f"{words} words", name, against, number, number, number, unit))

    peaks = {words: peak_beyond_start(words) for words in (*WORDS, 65_536)}
    for words, peak in peaks.items():
        add(words, "SAM", "the first step", peak / 2**20, "MiB at the peak, T=100")
    for kind in ("DAM", "NTM"):
        for words in DENSE_KEPT:
            # the bytes of a step are those of 4 steps less those of 2
            few, more = (kept_by_graph(dense_of(kind, words), steps) for steps in (2, 4))
            step = (more - few) / 2
            total = few + (STEPS - 2) * step
            add(words, kind, "the first step", total / 2**20, "MiB kept by autograd, T=100")
            add(words, kind, "a memory", step / (4 * words * WIDTH), "copies of the memory a step")
            if words in peaks:
                add(words, "SAM", kind, total / peaks[words], "x less memory")
    return rows


# time


def sam_step(words: int, keys: Tensor, index: IndexName, steps: int) -> tuple[float, float]:
    """Median milliseconds of a step, forward and backward, in a memory full of trained keys."""
    cell, x = cell_of(words, index), torch.randn(steps, 1, INPUT)
    state = start_of(cell, keys)
    stamps: dict[str, list[float]] = {"forward": [], "backward": []}
    search, exchange = Index.search, sparse_run.Changes.exchange

    def searched(index: Index, query: Tensor) -> Tensor:
        stamps["forward"].append(time.thread_time())
        return search(index, query)

    def exchanged(changes: sparse_run.Changes, t: int) -> None:
        stamps["backward"].append(time.thread_time())
        exchange(changes, t)

    Index.search, sparse_run.Changes.exchange = searched, exchanged
    try:
        outputs = run(Request(cell, x, state), "eager").outputs
        # in this thread: autograd runs the backward pass of the CPU where it is called
        outputs.square().sum().backward()
    finally:
        Index.search, sparse_run.Changes.exchange = search, exchange
    forward = _median_gap(stamps["forward"])
    back, again = stamps["backward"][:steps], stamps["backward"][steps:]
    return forward, _median_gap(back) + _median_gap(again)


def _median_gap(stamps: list[float]) -> float:
    return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(stamps))


def dense_step(kind: str, words: int, keys: Tensor) -> float:
    """Milliseconds of a step, forward and backward, of three after each other."""
    cell = dense_of(kind, words)
    state, x = start_of(cell, keys), torch.randn(3, 1, INPUT)
    start = time.thread_time()
    run(Request(cell, x, state), "eager").outputs.square().sum().backward()
    return 1e3 * (time.thread_time() - start) / 3


def times(words: int, keys: Tensor, rounds: int) -> list[Row]:
    """Times of a step, and ratios within each round; dense cells run few rounds."""
    found: dict[str, list[float]] = {}
    rounds = min(rounds, 3) if words == max(WORDS) else rounds
    for _ in range(rounds):
        for index in ("auto", "exact"):
            steps = 100 if index == "auto" or words < 100_000 else 10
            found.setdefault(f"SAM, {index}", []).append(sum(sam_step(words, keys, index, steps)))
        for kind in ("DAM", "NTM", "NTM, 1 head"):
            found.setdefault(kind, []).append(dense_step(kind, words, keys))
    rows: list[Row] = []
    for name, own in found.items():
        low, middle, high = _quartiles(own)
        rows.append(Row(f"{words} words", name, "none", middle, low, high, "ms a step"))
    for name in ("SAM, auto", "SAM, exact"):
        for kind in ("DAM", "NTM", "NTM, 1 head"):
            ratios = [d / o for d, o in zip(found[kind], found[name], strict=True)]
            low, middle, high = _quartiles(ratios)
            rows.append(Row(f"{words} words", name, kind, middle, low, high))
    return rows


def _quartiles(numbers: list[float]) -> tuple[float, float, float]:
    if len(numbers) == 1:
        return numbers[0], numbers[0], numbers[0]
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return low, middle, high


# the keys of a trained model


def trained() -> tuple[SAMCell, Any]:
    """A SAM after training on associative recall of two or three items, and the task."""
    torch.manual_seed(0)
    task: Any = TASKS.build("associative-recall:bits=6,vectors=1,smallest=2,largest=3")
    sizes: dict[str, Any] = {"words": 64, "width": WIDTH, "heads": HEADS, "reads": READS}
    cell = SAMCell(task.inputs.width, HIDDEN, **sizes)
    head = torch.nn.Linear(cell.output_size, task.answers.count)
    parameters = [*cell.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses: list[float] = []
    for batch in task.batches("training", 32):
        outputs = head(torch.stack([output for output, _ in _steps(cell, batch.inputs)]))
        due = ~batch.targets.isnan()
        loss = F.binary_cross_entropy_with_logits(outputs[due], batch.targets[due])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        recent = statistics.mean(losses[-50:])
        if len(losses) == MOST_UPDATES or (len(losses) > 100 and recent < SOLVED):
            break
    print(f"trained: loss {losses[0]:.3f} -> {recent:.3f} in {len(losses)} updates")
    return cell, task


def _steps(cell: SAMCell, inputs: Tensor) -> Iterator[tuple[Tensor, State]]:
    """Yield outputs and states of the dense step, which is faster for many small memories."""
    state = cell.initial_state(inputs.shape[1], dtype=torch.float32, device=CPU)
    for projected in cell.project(inputs):
        output, state = cell.step(projected, state)
        yield output, state


@torch.no_grad()
def trained_keys(count: int) -> tuple[Tensor, Tensor]:
    """Words that a trained SAM writes, and the queries that it makes at its answers.

    Returns:
        (count, width) words that are not zeros, of many sequences; (queries, heads, width).
    """
    cell, task = trained()
    words: list[Tensor] = []
    queries: list[Tensor] = []
    made = 0
    for batch in task.batches("training", 512, seed=1):
        steps = list(_steps(cell, batch.inputs))
        for t, (output, _) in enumerate(steps):
            due = ~batch.targets[t].isnan().any(-1)
            queries.append(cell.heads_of(output[due, :HIDDEN]).query)
        memory = steps[-1][1].memory
        words.append(memory[(memory != 0).any(-1)])
        made += len(words[-1])
        if made >= count:
            break
    keys = torch.cat(words)[:count]
    return keys[torch.randperm(count)], torch.cat(queries)[:1000]


def recall(keys: Tensor, queries: Tensor) -> list[Row]:
    """The share of the four best scores that the inverted lists find."""
    rows: list[Row] = []
    for words in WORDS[1:]:
        memory = keys[None, :words].clone()
        lists, exact = Index(memory, READS, "inverted"), Index(memory, READS, "exact")
        shares: list[Tensor] = []
        for query in queries[:: 5 if words < 1_000_000 else 25].unsqueeze(1):
            near, best = lists.search(query), exact.search(query)
            scores = (F.normalize(memory[0][p], dim=-1) for p in (near, best))
            ours, right = ((s * query[..., None, :]).sum(-1) for s in scores)
            worst = right.amin(-1, keepdim=True)
            shares.append((ours >= worst - 1e-5 * worst.abs()).float().mean())
        low, middle, high = _quartiles([float(s) for s in shares])
        mean = float(torch.stack(shares).mean())
        rows.append(Row(f"{words} words", "inverted lists", "exact", mean, low, high, "recall@4"))
        print(rows[-1], f"median {middle}")
    return rows


# pictures


def figures(rows: list[Row]) -> None:
    """Write the pictures of the documentation."""

    def series(name: str, unit: str, label: str) -> Series:
        own = [(int(r.case.split()[0]), r.ratio) for r in rows if r.candidate == name]
        own = [
            (w, v)
            for (w, v), r in zip(own, [r for r in rows if r.candidate == name], strict=True)
            if r.unit.startswith(unit)
        ]
        own.sort()
        return Series(label, tuple(math.log10(w) for w, _ in own), tuple(v for _, v in own))

    time_names = (("SAM, auto", "SAM"), ("SAM, exact", "SAM, exact index"), ("DAM", "DAM"))
    pictures = {
        "sparse_memory_bytes": Picture(
            title="The memory that a SAM needs does not grow with the words.",
            caption="Bytes of 100 steps beyond the memory itself: all tensors at the peak of SAM, "
            "those that autograd keeps of DAM and NTM. LSTM of 100, words of 32, 4 heads, K = 4.",
            x_label="words, as powers of ten",
            y_label="MiB",
            series=(
                series("SAM", "MiB", "SAM"),
                series("DAM", "MiB", "DAM"),
                series("NTM", "MiB", "NTM"),
            ),
            logarithmic=True,
        ),
        "sparse_memory_time": Picture(
            title="A step of SAM takes milliseconds in a memory of a million words.",
            caption="CPU time of a step, forward and backward, on one thread. All words are keys "
            "of a trained model. LSTM of 100, words of 32, 4 heads, K = 4, one sequence.",
            x_label="words, as powers of ten",
            y_label="milliseconds a step",
            series=(
                *(series(name, "ms", label) for name, label in time_names),
                series("NTM", "ms", "NTM"),
            ),
            logarithmic=True,
        ),
    }
    for name, picture in pictures.items():
        (DOCS / f"{name}.svg").write_text(picture_svg(picture, alone=True) + "\n")
