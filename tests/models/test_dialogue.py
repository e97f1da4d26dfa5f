"""Models of dialogues: against loops in float64, and what each reply depends on."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime import GRU, LSTM
from throughtime.core.density import LatentDensity
from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.latent import Draws
from throughtime.models import Beam, Sampling, beam_search, generate
from throughtime.models.dialogue import DialogueModel, ReplyModel
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.history import AllSymbols, Hierarchy, LastUtterance
from throughtime.models.vhred import VHRED
from throughtime.tasks import CountingDialogue
from throughtime.tasks.dialogues import DialogueBatch, collated, reply_rows
from throughtime.tasks.kinds import Dialogues, Pairs, Tokens, Vector
from throughtime.testing import LatentConformance, NextSymbolConformance

KIND = Dialogues(7, begin=1)
END = 2
DIALOGUES = [
    [[3, 4], [5], [6, 3, 4]],
    [[4], [6, 6, 5, 3]],
    [[5, 3], [4], [5, 6], [3]],
]


def _decoder(width: int, context: Any = "every-step", **options: Any) -> EncoderDecoder:
    kinds = Pairs(Vector(width), Tokens(7))
    return EncoderDecoder(
        kinds, None, GRU(9 if context == "every-step" else 4, 5), context=context, **options
    )


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    if name == "last":
        model = ReplyModel(KIND, LastUtterance(GRU(4, 6)), _decoder(6, **options))
    elif name == "all":
        model = ReplyModel(KIND, AllSymbols(GRU(4, 6, 2)), _decoder(6, **options))
    elif name == "hred":
        history = Hierarchy(LSTM(4, 3, bidirectional=True), GRU(6, 6))
        model = ReplyModel(KIND, history, _decoder(6, **options))
    else:
        history = Hierarchy(GRU(4, 6), LSTM(6, 6))
        model = VHRED(KIND, history, _decoder(9, **options), latent=3)
    return model.double().eval()


NAMES = ("last", "all", "hred", "vhred")


def _batch(dialogues: Any = DIALOGUES) -> DialogueBatch:
    return collated(dialogues, END)


class TestReplies(NextSymbolConformance):
    def make_model(self) -> nn.Module:
        return make("hred")

    def start(self, model: Any) -> Any:
        batch = _batch()
        return model.encode(batch.symbols, batch.lengths)


class TestRepliesWithLatentVariables(NextSymbolConformance):
    def make_model(self) -> nn.Module:
        return make("vhred", context="initial")

    def start(self, model: Any) -> Any:
        batch, random = _batch(), torch.Generator().manual_seed(0)
        return model.encode(batch.symbols, batch.lengths, random=random)


class _AsItems(nn.Module):
    """A VHRED of dialogues that are (turn, batch, time) numbers; their lengths are their turns."""

    def __init__(self, model: VHRED):
        super().__init__()
        self.model = model

    def bound(self, x: Tensor, lengths: Any = None, **options: Any) -> Any:
        return self.model.bound(*self._text(x, lengths), **options)

    def importance_weighted(self, x: Tensor, lengths: Any = None, **options: Any) -> Any:
        return self.model.importance_weighted(*self._text(x, lengths), **options)

    def latents(self, x: Tensor, lengths: Any = None, **options: Any) -> Any:
        return self.model.latents(*self._text(x, lengths), **options)

    def _text(self, x: Tensor, turns: Any) -> tuple[Tensor, Tensor]:
        symbols = x.long().clamp(max=6).transpose(1, 2)
        ends = (symbols == END).int().argmax(1) + 1
        there = torch.arange(len(x))[:, None] < (len(x) if turns is None else turns)
        return symbols, ends * there


class TestLatentVariables(LatentConformance):
    def make_model(self) -> nn.Module:
        return _AsItems(make("vhred"))

    def make_items(self) -> tuple[Tensor, Tensor]:
        batch = _batch()
        return batch.symbols.transpose(1, 2), (batch.lengths > 0).sum(0)


def _gru(layer: GRU, xs: list[Tensor], h: Tensor) -> list[Tensor]:
    """A GRU as a loop, from its equations."""
    w, u, a, b = (
        getattr(layer, name)
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    hs = []
    for x in xs:
        (r, z, n), (hr, hz, hn) = (w @ x + a).chunk(3), (u @ h + b).chunk(3)
        z = (z + hz).sigmoid()
        h = (1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * h
        hs.append(h)
    return hs


def test_hred_is_a_loop_over_turns_and_words() -> None:
    torch.manual_seed(1)
    history = Hierarchy(GRU(4, 6), GRU(6, 5))
    model = ReplyModel(KIND, history, _decoder(5)).double()
    embedding, decoder = model.decoder.embedding.weight, model.decoder
    batch = _batch()
    found = model.log_prob(batch.symbols, batch.lengths)
    for row, dialogue in enumerate(DIALOGUES):
        c, total = torch.zeros(5).double(), torch.tensor(0.0).double()
        for turn, words in enumerate(dialogue):
            text = [*words, END]
            if turn:
                start = (decoder.encoder.linear.weight @ c + decoder.encoder.linear.bias).tanh()
                read = [KIND.begin, *words]
                xs = [torch.cat([embedding[w], start]) for w in read]
                for h, w, target in zip(_gru(decoder.decoder, xs, start), read, text, strict=True):
                    o = decoder.combine(torch.cat([h, start, embedding[w]])).tanh()
                    total = total + decoder.readout(o).log_softmax(-1)[target]
            u = _gru(history.utterance, [embedding[w] for w in text], torch.zeros(6).double())[-1]
            (c,) = _gru(history.context, [u], c)
        torch.testing.assert_close(found[row], total)


def test_the_whole_dialogue_is_read_as_one_text() -> None:
    model = make("all")
    batch = _batch()
    found = model.contexts(batch.symbols, batch.lengths)
    for row, dialogue in enumerate(DIALOGUES):
        for turn in range(len(dialogue)):
            text = [s for words in dialogue[: turn + 1] for s in (*words, END)]
            outputs, _ = model.history.layer(model.embed(torch.tensor(text)[:, None]))
            torch.testing.assert_close(found[turn, row], outputs[-1, 0])
        assert not found[len(dialogue) :, row].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_context_depends_on_the_utterances_up_to_its_turn_alone(name: str) -> None:
    model = make(name)
    batch = _batch([[[3, 4], [5, 6], [6, 3], [4, 5]]])
    vectors = torch.randn(4, 3, 4, dtype=torch.float64, requires_grad=True)

    def embed(symbols: Tensor) -> Tensor:
        # the vectors in the form in which the history reads the symbols
        flat = vectors.flatten(0, 1)[:, None]
        return flat if symbols.shape[1] == 1 else vectors.transpose(0, 1)

    contexts = model.history(batch.symbols, batch.lengths, embed)
    for turn in range(4):
        (gradient,) = torch.autograd.grad(contexts[turn].sum(), vectors, retain_graph=True)
        read = gradient.abs().sum((1, 2)) > 0
        first = turn if name == "last" else 0
        assert read.tolist() == [first <= t <= turn for t in range(4)]
        # each symbol of an utterance that is read has an influence
        assert bool((gradient[first : turn + 1].abs().sum(-1) > 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_reply_does_not_change_when_later_utterances_do(name: str) -> None:
    model = make(name)
    batch = _batch()
    seeds = torch.arange(3)
    rows, start, *_ = model.replies(batch.symbols, batch.lengths, seeds)
    found = model.reply_log_prob(rows, start)
    other = [[*d[:2], *[[w % 4 + 3 for w in u] for u in d[2:]]] for d in DIALOGUES]
    changed = _batch(other)
    changed_rows, start, *_ = model.replies(changed.symbols, changed.lengths, seeds)
    again = model.reply_log_prob(changed_rows, start)
    turns = rows.turn
    torch.testing.assert_close(found[turns == 1], again[turns == 1], rtol=0, atol=0)
    assert (found[turns > 1] != again[turns > 1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_neither_neighbours_nor_padding_change_a_dialogue(name: str) -> None:
    model = make(name)
    batch = _batch()
    seeds = torch.arange(3)
    beyond = torch.arange(batch.symbols.shape[1])[None, :, None] >= batch.lengths[:, None]
    filled = torch.where(beyond, 6, batch.symbols)
    expected = _log_probs(model, batch.symbols, batch.lengths, seeds)
    torch.testing.assert_close(
        _log_probs(model, filled, batch.lengths, seeds), expected, rtol=0, atol=0
    )
    for row, dialogue in enumerate(DIALOGUES):
        own = _batch([dialogue])
        alone = _log_probs(model, own.symbols, own.lengths, seeds[row : row + 1])
        torch.testing.assert_close(alone[0], expected[row])
        together, one = (
            model.contexts(b.symbols, b.lengths)[: len(dialogue), k]
            for b, k in ((batch, row), (own, 0))
        )
        torch.testing.assert_close(together, one)


def _log_probs(model: DialogueModel, symbols: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
    if isinstance(model, VHRED):
        return model.importance_weighted(symbols, lengths, samples=3, random=seeds)
    assert isinstance(model, ReplyModel)
    return model.log_prob(symbols, lengths)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_decoded_is_scored_again_with_the_same_probability(name: str) -> None:
    model = make(name)
    batch = _batch()
    begin = torch.full((1, 3), KIND.begin)
    random = torch.Generator().manual_seed(3)
    start = model.encode(batch.symbols, batch.lengths, random=random)
    found = beam_search(model, begin, 6, Beam(4), state=start, end=END)
    greedy = generate(model, begin, 6, Sampling(temperature=0), state=start, end=END)
    for row, hypotheses in enumerate(found):
        for one in hypotheses:
            inputs = torch.tensor([KIND.begin, *one.symbols[:-1]])[:, None]
            own = model.select(start, torch.tensor([row]))
            nll, _ = model.losses(inputs, torch.tensor(one.symbols)[:, None], own)
            assert abs(float(nll.detach().sum()) + one.log_prob) < 1e-10
    if name != "vhred":  # the whole dialogue with its reply
        for row, dialogue in enumerate(DIALOGUES):
            words = greedy[:, row].tolist()
            words = words[: words.index(END)] if END in words else words
            both = [_batch([d]) for d in (dialogue, [*dialogue, words])]
            before, after = (model.log_prob(b.symbols, b.lengths) for b in both)
            inputs = torch.tensor([KIND.begin, *words])[:, None]
            own = model.select(start, torch.tensor([row]))
            nll, _ = model.losses(inputs, torch.tensor([*words, END])[:, None], own)
            torch.testing.assert_close(after - before, -nll.sum()[None])


def test_importance_weights_of_one_draw_are_the_bound_of_that_draw() -> None:
    model, batch = make("vhred"), _batch()
    assert isinstance(model, LatentDensity)
    seeded = [torch.Generator().manual_seed(5) for _ in range(2)]
    one = model.importance_weighted(batch.symbols, batch.lengths, samples=1, random=seeded[0])
    bound = model.bound(batch.symbols, batch.lengths, random=seeded[1])
    draws = Draws(torch.Generator().manual_seed(5), 3, torch.zeros(1).double())
    noise = draws.normal(4, 3)  # of each dialogue, then of each turn
    posterior, prior = model.latents(batch.symbols, batch.lengths)
    rows = reply_rows(batch.symbols, batch.lengths, 1)
    z = posterior.at(noise[rows.dialogue, rows.turn])
    ratio = posterior.log_prob(z) - prior.log_prob(z)  # a draw of the KL divergence
    sums = torch.zeros(3).double().index_add(0, rows.dialogue, ratio)
    torch.testing.assert_close(one, bound.reconstruction - sums)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(*posterior), torch.distributions.Normal(*prior)
    ).sum(-1)
    kl = torch.zeros(3).double().index_add(0, rows.dialogue, expected)
    torch.testing.assert_close(bound.kl, kl)


@torch.no_grad()
def test_many_draws_estimate_the_likelihood() -> None:
    model, batch = make("vhred"), _batch()
    for each in (*model.posterior.parameters(), *model.prior.parameters()):
        each.mul_(0.5)  # weights of little variance
    model.decoder.encoder.linear.weight.mul_(3)
    random = torch.Generator().manual_seed(0)
    text = batch.symbols, batch.lengths

    many = torch.stack(
        [model.importance_weighted(*text, samples=50, random=random) for _ in range(6)]
    )
    one = model.importance_weighted(*text, samples=1, random=random)
    # p(reply) is the mean of p(reply | z) over draws from the prior
    rows, times = reply_rows(*text, 1), 10_000
    prior = model.latents(*text).prior
    contexts = model.contexts(*text)[rows.turn - 1, rows.dialogue]
    z = prior.at(torch.randn(times, len(contexts), 3, generator=random).double())
    state = model.decoder.encode(torch.cat([contexts.expand(times, -1, -1), z], -1).flatten(0, 1))
    nll, _ = model.losses(rows.inputs.repeat(1, times), rows.targets.repeat(1, times), state)
    weights = (-nll.sum(0)).view(times, -1)
    exact = weights.logsumexp(0) - math.log(times)
    error = (weights.exp().std(0) / weights.exp().mean(0) / math.sqrt(times)).max()
    assert error < 0.08
    exact = torch.zeros(3).double().index_add(0, rows.dialogue, exact)
    assert ((many.mean(0) - exact).abs() < 0.15).all()
    assert ((one - exact).abs() > 0.15).any()


def test_the_kl_weight_and_the_noise_are_the_tasks() -> None:
    task = CountingDialogue(turns=4, annealing=10)
    torch.manual_seed(0)
    kinds = Pairs(Vector(8), Tokens(task.inputs.alphabet))
    decoder = EncoderDecoder(kinds, None, GRU(9, 5), context="every-step")
    model = VHRED(task.inputs, Hierarchy(GRU(4, 6), GRU(6, 6)), decoder, 2).double()
    batch = next(task.batches("validation", 5))
    losses = {}
    for step in (0, 4, 9, 100):
        torch.manual_seed(3)
        losses[step] = task.score(model, batch, step=step)
    kl = losses[0].parts["kl"].total / losses[0].parts["loss"].count
    for step, weight in ((4, 0.5), (9, 1.0), (100, 1.0)):
        torch.testing.assert_close(losses[step].loss, losses[0].loss + (weight - 0.1) * kl)
    replies = 15
    task.free_nats = float(losses[9].parts["kl"].total) / replies + 1
    torch.manual_seed(3)
    free = task.score(model, batch, step=9).loss
    torch.testing.assert_close(free, losses[9].loss + replies / losses[9].parts["loss"].count)
    whole = task.score(model, batch)
    assert task.score(model, batch).loss == whole.loss, "draws of an evaluation differ"
    halves = [
        task.score(model, collated([d], task.end)).parts["loss"].total
        for d in [
            [batch.symbols[t, : batch.lengths[t, k] - 1, k].tolist() for t in range(4)]
            for k in range(5)
        ]
    ]
    torch.testing.assert_close(whole.parts["loss"].total, sum(halves))


def test_the_bag_of_words_is_a_term_of_training_alone() -> None:
    torch.manual_seed(0)
    model = VHRED(KIND, Hierarchy(GRU(4, 6), GRU(6, 5)), _decoder(8), 3, bag_of_words=0.5)
    model, batch, seeds = model.double(), _batch(), torch.arange(3)
    assert not model.eval().replies(batch.symbols, batch.lengths, seeds).auxiliary.any()
    found = model.train().replies(batch.symbols, batch.lengths, seeds).auxiliary
    noise = Draws(seeds, 3, torch.zeros(1).double()).normal(4, 3)
    posterior, _ = model.latents(batch.symbols, batch.lengths)
    rows = reply_rows(batch.symbols, batch.lengths, 1)
    contexts = model.contexts(batch.symbols, batch.lengths)
    assert model.bag is not None
    for k, (turn, row) in enumerate(zip(rows.turn.tolist(), rows.dialogue.tolist(), strict=True)):
        z = posterior.mean[k] + posterior.deviation[k] * noise[row, turn]
        log_b = model.bag(torch.cat([contexts[turn - 1, row], z])).log_softmax(-1)
        expected = -0.5 * sum(log_b[w] for w in (*DIALOGUES[row][turn], END))
        torch.testing.assert_close(found[k], expected)
    task = CountingDialogue(turns=3)
    kinds = Pairs(Vector(7), Tokens(task.inputs.alphabet))
    decoder = EncoderDecoder(kinds, None, GRU(4, 5))
    model = VHRED(task.inputs, Hierarchy(GRU(4, 6), GRU(6, 5)), decoder, 2, bag_of_words=1.0)
    batch = next(task.batches("validation", 5))
    torch.manual_seed(3)
    score = task.score(model, batch, step=0)
    torch.manual_seed(3)
    auxiliary = model.replies(batch.symbols, batch.lengths).auxiliary.sum()
    model.bag = None
    torch.manual_seed(3)
    without = task.score(model, batch, step=0)
    count = without.parts["loss"].count
    torch.testing.assert_close(score.loss, without.loss + auxiliary / count)


class _Watched(nn.Module):
    """A layer that keeps what it reads."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.read = layer, []

    def forward(self, x: Tensor, *rest: Any, **options: Any) -> Any:
        self.read.append(x.detach())
        return self.layer(x, *rest, **options)


@pytest.mark.parametrize("weights", [False, True])
def test_word_dropout_has_a_coin_a_symbol_and_spares_the_first_one(weights: bool) -> None:
    decoder = _decoder(6, word_dropout=0.5, begin=1).train()
    decoder.decoder = watched = _Watched(decoder.decoder)
    symbols = torch.randint(3, 7, (40, 20))
    symbols[0] = 1
    symbols[17, 3] = 1
    given = nn.functional.one_hot(symbols, 7).float() if weights else symbols
    state = decoder.encode(torch.randn(20, 6))
    torch.manual_seed(0)
    losses, _ = decoder.losses(given, symbols, state)
    kept = watched.read[0][..., :4].abs().sum(-1) > 0
    assert kept[0].all()
    assert kept[17, 3]
    share = kept[1:].float().mean()
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(39 * 20)
    assert len({tuple(row) for row in kept.T.tolist()}) == 20, "two sequences share their coins"
    assert len({tuple(row) for row in kept[1:].tolist()}) == 39, "two steps share their coins"
    assert (losses > 0).all()  # each target counts
    decoder.eval()
    decoder.losses(given, symbols, state)
    assert (watched.read[1][..., :4].abs().sum(-1) > 0).all()


def test_parts_that_do_not_fit_are_refused(unchecked: None) -> None:
    with pytest.raises(ConfigurationError, match="decoder: got Vector"):
        ReplyModel(KIND, LastUtterance(GRU(4, 6)), _decoder(7))
    with pytest.raises(ConfigurationError, match="latent of model 'vhred': got 0"):
        VHRED(KIND, Hierarchy(GRU(4, 6), GRU(6, 6)), _decoder(6), latent=0)
    with pytest.raises(ConfigurationError, match="bag_of_words of model 'vhred': got -1"):
        VHRED(KIND, Hierarchy(GRU(4, 6), GRU(6, 6)), _decoder(9), 3, bag_of_words=-1)
    with pytest.raises(ConfigurationError, match="context: got 5"):
        Hierarchy(GRU(4, 6), GRU(5, 6))
    with pytest.raises(ConfigurationError, match="reads the dialogue once"):
        AllSymbols(GRU(4, 6, bidirectional=True))
    with pytest.raises(ConfigurationError, match=r"word_dropout: got 0\.5 and begin=None"):
        _decoder(6, word_dropout=0.5)
    model = make("vhred")
    batch = _batch()
    with pytest.raises(ConfigurationError, match="samples: got 0"):
        model.importance_weighted(batch.symbols, batch.lengths, samples=0)
    with pytest.raises(ShapeError, match="or with a gap"):
        model.encode(batch.symbols, batch.lengths * torch.tensor([1, 0, 1, 1])[:, None])
    with pytest.raises(ShapeError, match=r"expected \(turn, time, batch\)"):
        model.encode(batch.symbols, batch.lengths[:2])


def test_a_copy_of_a_model_is_another_model() -> None:
    model = make("vhred")
    names = {name for name, _ in model.named_parameters()}
    assert len(names) == len(model.state_dict()), "a parameter has two names"
    other = copy.deepcopy(model)
    batch = _batch()
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    one, two = (
        m.bound(batch.symbols, batch.lengths, random=g)
        for m, g in zip((model, other), seeds, strict=True)
    )
    assert torch.equal(one.reconstruction, two.reconstruction)
