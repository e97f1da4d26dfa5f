import dataclasses

import pytest
from training.tiny import tiny

from throughtime.core.errors import ConfigurationError, RunError, UnknownNameError
from throughtime.training import RunConfig, read_json, write_json


def test_round_trip_through_a_file(tmp_path) -> None:
    config = RunConfig(
        task="adding:length=100",
        model="lstm:hidden=64",
        seed=2**63 - 1,
        steps=7,
        optimizer="AdamW",
        learning_rate=0.1 + 0.2,
        optimizer_options={"betas": (0.8, 0.95), "amsgrad": True, "weight_decay": 1e-30},
        schedule="cosine",
        warmup_steps=3,
        clip_norm=None,
        clip_value=0.3,
        stop_when_solved=False,
        data_dir="data",
        tensorboard=True,
    )
    write_json(tmp_path / "config.json", config.to_json())
    assert RunConfig.from_json(read_json(tmp_path / "config.json")) == config


def test_every_field_is_stored_and_all_but_two_are_the_identity() -> None:
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert set(tiny().to_json()) == fields
    assert set(tiny().identity()) == fields - {"data_dir", "tensorboard"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ""}, "task of the run: got '', expected a name"),
        ({"model": 3}, "model of the run: got 3, expected a name"),
        ({"steps": 0}, "steps of the run: got 0, expected a whole number, at least 1"),
        ({"steps": True}, "steps of the run: got True, expected a whole number, at least 1"),
        ({"batch_size": 2.5}, "batch_size of the run: got 2.5, expected a whole number"),
        ({"seed": -1}, "seed of the run: got -1, expected a whole number, at least 0"),
        ({"seed": 2**63}, "seed of the run: got 9223372036854775808, expected a whole number"),
        ({"threads": 99_999}, "threads of the run: got 99999, expected at most 1,024"),
        ({"threads": 0}, "threads of the run: got 0, expected a whole number, at least 1"),
        ({"learning_rate": 0}, "learning_rate of the run: got 0, expected a number above 0"),
        ({"learning_rate": None}, "learning_rate of the run: got None, expected a number above 0"),
        ({"clip_norm": float("inf")}, "clip_norm of the run: got inf, expected a number above 0"),
        ({"clip_value": float("nan")}, "clip_value of the run: got nan, expected a number above 0"),
        ({"tensorboard": 1}, "tensorboard of the run: got 1, expected true or false"),
        ({"data_dir": 1}, "data_dir of the run: got 1, expected the path of a folder, or none"),
        ({"schedule": "cosin"}, "unknown schedule: got 'cosin', .*Did you mean 'cosine'"),
        (
            {"steps": 9, "warmup_steps": 9},
            "the warmup takes the whole run: got warmup_steps=9 of steps=9, expected fewer",
        ),
        (
            {"optimizer": "Rprop", "schedule": "linear"},
            "Rprop finds its own step sizes: a schedule has no effect on it",
        ),
        ({"optimizer_options": 3}, "optimizer_options of the run: got 3, expected values by name"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_values(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny(**change)


def test_unknown_optimizer() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown optimizer: got 'adam'.*Did you mean 'Adam'"
    ):
        tiny(optimizer="adam")


def test_fields_of_another_version() -> None:
    document = {"task": "digits", "modle": "lstm", "momentum": 0.9}
    message = "configuration is not that of a run: got modle, momentum, no model, expected task, "
    with pytest.raises(RunError, match=message):
        RunConfig.from_json(document)
