"""torch's own table of module inputs: what exports with torch.nn's layers does so with ours."""

import pytest

from benchmarks.drop_in import KINDS, outcomes


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_export_with_torch_do_so_with_ours(kind):
    found = list(outcomes(kind, ("torch.export", "ONNX, traced"), step=11))
    assert any(o.theirs is None for o in found)
    assert [o for o in found if o.theirs is None and o.ours is not None] == []
