"""Random trees and acyclic graphs for tests."""

import numpy as np
import torch

from throughtime.structures import Forest


def random_forest(
    seed: int, sizes: list[int], width: int = 3, *, arity: int = 100, shared: bool = False
) -> Forest:
    """Trees whose nodes and edges are numbered at random; with `shared`, more edges than a tree."""
    random = np.random.default_rng(seed)
    edges: list[tuple[int, int]] = []
    start = 0
    for size in sizes:
        names = start + random.permutation(size)
        free = {0: arity}
        for child in range(1, size):
            parent = int(random.choice([k for k, left in free.items() if left]))
            free[parent] -= 1
            free[child] = arity
            edges.append((names[parent], names[child]))
            if shared and child > 1:
                other = int(random.integers(child))
                if other != parent and free[other]:
                    free[other] -= 1
                    edges.append((names[other], names[child]))
        start += size
    pairs = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    pairs = pairs[torch.from_numpy(random.permutation(len(pairs)))]
    inputs = torch.from_numpy(random.standard_normal((start, width)))
    return Forest.of(inputs, pairs, sizes, shared=shared)
