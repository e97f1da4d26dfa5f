import sys
from pathlib import Path

import numpy as np
import pytest
from training.tiny import tiny, trained

from throughtime.core.errors import ConfigurationError
from throughtime.training import read_metrics, train


def test_scalars_are_the_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny(tensorboard=True, log_every=4), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    logged = {
        (tag, event.step, event.value)
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    }
    expected = {
        (f"{row['kind']}/{name}", row["step"], float(np.float32(value)))
        for row in read_metrics(tmp_path / "run")
        for name, value in row.items()
        if name not in ("kind", "step")
    }
    assert logged == expected
    assert len(expected) == 3 * 4 + 2 * 2


def test_logging_changes_nothing(tmp_path: Path) -> None:
    train(tiny(tensorboard=True), tmp_path / "with")
    train(tiny(), tmp_path / "without")
    assert trained(tmp_path / "with") == trained(tmp_path / "without")
    assert train(tiny(), tmp_path / "with").step == 12, "it is not part of the identity"


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = r"tensorboard is not installed: got .*pip install 'throughtime\[tensorboard\]'"
    with pytest.raises(ConfigurationError, match=message):
        train(tiny(tensorboard=True), tmp_path / "run")
    assert train(tiny(), tmp_path / "run").step == 12
