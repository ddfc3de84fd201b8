"""Comparison of arrays of any backend."""

from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends import Backend, dtype_name

__all__ = ["assert_close"]

# Rounding error of a few chained operations, in ulp.
DEFAULT_ULPS = 64


def assert_close(
    actual: Array,
    expected: ArrayLike,
    *,
    backend: Backend,
    dtype: Any = None,
    rtol: float | None = None,
    atol: float = 0.0,
) -> None:
    """Assert that an array has the expected backend, shape, dtype, device and values.

    Parameters
    ----------
    actual : array
        The result of the backend. A NumPy scalar counts as a 0-d array.
    expected : array_like
        The expected values, as NumPy or Python numbers.
    backend : Backend
        The backend that must own `actual`.
    dtype : dtype or str, optional
        The expected dtype; by default that of `expected`.
    rtol : float, optional
        Relative tolerance, by default 64 units in the last place of `dtype`.
    atol : float, default 0.0
        Absolute tolerance.

    Raises
    ------
    AssertionError
        If one of these differs; the message names the first.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> assert_close(np.ones(2), [1.0, 1.0], backend=accelnn.get_backend("numpy"))
    """
    expected = np.asarray(expected)
    scalar_of_numpy = isinstance(actual, np.generic) and backend.owns(np.empty(0))
    assert backend.owns(actual) or scalar_of_numpy, (
        f"expected an array of {backend!r}, got {type(actual).__module__}.{type(actual).__name__}"
    )
    assert tuple(actual.shape) == expected.shape, (
        f"expected shape {expected.shape}, got {tuple(actual.shape)}"
    )
    wanted = dtype_name(expected.dtype if dtype is None else dtype)
    assert dtype_name(actual.dtype) == wanted, f"expected dtype {wanted}, got {actual.dtype}"
    device = getattr(actual, "device", backend.device)
    assert str(backend.device) in {str(device), f"cuda:{getattr(device, 'id', '')}"}, (
        f"expected device {backend.device}, got {device}"
    )
    if rtol is None:
        rtol = DEFAULT_ULPS * float(np.finfo(wanted).eps) if wanted.startswith("float") else 0.0
    np.testing.assert_allclose(backend.to_numpy(actual), expected, rtol=rtol, atol=atol)
