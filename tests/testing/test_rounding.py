"""What agrees up to rounding passes, and what does not fails."""

import numpy as np
import pytest

from accelnn.testing import assert_equal_but_for_rounding

X = np.random.default_rng(0).normal(size=1000)


def rarely_changed(calls):
    """Return a reference that moves let change a thousand ulp, but hardly in the first two."""

    def reference(move):
        calls.append(move)
        moved = move(X)
        few = len(calls) < 4
        return [X + (moved - X) * (1.0 if few else 1000.0)]

    return reference


def test_what_two_moves_hardly_change_is_moved_again():
    calls = []
    assert_equal_but_for_rounding([X * (1.0 + 500 * np.finfo(float).eps)], rarely_changed(calls))
    assert len(calls) == 4


def test_moves_end_where_nothing_helps():
    calls = []
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_equal_but_for_rounding([X * (1.0 + 1e-6)], rarely_changed(calls))
    assert len(calls) == 17


def test_what_fits_is_moved_twice():
    calls = []
    assert_equal_but_for_rounding([X], rarely_changed(calls))
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("found", "message"),
    [(X[:9], r"expected shape \(1000,\), got \(9,\)"), (X.astype("f4"), "expected float64")],
)
def test_shapes_and_dtypes_are_those_of_the_reference(found, message):
    with pytest.raises(AssertionError, match=message):
        assert_equal_but_for_rounding([found], lambda move: [move(X)])


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_arrays_are_compared(count):
    with pytest.raises(ValueError, match="zip"):
        assert_equal_but_for_rounding([X] * count, lambda move: [move(X), move(X)])


def test_moves_that_change_a_result_beyond_any_number_show_nothing():
    def reference(move):
        return [np.where(move(X[:3]) == X[:3], 1.0, 1e308)]

    with pytest.raises(AssertionError, match=r"moves by one ulp change results by 1e\+308"):
        assert_equal_but_for_rounding([np.full(3, 5.0)], reference)
