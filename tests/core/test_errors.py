import pickle

from throughtime import errors
from throughtime.core.errors import ThroughtimeError, UnknownNameError

KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]


def test_all_errors_are_one_tree_and_drawn_in_it():
    assert len(KINDS) > 10
    for kind in KINDS:
        assert issubclass(kind, ThroughtimeError)
        if kind is not ThroughtimeError:
            assert any(f"{branch}── {kind.__name__}" in errors.__doc__ for branch in "├└")


def test_messages_say_what_was_got_and_expected_and_what_to_do():
    error = errors.ShapeError("x", got="a", expected="b", fix="Do c.")
    assert str(error) == "x: got a, expected b. Do c."
    assert str(errors.RunError("x is full")) == "x is full"
    near = UnknownNameError("model", "lsmt", ["lstm", "gru"])
    assert str(near) == (
        "unknown model: got 'lsmt', expected one of: gru, lstm. Did you mean 'lstm'?"
    )


def test_every_error_crosses_processes():
    for kind in KINDS:
        error = kind("task", "a", ["b"]) if kind is UnknownNameError else kind("it", got=1)
        twin = pickle.loads(pickle.dumps(error))
        assert type(twin) is kind
        assert str(twin) == str(error)
