"""Any cell as a reader of stories: the words one by one, then the question, then the answer."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.models.readout import SequenceModel
from throughtime.tasks.stories import StoryBatch


@final
class StoryReader(nn.Module):
    """A model of sequences that reads a story word by word, and the question last.

        x = [sentence 1, end, sentence 2, end, ..., question],   a = model(x)

    Arguments:
        model: model of symbols, with an answer after the last step.
        end: word behind each sentence.

    Example:
        >>> from throughtime.models import build_model
        >>> from throughtime.tasks import TASKS
        >>> task = TASKS.build("questions:kind=one-fact,questions=20")
        >>> model = build_model("gru:hidden=4", task.inputs, task.answers)
        >>> model(next(task.batches("validation", 3))).shape
        torch.Size([3, 20])

    Source:
        Weston et al., arXiv:1502.05698, section 4, the LSTM baseline.
    """

    def __init__(self, model: SequenceModel, end: int):
        super().__init__()
        self.model, self.end = model, end

    def forward(
        self, batch: StoryBatch, step: int | None = None
    ) -> Float[Tensor, "batch alphabet"]:
        """Return logits of the answers.

        Arguments:
            batch: stories and questions.
            step: unused.
        """
        del step
        words, lengths = as_sequences(batch, self.end)
        return self.model(words, lengths.cpu())


def as_sequences(
    batch: StoryBatch, end: int
) -> tuple[Int[Tensor, "time batch"], Int[Tensor, " batch"]]:
    """Return each story and its question as one sequence of words, and the lengths.

    Arguments:
        batch: stories and questions.
        end: word behind each sentence.

    Example:
        >>> from throughtime.tasks.stories import Line, StoryQuestions
        >>> story = [Line("It rains."), Line("Does it rain?", "yes")]
        >>> task = StoryQuestions("a", dict.fromkeys(("training", "validation", "test"), [story]))
        >>> words, lengths = as_sequences(next(task.batches("test", 1)), task.inputs.end)
        >>> task.vocabulary.decode(words[:, 0].tolist()), lengths.tolist()
        ('it rains\\ndoes it rain', [6])
    """
    count, most, size = batch.sentences.shape
    steps = torch.arange(most + 1, device=batch.targets.device)[:, None]
    ends = batch.lengths[:, None]
    told = torch.cat([batch.sentences, batch.sentences.new_full((count, 1, size), end)], 1)
    told = torch.where(steps == ends, end, told)
    there = (steps <= ends) & (ends > 0)
    asked = steps.new_tensor(range(len(batch.question)))[:, None] < batch.question_lengths
    words = torch.cat([told.flatten(0, 1), batch.question])
    kept = torch.cat([there.flatten(0, 1), asked])
    lengths = kept.sum(0)
    order = (~kept).to(torch.uint8).argsort(dim=0, stable=True)[: int(lengths.max())]
    return words.gather(0, order), lengths
