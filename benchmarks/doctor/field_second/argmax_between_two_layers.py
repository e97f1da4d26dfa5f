"""The story's code reaches the second layer through an argmax, which passes no gradient.

Source: kind: discuss.pytorch.org threads on "argmax is not differentiable" between two networks.
The layer that reads the story stays as it was initialised.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class StoryReader(nn.Module):
    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.story = nn.GRU(4, 24, batch_first=True)
        self.code = nn.Linear(24, 8)
        self.codes = nn.Embedding(8, 16)
        self.question = nn.GRU(4, 16, batch_first=True)
        self.out = nn.Linear(16, 8)
        self.hard = hard

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        logits = self.code(self.story(story)[1][0])
        soft = logits.softmax(1) @ self.codes.weight
        code = self.codes(logits.argmax(1)) if self.hard else soft
        return self.out(self.question(question, code[None])[1][0])


def make(faulty: bool) -> Case:
    story, key = cued(32 * 44, 16, classes=4, at=3)
    question, kind = cued(32 * 44, 8, classes=2, at=3)
    batches = batched(story, question, 2 * key + kind)
    return classifier(
        StoryReader(hard=faulty),
        batches[:36],
        batches[36:],
        {"right": {"gradient cut"}, "partly": {"not trained"}} if faulty else {"healthy"},
        epochs=20,
        classes=8,
    )
