"""A tagger is fed the tag of the word that it tags, in place of the tag before it.

Source: kind: threads on teacher forcing with training accuracy 1 and poor output of its own.
Data: switch words turn a mode on and off; when tagging alone, the tagger reads its own last tag.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, cross_entropy, fit

SWITCHES, WORDS, START = 3, 24, 2


class ForcedTagger(nn.Module):
    def __init__(self, current: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 10)
        self.tags = nn.Embedding(3, 6)
        self.rnn = nn.GRU(16, 24, batch_first=True)
        self.out = nn.Linear(24, 2)
        self.current = current

    def forward(self, words: Tensor, tags: Tensor) -> Tensor:
        if not self.current:
            tags = torch.cat((torch.full_like(tags[:, :1], START), tags[:, :-1]), 1)
        return self.out(self.rnn(torch.cat((self.words(words), self.tags(tags)), 2))[0])

    @torch.no_grad()
    def tag(self, words: Tensor) -> Tensor:
        """Return the tags, each from the words so far and the tagger's own last tag."""
        tag, state, tags = torch.full_like(words[:, :1], START), None, []
        for t in range(words.shape[1]):
            x = torch.cat((self.words(words[:, t : t + 1]), self.tags(tag)), 2)
            output, state = self.rnn(x, state)
            tag = self.out(output).argmax(2)
            tags.append(tag)
        return torch.cat(tags, 1)


def sentences(count: int, steps: int) -> tuple[Tensor, Tensor]:
    words = torch.randint(SWITCHES, WORDS, (count, steps))
    switch = torch.rand(count, steps) < 0.15
    words[switch] = torch.randint(SWITCHES, (int(switch.sum()),))
    return words, switch.cumsum(1) % 2


def right_tags(model: nn.Module, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """Return the share of right tags where the tagger is on its own."""
    return sum(float((model.tag(x) == y).float().mean()) for x, _, y in batches) / len(batches)


def make(faulty: bool) -> Case:
    words, tags = sentences(32 * 40, 30)
    batches = batched(words, tags, tags)
    train, test = batches[:32], batches[32:]
    return Case(
        ForcedTagger(current=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=10),
        lambda model: right_tags(model, test),
        chance=0.5,
        good=0.92,
        accept={"right": {"target seen"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
