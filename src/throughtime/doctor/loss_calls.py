"""Calls of losses: where the answers of a model meet targets, as torch's functions are called."""

import contextlib
import dataclasses
import sys
from collections.abc import Collection, Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from throughtime.doctor.subject import Subject, batch_tensors

OF_CLASSES = ("cross_entropy", "nll_loss")
OF_VALUES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "sub", "rsub")
OF_LOGITS = ("binary_cross_entropy_with_logits", "multilabel_soft_margin_loss")
OF_PROBABILITIES = ("binary_cross_entropy", *OF_LOGITS)
ARITHMETIC = {"sub": "The difference", "rsub": "The difference", "mul": "The product"}
"""Functions of the user's own losses, in words."""
OF_SIGNS = (
    "soft_margin_loss",
    "hinge_embedding_loss",
    "cosine_embedding_loss",
    "margin_ranking_loss",
)
"""Losses of labels -1 and 1."""
_LOSSES = (*OF_CLASSES, *OF_VALUES[:4], *OF_PROBABILITIES, "kl_div")


@dataclasses.dataclass(frozen=True, eq=False)
class LossCall:
    """One call in which answers meet targets: of a loss of torch, or arithmetic of the two.

    Attributes:
        name: name of torch's function.
        answers: operand with a graph.
        targets: operand without one.
        result: value of the function; None where it was not kept.
    """

    name: str
    answers: Tensor
    targets: Tensor
    result: Tensor | None = None

    @property
    def class_axis(self) -> int:
        """Axis of the classes of the answers, for losses of classes."""
        return 1 if self.answers.dim() > 1 else 0

    @property
    def indexed(self) -> bool:
        """True if the targets are indices of classes."""
        return self.name in OF_CLASSES and self.targets.dim() == self.answers.dim() - 1

    def pairs(self, answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return marks of answers and of targets in one shape, with an entry for every pair.

        Arguments:
            answers: boolean tensor in the shape of the answers.
            targets: boolean tensor in the shape of the targets.
        """
        if self.indexed:
            return answers.any(self.class_axis), targets
        answers, targets = torch.broadcast_tensors(answers, targets)
        return answers, targets

    def where(self) -> Tensor:
        """Return True at targets that count: finite ones, and classes that are not ignored."""
        if self.indexed:
            return (self.targets >= 0) & (self.targets < self.answers.shape[self.class_axis])
        return self.targets.isfinite()


def loss_calls(
    subject: Subject, model: nn.Module, batch: Any, seed: int = 0, more: Collection[str] = ()
) -> tuple[Tensor, list[LossCall]]:
    """Run the loss of a copy, and return it with the calls in which answers meet targets.

    Differences and products count where they are taken outside the model, of a tensor with a graph
    and one that is made from the batch alone.

    Arguments:
        subject: data and loss.
        model: copy of the subject's model.
        batch: a batch of the subject.
        seed: seed of the random numbers that the model draws.
        more: names of other functions, whose calls count where differences do.
    """
    torch.manual_seed(seed)
    calls = _Calls(batch, more)
    handles = [
        handle
        for module in model.modules()
        for handle in (
            module.register_forward_pre_hook(calls.enter),
            module.register_forward_hook(calls.leave, always_call=True),
        )
    ]
    try:
        with torch.enable_grad(), _eager(), calls:
            loss = subject.loss(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return loss, calls.found


def gradient_beside(loss: Tensor, answers: list[Tensor], parameters: list[nn.Parameter]) -> bool:
    """Return whether a loss depends on parameters by a way that goes through no answer.

    Arguments:
        loss: the loss, whose graph is used up.
        answers: tensors with a graph.
        parameters: parameters of the model.
    """
    handles = [answer.register_hook(torch.zeros_like) for answer in answers]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for handle in handles:
        handle.remove()
    return any(g is not None and bool(g.any()) for g in gradients)


def _eager() -> contextlib.AbstractContextManager[Any]:
    """Run compiled models eagerly: torch's compiler does not trace under every mode."""
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()  # nothing is compiled, and its import takes seconds
    return torch.compiler.set_stance("force_eager")


@final
class _Calls(TorchFunctionMode):
    """Mode that keeps the calls of losses, and which tensors are made from the batch alone."""

    def __init__(self, batch: Any, more: Collection[str]):
        super().__init__()
        self.more = more
        self.found: list[LossCall] = []
        self.depth = 0  # of calls of modules of the model
        # kept alive, so that no id is used twice
        self.of_batch = {id(tensor): tensor for tensor in batch_tensors(batch)}

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Count a call of a module."""
        del module, inputs
        self.depth += 1

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Count the end of a call of a module."""
        del module, inputs, output
        self.depth -= 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        operands = _operands(args, kwargs)
        if name in self.more and (self.depth == 0 or name in OF_SIGNS):
            self._keep_more(name, list(_tensors([args, kwargs])), result)
        elif name in _LOSSES or (name in ARITHMETIC and self.depth == 0):
            self._keep(name, operands, result)
        if name == "setitem" and id(args[-1]) in self.of_batch and not args[0].requires_grad:
            self.of_batch[id(args[0])] = args[0]
        if any(id(value) in self.of_batch for value in _tensors([args, kwargs])):
            for tensor in _tensors(result):
                if not tensor.requires_grad:
                    self.of_batch[id(tensor)] = tensor
        return result

    def _keep(self, name: str, operands: list[Tensor], result: Any) -> None:
        if len(operands) < 2 or operands[0].requires_grad == operands[1].requires_grad:
            return
        answers, targets = operands[:2] if operands[0].requires_grad else operands[1::-1]
        if name in _LOSSES or (id(targets) in self.of_batch and targets.dim() > 0):
            self.found.append(LossCall(name, answers, targets, result))

    def _keep_more(self, name: str, operands: list[Tensor], result: Any) -> None:
        answers = [tensor for tensor in operands if tensor.requires_grad]
        last = operands[-1:] if name in OF_SIGNS else operands  # after two vectors, the label
        targets = [tensor for tensor in last if id(tensor) in self.of_batch]
        if answers and targets and isinstance(result, Tensor):
            self.found.append(LossCall(name, answers[0], targets[-1], result))


def _operands(args: Any, kwargs: Any) -> list[Tensor]:
    named = [kwargs[name] for name in ("input", "target", "other") if name in kwargs]
    return [value for value in (*args, *named) if isinstance(value, Tensor)]


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        yield from (value for value in pytree.tree_leaves(result) if isinstance(value, Tensor))
