"""Points past every block length: all modes give one derivative there."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import accelnn
from accelnn.gradient import Flag, _hessian
from accelnn.gradient.evaluators import _batched

EPS = 2.0**-52
METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")
SIZES = (3, 50, 8_200)
# Powers of a step near eps**(1 / (1 + order)), which is what its truncation is worth.
ACCURACY = {"central": 2 / 3, "central4": 4 / 5, "forward": 1 / 2, "backward": 1 / 2}


def weights(n):
    """No two the same, and none that another index could stand in for."""
    return np.arange(1.0, n + 1) / n


def point(n):
    return np.random.default_rng(n).uniform(-1.0, 1.0, n)


def bent(n):
    """The coordinates along which f is no line: at both ends, and beside a block's."""
    return sorted({0, 1, n // 2, n - 2, n - 1} | {i for i in (8_191, 8_192, 8_193) if i < n})


def f(x):
    """Every coordinate has its weight; and it is quick, so that thousands of calls are."""
    return x @ weights(x.shape[-1]) + np.sum(np.sin(x[..., bent(x.shape[-1])]), axis=-1)


def slopes(x):
    expected = weights(x.size)
    expected[bent(x.size)] += np.cos(x[bent(x.size)])
    return expected


def limit(method, n):
    """Truncation, and rounding of a sum of n terms as it is divided by the step.

    The third derivative is at most 1. A sum of n terms of at most 1 is near sqrt(n) at random
    signs, and BLAS adds them in a few strands of n / 8 each, whose roundings have random signs too.
    """
    rounding = EPS * (8.0 + np.sqrt(n / 8)) * (1.0 + np.sqrt(n))
    if method == "complex":
        return 8 * EPS
    if method == "richardson":
        # The smallest step that it takes is no smaller than 1e-2 where f is this smooth.
        return 100.0 * rounding
    power = ACCURACY[method]
    return EPS**power + rounding / EPS ** (1.0 - power)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", SIZES)
def test_gradients(n, method):
    x = point(n)
    ways = {"serial": {}, "batched": {"batched": True}}
    if n < 8_200 or method == "central":
        ways |= {"map": {"workers": map}, "chunks": {"batched": True, "chunk_size": 7 + n // 50}}
    if method != "complex" and (n < 8_200 or method == "central"):
        ways["closure"] = {}
    for way, options in ways.items():
        of = (lambda _: f(x)) if way == "closure" else f
        found = accelnn.numerical_gradient(of, x, method=method, **options)
        np.testing.assert_allclose(found, slopes(x), rtol=0.0, atol=limit(method, n), err_msg=way)


@pytest.mark.parametrize("n", SIZES)
def test_gradients_in_threads(n):
    x = point(n)
    with ThreadPoolExecutor(2) as pool:
        found = accelnn.numerical_gradient(f, x, workers=pool)
    np.testing.assert_allclose(found, slopes(x), rtol=0.0, atol=limit("central", n))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", SIZES)
def test_jacobians_of_two_values(n, method):
    x = point(n)

    def two(x):
        return np.stack([f(x), x[..., 0] * x[..., -1]], axis=-1)

    expected = np.zeros((2, n))
    expected[0] = slopes(x)
    expected[1, 0], expected[1, -1] = x[-1], x[0]
    ways = {"serial": {}, "batched": {"batched": True}}
    if n < 8_200 or method == "central":
        ways["map"] = {"workers": map}
    if n < 8_200 and method != "richardson":
        ways["pattern"] = {"sparsity": np.ones((2, n))}
    for way, options in ways.items():
        found = accelnn.numerical_jacobian(two, x, method=method, **options)
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=limit(method, n), err_msg=way)


def test_a_compiled_gradient_past_a_block():
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def compiled(x):
        total = x[8_192] ** 2 + x[8_193] ** 3
        for value in x[8_000:]:
            total += value
        return total

    x = point(8_200)
    expected = np.where(np.arange(8_200) >= 8_000, 1.0, 0.0)
    expected[[8_192, 8_193]] += [2.0 * x[8_192], 3.0 * x[8_193] ** 2]
    for method in ("central", "forward"):
        found = accelnn.numerical_gradient(compiled, x, method=method, backend="numba")
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=limit(method, x.size))


def test_a_linear_function_past_8_193_coordinates():
    """Where indices of rows were taken for values, all derivatives from there on were 8,192."""
    c = np.arange(10_000.0)
    found = accelnn.numerical_gradient(lambda x: c @ x, np.zeros(10_000))
    np.testing.assert_allclose(found, c, rtol=1e-9)


@pytest.mark.parametrize("shape", [(2, 4_100), (8_200, 1), (1, 1, 8_200)])
def test_indices_of_a_closure_past_a_block(shape):
    """It is moved in place, by an index for each of its axes."""
    x = np.zeros(shape)
    c = np.arange(8_200.0).reshape(shape)
    found = accelnn.numerical_gradient(lambda _: np.vdot(c, x), x)
    np.testing.assert_allclose(found, c, rtol=1e-9)
    assert not x.any()


LARGE = 70_000


def middle(x):
    """Three coordinates beside a block's ends, in a function that costs nothing."""
    return x[..., 65_535] * 2.0 + x[..., 65_537] ** 2 + np.sin(x[..., -1]) + 3.0 * x[..., 8_193]


def of_middle(x):
    expected = np.zeros(LARGE)
    expected[[8_193, 65_535, 65_537, -1]] = [3.0, 2.0, 2.0 * x[65_537], np.cos(x[-1])]
    return expected


@pytest.mark.slow
def test_70_000_coordinates_one_after_the_other():
    x = np.full(LARGE, 0.5)
    found = accelnn.numerical_gradient(middle, x)
    np.testing.assert_allclose(found, of_middle(x), rtol=0.0, atol=1e-9)


@pytest.mark.slow
def test_70_000_coordinates_in_batches():
    x, rows = np.full(LARGE, 0.5), 0

    def f(points):
        nonlocal rows
        rows += len(points)
        return middle(points)

    found = accelnn.numerical_gradient(f, x, batched=True, chunk_size=64)
    np.testing.assert_allclose(found, of_middle(x), rtol=0.0, atol=1e-9)
    assert rows >= 2 * LARGE


@pytest.mark.parametrize("method", METHODS)
def test_every_method_beside_the_ends_of_blocks_of_70_000_coordinates(method):
    """The others have no room to move in, and are not evaluated."""
    x = np.full(LARGE, 0.5)
    ends = np.arange(LARGE) // 8 % 1024 == 0
    ends[[-1, 8_193, 65_535, 65_537]] = True
    found = accelnn.numerical_gradient(
        middle,
        x,
        method=method,
        batched=True,
        bounds=(np.where(ends, -9.0, x), np.where(ends, 9.0, x)),
        full_output=True,
    )
    bound = {"central": 1e-9, "central4": 1e-11, "forward": 1e-7, "backward": 1e-7}
    np.testing.assert_allclose(
        found.gradient, of_middle(x), rtol=0.0, atol=bound.get(method, 1e-13)
    )
    np.testing.assert_array_equal(found.flags == Flag.FIXED, ~ends)


def cubes(x):
    return (x * x * x) @ weights(x.shape[-1]) + x[..., 0] * x[..., -1] * 2.0


def second(x):
    n = x.size
    hessian = np.diag(6.0 * weights(n) * x)
    hessian[0, -1] = hessian[-1, 0] = 2.0
    return hessian


@pytest.mark.parametrize("method", ["central", "forward", "complex"])
def test_a_hessian_of_300_coordinates(method):
    x = point(300)
    found = accelnn.numerical_hessian(cubes, x, method=method, batched=True)
    # Third derivatives of 6 at one side's step; rounding of a sum near 20 at that of two.
    bound = {"central": 1e-5, "forward": 6.0 * 3.0 * EPS ** (1 / 3) * 2.0, "complex": 1e-8}[method]
    np.testing.assert_allclose(found, second(x), rtol=0.0, atol=bound)


@pytest.mark.parametrize("method", ["central", "forward", "complex"])
@pytest.mark.parametrize("batched", [False, True])
def test_the_diagonal_of_a_hessian_of_8_200_coordinates(method, batched):
    x = point(8_200)
    if batched != (method == "forward"):
        pytest.skip("one mode a method tells of both")
    found = accelnn.numerical_hessian(
        cubes, x, method=method, diagonal=True, batched=batched, chunk_size=64 if batched else None
    )
    # As above, and a sum near 100, of 13 levels of pairs.
    bound = {"central": 1e-4, "forward": 1e-3, "complex": 1e-7}[method]
    np.testing.assert_allclose(found, np.diag(second(x)), rtol=0.0, atol=bound)


@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize("method", METHODS)
def test_blocks_of_any_length_give_the_same_bits(monkeypatch, size, method):
    x = point(50)

    def f(x):
        # Each row by itself, so that its bits are those of any batch.
        return np.sum(weights(x.shape[-1]) * x**3, axis=-1)

    def every():
        options = {"method": method, "batched": True}
        return (
            accelnn.numerical_gradient(f, x, **options),
            accelnn.numerical_jacobian(lambda p: p**2, x, **options),
            accelnn.numerical_hessian(f, x[:9], **options),
            accelnn.numerical_hvp(f, x, x[::-1], **options),
        )

    whole = every()
    monkeypatch.setattr(_batched, "BATCH_BYTES", size * 8 * 50 * 2)
    monkeypatch.setattr(_hessian, "BLOCK", size * 50)
    for a, b in zip(whole, every(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_net_of_40_000_parameters_in_batches():
    """All points at once would take 25 GB."""
    (x, t), _ = accelnn.load_mnist(subset="5k")
    x, t = x[:20].astype(float), t[:20]
    net = accelnn.TwoLayerNet(784, 50, 10, rng=0, dtype="float64")

    def losses(points):
        k = len(points)
        w1, b1, w2, b2 = np.split(points, np.cumsum([39_200, 50, 500]), axis=1)
        hidden = 1.0 / (1.0 + np.exp(-(x @ w1.reshape(k, 784, 50) + b1[:, None])))
        scores = hidden @ w2.reshape(k, 50, 10) + b2[:, None]
        top = scores.max(axis=-1, keepdims=True)
        sums = (top + np.log(np.exp(scores - top).sum(axis=-1, keepdims=True)))[..., 0]
        return (sums - scores[:, np.arange(20), t]).mean(axis=1)

    tracemalloc.start()
    try:
        gradient = accelnn.numerical_gradient(losses, net.flat, batched=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    exact = np.concatenate([part.ravel() for part in net.gradient(x, t).values()])
    np.testing.assert_allclose(gradient, exact, rtol=0.0, atol=1e-9)
