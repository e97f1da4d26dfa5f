"""Models of whole images: a grid's scans, and pixels in raster order."""

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import GridModel, RasterModel, build_model
from throughtime.tasks.kinds import Classes, Images, Tokens

IMAGES = Images(6, 5, 2)


@pytest.mark.parametrize(
    "spec",
    [
        "grid:hidden=3",
        "grid:unit=tanh,hidden=3,directions=2,layers=2,blocks=1x1/2x2",
        "grid:unit=relu,hidden=3,blocks=2x3",
        "lstm:hidden=3",
        "raster:cell=gru,hidden=3,bidirectional=true",
    ],
)
def test_an_image_alone_equals_itself_in_company(spec: str) -> None:
    torch.manual_seed(0)
    model = build_model(spec, IMAGES, Classes(4)).double()
    images, sizes = torch.randn(3, 2, 6, 5).double(), torch.tensor([[6, 5], [2, 3], [4, 1]])
    found = model(images, sizes)
    assert found.shape == (3, 4)
    for k, (height, width) in enumerate(sizes.tolist()):
        alone = model(images[k : k + 1, :, :height, :width])
        torch.testing.assert_close(alone[0], found[k], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("unit", "rows"), [("lstm", 15), ("tanh", 3), ("relu", 3)])
def test_units(unit: str, rows: int) -> None:
    model = build_model(f"grid:unit={unit},hidden=3", IMAGES, Classes(4))
    assert model.get_parameter("grid.weight_ih_l0").shape == (4, rows, 2)


def test_pixels_are_read_row_by_row() -> None:
    torch.manual_seed(0)
    model = build_model("gru:hidden=3", IMAGES, Classes(4))
    assert isinstance(model, RasterModel)
    image = torch.randn(1, 2, 2, 3)
    steps = [image[0, :, row, column] for row in range(2) for column in range(3)]
    assert torch.equal(model(image), model.sequence(torch.stack(steps)[:, None]))


def test_the_read_out_reads_the_last_pixels_of_the_top_layer() -> None:
    torch.manual_seed(0)
    model = build_model("grid:hidden=2,layers=2", IMAGES, Classes(4))
    assert isinstance(model, GridModel)
    images = torch.randn(1, 2, 6, 5)
    output, _ = model.grid(images.permute(2, 3, 0, 1))
    parts = output[:, :, 0].unflatten(-1, (4, 2))
    ends = [parts[-1, -1, 0], parts[0, 0, 1], parts[-1, 0, 2], parts[0, -1, 3]]
    assert torch.equal(model(images)[0], model.readout(torch.cat(ends)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("grid:blocks=2", "HEIGHTxWIDTH"),
        ("grid:blocks=0x2", "HEIGHTxWIDTH"),
        ("grid:blocks=1x1/2x2", "one block for each of 1 layers"),
        ("grid:directions=5", "directions"),
        ("grid:hidden=0", "hidden_size"),
        ("grid:unit=gru", "unit"),
        ("grid:unit=relu,forget-bias=1", "forget_bias"),
    ],
)
def test_options_that_do_not_fit_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_model(spec, IMAGES, Classes(4))


@pytest.mark.parametrize("family", ["grid", "raster"])
def test_other_tasks_are_refused(family: str) -> None:
    for inputs, answers in ((Tokens(3), Classes(4)), (IMAGES, Classes(4, per_step=True))):
        with pytest.raises(ConfigurationError, match="expected images, and classes"):
            build_model(family, inputs, answers)
