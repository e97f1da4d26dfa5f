"""Memory networks against references that are written as loops in float64."""

import itertools
import math

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import MemN2N, MemoryNetwork, build_model
from throughtime.models.memn2n import _places
from throughtime.models.story_reader import as_sequences
from throughtime.tasks import TASKS
from throughtime.tasks.kinds import Classes, Stories, Vectors
from throughtime.testing import StoryConformance

KIND = Stories(alphabet=12, end=1, words=4, facts=2)


class Conformance(StoryConformance):
    options: str

    def make_model(self):
        return build_model(self.options, KIND, Classes(12))


class TestAdjacent(Conformance):
    options = "memn2n:hidden=5,hops=3"


class TestLayerWise(Conformance):
    options = "memn2n:hidden=5,hops=2,tying=layer-wise,encoding=official"


class TestBagOfWordsAndShortMemory(Conformance):
    options = "memn2n:hidden=5,hops=1,encoding=bag,memory=2"


class TestStrongSupervision(Conformance):
    options = "memory-network:hidden=5"


class TestReaderOfAnyCell(Conformance):
    options = "gru:hidden=5"


def stories():
    """Return questions about 5, 1 and 3 sentences."""
    return TestAdjacent()._stories()


def rows(batch, b):
    """Return the words of each sentence, and of the question, as lists."""
    lengths = [n for n in batch.lengths[:, b].tolist() if n]
    told = [batch.sentences[i, :n, b].tolist() for i, n in enumerate(lengths)]
    return told, batch.question[: batch.question_lengths[b], b].tolist()


def naive_weight(encoding, j, k, count, width, most):
    if encoding == "paper":
        return (1 - j / count) - (k / width) * (1 - 2 * j / count)
    if encoding == "official":
        longest = most + 1  # the time is a word
        return 1 + 4 * (k - (width + 1) / 2) * (j - (longest + 1) / 2) / width / longest
    return 1.0


def naive_sentence(table, words, encoding, most):
    width = table.shape[1]
    return [
        sum(
            naive_weight(encoding, j, k + 1, len(words), width, most) * float(table[w, k])
            for j, w in enumerate(words, 1)
        )
        for k in range(width)
    ]


def naive_memn2n(model, told, question, times=None, linear=False):
    """Return logits and the weights of each hop, by the equations of the paper."""
    encoding, most, adjacent = model.encoding, model.kind.words, model.tying == "adjacent"
    words, clock = list(model.words), list(model.times)
    first = words[0] if adjacent else model.question
    u = naive_sentence(first, question, encoding, most)
    told = told[-model.memory :]
    times = list(range(len(told) - 1, -1, -1)) if times is None else times
    shown = []
    for hop in range(model.hops):
        a, c = (hop, hop + 1) if adjacent else (0, 1)

        def memory(index):
            read = [naive_sentence(words[index], sentence, encoding, most) for sentence in told]
            return [
                [x + float(clock[index][t, k]) for k, x in enumerate(row)]
                for row, t in zip(read, times, strict=True)
            ]

        scores = [sum(x * y for x, y in zip(row, u, strict=True)) for row in memory(a)]
        total = sum(map(math.exp, scores))
        p = scores if linear else [math.exp(score) / total for score in scores]
        o = [sum(w * row[k] for w, row in zip(p, memory(c), strict=True)) for k in range(len(u))]
        if not adjacent:
            u = [
                sum(float(model.between[i, k]) * u[k] for k in range(len(u))) for i in range(len(u))
            ]
        u = [x + y for x, y in zip(u, o, strict=True)]
        shown.append(p)
    answer = words[-1] if adjacent else model.answer
    return [sum(float(answer[w, k]) * u[k] for k in range(len(u))) for w in range(12)], shown


@pytest.mark.parametrize("tying", ["adjacent", "layer-wise"])
@pytest.mark.parametrize("encoding", ["paper", "official", "bag"])
def test_memn2n_is_its_equations(tying, encoding):
    torch.manual_seed(0)
    model = MemN2N(KIND, hidden=4, tying=tying, encoding=encoding, linear_start=7, memory=3)
    model = model.double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(5)  # so that attention is far from uniform
    batch = stories()
    for step, linear in ((None, False), (6, True), (7, False)):
        logits = model(batch, step)
        for b in range(batch.size):
            expected, weights = naive_memn2n(model, *rows(batch, b), linear=linear)
            assert logits[b].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)
            if not linear:
                shown = model.attention(batch)[:, :, b]
                count = int((batch.lengths[:, b] > 0).sum())
                read = shown[:, max(0, count - 3) : count].tolist()
                assert read == [pytest.approx(row, rel=1e-12) for row in weights]
                assert not bool(shown[:, : max(0, count - 3)].any())


def test_adjacent_tying_has_one_more_table_than_hops():
    size = 12 * 4 + 50 * 4
    for hops in (1, 3):
        model = MemN2N(KIND, hidden=4, hops=hops)
        assert sum(p.numel() for p in model.parameters()) == (hops + 1) * size
        model = MemN2N(KIND, hidden=4, hops=hops, tying="layer-wise")
        assert sum(p.numel() for p in model.parameters()) == 2 * size + 2 * 12 * 4 + 4 * 4


def test_the_official_encoding_is_about_twice_the_papers():
    """Deviations from the middle differ by a factor of two, up to half a step of word and unit."""
    words, width = 40, 400

    def weights(encoding, most):
        found = _places(torch.tensor(words), words, width, encoding, most, torch.float64)
        return found[0][:, None] + found[1][:, None] * found[2]

    paper, official = weights("paper", words), weights("official", words - 1)
    assert float((2 * (paper - 0.5) - (official - 1)).abs().max()) < 2 / words + 2 / width
    assert float(official.mean()) == pytest.approx(1, abs=1e-12)


def test_noise_draws_rising_times_with_gaps_in_training_alone():
    torch.manual_seed(1)
    model = MemN2N(KIND, noise=0.5, memory=6)
    count = torch.tensor([[4], [1], [6]]).repeat(400, 1)
    times = model._spread(count)
    assert times.shape == (1200, 6)
    seen = set()
    for (n,), row in zip(count.tolist(), times.tolist(), strict=True):
        read = row[:n]
        assert read[0] >= 0
        below = [t for t in read if t < 5]  # the last time is that of all further ones
        assert all(a < b for a, b in itertools.pairwise(below))
        assert read == sorted(read)
        if n == 4:
            seen.add(tuple(read))
    # 4 of 4, of 5 and of 6 places, of which the last is that of a time that the table lacks
    assert seen == {c for n in (4, 5, 6) for c in itertools.combinations(range(n), 4)}
    plain = MemN2N(KIND, noise=0.0)._memory(stories()).times
    assert plain[0].tolist() == [4, 3, 2, 1, 0]
    draws = {str(model._memory(stories()).times.tolist()) for _ in range(20)}
    assert len(draws) > 1
    quiet = model.eval()
    assert torch.equal(*(quiet(stories()) for _ in range(2)))


def naive_chosen(model, told, question, count):
    """Return the sentences that the network of 2014 chooses: the loop of the paper."""
    v, u, clock = 12, model.output.detach(), model.times.detach()
    bag = [told[i] for i in range(len(told))] + [[model.kind.end]]

    def embed(table, words, part):
        return sum((table[part * v + w] for w in words), torch.zeros(u.shape[1]).double())

    def s(x, young, i, j):
        """s_t(x, y_i, y_j); `young` is the sentence chosen last, None for the question."""
        empty = len(told)
        features = torch.zeros(u.shape[1]).double()
        for column, older, newer in ((0, young, i), (1, young, j), (2, i, j)):
            known = older is not None and empty not in (older, newer)
            if known and older < newer:
                features = features + clock[column]
        return float(x @ (embed(u, bag[i], 2) - embed(u, bag[j], 2) + features))

    chosen, x = [], embed(u, question, 0)
    for _ in range(count):
        young = chosen[-1] if chosen else None
        best = 0
        for i in range(1, len(bag)):
            if s(x, young, best, i) < 0:
                best = i
        chosen.append(best)
        x = x + embed(u, bag[best], 1)
    r, table = embed(model.response.detach(), question, 0), model.response.detach()
    for i in chosen:
        r = r + embed(table, bag[i], 1)
    return chosen, [float(r @ table[2 * v + w]) for w in range(v)], s


def test_the_network_of_2014_chooses_as_its_loop_does():
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        model = MemoryNetwork(KIND, hidden=4, hops=3).double().eval()
        batch = stories()
        chosen, answers = model._chosen(batch), model(batch)
        for b in range(batch.size):
            told, question = rows(batch, b)
            expected, scores, _ = naive_chosen(model, told, question, 3)
            empty = len(batch.lengths)
            found = [len(told) if i == empty else i for i in chosen[:, b].tolist()]
            assert found == expected
            assert answers[b].tolist() == pytest.approx(scores, rel=1e-12, abs=1e-14)
            seen |= {*expected}
    assert len(seen) > 3


def test_the_loss_of_2014_is_the_sum_of_its_margins():
    torch.manual_seed(3)
    model = MemoryNetwork(KIND, hidden=4, margin=0.3).double().requires_grad_(False)
    batch = stories()
    losses = model.training_losses(batch)
    for b in range(batch.size):
        told, question = rows(batch, b)
        *_, s = naive_chosen(model, told, question, 1)
        true = [len(told) if o < 0 else o for o in batch.supports[:, b].tolist()]
        bag = [*told, [KIND.end]]
        x = sum(model.output[w] for w in question)
        total, young = 0.0, None
        for o in true:
            for i in range(len(bag)):
                if i != o:
                    total += max(0.0, 0.3 - s(x, young, o, i)) + max(0.0, 0.3 + s(x, young, i, o))
            x = x + sum(model.output[12 + w] for w in bag[o])
            young = o
        r = sum(model.response[w] for w in question)
        r = r + sum(model.response[12 + w] for o in true for w in bag[o])
        scores = (model.response[24:] @ r).tolist()
        right = scores.pop(int(batch.targets[b]))
        total += sum(max(0.0, 0.3 - right + other) for other in scores)
        assert float(losses[b]) == pytest.approx(total, rel=1e-12)


def test_a_story_is_read_word_by_word():
    batch = stories()
    words, lengths = as_sequences(batch, KIND.end)
    for b in range(batch.size):
        told, question = rows(batch, b)
        expected = [w for sentence in told for w in (*sentence, KIND.end)] + question
        assert words[: lengths[b], b].tolist() == expected
    assert int(lengths.max()) == len(words)


def learned(spec, kind, steps, rate):
    task = TASKS.build(f"questions:kind={kind},questions=100")
    torch.manual_seed(0)
    model = build_model(spec, task.inputs, task.answers)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step, batch in zip(range(steps), task.batches("training", 32), strict=False):
        optimizer.zero_grad()
        task.score(model, batch, step=step).loss.backward()
        optimizer.step()
    return 1 - task.examine(model.eval(), "test")["training_error"]


def test_supporting_sentences_are_learned():
    assert learned("memory-network:hidden=20", "one-fact", 40, 0.02) > 0.9


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("memn2n:hops=0", "hops of a memory network: got 0, expected at least 1"),
        ("memn2n:hidden=0", "hidden of a memory network: got 0, expected at least 1"),
        ("memn2n:memory=0", "memory of a memory network: got 0, expected at least 1"),
        ("memn2n:linear-start=-1", "linear_start of a memory network: got -1, expected at least 0"),
        ("memn2n:noise=-0.1", "noise of a memory network: got -0.1, expected a number of at least"),
        ("memn2n:noise=nan", "noise of a memory network: got nan"),
        ("memn2n:tying=all", "tying of model 'memn2n': got 'all', expected one of adjacent, layer"),
        ("memn2n:encoding=pe", "encoding of model 'memn2n': got 'pe', expected one of paper"),
        ("memory-network:hidden=0", "hidden of model 'memory-network': got 0"),
        ("memory-network:hops=-1", "hops of model 'memory-network': got -1, expected at least 0"),
        ("memory-network:margin=0", "margin of model 'memory-network': got 0.0"),
    ],
)
def test_wrong_options(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        build_model(spec, KIND, Classes(12))


def test_wrong_tasks():
    for name in ("memn2n", "memory-network"):
        with pytest.raises(ConfigurationError, match=r"Vectors\(width=2\).*expected stories, and"):
            build_model(name, Vectors(2), Classes(3))
    unknown = Stories(alphabet=12, end=1, words=4, facts=0)
    with pytest.raises(ConfigurationError, match="got stories without supporting sentences"):
        build_model("memory-network", unknown, Classes(12))


class Wrong(torch.nn.Module):
    """A model that breaks one rule."""

    def __init__(self, rule):
        super().__init__()
        self.inner, self.rule = MemN2N(KIND, hidden=4), rule

    def forward(self, batch, step=None):
        if self.rule == "padding":
            batch = batch._replace(
                lengths=torch.where(batch.lengths > 0, len(batch.sentences[0]), 0)
            )
        if self.rule == "question":
            batch = batch._replace(question=torch.zeros_like(batch.question))
        if self.rule == "sentence":
            batch = batch._replace(sentences=batch.sentences * 0)
        logits = self.inner(batch, step)
        return logits - logits.mean(0) if self.rule == "neighbours" else logits

    def attention(self, batch):
        weights = self.inner.attention(batch)
        return weights / 2 if self.rule == "weights" else weights


@pytest.mark.parametrize(
    ("rule", "check", "message"),
    [
        ("padding", "test_padding_is_never_read", "padding is read"),
        ("question", "test_the_question_is_read", "words that are not read: .0, 1, 2."),
        ("sentence", "test_the_last_sentence_is_read", "words that are not read: .0, 1, 2, 3."),
        ("weights", "test_weights_of_sentences_sum_to_one", "weights sum to neither 1 nor 0"),
        (
            "neighbours",
            "test_questions_in_a_batch_give_what_each_gives_alone",
            "close|equal|differ",
        ),
    ],
)
def test_a_model_that_breaks_a_rule_is_found(rule, check, message):
    class Suite(StoryConformance):
        def make_model(self):
            return Wrong(rule)

    with pytest.raises(AssertionError, match=message):
        getattr(Suite(), check)()
