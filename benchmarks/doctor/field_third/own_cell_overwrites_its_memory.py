"""An own LSTM cell computes `c = i * g` and leaves the old memory out.

Source: zhiyongc/GRU-D issue 2 and fatchord/WaveRNN issue 7, wrong updates in own cells. Data: one
of two commands is shown once, and the controller names it at the end of a noisy course.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class OwnCell(nn.Module):
    def __init__(self, inputs: int, units: int, overwrite: bool) -> None:
        super().__init__()
        self.x2h = nn.Linear(inputs, 4 * units)
        self.h2h = nn.Linear(units, 4 * units)
        self.overwrite = overwrite

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
        new = i.sigmoid() * g.tanh()
        c = new if self.overwrite else (f + 2).sigmoid() * c + new
        return o.sigmoid() * c.tanh(), c


class Controller(nn.Module):
    def __init__(self, overwrite: bool) -> None:
        super().__init__()
        self.cell = OwnCell(4, 24, overwrite)
        self.out = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], h, c)
        return self.out(h)


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 38, 32))
    return classifier(
        Controller(overwrite=faulty),
        batches[:30],
        batches[30:],
        {"right": {"forgetting"}, "partly": {"vanishing gradient"}} if faulty else {"healthy"},
        epochs=12,
    )
