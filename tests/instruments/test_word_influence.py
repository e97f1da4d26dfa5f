"""The gradient of each target word at each source word: finite differences, and steps counted."""

import copy

import pytest
import torch

from throughtime import GRU, LSTM
from throughtime.core.errors import ConfigurationError
from throughtime.instruments import word_influence
from throughtime.memory import AdditiveAttention
from throughtime.models import EncoderDecoder, LanguageModel
from throughtime.results.record import read_record
from throughtime.tasks.kinds import Pairs, Tokens, Vector, Vectors
from throughtime.tasks.pairs import collated
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.vocabulary import CharacterVocabulary

KINDS = Pairs(Tokens(6), Tokens(7))
BATCH = collated([([1, 2, 3], [4, 2]), ([4, 5], [1, 3, 0, 2]), ([1], [2])], 5, 6)


def model(*, both: bool = False, reverse: bool = False, attention: bool = False) -> EncoderDecoder:
    torch.manual_seed(0)
    encoder = GRU(3, 4, bidirectional=both)
    if not attention:
        return EncoderDecoder(KINDS, encoder, GRU(3, 4), reverse=reverse)
    memory = encoder.output_size
    return EncoderDecoder(
        KINDS,
        encoder,
        GRU(3 + memory, 4),
        context="attention",
        attention=AdditiveAttention(4, memory, 5),
        reverse=reverse,
    )


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_gradients_are_finite_differences(both: bool, reverse: bool, attention: bool) -> None:
    """Each source position of each pair gets a row of the embedding of its own, to be moved."""
    made = model(both=both, reverse=reverse, attention=attention)
    found = word_influence(made, BATCH)
    exact = copy.deepcopy(made).double()
    for pair, (source, target) in enumerate(
        [([1, 2, 3], [4, 2]), ([4, 5], [1, 3, 0, 2]), ([1], [2])]
    ):
        one = collated([(source, target)], 5, 6)  # no symbol twice: its row is its position's
        expected = torch.zeros(len(target) + 1, len(source), dtype=torch.float64)
        for j, symbol in enumerate(source):
            for unit in range(3):
                sides = []
                for sign in (1, -1):
                    moved = copy.deepcopy(exact)
                    with torch.no_grad():
                        moved.encoder.embedding.weight[symbol, unit] += sign * 1e-5
                        state = moved.encode(one.source, one.source_lengths)
                        sides.append(moved.losses(one.inputs, one.targets, state)[0][:, 0])
                expected[:, j] += ((sides[0] - sides[1]) / 2e-5).square()
        got = found.norms[pair, : len(target) + 1, : len(source)]
        torch.testing.assert_close(got, expected.sqrt(), rtol=1e-6, atol=1e-9)
        assert found.norms[pair, len(target) + 1 :].isnan().all()
        assert found.norms[pair, :, len(source) :].isnan().all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_steps_are_those_of_a_walk_through_the_states(both: bool, reverse: bool) -> None:
    steps = word_influence(model(both=both, reverse=reverse), BATCH).steps
    for pair, (n, m) in enumerate([(3, 3), (2, 5), (1, 2)]):
        orders = [[*range(n)][:: -1 if reverse else 1]]
        orders += [orders[0][::-1]] if both else []
        for i in range(m):
            for j in range(n):
                walks = [len(order[order.index(j) + 1 :]) + i + 1 for order in orders]
                assert steps[pair, i, j] == min(walks)
    known = word_influence(model(both=both, reverse=reverse), BATCH)
    assert torch.equal(known.steps < 0, known.norms.isnan())


def test_steps_between_words_of_one_number_are_the_gap_diagram() -> None:
    batch = collated([([0, 1, 2, 3, 4], [0, 1, 2, 3])], 5, 6)
    assert word_influence(model(), batch).steps[0].diagonal().tolist() == [5] * 5
    backward = word_influence(model(reverse=True), batch).steps[0]
    assert backward.diagonal().tolist() == [1, 3, 5, 7, 9]


def test_reversal_of_encoder_and_source_gives_the_mirrored_matrix() -> None:
    forward, backward = model(), model(reverse=True)
    backward.load_state_dict(forward.state_dict())
    batch = collated([([1, 2, 3, 4], [0, 3])], 5, 6)
    mirrored = batch._replace(source=batch.source.flip(0))
    one, other = word_influence(forward, batch), word_influence(backward, mirrored)
    torch.testing.assert_close(one.norms, other.norms.flip(2), rtol=1e-12, atol=0)
    assert torch.equal(one.steps, other.steps.flip(2))


@pytest.mark.parametrize("embedding", [None, 6])
def test_a_text_has_the_gradient_of_each_earlier_symbol(embedding: int | None) -> None:
    torch.manual_seed(0)
    made = LanguageModel(LSTM(6 if embedding is None else 3, 5), embedding)
    batch = SequenceBatch(torch.tensor([[0], [3], [2], [5]]), torch.tensor([[3], [2], [5], [-1]]))
    found = word_influence(made, batch)
    assert found.steps[0].tolist() == [[0, -1, -1, -1], [1, 0, -1, -1], [2, 1, 0, -1], [-1] * 4]
    exact = copy.deepcopy(made).double()
    x = exact.embedded(batch.inputs).detach()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch.nn.functional.cross_entropy(
            exact.readout(exact.recurrent(x)[0])[:, 0],
            batch.targets[:, 0],
            reduction="none",
            ignore_index=-1,
        ),
        x,
    )
    expected = jacobian[:, :, 0].norm(dim=-1)
    known = found.steps[0] >= 0
    torch.testing.assert_close(found.norms[0][known], expected[known], rtol=1e-10, atol=1e-14)


def test_the_mean_by_distance_is_that_of_all_pairs() -> None:
    found = word_influence(model(), BATCH)
    distances, means = found.by_steps()
    assert distances.tolist() == sorted({n for n in found.steps.flatten().tolist() if n >= 0})
    for distance, mean in zip(distances.tolist(), means.tolist(), strict=True):
        values = found.norms[found.steps == distance].tolist()
        assert mean == pytest.approx(sum(values) / len(values), rel=1e-12)


def test_a_source_of_vectors_and_names_of_words(tmp_path) -> None:
    torch.manual_seed(0)
    made = EncoderDecoder(Pairs(Vectors(2), Tokens(7)), GRU(2, 4), GRU(3, 4), reverse=True)
    source = torch.randn(3, 2).numpy()
    batch = collated([(source, [1, 2]), (source[:2], [3])], 5, 6)
    names = CharacterVocabulary([*"abcdefg"])
    found = word_influence(made, batch, vocabularies={"target": names})
    assert found.source_words == (("1", "2", "3"), ("1", "2"))
    assert found.target_words == (("b", "c", "g"), ("d", "g"))
    assert found.steps[0].diagonal().tolist() == [1, 3, 5]
    assert float(found.norms[0, 0, 0]) > 0
    again = read_record(found.save(tmp_path / "influence.json"))
    torch.testing.assert_close(again.norms, found.norms, equal_nan=True, rtol=0, atol=0)
    assert again.target_words == found.target_words


def test_the_model_stays_as_it_is() -> None:
    made = model().train()
    before = copy.deepcopy(made.state_dict())
    found = word_influence(made, BATCH, pairs=2)
    assert len(found.norms) == len(found.source_words) == 2
    assert made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="input_influence measures"):
        word_influence(torch.nn.GRU(1, 2), BATCH)
    with pytest.raises(ConfigurationError, match="pairs: got 0 of 3"):
        word_influence(model(), BATCH, pairs=0)
    made = EncoderDecoder(Pairs(Vector(2), Tokens(7)), None, GRU(3, 4))
    batch = collated([(torch.randn(2).numpy(), [1, 2])], 5, 6)
    with pytest.raises(ConfigurationError, match="got a source of one vector"):
        word_influence(made, batch)
