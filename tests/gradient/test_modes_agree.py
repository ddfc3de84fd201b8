"""Serial, batched, divided and compiled: one gradient."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accelnn

numba = pytest.importorskip("numba", reason="numba is not installed")

_points = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
    elements=st.floats(-100, 100),
)
_every_method = st.sampled_from(["central", "forward", "backward", "richardson"])


@numba.njit
def compiled(x):
    total = 0.0
    for value in x.flat:
        total += np.sin(value) * value
    return total


def serial(x):
    return compiled(x)


def batched(points):
    return np.array([compiled(x) for x in points])


@settings(deadline=None, max_examples=60)
@given(x=_points, method=_every_method, chunk_size=st.none() | st.integers(1, 7))
def test_four_ways(x, method, chunk_size):
    """All call the same function at the same points, so that not one bit may differ."""
    expected = accelnn.numerical_gradient(serial, x.copy(), method=method, backend="numpy")
    with ThreadPoolExecutor(2) as pool:
        found = {
            "batched": accelnn.numerical_gradient(
                batched, x, method=method, batched=True, chunk_size=chunk_size
            ),
            "workers": accelnn.numerical_gradient(
                serial, x, method=method, workers=pool.map, chunk_size=chunk_size
            ),
            "compiled": accelnn.numerical_gradient(compiled, x, method=method, backend="numba"),
        }
    for way, gradient in found.items():
        np.testing.assert_array_equal(gradient, expected, err_msg=way)


@settings(deadline=None, max_examples=40)
@given(x=_points, method=_every_method, factor=st.sampled_from([-4.0, 0.5, 1024.0]))
def test_a_factor_goes_through(x, method, factor):
    """A power of two rounds nothing."""
    plain, scaled = (
        accelnn.numerical_gradient(lambda x, k=k: k * serial(x), x, method=method)
        for k in (1.0, factor)
    )
    np.testing.assert_array_equal(scaled, factor * plain)


@settings(deadline=None, max_examples=40)
@given(x=_points, seed=st.integers(0, 1000), method=_every_method)
def test_linear_functions_are_exact_to_rounding(x, seed, method):
    weights = np.random.default_rng(seed).integers(-8, 9, size=x.shape).astype(float)
    result = accelnn.numerical_gradient(
        lambda x: np.sum(weights * x), x, method=method, full_output=True
    )
    step = {"central": 2.0**-18, "richardson": 2.0**-6}.get(method, 2.0**-26)
    noise = 2.0**-50 * (1.0 + np.abs(weights * x).sum()) / step
    np.testing.assert_allclose(result.gradient, weights, rtol=0.0, atol=noise)
