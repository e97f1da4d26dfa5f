"""A run of a comparison, by itself."""

import dataclasses
from pathlib import Path

from throughtime.studies.plan import PlannedRun
from throughtime.studies.worker import perform
from throughtime.training import Result, RunConfig


def test_run_that_another_comparison_began_meanwhile(tmp_path) -> None:
    """Two at once in a folder, of different numbers of jobs: the runs keep their threads."""
    config = RunConfig("digits:pixels_per_step=8", "rnn:hidden=3", steps=2, threads=1)
    for threads in (1, 2):
        asked = dataclasses.replace(config, threads=threads)
        run = PlannedRun("rnn", asked, Path("rnn", "seed-0"))
        found = perform(run, tmp_path, lambda event: None, allow_mismatch=False)
        assert isinstance(found, Result)
        assert found.environment.threads == 1
