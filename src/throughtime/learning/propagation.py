"""The regulariser that keeps the gradient's norm as it goes back (Pascanu et al. 2013)."""

from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from throughtime.core.cell import advance
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.adjoints import adjoints
from throughtime.learning.backpropagation import BPTT
from throughtime.learning.learner import (
    Chunk,
    Learner,
    LearnerState,
    Update,
    draw,
    generator_of,
    starts,
)
from throughtime.learning.unrolled import side_by_side, with_tensors

Form: TypeAlias = Literal["paper", "code"]


@final
class GradientPropagation(Learner):
    """Any learner, with a penalty on gradients that shrink or grow from step to step.

        v_k = dL/ds_k, of all losses from step k on        u_k = v_k ds_k/ds_{k-1}
        Omega = sum over k, mean over the batch, of (||u_k|| / ||v_k|| - 1)^2
        gradient = the learner's + strength * dOmega/dW

    W are the recurrent weights of the cell (all its parameters where none is called so). v and the
    states are taken for constants in dOmega/dW, as in the paper: one vector-Jacobian product of all
    steps at once, with a graph. The loss that is given is L alone.

    The form "code" is that of the authors' program: squared norms in the ratio, the sum divided by
    the number of steps and sequences that have a gradient, and no term where ||v||^2 < 1e-20.

    Arguments:
        strength: 2 in the authors' program.
        form: "paper" or "code".
        learner: whose gradient it is added to; backpropagation if None. The penalty itself goes
            back through the chunk.

    Raises:
        ConfigurationError: a negative strength.
        UnknownNameError: another form.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013, equations 9 and 10.

    Differs from the paper in: s is the whole state of whatever cell, h alone for its networks; a
    step that starts afresh has no term; a step's own loss counts by the output where that is a
    tensor of the state, else for the steps before it alone. Of the form "code", how sum and mean
    are nested is our reading.
    """

    def __init__(self, strength: float = 2.0, form: Form = "paper", learner: Learner | None = None):
        if not strength >= 0:
            raise ConfigurationError("strength", got=strength, expected="at least 0")
        if form not in get_args(Form):
            raise UnknownNameError("form", str(form), get_args(Form))
        self.strength, self.form = strength, form
        self.learner = BPTT() if learner is None else learner

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """The learner's."""
        return self.learner.memory(model, batch_size)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """The learner's gradient of the chunk, and the penalty's."""
        found = self.learner.update(model, state, chunk)
        for name, gradient in self.penalty(model, state, chunk)[1].items():
            found.gradients[name] += self.strength * gradient
        return found

    def penalty(
        self, model: StepwiseModel, state: LearnerState, chunk: Chunk
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Omega of a chunk, a scalar, and dOmega/dW by the parameters' names.

        Arguments:
            model: its parameters are read.
            state: before the chunk.
            chunk: the steps.
        """
        resets = starts(state, chunk)
        streams = draw(model, state.cell, resets, generator_of(state))
        before, v = adjoints(model, state.cell, chunk, resets, streams)
        with torch.enable_grad():
            weights = {n: p for n, p in model.named_parameters() if n.startswith("cell.")}
            recurrent = {n: p for n, p in weights.items() if ".weight_hh" in n} or weights
            recurrent = {n: p for n, p in recurrent.items() if p.requires_grad}
            # all steps at once, as so many sequences of one step
            s = side_by_side(before).requires_grad_()
            flat = tuple(t.flatten(0, 1) for t in streams)
            projected = model.cell.project(chunk.inputs.flatten(0, 1))
            after = side_by_side(advance(model.cell, projected, with_tensors(before, s), flat)[1])
            (u,) = torch.autograd.grad(after, s, v, create_graph=True)
            omega = self._omega(u, v, ~resets.flatten()) / resets.shape[1]
            if not recurrent or not omega.requires_grad:  # frozen, or read by nothing
                return omega.detach(), {n: torch.zeros_like(p) for n, p in recurrent.items()}
            gradients = torch.autograd.grad(
                omega, list(recurrent.values()), allow_unused=True, materialize_grads=True
            )
        return omega.detach(), dict(zip(recurrent, gradients, strict=True))

    def _omega(self, u: Tensor, v: Tensor, linked: Tensor) -> Tensor:
        """The sum of all terms."""
        above, below = u.square().sum(1), v.square().sum(1)
        counted = linked & (below > (1e-20 if self.form == "code" else 0.0))
        ratio = above[counted] / below[counted]
        if self.form == "code":
            return (ratio - 1).square().sum() / max(int(counted.sum()), 1)
        return (ratio.clamp(min=torch.finfo(ratio.dtype).tiny).sqrt() - 1).square().sum()
