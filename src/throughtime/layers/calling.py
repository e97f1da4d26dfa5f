"""The types of a layer's call, which torch declares as Any."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, SupportsIndex, TypeAlias, TypeVar
from typing import overload as _overload

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.core.state import State

Lengths: TypeAlias = Int[Tensor, " batch"] | Int[np.ndarray, " batch"] | Sequence[SupportsIndex]
"""Steps of each sequence: a tensor, an array, or a sequence of whole numbers, also numpy's."""

Outputs: TypeAlias = Tensor | PackedSequence
Returned: TypeAlias = tuple[Outputs, State] | tuple[Outputs, State, State]
"""Outputs, the state after the last step and, if asked for, the states after every step."""

Final = TypeVar("Final")
Every = TypeVar("Every")
Input = TypeVar("Input", Tensor, PackedSequence)


class Call(Generic[Final, Every]):
    """A layer whose call returns outputs of the input's type, a `Final` and, if asked, an `Every`.

    `Final` is the state after the last step, `Every` the states after every step.
    """

    if TYPE_CHECKING:

        @_overload
        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: Literal[False] = False,
        ) -> tuple[Input, Final]: ...

        @_overload
        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: Literal[True],
        ) -> tuple[Input, Final, Every]: ...

        @_overload
        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: bool,
        ) -> tuple[Input, Final] | tuple[Input, Final, Every]: ...

        def __call__(
            self,
            input: Input,
            hx: State = None,
            *,
            lengths: Lengths | None = None,
            reset: Bool[Tensor, "..."] | None = None,
            return_states: bool = False,
        ) -> tuple[Input, Final] | tuple[Input, Final, Every]: ...


class HState(NamedTuple):
    """The type of the states of a GRU after every step, for a type checker.

    Attributes:
        h: (time, layers * directions, batch, hidden).
    """

    h: Tensor


class LSTMState(NamedTuple):
    """The type of the states of an LSTM, for a type checker.

    Attributes:
        h: (layers * directions, batch, output); with time first, after every step.
        c: (layers * directions, batch, hidden), likewise.
    """

    h: Tensor
    c: Tensor
