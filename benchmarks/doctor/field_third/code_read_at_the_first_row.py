"""An autoencoder takes the encoder's output at the first step as the code.

Source: Kaixhin/Autoencoders issue 11, all digits are reconstructed as their mean. Data: digits, a
half row of pixels a step.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, digits, forecaster


class DigitAutoencoder(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(4, 48, batch_first=True)
        self.code = nn.Linear(48, 24)
        self.decoder = nn.GRU(24, 48, batch_first=True)
        self.out = nn.Linear(48, 4)
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.encoder(x)
        code = self.code(output[:, self.index])
        decoded, _ = self.decoder(code[:, None].expand(-1, x.shape[1], -1))
        return self.out(decoded)


def make(faulty: bool) -> Case:
    images, _ = digits()
    x = images.reshape(-1, 16, 4)
    x = (x - x.mean(0)) / 0.3
    batches = batched(x, x, size=36)
    return forecaster(
        DigitAutoencoder(0 if faulty else -1),
        batches[:42],
        batches[42:],
        {"right": {"answer at the wrong step"}, "partly": {"forgetting", "gradient cut"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        good=0.5,
    )
