"""The options of draws and beams that `chat` and `sample` share."""

import dataclasses
from typing import TYPE_CHECKING

from throughtime.cli.arguments import number, option, whole_number

if TYPE_CHECKING:
    from throughtime.core.sampling import Sampling
    from throughtime.models import Beam


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """Choice of the next symbol: a draw, or a beam search."""

    temperature: float = option(
        "T", "Divisor of the logits; 0 for the likeliest symbol.", number, default=1.0, usual="1.0"
    )
    top_k: int | None = option("K", "Number of symbols that are kept.", whole_number, usual="all")
    top_p: float = option(
        "P", "Probability that the kept symbols have together.", number, default=1.0, usual="1.0"
    )
    min_p: float = option(
        "P",
        "Least probability of a kept symbol, relative to the likeliest one.",
        number,
        default=0.0,
        usual="0.0",
    )
    beam: int | None = option(
        "WIDTH", "Width of a beam search, in place of draws.", whole_number, usual="draws"
    )
    length_penalty: float = option(
        "P", "Exponent of the length in the scores of the beam.", number, default=0.0, usual="0.0"
    )

    def strategy(self) -> "Sampling | Beam":
        """Return the beam search if it has a width, else the draw.

        Raises:
            ConfigurationError: a value is out of range, of the draw too where there is a beam.
        """
        from throughtime.core.sampling import Sampling
        from throughtime.models import Beam

        sampling = Sampling(self.temperature, self.top_k, self.top_p, self.min_p)
        return sampling if self.beam is None else Beam(self.beam, self.length_penalty)
