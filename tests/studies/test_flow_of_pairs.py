"""The gradient flow of a run of an encoder-decoder is that of its source's layer."""

from pathlib import Path

import pytest

from throughtime.studies.worker import measure_gradient_flow
from throughtime.training import RunConfig, read_json, train


@pytest.mark.parametrize("model", ["gru:hidden=3", "attention:cell=gru,hidden=3"])
def test_gradient_flow_of_a_run_of_pairs(tmp_path: Path, model: str) -> None:
    task = "reverse:longest=3,shortest=3"
    train(RunConfig(task=task, model=model, steps=1, batch_size=4), tmp_path / "run")
    measure_gradient_flow(tmp_path / "run")
    flow = read_json(tmp_path / "run" / "gradient_flow.json")
    assert len(flow["trained"]["norm_by_lag"]) == 3
