import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from throughtime import errors
from throughtime.core.sequence import (
    check_lengths,
    packing,
    reverse_resets,
    reverse_time,
    steps_since_reset,
)

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@given(lengths=LENGTHS)
def test_packing_keeps_every_valid_step_and_nothing_else(lengths):
    time, batch = max(lengths), len(lengths)
    grid = torch.arange(time * batch).reshape(time, batch).float()
    plan = packing(torch.tensor(lengths), grid.device)
    back = plan.unpack(plan.pack(grid), time)
    for b, length in enumerate(lengths):
        assert torch.equal(back[:length, b], grid[:length, b])
        assert not back[length:, b].any()
    assert plan.counts == [sum(n > t for n in lengths) for t in range(time)]
    reference = torch.nn.utils.rnn.pack_padded_sequence(
        grid[..., None], torch.tensor(lengths), enforce_sorted=False
    )
    assert plan.counts == reference.batch_sizes.tolist()


@given(lengths=LENGTHS, extra=st.integers(0, 2))
def test_reversing_twice_is_nothing_and_once_is_a_loop(lengths, extra):
    time = max(lengths) + extra
    grid = torch.randn(time, len(lengths), 2)
    n = torch.tensor(lengths)
    assert torch.equal(reverse_time(reverse_time(grid, n), n), grid)
    reversed_grid = reverse_time(grid, n)
    for b, length in enumerate(lengths):
        for t in range(time):
            source = length - 1 - t if t < length else t
            assert torch.equal(reversed_grid[t, b], grid[source, b])


@given(lengths=LENGTHS, data=st.data())
def test_a_reset_borders_the_same_two_steps_in_both_directions(lengths, data):
    time = max(lengths)
    flags = data.draw(
        st.lists(
            st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)),
            min_size=time,
            max_size=time,
        )
    )
    resets = torch.tensor(flags)
    backwards = reverse_resets(resets, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        borders = {t for t in range(1, length) if flags[t][b]}
        # in reversed time, step s is step length-1-s; a start at s is the border to step s-1
        found = {length - s for s in range(1, length) if backwards[s, b]}
        assert found == borders
        assert not backwards[0, b]
        assert not backwards[length:, b].any()


@given(start=st.integers(0, 4), flags=st.lists(st.booleans(), min_size=1, max_size=9))
def test_steps_since_reset_is_a_counter(start, flags):
    counted, expected = start, []
    for flag in flags:
        counted = 0 if flag else counted
        expected.append(counted)
        counted += 1
    got = steps_since_reset(torch.tensor([start]), torch.tensor(flags)[:, None], len(flags))
    assert got[:, 0].tolist() == expected
    plain = steps_since_reset(torch.tensor([start]), None, len(flags))
    assert plain[:, 0].tolist() == [start + t for t in range(len(flags))]


def test_full_lengths_count_as_none():
    assert check_lengths([4, 4], 4, 2) is None
    assert torch.equal(check_lengths((4, 2), 4, 2), torch.tensor([4, 2]))
    assert check_lengths(torch.tensor([3], dtype=torch.int32), 4, 1).dtype == torch.int64


def test_booleans_are_no_lengths():
    with pytest.raises(errors.LengthsError, match=r"dtype torch\.bool"):
        check_lengths(torch.tensor([True]), 4, 1)
