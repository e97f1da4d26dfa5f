"""Weights over the words of a memory, by content and by location (Graves et al. 2014)."""

import torch
from jaxtyping import Float
from torch import Tensor


def by_content(
    memory: Float[Tensor, "batch words width"],
    keys: Float[Tensor, "batch heads width"],
    strengths: Float[Tensor, "batch heads 1"],
) -> Float[Tensor, "batch heads words"]:
    """Return weights by the similarity of each word with a key.

        w_i = softmax_i(beta k . m_i / sqrt(|k|^2 |m_i|^2 + 1e-8))

    The 1e-8 (our choice) is for words of zeros, which have no direction.

    Arguments:
        memory: words m_i.
        keys: k, one a head.
        strengths: beta, at least 0.

    Example:
        >>> memory = torch.eye(2)[None]
        >>> by_content(memory, memory[:, :1], torch.full((1, 1, 1), 200.0)).tolist()
        [[[1.0, 0.0]]]
    """
    squares = keys.square().sum(-1, keepdim=True) * memory.square().sum(-1).unsqueeze(-2)
    similarity = (keys @ memory.mT) * (squares + 1e-8).rsqrt()
    return (strengths * similarity).softmax(-1)


def by_location(
    weights: Float[Tensor, "batch heads words"],
    moves: Float[Tensor, "batch heads moves"],
    sharpness: Float[Tensor, "batch heads 1"],
) -> Float[Tensor, "batch heads words"]:
    """Return weights after a circular shift and sharpening.

        v_i = sum over j of s_j w_{(i - j + n) mod words}    j = 0 ... 2 n
        u_i = v_i^gamma / sum over k of v_k^gamma

    The power is taken of logarithms, so that large gamma do not make 0 / 0.

    Arguments:
        weights: w.
        moves: s, which sum to 1: s_j moves all weights by j - n words.
        sharpness: gamma, at least 1.

    Example:
        >>> moves, gamma = torch.tensor([[[0.0, 0, 1]]]), torch.ones(1, 1, 1)
        >>> by_location(torch.tensor([[[0.0, 0, 1]]]), moves, gamma).round().tolist()
        [[[1.0, 0.0, 0.0]]]
    """
    n = moves.shape[-1] // 2
    rolled = torch.stack([weights.roll(k, -1) if k else weights for k in range(-n, n + 1)], -2)
    moved = (moves.unsqueeze(-2) @ rolled).squeeze(-2)
    logarithms = moved.clamp_min(torch.finfo(moved.dtype).tiny).log()
    return (sharpness * logarithms).softmax(-1)
