"""The words say what the numbers say, and no more."""

import json
from pathlib import Path

from throughtime.reports import read_comparison
from throughtime.reports.comparison_text import finding, starred


def sentence(folder: Path) -> str:
    return finding(read_comparison(folder))


def accuracies(folder: Path, **by_label: list[float]) -> Path:
    """Give runs other test accuracies, by label and seed."""
    for label, values in by_label.items():
        for seed, value in enumerate(values):
            change(folder / label / f"seed-{seed}", test={"loss": 1.0, "accuracy": value})
    return folder


def test_seeds_that_overlap_are_not_separated(write_comparison) -> None:
    folder = write_comparison()
    assert sentence(folder) == (
        "gru (95.1 ± 1.2 %) and lstm (93.7 ± 1.2 %) give the most right test answers on digits "
        "(chance is 10.0 %). They are not separated: their seeds overlap (3 seeds each). rnn comes "
        "last with 48.0 ± 1.2 %; before training its gradient reaches back 9 of the 63 steps "
        "needed."
    )
    stars, told = starred(read_comparison(folder))
    assert not stars
    assert told == "No model has a star, because no model has all its seeds above the others."


def test_best_is_a_model_whose_seeds_are_all_above_the_others(write_comparison) -> None:
    folder = write_comparison(labels=("lstm", "irnn", "gru"))
    accuracies(folder, gru=[0.97, 0.98, 0.99], lstm=[0.9, 0.969, 0.9], irnn=[0.9, 0.95, 0.96])
    assert sentence(folder) == (
        "gru does best on digits: 98.0 ± 1.0 % of its test answers are right (3 seeds; chance is "
        "10.0 %). Each of its seeds is above all seeds of the others."
    )
    stars, told = starred(read_comparison(folder))
    assert stars == {"gru"}
    assert told.startswith("★: each seed of the model has a higher test accuracy than all seeds")
    accuracies(folder, lstm=[0.9, 0.97, 0.9])  # as high as the lowest seed of gru
    assert "They are not separated: their seeds overlap" in sentence(folder)
    assert not starred(read_comparison(folder))[0]


def test_equal_is_a_tie(write_comparison) -> None:
    folder = write_comparison(seeds=2, labels=("lstm", "gru"))
    accuracies(folder, gru=[1.0, 1.0], lstm=[1.0, 1.0])
    assert sentence(folder) == (
        "lstm and gru tie on digits: every seed gives 100.0 % right test answers (2 seeds each; "
        "chance is 10.0 %)."
    )
    assert not starred(read_comparison(folder))[0]


def test_one_seed_is_said(write_comparison) -> None:
    folder = write_comparison(seeds=1, labels=("lstm", "gru"))
    assert sentence(folder) == (
        "gru has the most right test answers on digits: 93.9 % (one seed; chance is 10.0 %). One "
        "seed does not show that one model is better than another."
    )
    assert not starred(read_comparison(folder))[0]
    accuracies(folder, gru=[0.9], lstm=[0.9])
    assert sentence(folder).startswith(
        "lstm and gru tie for the most right test answers on digits: 90.0 % (one seed"
    )


def test_one_seed_beside_several(write_comparison) -> None:
    """As where all runs of a model but one diverged."""
    statuses = {("rnn", 0): "diverged", ("rnn", 2): "diverged"}
    folder = write_comparison(labels=("rnn", "irnn", "gru"), statuses=statuses)
    assert sentence(folder) == (
        "gru does best on digits: 95.1 ± 1.2 % of its test answers are right (3 seeds; chance is "
        "10.0 %). Each of its seeds is above all seeds of the others. rnn has one seed. rnn comes "
        "last with 48.0 %; before training its gradient reaches back 9 of the 63 steps needed. 2 "
        "of 3 runs of rnn diverged."
    )
    change(folder / "rnn" / "seed-1", test={"loss": 1.0, "accuracy": 0.99})
    assert sentence(folder).startswith("rnn has the most right test answers on digits: 99.0 % (one")


def test_one_model_is_no_contest(write_comparison) -> None:
    folder = write_comparison(labels=("gru",))
    assert sentence(folder) == (
        "gru gives 95.1 ± 1.2 % right test answers on digits (3 seeds; chance is 10.0 %); before "
        "training its gradient reaches back 20 of the 63 steps needed. There is no other model."
    )
    assert starred(read_comparison(folder)) == (frozenset(), "")


def test_the_only_one_that_did_not_diverge_is_no_winner(write_comparison) -> None:
    statuses = {("rnn", seed): "diverged" for seed in range(3)}
    said = sentence(write_comparison(labels=("rnn", "gru"), statuses=statuses))
    assert "best" not in said
    assert "No other model has a run that did not diverge. 3 of 3 runs of rnn diverged." in said


def test_diverged_runs_are_counted(write_comparison) -> None:
    said = sentence(write_comparison(statuses={("irnn", 0): "diverged", ("irnn", 2): "diverged"}))
    assert said.endswith(" 2 of 3 runs of irnn diverged.")


def test_all_diverged(write_comparison) -> None:
    statuses = {("rnn", seed): "diverged" for seed in range(2)}
    folder = write_comparison(seeds=2, labels=("rnn",), statuses=statuses)
    assert sentence(folder) == "Every run on digits diverged."


def test_solved_where_runs_stop(write_comparison) -> None:
    """A run is solved on the validation split; what is said of others is of the test split."""
    statuses = {("lstm", s): "solved" for s in range(3)} | {("gru", s): "solved" for s in range(3)}
    folder = write_comparison(
        labels=("rnn", "irnn", "lstm", "gru"), statuses={**statuses, ("rnn", 0): "solved"}
    )
    for seed in range(3):
        change(folder / "gru" / f"seed-{seed}", step=600 + 300 * seed)
    assert sentence(folder) == (
        "gru and lstm solve digits on the validation split with all 3 seeds, after 900 and 1,000 "
        "steps on average. The seeds do not show which of them is soonest. rnn solves it with 1 of "
        "3 seeds. irnn does not solve it: 81.0 ± 1.2 % of its test answers are right."
    )
    stars, told = starred(read_comparison(folder))
    assert stars == {"lstm", "gru"}
    assert told == "★: every seed of the model solves the task on the validation split."
    for seed in range(3):
        change(folder / "gru" / f"seed-{seed}", step=900 + seed)
    assert "gru is soonest with each of its seeds." in sentence(folder)


def test_one_seed_is_no_race(write_comparison) -> None:
    statuses = {("lstm", 0): "solved", ("gru", 0): "solved"}
    folder = write_comparison(seeds=1, labels=("lstm", "gru"), statuses=statuses)
    change(folder / "gru" / "seed-0", step=600)
    assert sentence(folder) == (
        "gru and lstm solve digits on the validation split with one seed, after 600 and 1,000 "
        "steps. One seed does not show which of them is soonest."
    )


def test_seeds_of_solvers_are_counted_in_words(write_comparison) -> None:
    statuses = {("lstm", s): "solved" for s in range(2)} | {("gru", s): "solved" for s in range(2)}
    folder = write_comparison(seeds=2, labels=("lstm", "gru"), statuses=statuses)
    assert "solve digits on the validation split with both seeds, after" in sentence(folder)
    (folder / "gru" / "seed-1" / "result.json").unlink()
    assert "split with one seed or both seeds, after" in sentence(folder)


def test_solved_where_runs_do_not_stop_is_no_race(write_comparison) -> None:
    statuses = {("gru", s): "solved" for s in range(3)}
    folder = write_comparison(labels=("rnn", "gru"), statuses=statuses)
    for file in folder.glob("*/*/config.json"):
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "stop_when_solved": False}))
    assert sentence(folder).startswith("gru does best on digits: 95.1 ± 1.2 %")


def test_nobody_beats_chance(write_comparison) -> None:
    folder = write_comparison(labels=("rnn", "lstm"), task={"chance": 0.94})
    assert sentence(folder) == (
        "No run on digits is more than 1 point above chance (94.0 %): the highest test accuracy is "
        "94.9 %, of lstm."
    )
    assert not starred(read_comparison(folder))[0]
    accuracies(folder, lstm=[0.96, 0.97, 0.98])
    assert sentence(folder).startswith("lstm does best on digits: 97.0 ± 1.0 %")


def change(folder: Path, **values: object) -> None:
    file = folder / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
