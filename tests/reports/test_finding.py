"""The sentence says what the numbers say, and no more."""

import json
from pathlib import Path

from throughtime.reports import read_comparison
from throughtime.reports.finding import finding


def sentence(folder: Path) -> str:
    return finding(read_comparison(folder))


def test_best_last_and_overlap(write_comparison) -> None:
    assert sentence(write_comparison()) == (
        "gru does best on digits: 95.1 ± 1.2 % of its test answers are right (3 seeds; chance is "
        "10.0 %), though the seeds of lstm overlap with it; rnn comes last with 48.0 ± 1.2 %; "
        "before training its gradient reaches back 9 of the 63 steps needed."
    )


def test_one_seed_has_no_spread_and_no_overlap(write_comparison) -> None:
    said = sentence(write_comparison(seeds=1, labels=("lstm", "gru")))
    assert said == (
        "gru does best on digits: 93.9 % of its test answers are right (one seed; chance is "
        "10.0 %); lstm comes last with 92.5 %; before training its gradient reaches back 16 of "
        "the 63 steps needed."
    )


def test_one_model_is_not_last(write_comparison) -> None:
    said = sentence(write_comparison(labels=("gru",)))
    assert said.startswith("gru does best on digits: 95.1 ± 1.2 %")
    assert "last" not in said


def test_diverged_runs_are_counted(write_comparison) -> None:
    said = sentence(write_comparison(statuses={("irnn", 0): "diverged", ("irnn", 2): "diverged"}))
    assert said.endswith("; 2 of 3 runs of irnn diverged.")


def test_all_diverged(write_comparison) -> None:
    statuses = {("rnn", seed): "diverged" for seed in range(2)}
    folder = write_comparison(seeds=2, labels=("rnn",), statuses=statuses)
    assert sentence(folder) == "Every run on digits diverged."


def test_solved_where_runs_stop(write_comparison) -> None:
    statuses = {("lstm", s): "solved" for s in range(3)} | {("gru", s): "solved" for s in range(3)}
    folder = write_comparison(
        labels=("rnn", "lstm", "gru"), statuses={**statuses, ("rnn", 0): "solved"}
    )
    for seed in range(3):
        end(folder / "gru" / f"seed-{seed}", 600 + 300 * seed)
    assert sentence(folder) == (
        "lstm and gru solve digits with each of 3 seeds, gru soonest, after 900 steps on average; "
        "rnn solves it with 1 of 3."
    )


def test_solved_where_runs_do_not_stop_is_no_race(write_comparison) -> None:
    statuses = {("gru", s): "solved" for s in range(3)}
    folder = write_comparison(labels=("rnn", "gru"), statuses=statuses)
    for file in folder.glob("*/*/config.json"):
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "stop_when_solved": False}))
    assert sentence(folder).startswith("gru does best on digits: 95.1 ± 1.2 %")


def test_nobody_beats_chance(write_comparison) -> None:
    folder = write_comparison(labels=("rnn", "lstm"), task={"chance": 0.97})
    assert sentence(folder) == (
        "No model does better than chance (97.0 %) on digits: the best, lstm, gets 93.7 ± 1.2 % of "
        "the test answers right."
    )


def end(folder: Path, step: int) -> None:
    file = folder / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "step": step}))
