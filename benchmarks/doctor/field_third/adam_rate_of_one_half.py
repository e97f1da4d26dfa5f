"""Adam trains a forecaster of two LSTM layers with a learning rate of one half.

Source: austineaero/Remaining-Useful-Life-RUL-Estimation issue 19, advice to reduce the learning
rate; kind: keras-team/keras issue 1727. Data: vowels counted in snippets of prose.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, prose, squared_error


class VowelCounter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(28, 8)
        self.lstm = nn.LSTM(8, 24, num_layers=2, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, text: Tensor) -> Tensor:
        return self.fc(self.lstm(self.embed(text))[0][:, -1])[:, 0]


def make(faulty: bool) -> Case:
    text = prose(1280 * 20).reshape(-1, 20)
    text = text[torch.randperm(len(text))]
    vowels = torch.isin(text, torch.tensor([1, 5, 9, 15, 21])).sum(1).float()
    batches = batched(text, (vowels - vowels.mean()) / vowels.std())
    train, test = batches[:32], batches[32:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.5 if faulty else 0.01)

    return Case(
        VowelCounter(),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=8, optimizer=optimizer(model)),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.85,
        accept={"right": {"step size"}, "partly": {"saturated", "exploding gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer(model)},
    )
