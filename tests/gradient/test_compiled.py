"""Functions that Numba compiles, in one compiled loop."""

import numpy as np
import pytest

import accelnn
from accelnn.errors import ImpureFunctionError
from accelnn.gradient.evaluators import Compiled

numba = pytest.importorskip("numba", reason="numba is not installed")


@numba.njit
def rosenbrock(x):
    total, before = 0.0, 0.0
    for i, value in enumerate(x.flat):
        if i > 0:
            total += 100.0 * (value - before**2) ** 2 + (1.0 - before) ** 2
        before = value
    return total


@pytest.fixture
def loops(monkeypatch):
    """Count the calls of the compiled loop."""
    calls = []
    original = Compiled.loop

    def counted(self, x, columns, *rest):
        calls.append(len(columns))
        return original(self, x, columns, *rest)

    monkeypatch.setattr(Compiled, "loop", counted)
    return calls


@pytest.mark.parametrize("method", ["central", "forward", "backward", "richardson"])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2,)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_compiled_loop_agrees_with_calls_from_python(method, shape, order, loops):
    x = np.asarray(np.random.default_rng(0).normal(size=shape), order=order)
    before = x.copy()
    compiled = accelnn.numerical_gradient(rosenbrock, x, method=method, backend="numba")
    assert sum(loops) >= x.size
    serial = accelnn.numerical_gradient(rosenbrock.py_func, x, method=method, backend="numpy")
    tolerance = {"richardson": 1e-9, "central": 1e-9}.get(method, 1e-5)
    np.testing.assert_allclose(compiled, serial, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(x, before)


def test_threads_do_not_change_the_bits():
    from accelnn.backends.numba import NumbaBackend

    x = np.random.default_rng(0).normal(size=101)
    one, many = (accelnn.numerical_gradient(rosenbrock, x, backend=NumbaBackend(n)) for n in (1, 3))
    np.testing.assert_array_equal(one, many)


def test_float32_and_a_point_that_is_a_list():
    x = np.linspace(-1.0, 1.0, 9, dtype=np.float32)
    gradient = accelnn.numerical_gradient(rosenbrock, x, backend="numba")
    assert gradient.dtype == np.float32
    wide = accelnn.numerical_gradient(rosenbrock, x.astype(float), backend="numba")
    # Values near 400 in float32, at the step that balances that.
    np.testing.assert_allclose(gradient, wide, rtol=2e-2, atol=0.1)
    listed = accelnn.numerical_gradient(rosenbrock, x.tolist(), backend="numba")
    np.testing.assert_allclose(listed, wide, rtol=1e-6, atol=1e-6)


def test_hessians_use_the_loop_too(loops):
    x = np.array([1.2, -0.7, 0.4])
    hessian = accelnn.numerical_hessian(rosenbrock, x, backend="numba")
    expected = accelnn.numerical_hessian(rosenbrock.py_func, x, backend="numpy")
    np.testing.assert_allclose(hessian, expected, rtol=1e-5, atol=1e-5)
    assert sum(loops) == 6


@pytest.mark.parametrize("options", [{}, {"method": "richardson"}, {"workers": map}])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", ["outside", "within"])
def test_an_array_that_was_compiled_into_a_function_is_found(options, backend, kind):
    """Numba freezes what a function closes over, so that it never sees x move."""
    x = np.array([3.0, 4.0])

    @numba.njit
    def squares():
        return np.sum(x**2)

    @numba.njit
    def outside(_):
        return np.sum(x**2)

    @numba.njit
    def within(_):
        return squares()

    f = {"outside": outside, "within": within}[kind]
    with pytest.raises(ImpureFunctionError, match="f never responded"):
        accelnn.numerical_gradient(f, x, backend=backend, **options)
    with pytest.raises(ImpureFunctionError, match="f never responded"):
        accelnn.check_gradient(f, np.zeros(2), x, backend=backend)


def test_a_compiled_function_that_computes_in_float32():
    """Its value comes back as a Python number, which would pass for float64."""

    @numba.njit
    def single(x):
        total = np.float32(0.0)
        for value in x:
            total += np.float32(value) * np.float32(value)
        return total

    x = np.array([1.0, 2.0, 3.0])
    for backend in ("numpy", "numba"):
        gradient = accelnn.numerical_gradient(single, x, backend=backend)
        np.testing.assert_allclose(gradient, 2.0 * x, rtol=1e-3)


def test_a_compiled_function_that_writes_to_its_argument_is_refused():
    @numba.njit
    def doubles(x):
        if x[0] != 1.0:
            x[1] *= 2.0
        return x[0] + x[1]

    with pytest.raises(ImpureFunctionError, match="f changes its argument in place"):
        accelnn.numerical_gradient(doubles, np.ones(2), backend="numba")


def test_an_error_in_a_compiled_function_is_raised():
    @numba.njit
    def picky(x):
        if x[0] > 1.0:
            raise ValueError("too far")
        return x[0] + x[1]

    x = np.ones(2)
    with pytest.raises(ValueError, match="too far"):
        accelnn.numerical_gradient(picky, x, backend="numba")
    np.testing.assert_array_equal(x, [1.0, 1.0])


def test_a_compiled_function_on_the_numpy_backend_is_called_from_python(loops):
    accelnn.numerical_gradient(rosenbrock, np.ones(3), backend="numpy")
    assert loops == []
