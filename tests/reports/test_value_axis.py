"""What a picture's y axis shows."""

from throughtime.reports.drawing import LEAST, ValueAxis
from throughtime.results.diagnosis import Picture, Series


def axis(*values: float, logarithmic: bool = False) -> ValueAxis:
    series = Series("line", tuple(float(k) for k in range(len(values))), values)
    picture = Picture(
        title="t", caption="c", x_label="x", y_label="y", series=(series,), logarithmic=logarithmic
    )
    return ValueAxis(picture)


def test_what_hardly_differs_does_not_look_as_if_it_did() -> None:
    near = axis(1.10150, 1.10154)
    assert near.high - near.low >= LEAST * 1.1
    assert near.low < 1.1 < near.high
    far = axis(1.0, 2.0)
    assert 1.0 < far.high - far.low < 1.3


def test_a_single_value_has_room() -> None:
    one = axis(3.0)
    assert one.low < 3.0 < one.high
    power = axis(1e-9, logarithmic=True)
    assert power.low < -9 < power.high
