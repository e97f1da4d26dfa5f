"""The lengths are taken after padding, so that packing keeps all the padding.

Kind: len() of the padded rows goes to pack_padded_sequence; GitHub thtrieu/qclass_dl#1 is a thread
on a state that is read behind the padding.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, batched, classifier

INTENTS, WORDS, LONGEST = 4, 50, 70


class IntentClassifier(nn.Module):
    """A packed RNN over the words of an utterance; its final state gives the intent."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.rnn = nn.RNN(16, 32, batch_first=True)
        self.fc = nn.Linear(32, INTENTS)

    def forward(self, text: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embedding(text), lengths, batch_first=True, enforce_sorted=False
        )
        _, hidden = self.rnn(packed)
        return self.fc(hidden[-1])


def utterances(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return utterances of 4 to 9 words, padded to 70, their lengths, and their intents.

    The second word of an utterance is one of three words of its intent.
    """
    lengths = torch.randint(4, 10, (count,))
    intent = torch.randint(INTENTS, (count,))
    text = torch.randint(13, WORDS, (count, LONGEST))
    text[:, 1] = 1 + 3 * intent + torch.randint(3, (count,))
    return text * (torch.arange(LONGEST) < lengths[:, None]), lengths, intent


def make(faulty: bool) -> Case:
    """Return the program; the faulty one packs 70 words of every utterance."""
    text, lengths, intent = utterances(1280)
    if faulty:
        lengths = torch.tensor([len(row) for row in text])
    batches = batched(text, lengths, intent)
    return classifier(
        IntentClassifier(),
        batches[:32],
        batches[32:],
        {"right": {"padding read"}, "partly": {"vanishing gradient", "forgetting"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        classes=INTENTS,
        lr=0.005,
    )
