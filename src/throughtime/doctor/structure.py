"""The exact checks of a model's structure, in their order: a fault may hide what comes later."""

from collections.abc import Callable, Sequence

from throughtime.core.density import LatentDensity
from throughtime.doctor.answer_steps import check_one_step, check_read_steps, try_whole_halves
from throughtime.doctor.answers import check_answers
from throughtime.doctor.constant_inputs import check_inputs_vary
from throughtime.doctor.exact_checks import check_future, check_state
from throughtime.doctor.loss_direction import check_direction
from throughtime.doctor.padding import check_padding
from throughtime.doctor.pairs import check_classes, check_pairs
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.sample_axes import SampleAxes, layer_axes
from throughtime.doctor.sample_checks import check_order, check_samples
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.taken_targets import check_taken
from throughtime.doctor.target_seen import check_target_seen
from throughtime.doctor.training_step import check_registered
from throughtime.foreign.recording import Recording
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.results.diagnosis import Finding

Check = Callable[[], Finding | None]


def exact_checks(
    subject: Subject,
    layer: str,
    axes: SampleAxes | None,
    recording: Recording,
    flow: GradientFlow,
    trainer: Trainer | None,
    clock: Clock,
) -> Sequence[Check]:
    """List the checks.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        axes: axis of the samples in each tensor; None where it is not known.
        recording: recording of the bottom level on the first held-out batch.
        flow: gradient flow of the top level on the same batch.
        trainer: trainer of copies; None where none are to be trained.
        clock: clock of the diagnosis.
    """
    clock.at("exact checks")
    answered = (flow.answer > 0).any(1)
    reading = check_read_steps(subject, layer, axes, flow, recording)
    half = reading is not None and reading.severity == "warning"

    def of_samples(check: Callable[[SampleAxes], Finding | None]) -> Check:
        return lambda: None if axes is None else check(axes)

    def target_seen() -> Finding | None:
        known = axes if axes is not None else layer_axes(subject.held_out[0], recording)
        # the posterior of a latent variable reads the very frame that is scored
        if isinstance(subject.copy(), LatentDensity):
            return None
        return None if known is None else check_target_seen(subject, layer, known)

    def read_halves() -> Finding | None:
        if reading is None or not half or trainer is None:
            return reading if half else None
        return try_whole_halves(trainer, layer, reading, clock)

    return (
        lambda: check_registered(subject),
        lambda: check_inputs_vary(subject, layer, recording),
        lambda: None if half else reading,
        of_samples(lambda axes: check_samples(subject, layer, axes)),
        of_samples(lambda axes: check_order(subject, layer, axes)),
        lambda: check_state(subject, layer),
        lambda: check_padding(recording, flow, subject.held_out[0]),
        lambda: check_one_step(subject, layer, recording),
        of_samples(lambda axes: check_pairs(subject, axes)),
        lambda: check_classes(subject, layer) if clock.left() > 0 else None,
        lambda: check_direction(subject) if clock.left() > 0 else None,
        lambda: check_answers(subject),
        lambda: check_taken(subject) if clock.left() > 0 else None,
        of_samples(lambda axes: check_future(subject, layer, axes, answered)),
        target_seen,
        read_halves,
    )
