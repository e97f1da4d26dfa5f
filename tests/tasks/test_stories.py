"""Stories: the reader of files by lines, the generator against readings of its own text."""

import math
import re

import pytest
import torch

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks import TASKS, babi, draw_stories, read_stories, write_stories
from throughtime.tasks.questions import QuestionKind
from throughtime.tasks.seeding import generator
from throughtime.tasks.stories import Line, StoryQuestions, plain

KINDS = QuestionKind.__args__
FILE = """1 Mia sat down.
2 Tom saw a bird.
3 What did Tom see? \tbird\t2
4 Mia saw it too.
5 Who saw it? \tmia,tom\t4 2
1 It rains.
2 Does it rain?\tyes\t
"""


def drawn(kind, count=300, seed=5):
    return draw_stories(kind, generator(seed, "test"), count)


def asked(story):
    """Yield the words of the sentences before each question, and the question."""
    told = {}
    for number, line in enumerate(story, 1):
        if line.answer:
            yield dict(told), line
        else:
            told[number] = line.text.rstrip(".").split()


def test_a_file_is_read_as_it_stands():
    first, second = read_stories("qa.txt", FILE)
    assert first[1] == Line("Tom saw a bird.")
    assert first[2] == Line("What did Tom see?", "bird", (2,))
    assert first[4] == Line("Who saw it?", "mia,tom", (4, 2))
    assert second[1] == Line("Does it rain?", "yes", ())
    assert read_stories("qa.txt", FILE.removesuffix("\n")) == [first, second]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Mia sat down.\n", r"qa.txt, line 1: got 'Mia sat down.', expected NUMBER SENTENCE"),
        ("1 It rains.\n\n", r"qa.txt, line 2: got '', expected NUMBER"),
        ("2 It rains.\n", r"number of qa.txt, line 1: got 2, expected 1"),
        ("1 It rains.\n3 It snows.\n", r"number of qa.txt, line 2: got 3, expected 2, or 1 for a"),
        ("1 ...\n", r"qa.txt, line 1: got '...', expected words"),
        ("1 It rains.\n2 Does it?\tyes\t1\t4\n", r"line 2: got 3 tabs, expected 2"),
        ("1 It rains.\n2 Does it?\tyes sir\t1\n", r"answer of qa.txt, line 2: got 'yes sir'"),
        ("1 It rains.\n2 Does it?\t\t1\n", r"answer of qa.txt, line 2: got '', expected one word"),
        ("1 Does it rain?\tyes\t\n", r"line 1: got a question, expected a sentence before it"),
        ("1 It rains.\n2 Does it?\tyes\t3\n", r"supporting lines of qa.txt, line 2: got '3'"),
        ("1 It rains.\n2 Does it?\tyes\tone\n", r"supporting lines of qa.txt, line 2: got 'one'"),
        (
            "1 It rains.\n2 Does it?\tyes\t1\n3 Really?\tyes\t2\n",
            r"supporting lines of qa.txt, line 3: got '2', expected numbers of sentences",
        ),
    ],
)
def test_a_wrong_line_is_named(text, message):
    with pytest.raises(DataError, match=message):
        read_stories("qa.txt", text)


def write(folder, name, stories):
    (folder / name).write_text(write_stories(stories))
    return name


def test_files_are_a_task_like_that_of_the_generator(tmp_path):
    stories = {split: drawn("two-facts", 60, k) for k, split in enumerate(("a", "b", "c"))}
    names = [write(tmp_path, f"{name}.txt", part) for name, part in stories.items()]
    text = f"babi:file={names[0]},validation={names[1]},test={names[2]}"
    task = TASKS.build(text, data_dir=str(tmp_path))
    splits = dict(zip(("training", "validation", "test"), stories.values(), strict=True))
    other = StoryQuestions("babi", splits)
    for split in splits:
        one, two = (next(t.batches(split, 20)) for t in (task, other))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert re.fullmatch("[0-9a-f]{16}", task.sha256)
    assert task.inputs.facts == 2
    with pytest.raises(DataError, match="got SHA-256"):
        babi(file=names[1], sha256=task.sha256, data_dir=str(tmp_path))


def test_stories_that_are_held_out_are_in_no_other_split(tmp_path):
    write(tmp_path, "a.txt", drawn("one-fact", 200))
    task = babi(file="a.txt", data_dir=str(tmp_path))
    texts = {split: {write_stories([s]) for s in part} for split, part in task.stories.items()}
    assert [len(part) for part in texts.values()] == [32, 4, 4]
    assert len(set.union(*texts.values())) == 40


def test_files_that_are_wrong(tmp_path):
    with pytest.raises(ConfigurationError, match="got no file, expected file=FILE"):
        TASKS.build("babi")
    with pytest.raises(ConfigurationError, match="expected 16 to 64 hexadecimal digits"):
        TASKS.build("babi:file=a.txt,sha256=12")
    with pytest.raises(DataError, match=r"none.txt: got No such file"):
        babi(file="none.txt", data_dir=str(tmp_path))
    write(tmp_path, "few.txt", drawn("one-fact", 20))
    with pytest.raises(DataError, match="training stories: got 4, expected at least 10"):
        babi(file="few.txt", data_dir=str(tmp_path))
    (tmp_path / "told.txt").write_text("1 It rains.\n")
    with pytest.raises(DataError, match="training stories of task 'babi': got no question"):
        babi(file="told.txt", validation="told.txt", test="told.txt", data_dir=str(tmp_path))


def test_a_batch_has_the_sentences_before_each_question():
    (story, _) = read_stories("qa.txt", FILE)
    splits = {"training": [story], "validation": [story], "test": [story]}
    task = StoryQuestions("own", splits)
    batch = next(task.batches("validation", 9))
    words = task.vocabulary
    assert batch.lengths.tolist() == [[3, 3], [4, 4], [0, 4]]
    told = [
        [words.decode(batch.sentences[i, :n, b].tolist()) for i, n in enumerate(column) if n]
        for b, column in enumerate(batch.lengths.T.tolist())
    ]
    assert told == [
        ["mia sat down", "tom saw a bird"],
        ["mia sat down", "tom saw a bird", "mia saw it too"],
    ]
    assert [
        words.decode(batch.question[:n, b].tolist())
        for b, n in enumerate(batch.question_lengths.tolist())
    ] == ["what did tom see", "who saw it"]
    assert words.decode(batch.targets.tolist()) == "bird mia,tom"
    assert batch.supports.T.tolist() == [[1, -1], [2, 1]]
    # text of 3 + 1, 4 + 1, 4 + 1 words and a question of 3; from "tom" to the question's last word
    assert (task.length, task.dependency_length) == (17, 12)


def test_chance_is_that_of_the_training_answers():
    def stories(answers):
        return [[Line("It rains."), Line("Does it?", answer)] for answer in answers]

    splits = {"training": stories(["yes", "yes", "no"]), "validation": stories(["yes", "no"])}
    task = StoryQuestions("own", {**splits, "test": stories(["perhaps"])})
    assert task.chance == 0.5
    assert task.chance_loss == pytest.approx(-(math.log(3 / 6) + math.log(2 / 6)) / 2)


def test_an_answer_that_no_training_story_has_is_wrong():
    def split(answer):
        return [[Line("It rains."), Line("Does it?", answer)]]

    task = StoryQuestions(
        "own", {"training": split("yes"), "validation": split("perhaps"), "test": split("yes")}
    )

    class Constant(torch.nn.Module):
        def __init__(self, word):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.eye(len(task.vocabulary))[word])

        def forward(self, batch, step=None):
            return self.logits.expand(batch.size, -1)

    for split_name, word, right in (("validation", "<unk>", 0.0), ("test", "yes", 1.0)):
        (number,) = task.vocabulary.encode(word)
        model = Constant(number)
        batch = next(task.batches(split_name, 4))
        assert task.report(task.score(model, batch).parts)["accuracy"] == right
        assert task.examine(model, "test")["training_error"] == float(word != "yes")


@pytest.mark.parametrize("kind", KINDS)
def test_generated_stories_are_read_back(kind):
    stories = drawn(kind)
    assert read_stories("qa.txt", write_stories(stories)) == stories
    assert sum(bool(line.answer) for story in stories for line in story) == 300
    assert all(story[-1].answer for story in stories)
    supports = [line.supports for story in stories for line in story if line.answer]
    least = {"two-facts": 2, "three-facts": 3}.get(kind, 1)
    assert all(len(set(each)) == len(each) >= least for each in supports)
    if kind not in ("counting", "lists"):
        assert all(len(each) == least for each in supports)


def read_world(told):
    """Return places of persons, holders, and the places of things over time, from sentences."""
    where, holder, lies, history = {}, {}, {}, {}
    for words in told.values():
        person, verb, thing = words[0], words[1], words[-1]
        if "to" in words and verb != "gave":
            where[person] = thing
        elif verb == "gave":
            holder[words[3]] = thing
            where[thing] = where[person]
        elif verb in ("took", "fetched") or words[1:3] == ["picked", "up"]:
            holder[thing] = person
        else:
            lies[thing] = where[person]
            del holder[thing]
        for each in {*holder, *lies}:
            place = where[holder[each]] if each in holder else lies[each]
            past = history.setdefault(each, [])
            if not past or past[-1] != place:
                past.append(place)
    return where, holder, history


def test_answers_follow_from_the_sentences():
    for kind in ("one-fact", "two-facts", "three-facts", "yes-no", "counting", "lists"):
        for story in drawn(kind):
            for told, (question, answer, _) in asked(story):
                where, holder, history = read_world(told)
                words = plain(question).split()
                name = words[-1].capitalize()
                if kind == "one-fact":
                    expected = where[name]
                elif kind == "two-facts":
                    expected = history[words[-1]][-1]
                elif kind == "three-facts":
                    *_, expected, last = history[words[3]]
                    assert words[-1] == last
                elif kind == "yes-no":
                    expected = "yes" if where[words[1].capitalize()] == words[-1] else "no"
                else:
                    held = sorted(t for t, p in holder.items() if p.lower() == words[-2])
                    number = ["none", "one", "two", "three"][len(held)]
                    expected = number if kind == "counting" else ",".join(held) or "nothing"
                assert answer == expected, (kind, told, question)


def test_supporting_lines_are_enough():
    """The answers follow from the supporting sentences alone."""
    for kind in ("one-fact", "two-facts", "three-facts", "yes-no"):
        for story in drawn(kind):
            for told, (question, answer, supports) in asked(story):
                words = plain(question).split()
                facts = [told[line] for line in supports]
                places = [fact[-1] for fact in facts if "to" in fact]
                if kind == "yes-no":
                    assert (answer == "yes") == (places == [words[-1]])
                    assert facts[0][0].lower() == words[1]
                elif kind == "three-facts":
                    assert facts[0][-1] == words[3]
                    assert places == [words[-1], answer]
                else:
                    assert places == [answer]
                    assert facts[0][0 if kind == "one-fact" else -1].lower() == words[-1]


def test_the_order_of_words_decides_two_arguments():
    pairs = {}
    for story in drawn("two-arguments", 600):
        ((told, (question, answer, (line,))),) = asked(story)
        one, direction, other = told[line][1], told[line][3], told[line][6]
        expected = {
            f"What is {direction} of the {other}?": one,
            f"What is the {one} {direction} of?": other,
        }
        assert expected[question] == answer
        bag = (*sorted(" ".join(map(" ".join, told.values())).split()), *sorted(question.split()))
        pairs.setdefault(bag, set()).add(answer)
    assert any(len(answers) > 1 for answers in pairs.values()), "bags of words would do"


def test_three_arguments_are_of_the_last_such_gift():
    seen = set()
    for story in drawn("three-arguments"):
        for told, (question, answer, (line,)) in asked(story):
            words = question.rstrip("?").split()
            gifts = {k: (w[0], w[3], w[5]) for k, w in told.items() if w[1] == "gave"}
            if words[1] == "gave":
                given, place = (words[3], words[5]), (1, 2, 0)
            elif words[0] == "What":
                given, place = (words[2], words[5]), (0, 2, 1)
            else:
                given, place = (words[2], words[5]), (0, 1, 2)
            fits = [k for k, gift in gifts.items() if (gift[place[0]], gift[place[1]]) == given]
            assert fits[-1] == line
            assert gifts[line][place[2]] == answer
            seen.add(place)
    assert len(seen) == 3


def test_all_kinds_have_equal_shares():
    task = TASKS.build("questions:kind=all,questions=20")
    counts = [sum(bool(line.answer) for line in story) for story in task.stories["training"]]
    assert sum(counts) == 20
    asked_words = {
        line.text.split()[0] for s in task.stories["training"] for line in s if line.answer
    }
    assert asked_words >= {"Where", "Is", "How", "What"}


def test_too_few_questions():
    message = "questions of task 'questions': got 7, expected at least 8"
    with pytest.raises(ConfigurationError, match=message):
        TASKS.build("questions:questions=7")
