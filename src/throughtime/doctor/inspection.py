"""Several instruments on one model: each result, or the reason why there is none."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ThroughtimeError, UnknownNameError
from throughtime.doctor.subject import Subject
from throughtime.foreign.found_cells import cells_found
from throughtime.foreign.sites import find_recurrent
from throughtime.foreign.unchanged import random_states_kept
from throughtime.instruments import (
    FixedPoints,
    Recording,
    alignment,
    basins,
    gate_activity,
    gradient_flow,
    gradient_norms,
    input_influence,
    jacobians,
    loss_along,
    lyapunov_spectrum,
    memory_accesses,
    memory_decoding,
    perturbation_survival,
    principal_plane,
    record,
    recorded_fixed_points,
    word_influence,
)
from throughtime.instruments.fixed_points import visited_states
from throughtime.models import EncoderDecoder
from throughtime.results.diagnosis import Fact, Inspection, Measurement
from throughtime.results.record import Record
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.vocabulary import Vocabulary

USUAL = ("gradient_flow", "gates", "jacobians", "lyapunov", "forward_memory", "decoding")
"""Instruments that run where none is named."""

_LAGS = 40
_SYMBOLS = 64  # of a text, the most whose influence is measured
_SECONDS = 10.0
_RESOLUTION = 41
_DISTANCES, _FEW_DISTANCES, _FEWEST_DISTANCES = 101, 11, 3  # odd: 0 is one of them


@final
class _Bench:
    """One model with a loss and batches, and the recording that several instruments read."""

    def __init__(
        self, subject: Subject, layer: str, seed: int, vocabularies: Mapping[str, Vocabulary]
    ):
        self.subject, self.layer, self.seed = subject, layer, seed
        self.vocabularies = vocabularies
        self.model = subject.copy()
        self.batch = subject.held_out[0]
        self._recording: Recording | None = None
        self._points: FixedPoints | None = None

    def loss(self) -> Tensor:
        """Return the loss of the first held-out batch."""
        return self.subject.loss(self.model, self.batch)

    @property
    def recording(self) -> Recording:
        """The states of the first held-out batch, recorded on first use."""
        if self._recording is None:
            self._recording = record(self.model, self.loss, layer=self.layer)
        return self._recording

    @property
    def points(self) -> FixedPoints:
        """The fixed points without inputs, found on first use."""
        if self._points is None:
            self._points = recorded_fixed_points(self.recording, inputs="zero", seed=self.seed)
        return self._points

    def losses(self) -> list[Callable[[], Tensor]]:
        """Return a loss for each batch."""
        batches = [*self.subject.training, *self.subject.held_out]
        return [lambda batch=batch: self.subject.loss(self.model, batch) for batch in batches]

    def lags(self) -> list[int]:
        """Return some lags of the recording, each step of few, fewer the further back."""
        longest = max(1, int(self.recording.valid_lengths().min()) - 1)
        ratio = max(longest, 2) ** (1 / _LAGS)
        spread = (round(ratio**k) for k in range(_LAGS + 1))
        return sorted({k for k in itertools.chain(range(min(8, longest)), spread) if k <= longest})


def _basins(bench: _Bench) -> Record:
    recording = bench.recording
    plane = principal_plane(visited_states(recording))
    return basins(recording.cell, bench.points, plane, resolution=(_RESOLUTION, _RESOLUTION))


def _cliffs(bench: _Bench) -> Record:
    """Measure at as many distances as the time allows; without curvatures where those are few."""

    def measure(distances: int, *, curvature: bool) -> Record:
        along = torch.linspace(-1, 1, distances, dtype=torch.float64, device="cpu")
        return loss_along(bench.model, bench.loss, distances=along, curvature=curvature)

    started = time.perf_counter()
    measure(_FEWEST_DISTANCES, curvature=True)
    affordable = int(_FEWEST_DISTANCES * _SECONDS / (time.perf_counter() - started))
    distances = min(max(affordable, _FEW_DISTANCES), _DISTANCES)
    return measure(distances - 1 + distances % 2, curvature=affordable >= _FEW_DISTANCES)


def _word_influence(bench: _Bench) -> Record:
    batch = bench.batch
    if isinstance(batch, SequenceBatch):
        batch = SequenceBatch(batch.inputs[:_SYMBOLS], batch.targets[:_SYMBOLS])
    return word_influence(bench.model, batch, vocabularies=bench.vocabularies)


INSTRUMENTS: dict[str, Callable[[_Bench], Record]] = {
    "gradient_flow": lambda b: gradient_flow(b.model, b.loss, layer=b.layer),
    "gradient_noise": lambda b: gradient_norms(b.model, b.losses()),
    "gates": lambda b: gate_activity(b.recording, seed=b.seed),
    "jacobians": lambda b: jacobians(b.recording, seed=b.seed),
    "lyapunov": lambda b: lyapunov_spectrum(b.recording, seed=b.seed),
    "forward_memory": lambda b: perturbation_survival(b.recording, seed=b.seed),
    "decoding": lambda b: memory_decoding(b.recording, lags=b.lags(), seed=b.seed),
    "input_influence": lambda b: input_influence(b.model, b.loss, layer=b.layer, seed=b.seed),
    "fixed_points": lambda b: b.points,
    "basins": _basins,
    "cliffs": _cliffs,
    "word_influence": _word_influence,
    "memory_accesses": lambda b: memory_accesses(b.recording),
    "alignment": lambda b: alignment(b.model, b.batch, vocabularies=b.vocabularies),
}
"""Instruments by the name of their module in `throughtime.instruments`."""

_WHOLE_MODEL = ("gradient_noise", "cliffs", "word_influence", "alignment")


def usual(model: nn.Module, layer: str | None = None) -> tuple[str, ...]:
    """Return the names of the instruments that run where none is named.

    Arguments:
        model: The model; an encoder-decoder of words has instruments of its own.
        layer: Name of the layer, where one is given.
    """
    if not isinstance(model, EncoderDecoder) or layer is not None or model.encoder.layer is None:
        return USUAL
    attends = model.context in ("attention", "attention-after")
    return ("word_influence", *(["alignment"] if attends else []))


def inspect(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Any,
    *,
    instruments: Sequence[str] = USUAL,
    layer: str | None = None,
    lag: int | None = None,
    source: str = "",
    seed: int = 0,
    vocabularies: Mapping[str, Vocabulary] | None = None,
) -> Inspection:
    """Run instruments on a copy of a model, with its own batches and loss.

    Arguments:
        model: Any module that holds a recurrent layer or cell of torch or of throughtime.
        batches: A list, a DataLoader or an endless iterator; up to 64 batches are taken. Most
            instruments use one held-out batch.
        loss_fn: Loss function, as in `diagnose`.
        instruments: Names of the instruments, keys of `INSTRUMENTS`.
        layer: Name of the recurrent layer; None for the only one, or the encoder's of an
            encoder-decoder, or where all instruments measure the whole model.
        lag: Steps between an answer and the inputs that it depends on, to be marked; or None.
        source: Origin of the model, for the page.
        seed: Seed of the instruments' random numbers.
        vocabularies: Names of the symbols, "text", or "source" and "target".

    Returns:
        A measurement for each instrument. Where an instrument cannot measure the model, its
        measurement holds the reason.

    Raises:
        UnknownNameError: There is no such instrument, or no such layer.
        ConfigurationError: As `diagnose`; or no instrument is named, or the lag is below 1.

    Example:
        >>> model = nn.RNN(1, 4, batch_first=True)
        >>> data = [(torch.randn(8, 12, 1), torch.randn(8, 12, 4)) for _ in range(4)]
        >>> found = inspect(model, data, nn.MSELoss(), instruments=["gradient_flow"])
        >>> found.measurements[0].result.norm.shape
        torch.Size([12])
    """
    check_names(instruments)
    if lag is not None and lag < 1:
        raise ConfigurationError("lag", got=repr(lag), expected="a number of steps, at least 1")
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        random_states_kept(seed),
        contextlib.ExitStack() as stack,
    ):
        subject = Subject(model, batches, loss_fn, _SECONDS)
        batch = subject.held_out[0]
        stack.enter_context(cells_found(subject.copy(), lambda m: subject.loss(m, batch)))
        found, facts = "", [Fact("model", type(model).__name__)]
        if layer is not None or {*instruments} - {*_WHOLE_MODEL}:
            if layer is None and isinstance(model, EncoderDecoder):
                layer = None if model.encoder.layer is None else "encoder.layer"
            found, module = find_recurrent(model, layer)
            facts.append(Fact("recurrent layer", f"{found or 'the model itself'}: {module}"))
        bench = _Bench(subject, found, seed, vocabularies or {})
        before = subject.held_out_losses(bench.model)  # fails in words where the loss raises
        measurements = tuple(_measure(bench, name) for name in dict.fromkeys(instruments))
        facts += [
            Fact("batches", f"{len(subject.training)} and {len(subject.held_out)} held out"),
            Fact("loss of the first held-out batch", f"{before[0]:.4g}"),
        ]
        if {"fixed_points", "basins"} & {*instruments}:
            facts.append(Fact("inputs of fixed points and basins", "zero"))
        facts += [] if lag is None else [Fact("lag of the task", str(lag))]
        facts += [Fact(f"time of {m.instrument}", f"{m.seconds:.2g} s") for m in measurements]
    title = f"{type(model).__name__}, {found}" if found else type(model).__name__
    return Inspection(title, source, lag, measurements, tuple(facts))


def check_names(instruments: Sequence[str]) -> None:
    """Check names of instruments.

    Raises:
        UnknownNameError: There is no such instrument.
        ConfigurationError: No instrument is named.
    """
    for name in instruments:
        if name not in INSTRUMENTS:
            raise UnknownNameError("instrument", name, tuple(INSTRUMENTS))
    if not instruments:
        raise ConfigurationError(
            "instruments", got="none", expected=f"some of {', '.join(INSTRUMENTS)}"
        )


def _measure(bench: _Bench, name: str) -> Measurement:
    started = time.perf_counter()
    layer = "" if name in _WHOLE_MODEL else bench.layer
    result, refusal = None, ""
    try:
        result = INSTRUMENTS[name](bench)
    except ThroughtimeError as error:  # the instrument cannot measure this model, and says why
        refusal = str(error)
    return Measurement(name, layer, result, refusal, time.perf_counter() - started)
