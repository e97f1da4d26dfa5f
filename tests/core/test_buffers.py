import gc
import itertools
import threading

import numpy as np
import pytest
import torch

from throughtime.core import buffers
from throughtime.core.buffers import ALIGNMENT, KEPT, SMALLEST, clear, lend, unused

SHAPE = (2, SMALLEST // 4)


@pytest.fixture(autouse=True)
def empty() -> None:
    gc.collect()
    clear()


def test_a_buffer_comes_back_when_its_tensor_dies():
    lent = lend(SHAPE, torch.float32)
    address = lent.data_ptr()
    assert lent.shape == SHAPE
    assert unused() == 0
    del lent
    assert unused() > 0
    assert lend(SHAPE, torch.float32).data_ptr() == address


@pytest.mark.parametrize(
    "hold",
    [
        lambda t: t[1:, 5:],
        lambda t: t.detach(),
        lambda t: t.numpy(),
        lambda t: t.untyped_storage(),
        lambda t: (t.requires_grad_() * 2).square(),  # the graph holds it
        lambda t: memoryview(t.numpy()),
    ],
)
def test_what_shares_its_memory_keeps_it(hold):
    lent = lend(SHAPE, torch.float32)
    held = hold(lent)
    del lent
    gc.collect()
    assert unused() == 0
    del held
    gc.collect()
    assert unused() > 0


def test_live_tensors_never_share():
    live = [lend(SHAPE, torch.float64) for _ in range(5)]
    del live[::2]
    live += [lend(SHAPE, torch.float64) for _ in range(5)]
    spans = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in live)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_aligned():
    assert all(lend((n,), torch.float32).data_ptr() % ALIGNMENT == 0 for n in (10**6, 10**6 + 1))


def test_small_and_much_smaller_requests_leave_the_pool_alone():
    del_me = lend((64 * SMALLEST,), torch.uint8)
    del del_me
    kept = unused()
    lend((10,), torch.float32)
    small = lend((2 * SMALLEST,), torch.uint8)
    assert unused() == kept
    del small


def test_the_pool_is_bounded():
    blocks = [np.empty(KEPT // 4, np.uint8) for _ in range(6)]
    for block in blocks:
        buffers._give_back(block)
    assert unused() <= KEPT


def test_buffers_that_die_on_other_threads():
    def work() -> None:
        for _ in range(200):
            tensor = lend(SHAPE, torch.float32)
            tensor.fill_(threading.get_ident() % 1000)
            assert bool((tensor == tensor[0, 0]).all())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
