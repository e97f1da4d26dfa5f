"""Images from a trained density, on a sheet."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.cli.output import show_json, show_place

if TYPE_CHECKING:
    from throughtime.tasks.kinds import Pixels


def sample_images(
    model: Any, kind: "Pixels", place: Path, *, count: int, seed: int, json: bool
) -> int:
    """Write a sheet of images and return the exit code.

    Arguments:
        model: The trained model.
        kind: The kind of its images.
        place: The path of the PNG file.
        count: The number of images.
        seed: The seed of the draws.
        json: If True, one JSON object is printed: the path, and the log-probabilities in nats.
    """
    import torch

    from throughtime.core.errors import ConfigurationError
    from throughtime.reports.sheet import image_sheet
    from throughtime.results.atomic import write_whole

    if count < 1:
        raise ConfigurationError("--count", got=count, expected="1 or more")
    if place.suffix != ".png":
        raise ConfigurationError("--out", got=place.name, expected="a name that ends in .png")
    random = torch.Generator().manual_seed(seed)
    images, log_prob = model.sample_and_log_prob(count, random=random)
    write_whole(place, image_sheet(images.numpy(), kind.levels))
    if json:
        document = {"schema_version": 1, "sheet": str(place), "log_prob": log_prob.tolist()}
        show_json(document)
        return 0
    show_place(f"sheet of {count} images", place)
    return 0
