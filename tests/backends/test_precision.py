"""Floats of other precisions: float16 is cast or kept, bfloat16 is refused, nothing is widened."""

import numpy as np
import pytest

import accelnn
from accelnn.testing import StrictBackend

ON_CPU = pytest.mark.cuda_on_cpu
# Each of them is the same number in float16.
X = np.random.default_rng(0).integers(-8, 9, (12, 4)) / 4
T = np.arange(12) % 3
SOFT = np.eye(3)[T] / 2 + 1 / 8


@pytest.fixture(params=["numpy", "numba", "strict", pytest.param("cupy", marks=ON_CPU)])
def backend(request):
    if request.param == "strict":
        return StrictBackend()
    if request.param == "numba":
        return request.getfixturevalue("compiled")
    if request.param == "cupy":
        request.getfixturevalue("cupy").grid = 1, 1
    return accelnn.get_backend(request.param)


@pytest.fixture
def bfloat16():
    return np.dtype(pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16)


def _has_half(backend):
    return hasattr(backend.xp, "float16")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float16", "float32", "float64"])
def test_a_net_computes_in_its_own_precision(backend, dtype, given):
    if given == "float16" and not _has_half(backend):
        pytest.skip("the backend has no float16")
    net, same = (accelnn.MLP([4, 5, 3], dtype=dtype, rng=0, backend=backend) for _ in "ab")
    x, t = backend.asarray(X, given), backend.asarray(SOFT, given)
    own = backend.asarray(X, dtype), backend.asarray(SOFT, dtype)
    single, double = backend.dtype(dtype), backend.dtype("float64")

    def is_equal(a, b):
        return np.array_equal(backend.to_numpy(a), backend.to_numpy(b))

    assert net.predict(x).dtype == single
    assert is_equal(net.predict(x), same.predict(own[0]))
    assert net.loss(x, t) == same.loss(*own)
    for gradients, wanted, kind in (
        (net.gradient(x, t), same.gradient(*own), single),
        (net.numerical_gradient(x, t), same.numerical_gradient(*own), double),
    ):
        for key, value in gradients.items():
            assert value.dtype == kind
            assert is_equal(value, wanted[key])


@pytest.mark.parametrize("given", ["float16", "float64"])
def test_a_net_trains_in_its_own_precision(backend, given):
    runs = []
    for kind in (given, "float32"):
        net = accelnn.MLP([4, 5, 3], rng=0, backend=backend)
        data = accelnn.prepare(X.astype(kind), SOFT.astype(kind), backend=backend)
        given_so = {"x": X.astype(kind), "t": SOFT.astype(kind)}, {"x": data}
        runs += [accelnn.fit(net, **options, iters=2, rng=0).loss for options in given_so]
        assert all(value.dtype == backend.dtype("float32") for value in net.params.values())
    assert runs[:2] == runs[2:]


def test_functions_and_their_derivatives_keep_half_precision(backend):
    if not _has_half(backend):
        pytest.skip("the backend has no float16")
    x = backend.asarray(X, "float16")
    for name in ("sigmoid", "softmax", "identity"):
        assert getattr(accelnn, name)(x, backend=backend).dtype == np.float16
    point = backend.asarray(X[0], "float16")
    gradient = accelnn.numerical_gradient(lambda x: (x * x).sum(), point, backend=backend)
    assert gradient.dtype == np.float16
    np.testing.assert_allclose(backend.to_numpy(gradient), 2.0 * X[0], atol=0.05)


@pytest.mark.parametrize("y", ["float32", "float64"])
@pytest.mark.parametrize("t", ["float32", "float64"])
def test_losses_have_the_precision_of_the_outputs(backend, y, t):
    for loss in (accelnn.sum_squared_error, accelnn.cross_entropy_error):
        value = loss(backend.asarray(SOFT, y), backend.asarray(SOFT, t), backend=backend)
        assert value.dtype == backend.dtype(y)


def test_bfloat16_is_refused_by_name_with_what_to_do(bfloat16):
    x = X.astype(bfloat16)
    net = accelnn.MLP([4, 3], rng=0)
    for use in (
        net.predict,
        lambda x: net.loss(x, T),
        lambda x: net.gradient(x, T),
        lambda x: net.numerical_gradient(x, T),
        lambda x: accelnn.fit(net, x, T, epochs=1),
        lambda x: accelnn.prepare(x, T),
        accelnn.softmax,
        lambda x: accelnn.numerical_gradient(np.sum, x),
        lambda x: accelnn.check_gradient(np.sum, np.ones_like, x),
    ):
        with pytest.raises(
            TypeError,
            match=r"x must hold real numbers, got dtype bfloat16; cast it to float32 first: "
            r"x.astype\('float32'\)$",
        ):
            use(x)
