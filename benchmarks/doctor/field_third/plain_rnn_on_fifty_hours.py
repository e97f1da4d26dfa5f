"""A plain tanh network shall remember the soil of a catchment over fifty noisy hours.

Source: kind: discuss.pytorch.org 98896 and 159152, flat forecasts; a tanh layer where a gated one
was needed. The soil, wet or dry, is shown in the second hour.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Discharge(nn.Module):
    def __init__(self, layer: type[nn.RNN] | type[nn.GRU]) -> None:
        super().__init__()
        self.rnn = layer(4, 24, batch_first=True)
        self.fc = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 40, 50, at=1))
    return classifier(
        Discharge(nn.RNN if faulty else nn.GRU),
        batches[:32],
        batches[32:],
        {"right": {"vanishing gradient"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        epochs=12,
    )
