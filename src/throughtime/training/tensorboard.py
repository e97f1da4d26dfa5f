"""The metrics for TensorBoard, an optional extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import final

from throughtime.core.errors import ConfigurationError


@final
class TensorBoardLog:
    """Writes rows of metrics as scalars: train/loss, validation/accuracy, ...

    Arguments:
        folder: folder of the event files; made if need be.
        step: updates done; what an earlier start of the run logged beyond it is hidden.

    Raises:
        ConfigurationError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int = 0):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigurationError(
                "tensorboard=True, but tensorboard is not installed",
                got=str(error),
                fix="Run: pip install 'throughtime[tensorboard]', or leave the option out.",
            ) from error
        self._writer = SummaryWriter(folder, purge_step=step + 1)

    def append(self, row: Mapping[str, object]) -> None:
        """Log one row of metrics.jsonl."""
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Write out what is left, and close the event file."""
        self._writer.close()
