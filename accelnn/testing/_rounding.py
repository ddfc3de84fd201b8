"""How far rounding may take two computations of one thing apart, found from the computation.

Two engines sum in different orders, and so does one engine on two processors. What becomes of a
last digit depends on what is computed: a plain sum hardly notices, an optimiser that divides by the
root of a sum of squares near zero multiplies it. So the reference is run again on inputs that are
moved by one unit in the last place, and what that changes is the measure.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Move", "assert_equal_but_for_rounding"]

Move = Callable[[Any], Any]

# How much further than the moved reference a right computation may be. The units of the inputs are
# moved once, while a computation rounds at every operation and rounds sums in an order of its own.
MULTIPLE = 8.0

# Units in the last place of the largest number that are always allowed: the result itself is
# rounded, and two moves may happen to cancel.
FLOOR = 8.0

DRAWS = 2


def assert_equal_but_for_rounding(
    actual: Sequence[Any],
    reference: Callable[[Move], Sequence[Any]],
    *,
    dtype: Any = None,
    terms: float = 0.0,
) -> None:
    """Assert that arrays are those of a reference, up to what rounding does to that very reference.

    Parameters
    ----------
    actual : sequence of array_like
        What was computed, on the host.
    reference : callable
        ``reference(move)`` computes the same arrays on another way. It passes everything that it
        starts from through `move`: arrays, numbers, optimisers. The first time `move` changes
        nothing; then it moves floats that are not zero by one unit in the last place, up or down
        by chance.
    dtype : dtype or str, optional
        The precision in which `actual` was computed, if the reference is more precise. By default
        each array of the reference has the precision and the dtype that is wanted.
    terms : float, default 0.0
        How large the numbers are that cancel in the results. Where they cancel to nothing, so may
        what the moves change, and yet in another order they leave their rounding.

    Raises
    ------
    AssertionError
        If an array differs by more than 8 times what the moves change anywhere in it and 8 units
        in the last place of its largest number, or of `terms`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=1000)
    >>> assert_equal_but_for_rounding([x[::-1].sum()], lambda move: [move(x).sum()])
    """
    expected = [np.asarray(array) for array in reference(lambda value: value)]
    spread = [0.0] * len(expected)
    for seed in range(DRAWS):
        draw = np.random.default_rng(seed)
        moved = reference(lambda value, draw=draw: _moved(value, draw, dtype))  # type: ignore[misc]
        for i, (array, plain) in enumerate(zip(moved, expected, strict=True)):
            spread[i] = max(spread[i], _largest(np.asarray(array) - plain))
    for found, wanted, change in zip(map(np.asarray, actual), expected, spread, strict=True):
        assert found.shape == wanted.shape, f"expected shape {wanted.shape}, got {found.shape}"
        if dtype is None:
            assert found.dtype == wanted.dtype, f"expected {wanted.dtype}, got {found.dtype}"
        eps = float(np.finfo(wanted.dtype if dtype is None else dtype).eps)
        allowed = MULTIPLE * change + FLOOR * eps * max(terms, _largest(wanted))
        np.testing.assert_allclose(found, wanted, rtol=0.0, atol=allowed)


def _largest(array: np.ndarray) -> float:
    """Return the largest finite magnitude."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max(initial=0.0))


def _moved(value: Any, draw: np.random.Generator, dtype: Any) -> Any:
    """Return numbers one unit in the last place of `dtype`, by default their own, away."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(
            value, **{name: _moved(getattr(value, name), draw, dtype) for name in names}
        )
    if isinstance(value, tuple | list):
        return type(value)(_moved(item, draw, dtype) for item in value)
    if isinstance(value, float):
        return float(_moved(np.array(value), draw, dtype))
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    unit = np.spacing(np.abs(value).astype(dtype or value.dtype)).astype(value.dtype)
    sign = draw.choice(np.array([-1.0, 1.0], value.dtype), value.shape)
    # A zero is often exact, and which numbers are zero may decide what is computed.
    return np.where(value == 0.0, value, value + sign * unit)
