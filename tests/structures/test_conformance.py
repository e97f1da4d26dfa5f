"""Each layer over trees keeps the rules of `TreeConformance`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from throughtime.core.state import State, state_type
from throughtime.structures import RNTN, Children, RecNN, TreeLayer, TreeLSTM
from throughtime.testing import TreeConformance


class TestChildSum(TreeConformance):
    def make_layer(self) -> TreeLayer:
        return TreeLSTM(3, 4)


class TestNAry(TreeConformance):
    def make_layer(self) -> TreeLayer:
        return TreeLSTM(3, 4, 3)


class TestRecNN(TreeConformance):
    def make_layer(self) -> TreeLayer:
        return RecNN(3, 4, 3)


class TestRNTN(TreeConformance):
    def make_layer(self) -> TreeLayer:
        return RNTN(3, 4, 3)


class MeanOfChildren(TreeLayer):
    """A layer of a user: a tanh of the input and of the mean of the children."""

    def __init__(self) -> None:
        super().__init__(3, 4, None)
        self.own, self.mean = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)

    def project(self, x: Tensor) -> Tensor:
        return self.own(x)

    def step(self, projected: Tensor, children: Children | None) -> State:
        if children is not None:
            h = children.state.h
            counts = children.summed(torch.ones_like(h))
            projected = projected + self.mean(children.summed(h) / counts)
        return state_type("h")(F.tanh(projected))


class TestTheLayerOfAUser(TreeConformance):
    def make_layer(self) -> TreeLayer:
        return MeanOfChildren()
