"""A memory whose reads and writes are its inputs, so that each of them is known."""

from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.state import state_type
from throughtime.memory.access import Accesses, MemoryCell

WORDS, WIDTH = 3, 2


@final
class Tape(MemoryCell):
    """A cell whose x_t is [weights of the write; content; weights of the read]; h_t = r_t.

    M_t(j) = (1 - w(j)) M_{t-1}(j) + w(j) content     r_t = read weights * M_t
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.hidden_size = 2 * WORDS + WIDTH, WIDTH
        self.output_size = WIDTH
        self.memory_words, self.memory_width, self.read_heads = WORDS, WIDTH, 1
        self.weight = torch.nn.Parameter(torch.ones(()))

    def initial_state(self, batch_size: int, *, dtype: Any, device: Any) -> Any:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch_size, *shape, dtype=dtype, device=device)

        fields = {"h": zeros(WIDTH), "memory": zeros(WORDS, WIDTH), "x": zeros(self.input_size)}
        return state_type(*fields)(**fields)

    def project(self, x: Tensor) -> Tensor:
        return self.weight * x

    def step(self, projected: Tensor, state: Any) -> tuple[Tensor, Any]:
        write, content, read = projected.split([WORDS, WIDTH, WORDS], -1)
        memory = (1 - write[..., None]) * state.memory + write[..., None] * content[:, None]
        h = (read[:, None] @ memory)[:, 0]
        return h, type(state)(h, memory, projected)

    def accesses(self, before: Any, after: Any) -> Accesses:
        write, _, read = after.x[:, None].split([WORDS, WIDTH, WORDS], -1)
        return Accesses(read, write)


def tape_input(write: int | None, content: tuple[float, float], read: int | None) -> list[float]:
    """Return x_t; None for no access."""
    one = torch.eye(WORDS).tolist()
    none = [0.0] * WORDS
    return [
        *(none if write is None else one[write]),
        *content,
        *(none if read is None else one[read]),
    ]
