"""Families of models of stories: MemN2N, and the memory network of 2014."""

from throughtime.core.errors import ConfigurationError
from throughtime.models.families import FAMILIES
from throughtime.models.memn2n import Encoding, MemN2N, Tying
from throughtime.models.memory_network import MemoryNetwork
from throughtime.tasks.kinds import Answers, Classes, Inputs, Stories


@FAMILIES.register("memn2n")
def _memn2n(
    inputs: Inputs,
    answers: Answers,
    *,
    hidden: int = 20,
    hops: int = 3,
    tying: Tying = "adjacent",
    encoding: Encoding = "paper",
    memory: int = 50,
    noise: float = 0.1,
    linear_start: int = 0,
) -> MemN2N:
    """Stories: attention over sentences in several hops (Sukhbaatar et al. 2015)."""
    return MemN2N(
        _stories(inputs, answers, "memn2n"),
        hidden=hidden,
        hops=hops,
        tying=tying,
        encoding=encoding,
        memory=memory,
        noise=noise,
        linear_start=linear_start,
    )


@FAMILIES.register("memory-network")
def _memory_network(
    inputs: Inputs,
    answers: Answers,
    *,
    hidden: int = 50,
    hops: int = 0,
    margin: float = 0.1,
) -> MemoryNetwork:
    """Stories: supporting sentences are chosen, and taught as such (Weston et al. 2015)."""
    kind = _stories(inputs, answers, "memory-network")
    return MemoryNetwork(kind, hidden=hidden, hops=hops, margin=margin)


def _stories(inputs: Inputs, answers: Answers, family: str) -> Stories:
    if not (isinstance(inputs, Stories) and isinstance(answers, Classes)):
        raise ConfigurationError(
            f"model {family!r}",
            got=f"{inputs} and {answers}",
            expected="stories, and an answer of one word",
            fix="Choose the task questions, or babi:file=FILE.",
        )
    return inputs
