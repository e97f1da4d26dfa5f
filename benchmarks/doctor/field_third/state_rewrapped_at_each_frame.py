"""Each frame starts from `h.data`, as old code with `Variable` did: no gradient crosses a step.

Source: yunjey/pytorch-tutorial issue 90, "language model detach(states)". The detached state of
that tutorial belongs between chunks, not between the frames of one chunk.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class FrameLoop(nn.Module):
    def __init__(self, rewraps: bool) -> None:
        super().__init__()
        self.lower = nn.GRUCell(5, 16)
        self.upper = nn.GRUCell(16, 16)
        self.fc = nn.Linear(16, 5)
        self.rewraps = rewraps

    def forward(self, x: Tensor) -> Tensor:
        lower, upper = x.new_zeros(len(x), 16), x.new_zeros(len(x), 16)
        for frame in x.unbind(1):
            if self.rewraps:
                lower, upper = lower.data, upper.data
            lower = self.lower(frame, lower)
            upper = self.upper(lower, upper)
        return self.fc(upper)


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 42, 14, classes=5, at=1, noise=0.4))
    return classifier(
        FrameLoop(rewraps=faulty),
        batches[:32],
        batches[32:],
        accept={"right": {"gradient cut"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=16,
        classes=5,
    )
