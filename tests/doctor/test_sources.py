"""Where patients come from, and the command."""

import json

import pytest

from throughtime import errors
from throughtime.cli.main import main
from throughtime.doctor.sources import from_text
from throughtime.training import RunConfig, train

PROJECT = """
import torch
from torch import nn

import beside


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(3, 5)  # the data are (batch, time, features)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


def make():
    batches = [(torch.randn(10, 12, 3), torch.randint(2, (10,))) for _ in range(8)]
    return Reader(), batches, nn.CrossEntropyLoss()


def with_options():
    return *make(), {"lag": beside.LAG}


def wrong():
    return 3
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "my_project.py").write_text(PROJECT)
    (tmp_path / "beside.py").write_text("LAG = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_function(project) -> None:
    assert from_text("my_project.py:make").options == {}
    assert from_text(f"{project}/my_project.py:with_options").options == {"lag": 7}
    for source, words in (
        ("my_project.py:wrong", "got \\(int\\)"),
        ("my_project.py:nothing", "no function 'nothing'"),
        ("other.py:make", "a file that is there"),
        ("nothing", "my_project.py:make, or the folder of a run"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            from_text(source)


def test_the_command(project, capsys) -> None:
    words = ["diagnose", "my_project.py:make", "--budget", "2s", "--no-remedies"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "TIME AND BATCH SWAPPED" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "takes the batch for time" in (project / "diagnosis.html").read_text()
    (project / "diagnosis.html").unlink()
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out, parse_constant=pytest.fail)
    assert document["verdict"] == "TIME_BATCH_SWAPPED"
    assert not (project / "diagnosis.html").exists()
    assert main(["diagnose", "my_project.py:wrong"]) == 2
    assert main(["diagnose", "my_project.py:make", "--budget", "soon"]) == 2


def test_a_run_of_ours(tmp_path) -> None:
    config = RunConfig(task="latch:length=6", model="rnn:hidden=3", steps=20, batch_size=8)
    train(config, tmp_path / "run")
    patient = from_text(str(tmp_path / "run"))
    assert patient.options["lag"] >= 1
    assert len(patient.options["history"].losses) == 2
    loss = patient.loss_fn(patient.model, patient.batches[0])
    assert loss.dim() == 0
    with pytest.raises(errors.ConfigurationError, match="is not the folder of a run") as found:
        from_text(str(tmp_path))
    assert str(found.value).endswith(
        f"Diagnose one of them:\n  throughtime diagnose {tmp_path / 'run'}"
    )
    with pytest.raises(errors.ConfigurationError, match="got 0 trained runs in it, expected one"):
        from_text(str(tmp_path / "run" / "checkpoint-20"))
