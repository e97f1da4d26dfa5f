"""The suite that every deep network of blocks inherits."""

import abc

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class DepthConformance(abc.ABC):
    """The rules of deep networks that can recompute. Inherit it, supply `make_network`.

    A network is called with a batch, and returns one row an item. It is run in float64 on the CPU.

    Attributes:
        tolerance: The largest difference between an item alone and the same item in a batch.
        share: The largest part of the stored bytes that recomputation may keep after the forward
            pass.

    Example:
        class TestMyNetwork(DepthConformance):
            def make_network(self, recompute):
                return MyNetwork(recompute=recompute)

            def make_batch(self):
                return torch.randn(4, 1, 6, 6)
    """

    tolerance = 1e-12
    share = 0.5

    @abc.abstractmethod
    def make_network(self, recompute: bool) -> nn.Module:
        """Return a small network.

        Arguments:
            recompute: If True, it recomputes in the backward pass.
        """

    @abc.abstractmethod
    def make_batch(self) -> Tensor:
        """Return (batch, ...), at least four items."""

    def test_recomputed_gradients_equal_stored_ones(self) -> None:
        """Results and gradients, of inputs too, are the same bits."""
        (_, *stored), (_, *again) = self._trained(False), self._trained(True)
        assert all(torch.equal(*pair) for pair in zip(stored, again, strict=True))

    def test_buffers_change_once(self) -> None:
        """Running statistics are those of one pass, after one step and after two."""
        for steps in (1, 2):
            stored = dict(self._trained(False, steps)[0].named_buffers())
            again = dict(self._trained(True, steps)[0].named_buffers())
            assert stored.keys() == again.keys()
            assert all(torch.equal(stored[name], again[name]) for name in stored)

    def test_less_is_stored(self) -> None:
        """The forward pass with recomputation stores at most `share` of the bytes."""
        stored = saved_bytes(self._network(False), self._batch())
        assert saved_bytes(self._network(True), self._batch()) <= self.share * stored

    def test_evaluation_changes_nothing(self) -> None:
        """Buffers stay in evaluation mode, and both forms give the same results."""
        network, batch = self._network(True).eval(), self._batch()
        before = {name: value.clone() for name, value in network.named_buffers()}
        network(batch).sum().backward()
        assert all(torch.equal(before[name], value) for name, value in network.named_buffers())
        assert torch.equal(network(batch), self._network(False).eval()(batch))

    def test_an_item_alone_equals_itself_in_company(self) -> None:
        """An item in evaluation mode, after running statistics have changed."""
        network, batch = self._trained(False)[0].eval(), self._batch()
        whole = network(batch)
        for k in range(len(batch)):
            alone = network(batch[k : k + 1])
            torch.testing.assert_close(
                alone, whole[k : k + 1], rtol=self.tolerance, atol=self.tolerance
            )

    def test_gradients_are_those_of_finite_differences(self) -> None:
        """Gradients in training mode, of inputs and parameters."""
        network, batch = self._network(False), self._batch().requires_grad_()
        inputs = (batch, *network.parameters())
        assert torch.autograd.gradcheck(lambda x, *_: network(x), inputs, fast_mode=True)

    def _network(self, recompute: bool) -> nn.Module:
        torch.manual_seed(0)
        return self.make_network(recompute).double()

    def _batch(self) -> Tensor:
        torch.manual_seed(1)
        return self.make_batch().double()

    def _trained(self, recompute: bool, steps: int = 1) -> tuple[nn.Module, *tuple[Tensor, ...]]:
        """Return the network, and the result and gradients of the last step."""
        network, batch = self._network(recompute), self._batch().requires_grad_()
        found: list[Tensor] = []
        for _ in range(steps):
            result = network(batch)
            gradients = torch.autograd.grad(result.cos().sum(), [batch, *network.parameters()])
            found = [result.detach(), *gradients]
            with torch.no_grad():
                for parameter, gradient in zip(network.parameters(), gradients[1:], strict=True):
                    parameter -= 1e-3 * gradient
        return network, *found


def saved_bytes(network: nn.Module, batch: Tensor) -> int:
    """Return the bytes that a forward pass stores for the backward pass, without parameters.

    Arguments:
        network: A network.
        batch: Its input.

    Example:
        >>> saved_bytes(nn.Sequential(nn.Linear(2, 4), nn.ReLU()), torch.ones(3, 2))
        72
    """
    own = {value.untyped_storage().data_ptr() for value in network.parameters()}
    own |= {value.untyped_storage().data_ptr() for value in network.buffers()}
    stored: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            stored[place] = tensor  # held, so that no other tensor takes its place
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in stored.values())
