"""RecNN and RNTN beside recursions in float64."""

import pytest
import torch
from structures.references import recursive

from throughtime.core.errors import ConfigurationError
from throughtime.structures import RNTN, RecNN
from throughtime.testing import random_forest


@pytest.mark.parametrize("kind", [RecNN, RNTN])
@pytest.mark.parametrize(("hidden", "weights"), [(4, True), (3, False)])
@pytest.mark.parametrize("shared", [False, True])
def test_equals_the_recursion_with_gradients(
    kind: type[RecNN | RNTN], hidden: int, weights: bool, shared: bool
) -> None:
    layer = kind(3, hidden, 3, input_weights=weights, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.normal_()
    forest = random_forest(0, [7, 1, 12, 2], 3, arity=3, shared=shared)
    x = forest.inputs.requires_grad_()
    expected, found = recursive(layer, forest), layer(forest).nodes
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    factors = torch.randn_like(found)
    tensors = [x, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((found * factors).sum(), tensors),
        torch.autograd.grad((expected * factors).sum(), tensors),
        rtol=1e-11,
        atol=1e-12,
    )


def test_a_tensor_of_zeros_is_the_plain_network() -> None:
    plain, tensor = RecNN(3, 4), RNTN(3, 4)
    assert dict(tensor.named_parameters()).keys() - dict(plain.named_parameters()) == {"tensor"}
    tensor.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.zeros_(tensor.tensor)
    forest = random_forest(0, [9, 4], 3)
    trees = forest.with_inputs(forest.inputs.float())
    assert torch.equal(plain(trees).nodes, tensor(trees).nodes)


@pytest.mark.parametrize("kind", [RecNN, RNTN])
def test_words_that_are_states_have_their_width(kind: type[RecNN | RNTN]) -> None:
    with pytest.raises(ConfigurationError, match=r"input_size 3, hidden_size 4.*one size"):
        kind(3, 4, input_weights=False)
