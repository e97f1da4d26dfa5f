"""Search without gradients: parameters are proposed, tried, and judged by their cost."""

import abc
from collections.abc import Callable
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from throughtime.core.errors import ConfigurationError

Cost = Callable[[Tensor], Tensor]
"""From parameters (n, count) to their costs (n,)."""


class SearchState(NamedTuple):
    """The state of a search: tensors alone, to be saved.

    Attributes:
        best: (count,) the cheapest parameters so far.
        cost: theirs, a scalar; infinite before any was tried.
        memory: the proposer's own tensors, scalars or (count,).
        random: (bytes,) state of its generator.
    """

    best: Float[Tensor, " count"]
    cost: Float[Tensor, ""]
    memory: tuple[Tensor, ...]
    random: UInt8[Tensor, " bytes"]


class Proposer(abc.ABC):
    """Proposes parameters, and learns from what they cost."""

    def init(self, start: Float[Tensor, " count"], seed: int = 0) -> SearchState:
        """The state before the first trial.

        Arguments:
            start: a first guess, which is not yet tried.
            seed: seed of the search.
        """
        cost = torch.full((), torch.inf, dtype=start.dtype)
        random = torch.Generator().manual_seed(seed).get_state()
        return SearchState(start.detach().clone(), cost, self.memory(start), random)

    @abc.abstractmethod
    def memory(self, start: Float[Tensor, " count"]) -> tuple[Tensor, ...]:
        """The proposer's own tensors, scalars or (count,), before the first trial.

        Arguments:
            start: a first guess.
        """

    @abc.abstractmethod
    def propose(self, state: SearchState, random: torch.Generator) -> Float[Tensor, "trials count"]:
        """Return the parameters that are tried next.

        Arguments:
            state: state of the search.
            random: generator of random numbers.
        """

    @abc.abstractmethod
    def learn(
        self,
        state: SearchState,
        proposed: Float[Tensor, "trials count"],
        costs: Float[Tensor, " trials"],
        random: torch.Generator,
    ) -> tuple[Tensor, ...]:
        """The proposer's own tensors, scalars or (count,), after the trials.

        Arguments:
            state: state of the search; its best is that before the trials.
            proposed: the parameters that were tried.
            costs: costs of each; infinite where the cost was NaN.
            random: generator of random numbers.
        """


def search(
    cost: Cost,
    proposer: Proposer,
    state: SearchState,
    trials: int,
    enough: float = -torch.inf,
) -> tuple[SearchState, int]:
    """Try what is proposed until it is cheap enough, or the trials are over.

    Arguments:
        cost: function from parameters to costs.
        proposer: source of the parameters that are tried.
        state: state of the search.
        trials: number of trials at most, but for the rest of a proposal.
        enough: cost at which the search ends.

    Returns:
        The state after it, and how many were tried.

    Raises:
        ConfigurationError: costs that are not one number for each proposal.

    Example:
        >>> guessing = RandomGuessing(-1.0, 1.0)
        >>> state = guessing.init(torch.zeros(2))
        >>> state, tried = search(lambda w: w.square().sum(-1), guessing, state, 1000, 0.1)
        >>> float(state.cost) <= 0.1
        True
    """
    made = 0
    while made < trials and not float(state.cost) <= enough:
        random = torch.Generator()
        random.set_state(state.random)
        proposed = proposer.propose(state, random)
        costs = cost(proposed)
        if costs.shape != proposed.shape[:1]:
            raise ConfigurationError(
                "cost", got=f"shape {tuple(costs.shape)}", expected=f"({len(proposed)},)"
            )
        costs = costs.detach().nan_to_num(nan=torch.inf, posinf=torch.inf)
        memory = proposer.learn(state, proposed, costs, random)
        best, lowest = state.best, state.cost
        if float(costs.min()) < float(lowest):
            lowest, best = costs.min(), proposed[costs.argmin()].clone()
        state = SearchState(best, lowest, memory, random.get_state())
        made += len(proposed)
    return state, made


@final
class RandomGuessing(Proposer):
    """Parameters drawn anew at each trial from a box (Schmidhuber and Hochreiter 1996).

    Arguments:
        low, high: bounds of each parameter; the paper has -100 and 100.
        at_once: number of trials that a proposal holds, at least 1.

    Raises:
        ConfigurationError: an empty box, or no trial.

    Source: J. Schmidhuber and S. Hochreiter, "Guessing can outperform many long time lag
    algorithms", 1996.
    """

    def __init__(self, low: float = -100.0, high: float = 100.0, at_once: int = 1):
        if not low < high or at_once < 1:
            raise ConfigurationError(
                "RandomGuessing",
                got=f"({low}, {high}), at_once={at_once}",
                expected="low < high, and at least 1 trial",
            )
        self.low, self.high, self.at_once = low, high, at_once

    def memory(self, start: Float[Tensor, " count"]) -> tuple[Tensor, ...]:
        """Return no tensors."""
        del start
        return ()

    def propose(self, state: SearchState, random: torch.Generator) -> Float[Tensor, "trials count"]:
        """Uniform in the box, whatever came before."""
        shape = (self.at_once, len(state.best))
        drawn = torch.rand(shape, generator=random, dtype=state.best.dtype)
        return self.low + (self.high - self.low) * drawn

    def learn(self, state, proposed, costs, random) -> tuple[Tensor, ...]:
        """Return no tensors."""
        del state, proposed, costs, random
        return ()


@final
class MultigridSearch(Proposer):
    """Random search in a box around the best point, ever smaller (Bengio et al. 1994).

    A trial is uniform in the box. Where one is better, the box moves to it and keeps its size;
    after `patience` trials without, it shrinks; below the smallest size it starts again at full.

    Arguments:
        width: half the box's first side, above 0.
        patience: trials in a box without an improvement, at least 1.
        shrink: factor on the side, in (0, 1).
        smallest: factor on the first side below which it starts again, in (0, 1).

    Raises:
        ConfigurationError: a number out of range.

    Source: Y. Bengio, P. Simard and P. Frasconi, "Learning long-term dependencies with gradient
    descent is difficult", 1994.

    Differs from the paper in: the numbers, and starting again, are our choice.
    """

    def __init__(
        self,
        width: float = 5.0,
        patience: int = 50,
        shrink: float = 0.5,
        smallest: float = 1e-3,
    ):
        if not (width > 0 and patience >= 1 and 0 < shrink < 1 and 0 < smallest < 1):
            raise ConfigurationError(
                "MultigridSearch",
                got=(width, patience, shrink, smallest),
                expected="width > 0, patience >= 1, shrink and smallest in (0, 1)",
            )
        self.width, self.patience, self.shrink, self.smallest = width, patience, shrink, smallest

    def memory(self, start: Float[Tensor, " count"]) -> tuple[Tensor, ...]:
        """The box's size beside the first one, and trials in it without an improvement."""
        return (torch.ones((), dtype=start.dtype), torch.zeros((), dtype=torch.int64))

    def propose(self, state: SearchState, random: torch.Generator) -> Float[Tensor, "trials count"]:
        """One trial; the very first is the start itself."""
        if torch.isinf(state.cost):
            return state.best[None]
        drawn = 2 * torch.rand(len(state.best), generator=random, dtype=state.best.dtype) - 1
        return (state.best + self.width * state.memory[0] * drawn)[None]

    def learn(self, state, proposed, costs, random) -> tuple[Tensor, ...]:
        """A smaller box after so many failures."""
        del proposed, random
        size, idle = state.memory
        if float(costs[0]) < float(state.cost):
            return size, torch.zeros_like(idle)
        idle = idle + 1
        if int(idle) >= self.patience:
            size, idle = size * self.shrink, torch.zeros_like(idle)
            if float(size) < self.smallest:
                size = torch.ones_like(size)
        return size, idle


class _Annealed(NamedTuple):
    position: Float[Tensor, " count"]
    cost: Float[Tensor, ""]
    steps: Float[Tensor, " count"]
    accepted: Int[Tensor, " count"]
    temperature: Float[Tensor, ""]
    moves: Int[Tensor, ""]


@final
class SimulatedAnnealing(Proposer):
    """Simulated annealing over continuous parameters (Corana et al. 1987).

        one coordinate after the other: w_i' = w_i + r v_i,  r ~ U(-1, 1)
        taken where the cost falls, else with probability exp(-rise / temperature)

    After `cycles` rounds over all coordinates each v_i is changed so that about half of its moves
    are taken; after `adjustments` such changes the temperature falls and the search goes back to
    its best point.

    Arguments:
        temperature: the first, above 0.
        step: the first v_i, above 0.
        cycles: N_S, at least 1.
        adjustments: N_T, at least 1; the paper has max(100, 5 count).
        cooling: factor on the temperature, in (0, 1).

    Raises:
        ConfigurationError: a number out of range.

    Source: A. Corana, M. Marchesi, C. Martini and S. Ridella, "Minimizing multimodal functions of
    continuous variables with the simulated annealing algorithm", 1987.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        step: float = 1.0,
        cycles: int = 20,
        adjustments: int = 100,
        cooling: float = 0.85,
    ):
        sizes = temperature > 0 and step > 0 and cycles >= 1 and adjustments >= 1
        if not (sizes and 0 < cooling < 1):
            raise ConfigurationError(
                "SimulatedAnnealing",
                got=(temperature, step, cycles, adjustments, cooling),
                expected="positive numbers, and cooling in (0, 1)",
            )
        self.temperature, self.step = temperature, step
        self.cycles, self.adjustments, self.cooling = cycles, adjustments, cooling

    def memory(self, start: Float[Tensor, " count"]) -> tuple[Tensor, ...]:
        """Position, its cost, steps, accepted moves, temperature, number of moves."""
        return _Annealed(
            start.detach().clone(),
            torch.full((), torch.inf, dtype=start.dtype),
            torch.full_like(start, self.step),
            torch.zeros(len(start), dtype=torch.int64),
            torch.full((), self.temperature, dtype=start.dtype),
            torch.zeros((), dtype=torch.int64),
        )

    def propose(self, state: SearchState, random: torch.Generator) -> Float[Tensor, "trials count"]:
        """A move along one coordinate; the very first trial is the start itself."""
        now = _Annealed(*state.memory)
        if torch.isinf(now.cost):
            return now.position[None]
        i = int(now.moves) % len(now.position)
        proposed = now.position.clone()
        draw = 2 * torch.rand((), generator=random, dtype=proposed.dtype) - 1
        proposed[i] += draw * now.steps[i]
        return proposed[None]

    def learn(self, state, proposed, costs, random) -> tuple[Tensor, ...]:
        """The move taken or not, the steps adjusted, the temperature lowered."""
        now = _Annealed(*state.memory)
        if torch.isinf(now.cost):
            return now._replace(cost=costs[0])
        chance = torch.exp(-(costs[0] - now.cost).clamp(min=0) / now.temperature)
        count = len(now.position)
        if float(torch.rand((), generator=random)) < float(chance):
            accepted = now.accepted.clone()
            accepted[int(now.moves) % count] += 1
            now = now._replace(position=proposed[0], cost=costs[0], accepted=accepted)
        now = now._replace(moves=now.moves + 1)
        if int(now.moves) % (count * self.cycles) == 0:
            share = now.accepted / self.cycles
            up = 1 + 2 * (share - 0.6) / 0.4
            down = 1 / (1 + 2 * (0.4 - share) / 0.4)
            factor = torch.where(share > 0.6, up, torch.where(share < 0.4, down, 1.0))
            now = now._replace(
                steps=now.steps * factor.to(now.steps), accepted=torch.zeros_like(now.accepted)
            )
        if int(now.moves) % (count * self.cycles * self.adjustments) == 0:
            best, lowest = state.best, state.cost
            if float(now.cost) < float(lowest):
                best, lowest = now.position, now.cost
            now = now._replace(
                temperature=now.temperature * self.cooling, position=best.clone(), cost=lowest
            )
        return now
