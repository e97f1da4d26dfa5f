"""Sources of a diagnosis, and the command."""

import copy
import dataclasses
import itertools
import json
import random
import sys

import pytest
import torch
from torch import nn

from throughtime import errors
from throughtime.cli.main import main
from throughtime.doctor import diagnose
from throughtime.doctor.sources import from_text
from throughtime.training import RunConfig, load_model, train

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


def step(model, optimizer, batch):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()


def with_training():
    model, batches, loss = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = {"loss": [0.7, float("nan")]}
    more = {"training_step": step, "optimizer": optimizer, "history": history}
    return model, batches[:6], loss, {**more, "unseen": batches[6:]}


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
        ("my_project.py:with_option", "no function .with_option., .*Did you mean .with_options."),
        ("other.py:make", "a file that is there"),
        ("nothing", "my_project.py:make, or the folder of a run"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            from_text(source)


def test_a_file_takes_no_loaded_modules_place(project) -> None:
    (project / "random.py").write_text(PROJECT)
    model = from_text("random.py:make").model
    assert sys.modules["random"] is random
    assert type(copy.deepcopy(model)) is type(model)


def test_the_command(project, capsys) -> None:
    words = ["diagnose", "my_project.py:make", "--budget", "2s", "--no-remedies"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "TIME AND BATCH SWAPPED" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "runs over the batch in place of time" in (project / "diagnosis.html").read_text()
    (project / "diagnosis.html").unlink()
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out, parse_constant=pytest.fail)
    assert document["verdict"] == "TIME_BATCH_SWAPPED"
    assert not (project / "diagnosis.html").exists()
    assert main([*words, "--json", "--fail-on", "fault"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "TIME_BATCH_SWAPPED"
    assert main([*words, "--fail-on", "fault"]) == 1
    assert main([*words, "--fail-on", "faults"]) == 2
    assert main(["diagnose", "my_project.py:wrong"]) == 2
    assert main(["diagnose", "my_project.py:make", "--budget", "soon"]) == 2


def test_the_command_takes_the_users_training(project, capsys) -> None:
    words = ["diagnose", "my_project.py:with_training", "--budget", "2s", "--no-remedies", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    said = " ".join(document["missing_evidence"])
    assert not {"training_step=", "history=", "unseen="} & set(said.split())
    assert any("entry 2 of 2 of the loss" in one["statement"] for one in document["findings"])
    assert main([*words, "--out", "a.jpeg"]) == 2
    assert "form of a.jpeg: got '.jpeg'" in capsys.readouterr().err


def test_a_run_of_ours(tmp_path) -> None:
    config = RunConfig(task="latch:length=6", model="rnn:hidden=3", steps=20, batch_size=8)
    train(config, tmp_path / "run")
    given = from_text(str(tmp_path / "run"))
    assert given.options["lag"] >= 1
    assert len(given.options["history"].losses) == 2
    loss = given.loss_fn(given.model, given.batches[0])
    assert loss.dim() == 0
    with pytest.raises(errors.ConfigurationError, match="is not the folder of a run") as found:
        from_text(str(tmp_path))
    assert str(found.value).endswith(
        f"Diagnose one of them:\n  throughtime diagnose {tmp_path / 'run'}"
    )
    with pytest.raises(errors.ConfigurationError, match="got 0 trained runs in it, expected one"):
        from_text(str(tmp_path / "run" / "checkpoint-20"))


def test_the_step_of_a_run_is_that_of_its_training(tmp_path) -> None:
    """Weights after 20 updates of the run, and after 20 steps on the same batches."""
    config = RunConfig(
        task="latch:length=6",
        model="rnn:hidden=3",
        batch_size=8,
        optimizer="SGD",
        learning_rate=0.5,
        clip_norm=0.1,
        clip_value=0.02,
    )
    train(dataclasses.replace(config, steps=1), tmp_path / "start")
    train(dataclasses.replace(config, steps=20), tmp_path / "run")
    given = from_text(str(tmp_path / "run"))
    _, task, model = load_model(tmp_path / "start")
    optimizer = given.options["optimizer"](model)
    for batch in itertools.islice(task.batches("training", 8, seed=0, start=1), 19):
        given.options["training_step"](model, optimizer, batch)
    for mine, of_run in zip(model.parameters(), given.model.parameters(), strict=True):
        torch.testing.assert_close(mine, of_run)


def test_a_run_of_another_learner_has_no_step_to_show(tmp_path) -> None:
    config = RunConfig("latch:length=6", "rnn:hidden=3", steps=2, batch_size=8, learner="rtrl")
    train(config, tmp_path)
    assert "training_step" not in from_text(str(tmp_path)).options


HOSTILE = """
import sys
import torch
from torch import nn

def data(): return [(torch.randn(6, 4, 2), torch.randn(6, 4, 3)) for _ in range(4)]
def exits(): sys.exit("bye [/red]")
def exits_well(): sys.exit(0)
def raises(): raise ValueError("boom [/red]")
def endless(): return endless()
def interrupts(): raise KeyboardInterrupt
async def coroutine(): return 1
def argument(a): return 1
def bad_option(): return nn.RNN(2, 3), data(), nn.MSELoss(), {"lagg": 1}
def bad_options(): return nn.RNN(2, 3), data(), nn.MSELoss(), [1]
def no_batches(): return nn.RNN(2, 3), None, nn.MSELoss()
def scripted(): return torch.jit.script(nn.RNN(2, 3)), data(), nn.MSELoss()
def loss_exits(): return nn.RNN(2, 3), data(), lambda m, b: sys.exit(0)
def backward():
    def loss(model, batch):
        value = model(batch[0])[0].square().mean()
        value.backward()
        return value
    return nn.RNN(2, 3), data(), loss
def uncopied():
    class Uncopied(nn.RNN):
        def __deepcopy__(self, memo): raise ValueError("no copy")
    return Uncopied(2, 3), data(), nn.MSELoss()
def broken_batches():
    def batches():
        yield data()[0]
        raise OSError("disk [gone]")
    return nn.RNN(2, 3), batches(), nn.MSELoss()
"""


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("exits", 2, "got sys.exit('bye [/red]'), expected (model, batches, loss)"),
        ("exits_well", 2, "got sys.exit(0)"),
        ("raises", 2, "got ValueError: boom [/red] (line 9), expected"),
        ("endless", 2, "got RecursionError: maximum recursion depth exceeded"),
        ("interrupts", 130, "stopped: Ctrl-C"),
        ("coroutine", 2, "got (coroutine), expected (model, batches, loss)"),
        ("argument", 2, "got TypeError: argument() missing 1 required positional"),
        ("bad_option", 2, "unknown option of hostile.py:bad_option: got 'lagg', expected one of"),
        ("bad_options", 2, "options of hostile.py:bad_options: got list, expected a dict"),
        ("no_batches", 2, "batches: got TypeError: 'NoneType' object is not iterable, expected a"),
        ("broken_batches", 2, "batches: got OSError: disk [gone], expected a list, a DataLoader"),
        ("uncopied", 2, "copy of Uncopied: got ValueError: no copy, expected a model that"),
        ("scripted", 2, "model: got a scripted or traced module, expected the module that it was"),
        ("loss_exits", 2, "the model, the batches or the loss: got sys.exit(0), expected code"),
        ("backward", 2, "let it return the loss, and leave backward() and step() to the doctor"),
    ],
)
def test_what_users_code_does_is_told_in_a_line(
    name: str, code: int, said: str, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["diagnose", f"hostile.py:{name}", "--budget", "1s"]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_model_made_in_inference_mode(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        model = nn.RNN(2, 3, dtype=dtype)
        batches = [(torch.randn(6, 4, 2, dtype=dtype), torch.randn(6, 4, 3)) for _ in range(4)]
        found = diagnose(model, batches, nn.MSELoss(), budget="0.2s", remedies=False)
    assert found.verdict is not None
    assert model.weight_hh_l0.is_inference()


def test_a_run_on_pairs_has_no_lag(tmp_path) -> None:
    """The dependency of a reversed source goes through both layers, and is longer than each."""
    folder = tmp_path / "run"
    options = ["--steps", "1", "--batch-size", "4", "--quiet", "--out", str(folder)]
    main(["train", "reverse:longest=4", "encoder-decoder:hidden=4,embedding=3", *options])
    given = from_text(str(folder))
    assert given.options["lag"] is None
    assert given.vocabularies == {}
    found = diagnose(
        given.model, given.batches, given.loss_fn, budget="1s", remedies=False, **given.options
    )
    names = {fact.name.partition(":")[0] for fact in found.facts}
    assert {"encoder.layer", "decoder", "loss after the model's own symbols"} <= names


def test_a_run_on_dialogues_has_its_samples_on_one_axis(tmp_path) -> None:
    """No lag either: a dependency goes through three layers."""
    config = RunConfig(
        task="counting-dialogue:turns=3", model="gru:hidden=4", steps=1, batch_size=5
    )
    train(config, tmp_path)
    found = from_text(str(tmp_path))
    assert found.options["lag"] is None
    _, task, model = load_model(tmp_path)
    for batch in itertools.islice(found.batches, 2):
        assert batch.symbols.shape == batch.targets.shape == (9, 5)
        assert batch.lengths.shape == (3, 5)
        loss = found.loss_fn(model, batch)
        torch.testing.assert_close(loss, task.score(model, batch.dialogues()).loss)
        fewer = type(batch)(*(part[:, :2] for part in batch))
        assert torch.isfinite(found.loss_fn(model, fewer))


def test_a_run_on_trees_has_its_samples_on_one_axis(tmp_path) -> None:
    """Any symbols, shapes and labels belong together, as experiments mix them."""
    config = RunConfig(
        task="polarity:leaves=4,trees=40", model="recnn:hidden=4", steps=1, batch_size=5
    )
    train(config, tmp_path)
    found = from_text(str(tmp_path))
    assert found.options["lag"] is None
    _, task, model = load_model(tmp_path)
    given = next(task.batches("training", 5, seed=0, start=10_000_000))
    batch = [*found.options["unseen"], *found.batches][0]
    again = batch.trees()
    for name in ("inputs", "sizes", "edges", "positions"):
        assert torch.equal(getattr(again.trees, name), getattr(given.trees, name))
    assert torch.equal(again.labels, given.labels)
    assert len({part.shape for part in batch}) == 1
    torch.testing.assert_close(found.loss_fn(model, batch), task.score(model, given).loss)
    fewer = type(batch)(*(part[:, :2] for part in batch))
    assert torch.isfinite(found.loss_fn(model, fewer))
    mixed = batch._replace(symbols=batch.symbols.flip(1), targets=batch.targets.roll(1, 1))
    assert torch.isfinite(found.loss_fn(model, mixed))


def test_a_run_on_trees_is_diagnosed(tmp_path) -> None:
    config = RunConfig(
        task="polarity:leaves=4,trees=200", model="tree-lstm:hidden=8", steps=20, batch_size=16
    )
    train(config, tmp_path)
    given = from_text(str(tmp_path))
    found = diagnose(
        given.model, given.batches, given.loss_fn, budget="1s", remedies=False, **given.options
    )
    assert "held-out loss of the model" in {fact.name for fact in found.facts}
    assert not any("raised" in finding.statement for finding in found.findings)
