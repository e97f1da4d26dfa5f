"""The doctor says of the latch unit that failed what its authors said (Bengio et al. 1994)."""

import throughtime as tt
from throughtime.doctor import Cause
from throughtime.doctor.sources import from_run
from throughtime.training import RunConfig, train


def test_a_latch_that_was_not_learnt_had_a_vanishing_gradient(tmp_path) -> None:
    """As in the study latch-1994, at a length at which nearly every run fails."""
    config = RunConfig(
        task="latch:length=40,noise_is=std",
        model="latch-unit:weight=1.25",
        steps=200,
        batch_size=18,
        optimizer="SGD",
        learning_rate=0.1,
        clip_norm=None,
    )
    assert train(config, tmp_path).status == "completed"
    model, batches, loss_fn, options, _ = from_run(tmp_path)
    diagnosis = tt.diagnose(model, batches, loss_fn, budget="3s", remedies=False, **options)
    assert diagnosis.verdict is Cause.VANISHING
