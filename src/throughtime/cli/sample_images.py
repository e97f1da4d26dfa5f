"""Images from a trained density, on a sheet: drawn, or completed from their first half."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.cli.output import show_json, show_place

if TYPE_CHECKING:
    import torch

    from throughtime.tasks.kinds import Pixels


def sample_images(
    model: Any, kind: "Pixels", place: Path, *, count: int, seed: int, json: bool
) -> int:
    """Write a sheet of drawn images and return the exit code.

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

    if count < 1:
        raise ConfigurationError("--count", got=count, expected="1 or more")
    _check_place(place)
    random = torch.Generator().manual_seed(seed)
    images, log_prob = model.sample_and_log_prob(count, random=random)
    _write(place, images, kind.levels)
    if json:
        document = {"schema_version": 1, "sheet": str(place), "log_prob": log_prob.tolist()}
        show_json(document)
        return 0
    show_place(f"sheet of {count} images", place)
    return 0


def complete_images(
    model: Any, run: Path, kind: "Pixels", place: Path, *, count: int, seed: int, json: bool
) -> int:
    """Write a sheet of test images, their given halves, and completions; return the exit code.

    The upper half of an image is given; of an image of one row, the left half.

    Arguments:
        model: The trained model.
        run: The folder of its run, whose task has the images.
        kind: The kind of its images.
        place: The path of the PNG file.
        count: The number of test images.
        seed: The seed of the draws.
        json: If True, one JSON object is printed: the path, and the log-probabilities in nats of
            the completions, given the halves.
    """
    import torch

    from throughtime.core.errors import ConfigurationError
    from throughtime.studies.samples import completed
    from throughtime.training import load_model

    if count < 1:
        raise ConfigurationError("--complete", got=count, expected="1 or more")
    _check_place(place)
    _, task, _ = load_model(run)
    batch: Any = next(task.batches("test", count))
    shown, log_prob = completed(model, batch.x, torch.Generator().manual_seed(seed))
    _write(place, shown.flatten(0, 1), kind.levels, shown.shape[1])
    if json:
        show_json({"schema_version": 1, "sheet": str(place), "log_prob": log_prob.tolist()})
        return 0
    show_place(f"sheet of {len(shown)} images, their halves, and completions", place)
    return 0


def _check_place(place: Path) -> None:
    from throughtime.core.errors import ConfigurationError

    if place.suffix != ".png":
        raise ConfigurationError("--out", got=place.name, expected="a name that ends in .png")


def _write(place: Path, images: "torch.Tensor", levels: int, columns: int | None = None) -> None:
    from throughtime.reports.sheet import image_sheet
    from throughtime.results.atomic import write_whole

    write_whole(place, image_sheet(images.numpy(), levels, columns=columns))
