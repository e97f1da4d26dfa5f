"""Professor forcing: free running is to look like teacher forcing to a discriminator."""

from collections.abc import Mapping
from typing import Any, Protocol, cast, final, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError
from throughtime.core.sampling import Sampling
from throughtime.layers import GRU
from throughtime.training.feedback import FEEDBACKS, LearnedFeedback


@runtime_checkable
class Behaving(Protocol):
    """A model that gives what its readout reads: its behaviour."""

    def features(
        self, symbols: Int[Tensor, "time batch"], state: Any
    ) -> tuple[Float[Tensor, "time batch width"], Any]:
        """Return what the readout reads after each symbol, and the state after the last one."""
        ...

    def logits(
        self, features: Float[Tensor, "time batch width"]
    ) -> Float[Tensor, "time batch alphabet"]:
        """Return the logits of each next symbol."""
        ...


@final
class Discriminator(nn.Module):
    """The probability that a behaviour is that of teacher forcing.

        D(h) = sigmoid(v relu(U [f_T; b_1] + c) + d)      f, b: two directions of a GRU over h

    Arguments:
        width: Width of h_t.
        hidden: Units of each direction, and of the layer after them.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.recurrent = GRU(width, hidden, bidirectional=True)
        self.inner = nn.Linear(2 * hidden, hidden)
        self.outer = nn.Linear(hidden, 1)

    def forward(
        self, behaviour: Float[Tensor, "time batch width"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the logit of each sequence.

        Arguments:
            behaviour: Behaviours.
            lengths: Steps of each, at least 1.
        """
        _, h = self.recurrent(behaviour, lengths=lengths)
        return self.outer(torch.relu(self.inner(torch.cat([h[0], h[1]], -1))))[:, 0]


@FEEDBACKS.register("professor-forcing")
@final
class ProfessorForcing(LearnedFeedback):
    """Teacher forcing, and a discriminator that must not tell free running from it.

        L = NLL + weight C_f,    C_f = -mean log D(h_free)
        L_D = -mean log D(h_teacher) - mean log(1 - D(h_free))

    The behaviour h is what the readout reads (the authors add the answers to it, which h
    determines). Free running starts from the same state and first symbol, and reads the model's own
    draws; no gradient goes through a draw, nor from D into the teacher-forced pass. The moving
    average of the discriminator's accuracy decides who learns: the discriminator up to `high`, the
    model from C_f from `low` on.

    Arguments:
        hidden: Units of the discriminator.
        learning_rate: Learning rate of the discriminator's Adam.
        weight: Weight of C_f.
        low: Accuracy below which the model does not learn from C_f.
        high: Accuracy above which the discriminator does not learn.
        decay: Decay of the moving average.

    Raises:
        ConfigurationError: A number is out of range.

    Source:
        Lamb, Goyal, Zhang, Zhang, Courville and Bengio, Professor forcing, 2016; the gates are
        those of the authors' program for MNIST.
    """

    def __init__(
        self,
        *,
        hidden: int = 64,
        learning_rate: float = 1e-3,
        weight: float = 1.0,
        low: float = 0.7,
        high: float = 0.95,
        decay: float = 0.99,
    ):
        if hidden < 1:
            raise ConfigurationError(
                "hidden of the discriminator", got=hidden, expected="1 or more"
            )
        if not learning_rate > 0 or not weight >= 0:
            raise ConfigurationError(
                "professor-forcing",
                got=f"learning_rate={learning_rate}, weight={weight}",
                expected="a learning rate above 0, a weight of at least 0",
            )
        if not 0 <= low <= high <= 1 or not 0 <= decay < 1:
            raise ConfigurationError(
                "professor-forcing",
                got=f"low={low}, high={high}, decay={decay}",
                expected="0 <= low <= high <= 1, and a decay from 0 to below 1",
            )
        self.hidden, self.learning_rate, self.weight = hidden, learning_rate, weight
        self.low, self.high, self.decay = low, high, decay
        self.accuracy = 0.5
        self._discriminator: Discriminator | None = None
        self._optimizer: torch.optim.Adam | None = None
        self._loss: Tensor | None = None
        self._penalty: Tensor | None = None

    def losses(
        self,
        model: NextSymbol,
        symbols: Int[Tensor, "time batch"],
        targets: Int[Tensor, "time batch"],
        state: Any,
        *,
        step: int,
        random: torch.Generator,
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the losses of teacher forcing; the discriminator's part is in `penalty`.

        Arguments:
            model: The model.
            symbols: True symbols; the first one is always read.
            targets: Symbol that follows each; -1 where none is due.
            state: State before the symbols.
            step: Unused number of the update.
            random: Source of random numbers, on the CPU.

        Raises:
            ConfigurationError: The model has no `features` and `logits`.
        """
        del step
        if not (hasattr(model, "features") and hasattr(model, "logits")):
            raise ConfigurationError(
                "professor-forcing",
                got=f"{type(model).__name__} without features(symbols, state) and logits(features)",
                expected="a model that gives what its readout reads",
            )
        behaving = cast(Behaving, model)
        taught, after = behaving.features(symbols, state)
        logits = behaving.logits(taught)
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
        ).view(targets.shape)
        free = _free(behaving, symbols, state, random)
        last = (targets >= 0) * torch.arange(1, len(targets) + 1, device=targets.device)[:, None]
        lengths = last.amax(0)
        due = lengths > 0
        self._judge(taught[:, due], free[:, due], lengths[due], random)
        return losses, after

    def _judge(
        self, taught: Tensor, free: Tensor, lengths: Tensor, random: torch.Generator
    ) -> None:
        discriminator = self._built(taught, random)
        # one batch, so that both have the same steps and the same padding
        both = torch.cat([taught, free], 1).detach()
        verdicts = discriminator(both, torch.cat([lengths, lengths]))
        truth = torch.zeros_like(verdicts)
        truth[: len(lengths)] = 1
        self._loss = F.binary_cross_entropy_with_logits(verdicts, truth)
        right = float(((verdicts > 0) == (truth > 0)).double().mean())
        self.accuracy = self.decay * self.accuracy + (1 - self.decay) * right
        self._penalty = None
        if self.accuracy >= self.low and self.weight:
            fixed = {k: v.detach() for k, v in discriminator.named_parameters()}
            told = functional_call(discriminator, fixed, (free, lengths))
            self._penalty = self.weight * F.softplus(-told).mean()

    def _built(self, like: Tensor, random: torch.Generator) -> Discriminator:
        if self._discriminator is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
                self._build(like.shape[-1])
        assert self._discriminator is not None
        return self._discriminator.to(like)

    def _build(self, width: int) -> None:
        self._discriminator = Discriminator(width, self.hidden)
        self._optimizer = torch.optim.Adam(self._discriminator.parameters(), lr=self.learning_rate)

    def penalty(self) -> Float[Tensor, ""] | None:
        """Return weight C_f of the last call of `losses`; None below the accuracy `low`."""
        return self._penalty

    def learn(self) -> None:
        """Update the discriminator, up to the accuracy `high`."""
        if self._loss is not None and self.accuracy <= self.high:
            assert self._optimizer is not None
            self._optimizer.zero_grad()
            self._loss.backward()
            self._optimizer.step()
        self._loss = self._penalty = None

    def state(self) -> dict[str, Tensor]:
        """Return the discriminator, its optimiser's tensors, and the accuracy."""
        found = {"accuracy": torch.tensor(self.accuracy, dtype=torch.float64)}
        if self._discriminator is None or self._optimizer is None:
            return found
        for name, tensor in self._discriminator.state_dict().items():
            found[f"discriminator.{name}"] = tensor
        for index, values in self._optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved state.

        Arguments:
            state: Tensors of `state`.

        Raises:
            KeyError: The accuracy is missing.
        """
        self.accuracy = float(state["accuracy"])
        first = state.get("discriminator.recurrent.weight_ih_l0")
        if first is None:
            return
        self._build(first.shape[1])
        assert self._discriminator is not None
        assert self._optimizer is not None
        prefix = "discriminator."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self._discriminator.to(first).load_state_dict(own)
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimizer."):
                _, index, field = name.split(".")
                kept.setdefault(int(index), {})[field] = value
        document = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**document, "state": kept})


def _free(model: Behaving, symbols: Tensor, state: Any, random: torch.Generator) -> Tensor:
    """Return the behaviour of a model that reads its own draws after the first symbol."""
    uniform = torch.rand(symbols.shape, generator=random, dtype=torch.float64).to(symbols.device)
    parts: list[Tensor] = []
    read = symbols[:1]
    for u in uniform:
        features, state = model.features(read, state)
        parts.append(features)
        with torch.no_grad():
            read = Sampling().draw(model.logits(features)[-1], u)[None]
    return torch.cat(parts)
