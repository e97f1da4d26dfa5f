"""The unitary recurrent network: a recurrent matrix whose powers neither grow nor shrink."""

import math
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, bind, set_sizes
from throughtime.core.errors import UnknownNameError
from throughtime.core.registry import CELLS
from throughtime.core.state import State, state_type

By: TypeAlias = Literal["auto", "fft", "matrix"]
_LARGEST_MATRIX = 512  # units up to which one product a step beats three rotations and two FFTs


@CELLS.register("urnn")
@final
class UnitaryCell(Cell):
    """The unitary evolution network, uRNN (Arjovsky, Shah and Bengio 2016).

        z_t = W h_{t-1} + V x_t          h_t = z_t / (|z_t| + 1e-5) * max(|z_t| + b, 0)    (modReLU)
        W = D3 R2 F^-1 D2 P R1 F D1
        D = diag(exp(i theta))    R = I - 2 v v* / |v|^2    F: the unitary Fourier transform

    P is a fixed random permutation. The state has `hidden_size` complex numbers; the output, and h,
    are their real parts and then their imaginary ones. The initial state is learned.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: n, number of complex units, at least 1.
        by: way of applying W: "fft" at each step, "matrix" by the matrix itself, which is made once
            a run, "auto" by the matrix up to 512 units.
        device, dtype: place and type of the parameters, which are real.

    Attributes:
        permutation: (hidden,), P.

    Raises:
        ConfigurationError: a size below 1.
        UnknownNameError: an unknown way of applying W.

    Example:
        >>> cell = UnitaryCell(2, 4)
        >>> W = cell.matrix()
        >>> torch.allclose(W @ W.mH, torch.eye(4, dtype=W.dtype), atol=1e-5)
        True

    Source: M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML
    2016, and the authors' code for the initial values and the 1e-5.
    """

    permutation: Int[Tensor, " hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        by: By = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if by not in ("auto", "fft", "matrix"):
            raise UnknownNameError("way of applying W", str(by), ("auto", "fft", "matrix"))
        set_sizes(self, input_size, hidden_size, 2 * hidden_size)
        self.by: By = by

        def uniform(bound: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(
                torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound)
            )

        n = hidden_size
        self.weight_ih = uniform(math.sqrt(6 / (input_size + n)), 2 * n, input_size)
        self.theta = uniform(math.pi, 3, n)
        self.reflection = uniform(math.sqrt(6 / (n + n)), 2, 2 * n)
        self.bias = uniform(0.01, n)
        self.start = uniform(math.sqrt(3 / (2 * n)), 2 * n)
        self.register_buffer("permutation", torch.randperm(n, device=device))

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the learned start, for every sequence: h (batch, 2 * hidden)."""
        start = self.start.to(device=device, dtype=dtype)
        return state_type("h")(start.expand(batch_size, -1).clone())

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps twice"]:
        """Return V x."""
        return nn.functional.linear(x, self.weight_ih)

    def prepared(self) -> "UnitaryCell":
        """Return the cell with W computed, where it is applied as a matrix."""
        if self.by == "fft" or (self.by == "auto" and self.hidden_size > _LARGEST_MATRIX):
            return self
        made = bind(self, {})
        vars(made)["made"] = _real(self.matrix()).mT
        return made

    def step(
        self, projected: Float[Tensor, "batch twice"], state: State
    ) -> tuple[Float[Tensor, "batch twice"], State]:
        """Return h_t, and the state (h_t,)."""
        made = vars(self).get("made")
        if made is None:
            turned = self.rotated(torch.complex(*state.h.chunk(2, -1)))
            z = torch.cat([turned.real, turned.imag], -1) + projected
        else:
            z = torch.addmm(projected, state.h, made)
        z = z.unflatten(-1, (2, self.hidden_size))
        smallest = torch.finfo(z.dtype).tiny  # for the root's slope at z = 0
        size = (z.square().sum(-2) + smallest).sqrt()
        h = (z * (torch.relu(size + self.bias) / (size + 1e-5)).unsqueeze(-2)).flatten(-2)
        return h, type(state)(h)

    def rotated(self, h: Complex[Tensor, "*rows hidden"]) -> Complex[Tensor, "*rows hidden"]:
        """Return W h, in O(n log n).

        Arguments:
            h: rows of complex numbers.
        """
        turns = torch.polar(torch.ones_like(self.theta), self.theta)
        v, w = torch.complex(*self.reflection.chunk(2, -1))
        h = torch.fft.fft(turns[0] * h, norm="ortho")
        h = turns[1] * _reflected(h, v)[..., self.permutation]
        return turns[2] * _reflected(torch.fft.ifft(h, norm="ortho"), w)

    def matrix(self) -> Complex[Tensor, "hidden hidden"]:
        """Return W."""
        dtype = torch.complex(self.theta[0], self.theta[0]).dtype
        return self.rotated(torch.eye(self.hidden_size, dtype=dtype, device=self.theta.device)).mT


def _real(matrix: Complex[Tensor, "n n"]) -> Float[Tensor, "twice twice"]:
    """The matrix that does to (real parts, imaginary parts) what a complex one does."""
    a, b = matrix.real, matrix.imag
    return torch.cat([torch.cat([a, -b], 1), torch.cat([b, a], 1)], 0)


def _reflected(h: Tensor, v: Tensor) -> Tensor:
    """(I - 2 v v* / |v|^2) h, of rows."""
    along = (h * v.conj()).sum(-1, keepdim=True)
    return h - 2 * along * v / (v * v.conj()).real.sum()
