"""Our own generator of stories with questions, in the form of the bAbI tasks."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from throughtime.tasks.seeding import generator
from throughtime.tasks.stories import Line, Story, StoryQuestions
from throughtime.tasks.task import Split, check_at_least

QuestionKind: TypeAlias = Literal[
    "one-fact",
    "two-facts",
    "three-facts",
    "two-arguments",
    "three-arguments",
    "yes-no",
    "counting",
    "lists",
]
"""The kind of the questions of a story."""

_PERSONS = ("Anna", "Ben", "Clara", "David")
_PLACES = ("attic", "cellar", "garden", "kitchen", "library", "workshop")
_THINGS = ("book", "cup", "key", "lamp")
_DIRECTIONS = ("north", "south", "east", "west")
_NUMBERS = ("none", "one", "two", "three")

_MOVES = ("went to", "walked to", "hurried to", "moved to")
_TAKES = ("took", "picked up", "fetched")
_DROPS = ("put down", "dropped", "left")
_MOST = 3  # things that a person holds
_QUESTIONS = 5  # of a story
_LONGEST = 60  # lines of a story, about
_BLOCK = 128  # random numbers that are drawn at once


class _World:
    """Persons who walk, and take, drop and give things; and the lines that tell so.

    A thing is where its holder is. Only what the lines tell is used for answers.
    """

    def __init__(self, random: np.random.Generator):
        self._random = random
        self._numbers: Iterator[float] = iter(())  # drawn in blocks: single draws are slow
        self.lines: list[Line] = []
        self.place: dict[str, tuple[str, int]] = {}  # of a person, and the line that tells it
        self.holder: dict[str, tuple[str, int]] = {}
        self.lies = {thing: self.pick(_PLACES) for thing in _THINGS}
        self.seen: dict[str, list[tuple[str, tuple[int, ...]]]] = {thing: [] for thing in _THINGS}
        self.events: dict[str, list[int]] = {person: [] for person in _PERSONS}

    def below(self, count: int) -> int:
        """Return a whole number in 0 ... count - 1, uniformly."""
        number = next(self._numbers, None)
        if number is None:
            self._numbers = iter(self._random.random(_BLOCK).tolist())
            number = next(self._numbers)
        return int(number * count)

    def pick(self, items: Sequence[str]) -> str:
        """Return one of some texts, uniformly."""
        return items[self.below(len(items))]

    def held(self, person: str) -> list[str]:
        """Return the things of a person, by the alphabet."""
        return [t for t in _THINGS if t in self.holder and self.holder[t][0] == person]

    def move(self) -> None:
        """Let a person go to another place, with all that the person holds."""
        person = self.pick(_PERSONS)
        before = self.place.get(person, ("", 0))[0]
        place = self.pick([each for each in _PLACES if each != before])
        self.lines.append(Line(f"{person} {self.pick(_MOVES)} the {place}."))
        self.place[person] = place, len(self.lines)
        for thing in self.held(person):
            self._see(thing, place, (self.holder[thing][1], len(self.lines)))

    def take(self) -> bool:
        """Let a person take a thing that lies at the person's place; False if there is none."""
        can = [
            f"{person} {thing}"
            for person, (place, _) in sorted(self.place.items())
            for thing in _THINGS
            if thing not in self.holder
            and self.lies[thing] == place
            and len(self.held(person)) < _MOST
        ]
        if not can:
            return False
        person, thing = self.pick(can).split()
        self.lines.append(Line(f"{person} {self.pick(_TAKES)} the {thing}."))
        self._hold(person, thing)
        return True

    def drop(self) -> bool:
        """Let a person put a thing down; False if nobody holds one."""
        if not self.holder:
            return False
        thing = self.pick(sorted(self.holder))
        person, _ = self.holder.pop(thing)
        self.lines.append(Line(f"{person} {self.pick(_DROPS)} the {thing}."))
        self.events[person].append(len(self.lines))
        place, line = self.place[person]
        self.lies[thing] = place
        self._see(thing, place, (len(self.lines), line))
        return True

    def give(self) -> bool:
        """Let a person give a thing to another one; False if nobody can."""
        can = [
            f"{thing} {other}"
            for thing in sorted(self.holder)
            for other in _PERSONS
            if other != self.holder[thing][0] and len(self.held(other)) < _MOST
        ]
        if not can:
            return False
        thing, other = self.pick(can).split()
        person = self.holder[thing][0]
        self.lines.append(Line(f"{person} gave the {thing} to {other}."))
        self.events[person].append(len(self.lines))
        self.place[other] = self.place[person]
        self._hold(other, thing)
        return True

    def _hold(self, person: str, thing: str) -> None:
        self.holder[thing] = person, len(self.lines)
        self.events[person].append(len(self.lines))
        place, line = self.place[person]
        self._see(thing, place, (len(self.lines), line))

    def _see(self, thing: str, place: str, supports: tuple[int, int]) -> None:
        """Note where a thing is, and the lines that tell its holder and the holder's place."""
        if self.seen[thing] and self.seen[thing][-1][0] == place:
            self.seen[thing].pop()
        self.seen[thing].append((place, supports))

    def ask(self, question: str, answer: str, supports: tuple[int, ...]) -> None:
        """Add a question."""
        self.lines.append(Line(question, answer, supports))

    def count(self) -> int:
        """Return the number of questions."""
        return sum(bool(line.answer) for line in self.lines)


def _told(world: _World, actions: Sequence[Callable[[], bool | None]], every: int) -> bool:
    """Add up to `every` sentences; return True if a question may follow."""
    for _ in range(every):
        action = actions[world.below(len(actions))]
        if action() is False:
            world.move()
    return len(world.lines) < _LONGEST


def _one_fact(world: _World) -> None:
    while world.count() < _QUESTIONS:
        _told(world, [world.move], 2)
        person = world.pick(sorted(world.place))
        place, line = world.place[person]
        world.ask(f"Where is {person}?", place, (line,))


def _yes_no(world: _World) -> None:
    while world.count() < _QUESTIONS:
        _told(world, [world.move], 2)
        person = world.pick(sorted(world.place))
        place, line = world.place[person]
        others = [each for each in _PLACES if each != place]
        answer = world.pick(["yes", "no"])
        asked = place if answer == "yes" else world.pick(others)
        world.ask(f"Is {person} in the {asked}?", answer, (line,))


def _two_facts(world: _World) -> None:
    while world.count() < _QUESTIONS and _told(world, [world.move, world.take, world.drop], 3):
        known = [thing for thing in _THINGS if world.seen[thing]]
        if known:
            thing = world.pick(known)
            place, supports = world.seen[thing][-1]
            world.ask(f"Where is the {thing}?", place, supports)


def _three_facts(world: _World) -> None:
    actions = [world.move, world.move, world.take, world.drop]
    while world.count() < _QUESTIONS and _told(world, actions, 3):
        known = [thing for thing in _THINGS if len(_facts(world, thing)) == 3]
        if known:
            thing = world.pick(known)
            (before, _), (place, _) = world.seen[thing][-2:]
            question = f"Where was the {thing} before the {place}?"
            world.ask(question, before, _facts(world, thing))


def _facts(world: _World, thing: str) -> tuple[int, ...]:
    """Return the lines that tell where a thing is, and where it was before."""
    last_two = reversed(world.seen[thing][-2:])
    return tuple(dict.fromkeys(line for _, supports in last_two for line in supports))


def _two_arguments(world: _World) -> None:
    places = list(_PLACES)
    chain = [places.pop(world.below(len(places))) for _ in range(3)]
    told = [(chain[0], chain[1]), (chain[1], chain[2])]
    if world.below(2):
        told.reverse()
    directions = [world.pick(_DIRECTIONS) for _ in told]
    for (one, other), direction in zip(told, directions, strict=True):
        world.lines.append(Line(f"The {one} is {direction} of the {other}."))
    number = world.below(len(told))
    (one, other), direction = told[number], directions[number]
    if world.below(2):
        world.ask(f"What is {direction} of the {other}?", one, (number + 1,))
    else:
        world.ask(f"What is the {one} {direction} of?", other, (number + 1,))


def _three_arguments(world: _World) -> None:
    gifts: dict[int, tuple[str, str, str]] = {}
    while world.count() < _QUESTIONS and _told(world, [world.take, world.give, world.give], 2):
        for line, (text, answer, _) in enumerate(world.lines, start=1):
            if " gave " in text and not answer:
                person, _, _, thing, _, other = text.rstrip(".").split()
                gifts[line] = person, thing, other
        if not gifts:
            continue
        line = sorted(gifts)[-1 - world.below(min(2, len(gifts)))]
        person, thing, other = gifts[line]
        asked = [
            (f"Who gave the {thing} to {other}?", person, (1, 2)),
            (f"What did {person} give to {other}?", thing, (0, 2)),
            (f"Who did {person} give the {thing} to?", other, (0, 1)),
        ]
        question, answer, given = asked[world.below(len(asked))]
        later = [gift for k, gift in gifts.items() if k > line]
        if not any(all(gift[k] == gifts[line][k] for k in given) for gift in later):
            world.ask(question, answer, (line,))


def _counting(world: _World) -> None:
    while (asked := _holder(world)) is not None:
        count = _NUMBERS[len(world.held(asked))]
        world.ask(f"How many things does {asked} hold?", count, tuple(world.events[asked]))


def _lists(world: _World) -> None:
    while (asked := _holder(world)) is not None:
        things = ",".join(world.held(asked)) or "nothing"
        world.ask(f"What does {asked} hold?", things, tuple(world.events[asked]))


def _holder(world: _World) -> str | None:
    """Add sentences; return a person who has held a thing; None at the end of the story."""
    actions = [world.take, world.take, world.drop, world.give]
    while world.count() < _QUESTIONS and _told(world, actions, 2):
        known = [person for person in _PERSONS if world.events[person]]
        if known:
            return world.pick(known)
    return None


_STORIES: dict[QuestionKind, Callable[[_World], None]] = {
    "one-fact": _one_fact,
    "two-facts": _two_facts,
    "three-facts": _three_facts,
    "two-arguments": _two_arguments,
    "three-arguments": _three_arguments,
    "yes-no": _yes_no,
    "counting": _counting,
    "lists": _lists,
}


def draw_stories(kind: QuestionKind, random: np.random.Generator, count: int) -> list[list[Line]]:
    """Return stories with exactly `count` questions in all.

    Arguments:
        kind: kind of the questions.
        random: source of random numbers.
        count: number of questions, at least 1.

    Example:
        >>> for text, answer, _ in draw_stories("two-arguments", generator(0, "test"), 1)[0]:
        ...     print(f"{text} {answer}".strip())
        The library is west of the kitchen.
        The kitchen is south of the attic.
        What is west of the kitchen? library
    """
    stories: list[list[Line]] = []
    asked = 0
    while asked < count:
        world = _World(random)
        _STORIES[kind](world)
        places = [k for k, line in enumerate(world.lines) if line.answer]
        if places:
            stories.append(world.lines[: places[: count - asked][-1] + 1])
            asked += len(places[: count - asked])
    return stories


def questions(
    *, kind: Literal[QuestionKind, "all"] = "one-fact", questions: int = 1000
) -> StoryQuestions:
    """Questions about stories that our own generator tells, in the form of the bAbI tasks.

    No sentence is of the bAbI tasks themselves, and numbers are not comparable with theirs. There
    are 1,000 validation and 1,000 test questions. Words of three kinds of events (a person goes
    somewhere, takes or puts down a thing, gives it to another) are drawn uniformly.

        one-fact          Where is Anna?                          her last move
        two-facts         Where is the key?                       who has it, or put it down; where
        three-facts       Where was the key before the attic?     and where before
        two-arguments     What is north of the attic?             the order of words decides
        three-arguments   Who gave the key to Ben?
        yes-no            Is Anna in the attic?
        counting          How many things does Anna hold?         none, one, two, three
        lists             What does Anna hold?                    nothing, or key,lamp by alphabet
        all               a training set that has all kinds in equal shares

    Arguments:
        kind: kind of the questions.
        questions: number of training questions, at least 8.

    Raises:
        ConfigurationError: fewer than 8 training questions.
    """
    check_at_least("questions of task 'questions'", questions, 8)
    kinds = get_args(QuestionKind) if kind == "all" else (kind,)
    counts: dict[Split, int] = {"training": questions, "validation": 1000, "test": 1000}
    splits: dict[Split, list[Story]] = {"training": [], "validation": [], "test": []}
    for split, told in splits.items():
        count = counts[split]
        for number, each in enumerate(kinds):
            share = count // len(kinds) + (number < count % len(kinds))
            told += _drawn(each, split, share)
    return StoryQuestions("questions", splits)


@functools.lru_cache(maxsize=3 * len(_STORIES))
def _drawn(kind: QuestionKind, split: Split, count: int) -> tuple[Story, ...]:
    number = get_args(QuestionKind).index(kind)
    return tuple(draw_stories(kind, generator(0, split, number), count))
