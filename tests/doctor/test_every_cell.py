"""Every cell of the library can be diagnosed: a cut in its graph is found, and only where it is."""

import pytest
import torch
from cells.library import CELLS
from doctor.faulty_models import WIDTH, cross_entropy, first_steps
from torch import Tensor, nn

import throughtime as tt
from throughtime.core.state import map_state
from throughtime.doctor import Cause
from throughtime.doctor.gradient_cut import check_cut, flow_in_double
from throughtime.doctor.subject import Subject

HIDDEN = 6


class InPieces(nn.Module):
    """Runs its layer in pieces of four steps, whose graphs are kept together or not."""

    def __init__(self, cell: tt.Cell, *, cut: bool):
        super().__init__()
        self.layer, self.cut = tt.Recurrent(cell, batch_first=True), cut
        self.head = nn.Linear(cell.output_size, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Classes."""
        state = None
        for piece in x.split(4, 1):
            if self.cut and state is not None:
                state = map_state(torch.Tensor.detach, state)
            outputs, state = self.layer(piece, state)
        return self.head(outputs[:, -1])


@pytest.mark.parametrize("name", CELLS)
def test_a_cut_is_found_and_only_where_it_is(name: str) -> None:
    """By the exact check alone, which takes no training."""
    torch.manual_seed(0)
    batches = first_steps(2)
    for cut in (True, False):
        model = InPieces(CELLS[name](WIDTH, HIDDEN), cut=cut)
        s = Subject(model, batches, cross_entropy, 6.0)
        found = check_cut(s, "layer", flow_in_double(s, "layer", batches[-1]), 11)
        assert (found is not None and found.cause is Cause.GRADIENT_CUT) == cut, found


@pytest.mark.parametrize("name", ["UnitaryCell", "zoneout", "graph"])
def test_the_whole_course_runs_on_cells_of_every_kind(name: str) -> None:
    torch.manual_seed(0)
    model = InPieces(CELLS[name](WIDTH, HIDDEN), cut=True)
    found = tt.diagnose(model, first_steps(4), cross_entropy, budget="1s", lag=11)
    assert found.verdict is Cause.GRADIENT_CUT
