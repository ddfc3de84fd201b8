"""`numerical_gradient` of functions whose gradients are known."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accelnn
from accelnn.errors import ImpureFunctionError

METHODS = ("central", "forward", "backward")
_every_method = pytest.mark.parametrize("method", METHODS)


def _rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _rosenbrock_gradient(x):
    g = np.zeros_like(x)
    g[:-1] += -400.0 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2.0 * (1.0 - x[:-1])
    g[1:] += 200.0 * (x[1:] - x[:-1] ** 2)
    return g


KNOWN = {
    "squares": (lambda x: np.sum(x**2), lambda x: 2.0 * x),
    "product": (np.prod, lambda x: np.prod(x) / x),
    "exp": (lambda x: np.sum(np.exp(x)), np.exp),
    "norm": (lambda x: np.sqrt(np.sum(x**2)), lambda x: x / np.sqrt(np.sum(x**2))),
    "rosenbrock": (_rosenbrock, _rosenbrock_gradient),
}
ACCURACY = {
    ("central", np.float64): 1e-9,
    ("forward", np.float64): 3e-6,
    ("backward", np.float64): 3e-6,
    ("central", np.float32): 2e-3,
    ("forward", np.float32): 3e-2,
    ("backward", np.float32): 3e-2,
}


@pytest.mark.parametrize(("method", "dtype"), ACCURACY)
@pytest.mark.parametrize("name", KNOWN)
def test_default_steps_reach_the_accuracy_of_the_dtype(name, method, dtype):
    f, known = KNOWN[name]
    x = np.array([0.7, -1.3, 2.0, 0.4], dtype)
    gradient = accelnn.numerical_gradient(f, x, method=method)
    expected = known(x.astype(np.float64))
    assert gradient.dtype == dtype
    assert np.abs(gradient - expected).max() < ACCURACY[method, dtype] * np.abs(expected).max()


@pytest.mark.parametrize(("method", "order"), [("central", 2), ("forward", 1), ("backward", 1)])
def test_order_of_accuracy(method, order):
    x = np.array([0.5, -0.25])
    errors = [
        accelnn.numerical_gradient(lambda x: np.sum(np.exp(x)), x, method=method, step=step)
        - np.exp(x)
        for step in (1e-2, 5e-3)
    ]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), order, atol=0.02)


@pytest.mark.parametrize(
    ("method", "calls"), [("central", 14), ("central4", 28), ("forward", 7), ("backward", 7)]
)
def test_evaluations_of_seven_coordinates(method, calls):
    """Besides the differences: f(x), its argument moved, x moved where it can be, and f(x)."""
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return np.sum(x)

    accelnn.numerical_gradient(f, np.ones(7), method=method)
    assert count == 4 + calls
    count = 0
    accelnn.numerical_gradient(f, [1.0] * 7, method=method)
    assert count == 3 + calls
    count = 0
    accelnn.numerical_gradient(f, np.ones(7), method=method, f0=7.0)
    assert count == 3 + calls


@_every_method
def test_only_one_coordinate_moves_at_a_time(method):
    x = np.arange(6.0).reshape(2, 3)
    kept, moved = x.copy(), []

    def f(x):
        moved.append(np.count_nonzero(x != kept))
        return np.sum(x)

    accelnn.numerical_gradient(f, x, method=method)
    # But for the one call that tells whether f reads its argument.
    assert moved[:3] == [0, 6, 0]
    assert set(moved[3:-1]) == {1}
    assert moved[-1] == 0


VALUES = {
    "Python float": float,
    "NumPy scalar": lambda v: v,
    "float32": np.float32,
    "0-d array": np.asarray,
    "0-d view": lambda v: np.array([v])[0:1].reshape(()),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("point", ["writable", "list"])
def test_any_real_scalar_is_a_value(kind, point):
    x = [1.0, -2.0] if point == "list" else np.array([1.0, -2.0])
    gradient = accelnn.numerical_gradient(lambda x: VALUES[kind](np.sum(x**2)), x)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, [2.0, -4.0], rtol=1e-3 if kind == "float32" else 1e-9)


@pytest.mark.parametrize("convert", [int, np.int64, bool])
def test_integers_and_bools_are_values(convert):
    gradient = accelnn.numerical_gradient(lambda x: convert(x[0] + 10), np.array([0.5]), step=2.0)
    assert float(gradient[0]) == pytest.approx({bool: 0.0}.get(convert, 1.0))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            np.ones(2),
            ValueError,
            r"f must return one number, .* \(2,\): .* numerical_jacobian, .*sum",
        ),
        ([1.0, 2.0], ValueError, r"f must return one number, but f\(x\) has shape \(2,\)"),
        (np.ones((3, 1)), ValueError, r"has shape \(3, 1\): .* pass batched=True"),
        (np.ones(0), ValueError, r"f must return one number, but f\(x\) has shape \(0,\)"),
        (None, TypeError, r"f returned nothing: is a return missing\?"),
        ((1.0, np.ones(2)), TypeError, r"returned a tuple of 2\. .*check_gradient\(f, True, x\)"),
        ({"loss": 1.0}, TypeError, r"f must return one number, but returned a dict of 1"),
        (1j, TypeError, r"f\(x\) must hold real numbers, got dtype complex128"),
        ("one", TypeError, r"f\(x\) must hold real numbers, got dtype str"),
    ],
)
def test_anything_else_is_refused(value, error, message):
    x = np.ones(2)
    for call in (accelnn.numerical_gradient, accelnn.numerical_hessian):
        with pytest.raises(error, match=message):
            call(lambda _: value, x)
    # Of a check f may have many values, and their gradient is a Jacobian.
    if error is not ValueError:
        with pytest.raises(error, match=message.replace("f must return one number", "")):
            accelnn.check_gradient(lambda _: value, x, x)


def test_nan_shows_where_it_arises():
    x = np.array([1.0, 2.0, 3.0])
    for method in ("central", "central4", "forward", "backward", "richardson"):
        gradient = accelnn.numerical_gradient(
            lambda x: np.sum(x) if x[1] == 2.0 else math.nan, x, method=method
        )
        np.testing.assert_allclose(gradient, [1.0, math.nan, 1.0], rtol=1e-6)
        for point in (x, x.tolist()):
            nowhere = accelnn.numerical_gradient(lambda x: x[0] * math.nan, point, method=method)
            assert np.isnan(nowhere).all()


@pytest.mark.parametrize(
    "x",
    [
        3.0,
        np.float32(3.0),
        np.array(3.0),
        7,
        [1, 2],
        [[1.0, 2.0], [3.0, 4.0]],
        np.array([True, False]),
        np.array([1, 2], np.uint8),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24.0).reshape(4, 6)[::2, ::-3],
        np.broadcast_to(np.array(2.0), (2, 2)),
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.ones((1, 1, 2), np.float16),
    ],
    ids=lambda x: f"{type(x).__name__}-{np.asarray(x).dtype}-{np.shape(x)}",
)
@pytest.mark.parametrize("batched", [False, True])
def test_every_kind_of_point(x, batched):
    before = np.array(x)
    weights = np.arange(1.0, before.size + 1).reshape(before.shape)

    def f(x):
        values = np.sum(weights * x**2, axis=tuple(range(batched, x.ndim)), dtype=np.float64)
        return values if batched else values[()]

    gradient = accelnn.numerical_gradient(f, x, batched=batched)
    floating = before.dtype if before.dtype.kind == "f" else np.float64
    assert gradient.dtype == floating
    tolerance = {2: 3e-2, 4: 2e-3, 8: 1e-8}[np.dtype(floating).itemsize]
    expected = 2.0 * weights * before
    np.testing.assert_allclose(
        gradient, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()) / 100
    )
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("batched", [False, True])
def test_no_coordinates(batched):
    def f(x):
        return np.zeros(len(x)) if batched else 0.0

    for x in (np.zeros((0, 3)), []):
        gradient = accelnn.numerical_gradient(f, x, batched=batched)
        assert gradient.shape == np.shape(x)


@pytest.mark.parametrize("x", [[np.nan, 1.0], [1.0, -np.inf]])
def test_points_must_be_finite(x):
    with pytest.raises(ValueError, match=r"x must be finite, but x\[\d\] is (nan|-inf)"):
        accelnn.numerical_gradient(np.sum, x)


def test_a_minimum_has_gradient_zero_even_where_x_cannot_be_moved():
    for x in ([0.0, 0.0], 0, np.zeros(3, int), np.broadcast_to(0.0, (2,))):
        gradient = accelnn.numerical_gradient(lambda x: np.sum(x**2), x)
        np.testing.assert_array_equal(gradient, np.zeros(np.shape(x)))


_points = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4),
    elements=st.floats(-100, 100),
)


@_every_method
@settings(deadline=None, max_examples=40)
@given(x=_points, seed=st.integers(0, 1000))
def test_a_linear_function_is_exact_to_rounding(method, x, seed):
    weights = np.random.default_rng(seed).integers(-8, 9, size=x.shape).astype(float)
    gradient = accelnn.numerical_gradient(lambda x: np.sum(weights * x), x, method=method)
    # What rounding of f leaves at this step.
    step = 2.0**-26 if method != "central" else 2.0**-18
    noise = 2.0**-51 * (1.0 + np.abs(weights * x).sum()) / step
    np.testing.assert_allclose(gradient, weights, rtol=0.0, atol=noise)


@settings(deadline=None, max_examples=40)
@given(x=_points)
def test_the_gradient_of_a_sum_is_the_sum_of_gradients(x):
    def f(x):
        return np.sum(np.sin(x))

    def g(x):
        return np.sum(np.cos(2.0 * x))

    of_sum = accelnn.numerical_gradient(lambda x: f(x) + g(x), x)
    sum_of = accelnn.numerical_gradient(f, x) + accelnn.numerical_gradient(g, x)
    np.testing.assert_allclose(of_sum, sum_of, rtol=0.0, atol=1e-9 * x.size)


@_every_method
@settings(deadline=None, max_examples=40)
@given(x=_points, chunk_size=st.none() | st.integers(1, 9))
def test_serial_and_batched_agree(method, x, chunk_size):
    def many(x):
        return np.sum(np.sin(x) * x, axis=tuple(range(1, x.ndim)))

    serial = accelnn.numerical_gradient(lambda x: many(x[None])[0], x, method=method)
    batched = accelnn.numerical_gradient(
        many, x, method=method, batched=True, chunk_size=chunk_size
    )
    np.testing.assert_allclose(batched, serial, rtol=0.0, atol=1e-12)


def test_chunks_have_the_size_asked_for():
    sizes = []

    def f(x):
        sizes.append(len(x))
        return x.sum(axis=1)

    accelnn.numerical_gradient(f, np.arange(7.0), batched=True, chunk_size=3)
    # After three that tell what f reads; x is one of the first batch, to tell whether points meet.
    assert sizes == [3, 7, 6, 2]


@pytest.mark.parametrize(
    ("returned", "shape"),
    [(lambda x: x.sum(), r"\(\)"), (lambda x: x, r"\(3, 4\)"), (lambda x: x[0], r"\(4,\)")],
)
def test_batched_functions_must_return_one_value_per_point(returned, shape):
    message = rf"given points of shape \(3, 4\) and returned shape {shape}, not \(3,\)"
    with pytest.raises(ValueError, match=message):
        accelnn.numerical_gradient(returned, np.arange(4.0), batched=True)


@pytest.mark.parametrize("f", [lambda x: x[0], lambda x: x.sum(axis=0), lambda x: x.max(axis=0)])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_one_number_for_each_coordinate_is_not_one_for_each_point(f, n):
    """Whatever the two numbers are."""
    message = rf"points of shape \(\d, {n}\) and returned shape \({n},\)"
    for x in (np.arange(float(n)), np.ones(n)):
        with pytest.raises(ValueError, match=message):
            accelnn.numerical_gradient(f, x, batched=True)


@pytest.mark.parametrize("method", ["central", "forward", "complex", "richardson"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_x_is_seen_in_batches_of_two_sizes(method, n):
    """However few coordinates there are, and points of each."""
    sizes = []

    def f(p):
        sizes.append(len(p))
        return (p**2).sum(axis=1) * len(p)

    with pytest.raises(ImpureFunctionError, match="when other points are in its batch"):
        accelnn.numerical_gradient(f, np.arange(1.0, 1.0 + n), batched=True, method=method)
    assert sizes[1] != sizes[0]


def test_a_function_that_fits_one_point_only_is_refused_in_the_batch():
    with pytest.raises(ValueError, match=r"points of shape \(4, 3\) and returned shape \(1,\)"):
        accelnn.numerical_gradient(lambda x: x[:1].sum(axis=1), np.arange(3.0), batched=True)


@pytest.mark.parametrize(
    ("chunk_size", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)]
)
def test_chunk_size_must_be_a_positive_integer(chunk_size, error):
    with pytest.raises(error, match="chunk_size must be"):
        accelnn.numerical_gradient(
            lambda x: x.sum(axis=1), np.ones(3), batched=True, chunk_size=chunk_size
        )


def test_batches_of_a_large_point_stay_small():
    """784 * 50 + 50 + 50 * 10 + 10 coordinates: all points at once would take 25 GB."""
    calls = 0

    class EnoughError(Exception):
        pass

    def f(x):
        nonlocal calls
        calls += 1
        if calls > 6:
            raise EnoughError
        return x.sum(axis=1)

    x = np.ones(39_760)
    tracemalloc.start()
    try:
        with pytest.raises(EnoughError):
            accelnn.numerical_gradient(f, x, batched=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6


BUFFER = np.zeros(())


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: x.squeeze(), [3.0], [1.0]),
        (lambda x: x[0, ...], [3.0, 1.0], [1.0, 0.0]),
        (lambda x: np.sum(x * x, out=BUFFER), [3.0, 4.0], [6.0, 8.0]),
    ],
    ids=["squeezed", "view", "buffer"],
)
@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_a_value_that_is_a_view_of_x_or_a_reused_buffer(f, x, expected, method):
    gradient = accelnn.numerical_gradient(f, np.array(x), method=method)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_batched_one_sided_differences_evaluate_each_point_once(method):
    points = []

    def f(p):
        points.append(len(p))
        return np.sum(p**2, axis=1)

    accelnn.numerical_gradient(f, np.arange(5.0), batched=True, chunk_size=2, method=method)
    # x is one of the first batch, to tell whether points meet, which is of another size than 3.
    assert points == [3, 4, 2, 1]


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_batched_values_in_a_reused_buffer(method):
    buffer = np.zeros(8)
    gradient = accelnn.numerical_gradient(
        lambda p: np.sum(p * p, axis=1, out=buffer[: len(p)]),
        np.array([3.0, 4.0]),
        batched=True,
        chunk_size=1,
        method=method,
    )
    np.testing.assert_allclose(gradient, [6.0, 8.0], rtol=1e-6)
