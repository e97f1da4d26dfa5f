"""`throughtime train`."""

import dataclasses
import json
import signal

import pytest

from throughtime.cli import compare, train, training
from throughtime.cli.main import main
from throughtime.studies import plan
from throughtime.studies.request import VARIABLE
from throughtime.training import RunConfig, read_json
from throughtime.training import run as run_module

pytestmark = pytest.mark.without_compiler

TINY = ["train", "digits:pixels_per_step=8", "rnn:hidden=3", "--steps", "4"]


def test_options_are_the_fields_of_a_run() -> None:
    """All of them, and the help gives the values that these have when left out."""
    fields = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    options = {f.name: f.metadata["option"] for f in dataclasses.fields(train.Arguments)}
    assert set(options) - set(fields) == {"allow_mismatch", "out", "quiet", "json"}
    assert set(fields) <= set(options)
    shown = {"True": "stop", "False": "no", "None": "none"}
    for name in training.TrainingOptions.__dataclass_fields__:
        default = fields[name]
        if name != "optimizer_options":
            assert options[name].usual == shown.get(str(default), str(default)), name


def test_compare_takes_the_same_training_options() -> None:
    """Their usual values are the task's where the table of studies has some."""
    suited = {*plan.COMMON}.union(*plan.BY_TASK.values())
    assert set(compare.Arguments.usual) == suited
    shared = {field.name for field in dataclasses.fields(training.TrainingOptions)}
    for arguments in (train.Arguments, compare.Arguments):
        assert shared <= {field.name for field in dataclasses.fields(arguments)}
    assert {*VARIABLE} == shared


def test_result_and_folder(tmp_path, capsys) -> None:
    assert main([*TINY, "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(
        "rnn:hidden=3 on digits:pixels_per_step=8, seed 0: completed, test accuracy "
    )
    assert "4 steps" in captured.out
    assert "79 parameters" in " ".join(captured.out.split())
    assert captured.err.startswith("rnn:hidden=3, seed 0: started\n")
    assert (tmp_path / "run" / "result.json").exists()


def test_usual_folder_and_quiet(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--seed", "3", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    name = "train-digits-pixels_per_step-8-rnn-hidden-3-seed-3"
    assert captured.out.endswith(f"run: runs/{name}\n")
    assert (tmp_path / "runs" / name / "result.json").exists()


def test_every_option_arrives(tmp_path) -> None:
    words = "--seed 5 --batch-size 3 --optimizer SGD --learning-rate 0.25 --schedule cosine "
    words += "--warmup-steps 2 --clip-norm None --clip-value 0.5 --evaluate-every 2 "
    words += "--checkpoint-every 3 --log-every 1 --no-stop-when-solved "
    words += "--optimizer-options momentum=0.5 nesterov=true"
    assert main([*TINY, "--out", str(tmp_path), "--quiet", *words.split()]) == 0
    config = RunConfig.from_json(read_json(tmp_path / "config.json"))
    assert config == RunConfig(
        "digits:pixels_per_step=8",
        "rnn:hidden=3",
        steps=4,
        seed=5,
        batch_size=3,
        optimizer="SGD",
        learning_rate=0.25,
        optimizer_options={"momentum": 0.5, "nesterov": True},
        schedule="cosine",
        warmup_steps=2,
        clip_norm=None,
        clip_value=0.5,
        evaluate_every=2,
        checkpoint_every=3,
        log_every=1,
        stop_when_solved=False,
    )


def test_optimizer_options_that_are_lists(tmp_path) -> None:
    words = [*TINY, "--out", str(tmp_path), "--quiet", "--optimizer-options", "betas=[0.8,0.9]"]
    assert main(words) == 0
    config = RunConfig.from_json(read_json(tmp_path / "config.json"))
    assert config.optimizer_options == {"betas": (0.8, 0.9)}


def test_more_steps_go_on(tmp_path, capsys) -> None:
    words = [*TINY, "--out", str(tmp_path), "--schedule", "cosine", "--steps"]
    assert main([*words, "2"]) == 0
    capsys.readouterr()
    assert main([*words, "4"]) == 0
    captured = capsys.readouterr()
    assert "rnn:hidden=3, seed 0: from step 2\n" in captured.err
    assert "the result is not that of a run of 4 steps at once" in " ".join(captured.out.split())
    assert main([*words, "3"]) == 1
    assert "has done more steps: got steps=3, expected at least 4." in capsys.readouterr().err


def test_other_settings_get_a_folder_of_their_own(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--batch-size", "16"], ["--learning-rate", "0.001"], ["--steps", "5"]):
        assert main([*TINY, "--quiet", *more]) == 0
    name = "train-digits-pixels_per_step-8-rnn-hidden-3-seed-0"
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [name, f"{name}-batch_size-16"]


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_signal_saves_and_it_goes_on(tmp_path, capsys, monkeypatch, sent, code) -> None:
    """The update that is under way is ended and kept, as the second call shows."""
    update = run_module.Run._update

    def signalled(run: run_module.Run) -> None:
        if run.state.step == 2:
            signal.raise_signal(sent)
        update(run)

    before = signal.getsignal(signal.SIGTERM)
    words = [*TINY, "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_update", signalled)
        assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == (
        f"throughtime: stopped: {tmp_path} was interrupted: got 3 of 4 steps. "
        "All is saved: the same call or command goes on from there."
    )
    assert signal.getsignal(signal.SIGTERM) is before
    assert main(words) == 0
    assert "seed 0: from step 3\n" in capsys.readouterr().err


def test_json(tmp_path, capsys) -> None:
    assert main([*TINY, "--out", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out, parse_constant=pytest.fail)
    assert found == {**read_json(tmp_path / "result.json"), **found}
    assert found["folder"] == str(tmp_path)


def test_divergence_is_a_result(tmp_path, capsys) -> None:
    words = ["train", "digits:pixels_per_step=8", "irnn:scale=1e30", "--steps", "4"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "diverged (loss not finite at step 1)" in " ".join(captured.out.split())
    assert "diverged after 0 steps" in captured.err


def test_another_configuration_in_the_same_folder(tmp_path, capsys) -> None:
    assert main([*TINY, "--out", str(tmp_path), "--quiet"]) == 0
    assert main([*TINY, "--out", str(tmp_path), "--seed", "1"]) == 1
    assert "belongs to another configuration: got seed=1, expected seed=0" in (
        capsys.readouterr().err
    )
