"""Diagnoses written by hand, as the doctor fills them in: what readers meet, and the odd ones."""

import math

from throughtime.results.diagnosis import (
    Cause,
    Diagnosis,
    Estimate,
    Fact,
    Finding,
    Picture,
    Remedy,
    Series,
)


def decay(label: str, rate: float, *, first: float = 1.0, length: int = 120) -> Series:
    """A gradient that falls by a factor a step, with a band of a third around it."""
    y = tuple(first * rate**k * (1 + 0.15 * math.sin(k)) for k in range(length))
    x = tuple(map(float, range(length)))
    return Series(label, x, y, tuple(v / 1.5 for v in y), tuple(v * 1.5 for v in y))


GRADIENT = Picture(
    title="The gradient of the last layer falls below 1 % of its largest value after 17 steps.",
    caption="Norm of ∂L/∂h by lag, over 8 batches. What lies left of the dotted line, the answer "
    "needs.",
    x_label="lag: steps before the last one",
    y_label="‖∂L/∂h‖, relative to its largest",
    series=(decay("rnn", 0.76), decay("the reference LSTM of the same size", 0.985)),
    logarithmic=True,
    mark=(100.0, "dependency length, 100"),
    level=(0.01, "1 % of the largest"),
)
GATES = Picture(
    title="The gates hardly let anything through.",
    caption="Mean over units and sequences.",
    x_label="step",
    y_label="mean of the gate",
    series=tuple(
        Series(
            name, tuple(range(60)), tuple(0.2 * k + 0.1 * math.sin(t / 7 + k) for t in range(60))
        )
        for k, name in enumerate(("input", "forget", "output"), 1)
    ),
)
LOSS = Picture(
    title="With a forget bias of 3 the held-out loss falls; without it, it stays at chance.",
    caption="Twin copies on the same batches; the band is the 95 % interval over seeds.",
    x_label="update",
    y_label="held-out loss",
    series=(
        Series("as it is", tuple(range(0, 210, 10)), tuple(0.69 - 0.0004 * k for k in range(21))),
        Series(
            "with the change",
            tuple(range(0, 210, 10)),
            tuple(0.69 * 0.9**k for k in range(21)),
            tuple(0.62 * 0.9**k for k in range(21)),
            tuple(0.76 * 0.9**k for k in range(21)),
        ),
    ),
    level=(0.693, "chance, 0.693"),
)

VANISHING = Diagnosis(
    verdict=Cause.VANISHING,
    sentence="The gradient of the RNN falls to 1 % within 17 steps, and the answer needs 100: "
    "nothing earlier than that is learnt.",
    findings=(
        Finding(
            Cause.VANISHING,
            "fault",
            "measured",
            "The gradient that reaches lag 100 is 1.2e-12 of its largest value; the reference "
            "LSTM's is 0.22.",
            Estimate(17.2, 15.8, 18.6, 8),
            "reach of the gradient in steps",
            100.0,
            "layer rnn, 8 batches of 32 sequences",
            "Use a gated cell, or start the recurrent matrix as the identity.",
        ),
        Finding(
            Cause.SATURATED,
            "warning",
            "suspected",
            "31 % of the units are within 1 % of ±1 at the last step.",
            Estimate(0.312, 0.288, 0.335, 8),
            "share of saturated units",
            0.3,
            "layer rnn, 8 batches of 32 sequences",
            "",
        ),
        Finding(
            Cause.HEALTHY,
            "note",
            "proved",
            "No step of a sequence changes the output of another: the batch is not mixed up.",
            None,
            "",
            None,
            "layer rnn, 64 sequences",
            "",
        ),
    ),
    remedies=(
        Remedy(
            "nn.LSTM with forget bias 3",
            "model.rnn = nn.LSTM(1, 64, batch_first=True)\n"
            "with torch.no_grad():\n    model.rnn.bias_ih_l0[64:128].fill_(3.0)",
            "trained",
            "held-out loss",
            Estimate(0.6923, 0.6911, 0.6935, 3),
            Estimate(0.0841, 0.0702, 0.0983, 3),
            200,
            True,
        ),
        Remedy(
            "recurrent matrix = identity",
            "nn.init.eye_(model.rnn.weight_hh_l0)",
            "instruments",
            "gradient at lag 100",
            Estimate(1.2e-12, 0.9e-12, 1.7e-12, 8),
            Estimate(0.034, 0.029, 0.041, 8),
            0,
            False,
        ),
        Remedy(
            "clip the gradient's norm at 1",
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
            "trained",
            "held-out loss",
            Estimate(0.6923, 0.6911, 0.6935, 3),
            Estimate(0.6921, 0.6902, 0.6940, 3),
            200,
            False,
        ),
    ),
    pictures=(GRADIENT, LOSS, GATES, GRADIENT, GATES),
    facts=(
        Fact("parameters", "4,417"),
        Fact("layers", "rnn: nn.RNN(1, 64), tanh"),
        Fact("data", "8 batches of 32 sequences of 100 steps"),
        Fact("torch", "2.9.0, cpu, 2 threads"),
    ),
    missing_evidence=(
        "Pass `metric=` to have accuracy beside the loss.",
        "Pass `train_step=` for remedies to be trained with your own optimiser.",
    ),
    seconds=31.2,
    budget=60.0,
    model="SequenceClassifier (rnn: nn.RNN)",
)

HEALTHY = Diagnosis(
    verdict=Cause.HEALTHY,
    sentence="The model remembers all 100 steps that its answers need.",
    findings=(
        Finding(
            Cause.HEALTHY,
            "note",
            "measured",
            "The gradient at lag 100 is 0.31 of its largest value.",
            Estimate(0.31, 0.28, 0.34, 8),
            "relative gradient at lag 100",
            0.01,
            "layer lstm, 8 batches",
            "",
        ),
    ),
    remedies=(),
    pictures=(),
    facts=(),
    missing_evidence=(),
    seconds=4.2,
    budget=60.0,
    model="Tagger (lstm: nn.LSTM)",
)

INCONCLUSIVE = Diagnosis(
    verdict=Cause.INCONCLUSIVE,
    sentence="With one batch of 4 sequences the noise is larger than any effect that was seen.",
    findings=(
        Finding(
            Cause.FORGETTING,
            "warning",
            "suspected",
            "The first input can be read from the last state a little better than by chance.",
            Estimate(0.06, -0.09, 0.21, 4),
            "accuracy above chance",
            0.1,
            "layer gru, 1 batch of 4 sequences",
            "",
        ),
    ),
    remedies=(),
    pictures=(GATES,),
    facts=(Fact("data", "1 batch of 4 sequences of 50 steps"),),
    missing_evidence=(
        "Pass at least 8 batches: diagnose(model, loss, batches=[...]).",
        "Pass `budget=120` or more: copies could not be trained in 20 s.",
    ),
    seconds=19.8,
    budget=20.0,
    model="Decoder (gru: nn.GRU)",
)

LONG = "encoder_of_the_left_context.recurrent_stack.layers_0_to_3.bidirectional_lstm_" + "x" * 60
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> [red]\"'&$x^2$"

_odd = (0.0, math.nan, math.inf, -math.inf)
ODD = Diagnosis(
    verdict=Cause.EXPLODING,
    sentence=f"In {LONG} the gradient is not finite, {HOSTILE}.",
    findings=tuple(
        Finding(
            Cause.EXPLODING,
            severity,
            "measured",
            f"In {LONG} something is {value}, {HOSTILE}.",
            Estimate(value, value, value, 1),
            LONG,
            value,
            HOSTILE,
            LONG,
        )
        for value, severity in zip(_odd, ("fault", "warning", "note", "note"), strict=True)
    ),
    remedies=(
        *(
            Remedy(
                LONG,
                f"{LONG} = '{HOSTILE}'",
                "trained",
                LONG,
                Estimate(1e-30, 1e-31, 1e-29, 3),
                Estimate(value, value, value, 3),
                12345,
                value == 0,
            )
            for value in _odd
        ),
        Remedy(
            HOSTILE,
            "",
            "instruments",
            HOSTILE,
            Estimate(12345.6, -math.inf, math.inf, 1),
            Estimate(1e300, 1e-300, 1e308, 1),
            0,
            False,
        ),
    ),
    pictures=(
        Picture(
            f"Zero, NaN and infinity of {LONG}.",
            HOSTILE,
            LONG,
            HOSTILE,
            (
                Series(LONG, (0, 1, 2, 3, 4, 5, 6), (1.0, 0.0, math.nan, math.inf, 1e-3, -1.0, 1)),
                Series(HOSTILE, (0, 1, 2), (1e-40, 1e-3, 1e-5), (0.0, 0.0, 1e-6), (1, math.inf, 1)),
            ),
            logarithmic=True,
            mark=(4.0, LONG),
            level=(1e-2, HOSTILE),
        ),
        Picture("All NaN.", "", "x", "y", (Series("nan", (0, 1), (math.nan, math.nan)),)),
        Picture("No series.", "", "x", "y", ()),
        Picture(
            "A linear axis with both infinities, and a single point.",
            "",
            "x",
            "y",
            (
                Series("line", (0, 1, 2, 3), (-math.inf, -3.2, 7.5, math.inf)),
                Series("one point", (2,), (1.0,)),
            ),
            mark=(0.0, "the start"),
            level=(math.nan, "not a number"),
        ),
        Picture("All zeros on a log axis.", "", "x", "y", (Series("0", (0, 1), (0, 0)),), True),
        Picture("A constant.", "", "x", "y", (Series("1", (0, 1), (1.0, 1.0)),)),
    ),
    facts=(Fact(LONG, HOSTILE), Fact(HOSTILE, LONG)),
    missing_evidence=(LONG, HOSTILE),
    seconds=3723.0,
    budget=math.inf,
    model=f"{LONG} {HOSTILE}",
)

ALL = {"vanishing": VANISHING, "healthy": HEALTHY, "inconclusive": INCONCLUSIVE, "odd": ODD}
