"""Comparison up to rounding, with tolerances from the sensitivity of the computation itself.

Two engines sum in different orders, and so may one engine on two machines. How much a rounding
error grows depends on the computation: a plain sum hardly amplifies it, but an optimiser that
divides by the root of a sum of squares near zero does. So the reference is run again on inputs
perturbed by one ulp, and the change of its results sets the tolerance.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Move", "assert_equal_but_for_rounding"]

Move = Callable[[Any], Any]

# The tolerance as a multiple of the change by a perturbation: inputs are perturbed once, while a
# computation rounds at every operation and sums in its own order.
MULTIPLE = 8.0

# The tolerance is at least this many ulp of the largest number, because the result is rounded too,
# and the effects of two perturbations may cancel.
FLOOR = 8.0

# Moves, and the most of them: both of two may change little by chance, in a computation that
# another one changes much, so that what does not fit is compared with more.
DRAWS, MOST_DRAWS = 2, 16


def assert_equal_but_for_rounding(
    actual: Sequence[Any],
    reference: Callable[[Move], Sequence[Any]],
    *,
    dtype: Any = None,
    terms: float = 0.0,
    equal: int = 0,
) -> None:
    """Assert that arrays equal those of a reference up to the rounding error of the reference.

    Parameters
    ----------
    actual : sequence of array_like
        The computed arrays, on the host.
    reference : callable
        ``reference(move)`` computes the same arrays independently. It must pass all of its inputs
        through `move`: arrays, numbers, optimisers. In the first call `move` is the identity; then
        it moves every finite float but zero by one ulp, up or down at random.
    dtype : dtype or str, optional
        The precision in which `actual` was computed, if the reference is more precise. By default
        the dtypes of the reference, which `actual` must then have.
    terms : float, default 0.0
        The magnitude of terms that cancel in the results. If they cancel exactly, so may the effect
        of the moves, although summing in another order leaves a rounding error.
    equal : int, default 0
        The number of terms in sums that may be equal whatever the moves, such as errors that a loss
        limits: the moves do not show how they are rounded, each by at most half an ulp of the sum.

    Raises
    ------
    AssertionError
        If an array differs by more than 8 times the largest change by the moves, plus 8 ulp of its
        largest number or of `terms`, plus half an ulp for each of the `equal` terms. There are two
        moves, and up to 16 where an array differs by more than two allow. Or if they change a
        result so much that nothing could differ too much.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=1000)
    >>> assert_equal_but_for_rounding([x[::-1].sum()], lambda move: [move(x).sum()])
    """
    expected = [np.asarray(array) for array in reference(lambda value: value)]
    found = [np.asarray(array) for array in actual]
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.shape == wanted.shape, f"expected shape {wanted.shape}, got {ours.shape}"
        if dtype is None:
            assert ours.dtype == wanted.dtype, f"expected {wanted.dtype}, got {ours.dtype}"
    spread = [0.0] * len(expected)

    def check() -> None:
        for ours, wanted, change in zip(found, expected, spread, strict=True):
            eps = float(np.finfo(wanted.dtype if dtype is None else dtype).eps)
            largest = _largest(wanted)
            least = FLOOR * eps * max(terms, largest) + equal * eps / 2 * largest
            allowed = MULTIPLE * change + least
            assert np.isfinite(allowed), f"moves by one ulp change results by {change:.3g}"
            np.testing.assert_allclose(ours, wanted, rtol=0.0, atol=allowed)

    for seed in range(MOST_DRAWS):
        draw = np.random.default_rng(seed)
        moved = reference(lambda value, draw=draw: _moved(value, draw, dtype))  # type: ignore[misc]
        for i, (array, plain) in enumerate(zip(moved, expected, strict=True)):
            spread[i] = max(spread[i], _largest(np.asarray(array) - plain))
        if seed + 1 >= DRAWS:
            with contextlib.suppress(AssertionError):
                check()
                return
    check()


def _largest(array: np.ndarray) -> float:
    """Return the largest finite magnitude."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max(initial=0.0))


def _moved(value: Any, draw: np.random.Generator, dtype: Any) -> Any:
    """Return numbers moved by one ulp of `dtype`, by default of their own dtype."""
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
    # Zeros are often exact, and sparse code branches on them.
    return np.where((value == 0.0) | ~np.isfinite(value), value, value + sign * unit)
