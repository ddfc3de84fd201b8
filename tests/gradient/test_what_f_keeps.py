"""Functions that keep their argument, nets that hold it, and threads that share one x."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import accelnn
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import GradientCheckError
from accelnn.testing import StrictBackend

DIFFERENCES = ("central", "central4", "forward", "backward", "richardson")
_every_difference = pytest.mark.parametrize("method", DIFFERENCES)
TOLERANCE = {"forward": 1e-6, "backward": 1e-6}


class Cached:
    """Computes again where its argument is not equal to the last, which it has not copied."""

    def __init__(self, f):
        self.f, self.x, self.value = f, None, None

    def __call__(self, x):
        if self.x is None or not np.array_equal(self.x, x):
            self.x, self.value = x, self.f(x)
        return self.value


def _squares(x):
    return np.sum(x**2)


@_every_difference
@pytest.mark.parametrize("kind", ["array", "list", "integers"])
def test_a_function_that_keeps_its_argument(method, kind):
    x = {"array": np.array([3.0, 4.0]), "list": [3.0, 4.0], "integers": np.array([3, 4])}[kind]
    found = accelnn.numerical_gradient(Cached(_squares), x, method=method)
    np.testing.assert_allclose(found, [6.0, 8.0], rtol=TOLERANCE.get(method, 1e-9))


def test_other_doors_and_a_function_that_keeps_its_argument():
    x, v = np.array([3.0, 4.0]), np.array([1.0, 1.0])
    found = accelnn.numerical_jacobian(Cached(lambda x: x**2), x)
    np.testing.assert_allclose(found, np.diag(2 * x), atol=1e-8)
    np.testing.assert_allclose(
        accelnn.numerical_hessian(Cached(_squares), x), 2 * np.eye(2), atol=1e-5
    )
    np.testing.assert_allclose(accelnn.numerical_jvp(Cached(_squares), x, v), 14.0, rtol=1e-9)
    np.testing.assert_allclose(accelnn.numerical_hvp(Cached(_squares), x, v), [2, 2], atol=1e-5)
    np.testing.assert_allclose(accelnn.numerical_diff(Cached(np.square), x), 2 * x, rtol=1e-9)
    assert accelnn.check_gradient(Cached(_squares), lambda x: 2 * x, x).verdict == "right"
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(Cached(_squares), np.zeros(2), x)


class Net:
    def __init__(self, weights):
        self.weights = weights

    def loss(self, weights):
        """As a book has it: the net holds what it is given."""
        self.weights = weights
        return np.sum(self.weights**3)


DOORS = {
    "gradient": accelnn.numerical_gradient,
    "jacobian": accelnn.numerical_jacobian,
    "hessian": accelnn.numerical_hessian,
    "diagonal": lambda f, x, **o: accelnn.numerical_hessian(f, x, diagonal=True, **o),
    "jvp": lambda f, x, **o: accelnn.numerical_jvp(f, x, x, **o),
    "hvp": lambda f, x, **o: accelnn.numerical_hvp(f, x, x, **o),
}


@pytest.mark.parametrize("method", [*DIFFERENCES, "complex"])
@pytest.mark.parametrize("door", DOORS)
def test_a_net_holds_its_own_array_in_the_end(door, method):
    weights = np.array([[1.0, 2.0], [3.0, 4.0]])
    net = Net(weights)
    DOORS[door](net.loss, weights, method=method)
    assert net.weights is weights
    np.testing.assert_array_equal(weights, [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
def test_a_net_holds_its_own_array_after_a_check(mode):
    weights = np.array([[1.0, 2.0], [3.0, 4.0]])
    net = Net(weights)
    accelnn.check_gradient(net.loss, lambda w: 3 * w**2, weights, mode=mode)
    assert net.weights is weights
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(net.loss, lambda w: 2 * w**2, weights, mode=mode)


def test_a_net_holds_its_own_arrays_after_the_gradient_of_a_tree():
    tree = {"w": np.array([1.0, 2.0]), "b": np.array(3.0)}
    held = {}

    def loss(p):
        held.update(p)
        return p["b"] * np.sum(p["w"] ** 2)

    accelnn.numerical_gradient(loss, tree)
    assert held["w"] is tree["w"]
    assert held["b"] is tree["b"]


def _run(*jobs):
    with ThreadPoolExecutor(4) as pool:
        return [job.result() for job in [pool.submit(job) for job in jobs]]


# Rounding of a sum of 300 squares, of nine levels of pairs, in units of the step.
NOISE = 9 * 2.0**-53 * 300.0 * 2.0 / 6e-6


@pytest.mark.parametrize("n", [300, 2])
def test_threads_that_share_x(n):
    x = np.random.default_rng(0).normal(size=n)
    before = x.copy()

    def job():
        return accelnn.numerical_gradient(_squares, x)

    for found in _run(*[job] * 8):
        np.testing.assert_allclose(found, 2.0 * before, rtol=0.0, atol=NOISE)
    np.testing.assert_array_equal(x, before)


def test_threads_that_share_x_with_closures_and_other_doors():
    x = np.random.default_rng(1).normal(size=40)
    before = x.copy()
    barrier = threading.Barrier(4)

    def of_argument():
        barrier.wait(30)
        return accelnn.numerical_gradient(_squares, x)

    def of_closure():
        barrier.wait(30)
        return accelnn.numerical_gradient(lambda _: np.sum(x**2), x)

    def of_jacobian():
        barrier.wait(30)
        return np.diag(accelnn.numerical_jacobian(lambda p: p**2, x))

    def in_a_batch():
        barrier.wait(30)
        return accelnn.numerical_gradient(lambda p: np.sum(p**2, axis=1), x, batched=True)

    for found in _run(*[of_argument, of_closure, of_jacobian, in_a_batch] * 4):
        np.testing.assert_allclose(found, 2.0 * before, rtol=0.0, atol=NOISE)
    np.testing.assert_array_equal(x, before)


def test_checks_in_threads_that_share_x():
    x = np.random.default_rng(2).normal(size=40)
    before = x.copy()

    def right():
        return accelnn.check_gradient(_squares, lambda x: 2 * x, x, raises=False).verdict

    def of_closure():
        report = accelnn.check_gradient(lambda _: np.sum(x**2), lambda _: 2 * x, x, raises=False)
        return report.verdict

    def wrong():
        return accelnn.check_gradient(_squares, 3 * before, x, raises=False).verdict

    assert _run(*[right, wrong, of_closure] * 3) == ["right", "WRONG", "right"] * 3
    np.testing.assert_array_equal(x, before)


def test_a_function_may_differentiate_itself_at_the_same_x():
    """The lock that guards x is taken twice by one thread."""
    x = np.array([1.0, 2.0])

    def outer(p):
        return np.sum(accelnn.numerical_gradient(_squares, p) ** 2)

    np.testing.assert_allclose(accelnn.numerical_gradient(outer, x), 8.0 * x, rtol=1e-4)

    def closure(_):
        return np.sum(accelnn.numerical_gradient(lambda _: np.sum(x**3), x))

    found = accelnn.numerical_gradient(closure, x, step=1e-3)
    np.testing.assert_allclose(found, 6.0 * x, rtol=1e-5)
    np.testing.assert_array_equal(x, [1.0, 2.0])


NESTED = """
import threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import accelnn

def outer(p):
    return np.sum(accelnn.numerical_gradient(lambda q: np.sum(q**2), p) ** 2)

with ThreadPoolExecutor(2) as pool:
    print(accelnn.numerical_gradient(outer, np.array([1.0, 2.0]), workers=pool).round(3).tolist())

x = np.array([1.0, 2.0])

def in_threads(_):
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(accelnn.numerical_gradient, lambda q: np.sum(q**2), x.copy())
                for _ in range(2)]
        return sum(np.sum(one.result()) for one in both)

print(accelnn.numerical_gradient(in_threads, x).round(3).tolist())
"""


def test_a_function_may_differentiate_in_workers_and_in_threads_of_its_own():
    """No lock is held while others are waited for, who may want it."""
    run = subprocess.run(
        [sys.executable, "-c", NESTED], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.stdout == "[8.0, 16.0]\n[4.0, 4.0]\n", run.stderr


WEIGHTS = np.arange(1.0, 41.0)


class Writer:
    """A linear function of many points that writes to them, and may refuse points that it wrote."""

    WRITTEN = 99.0

    def __init__(self, when, *, refuses=False):
        self.when, self.refuses, self.calls = when, refuses, 0

    def __call__(self, points):
        if self.refuses and np.any(points == self.WRITTEN):
            msg = "a point that nobody asked for"
            raise ArithmeticError(msg)
        self.calls += 1
        values = points @ WEIGHTS
        if self.when(self.calls, points):
            points[:, 7] = self.WRITTEN
        return values


WRITES = {
    "never": lambda _call, _points: False,
    "always": lambda _call, _points: True,
    "first": lambda call, _points: call == 3,
    "once": lambda call, _points: call == 6,
    "last": lambda call, _points: call == 12,
    "where a point is": lambda _call, points: points[0, 20] > 0.0,
}


@pytest.mark.parametrize("chunk_size", [1, 4, 7, 39, None])
@pytest.mark.parametrize("refuses", [False, True], ids=["", "refuses"])
@pytest.mark.parametrize("when", WRITES)
def test_what_a_function_of_many_points_writes_is_in_no_later_point(when, refuses, chunk_size):
    f = Writer(WRITES[when], refuses=refuses)
    found = accelnn.numerical_gradient(f, np.zeros(40), batched=True, chunk_size=chunk_size)
    # All other coordinates are 0: a product, a difference and a quotient are rounded, each once.
    np.testing.assert_allclose(found, WEIGHTS, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("make", [NumpyBackend, StrictBackend])
@pytest.mark.parametrize("part", ["all", "row", "columns"])
def test_points_that_a_function_keeps_stay_what_they_were(make, part):
    backend, kept = accelnn.get_backend(make), []

    def f(points):
        own = {"all": points, "row": points[0, ...], "columns": points[:, :20]}[part]
        kept.append((own, np.array(backend.to_numpy(own))))
        return backend.xp.sum(points**2, axis=1)

    x = backend.asarray(np.arange(40.0))
    accelnn.numerical_gradient(f, x, batched=True, chunk_size=7, backend=backend)
    assert len(kept) > 6
    for points, before in kept:
        np.testing.assert_array_equal(backend.to_numpy(points), before)


def test_an_error_of_a_function_of_many_points_is_raised_once():
    f = Writer(WRITES["never"])

    def fails(points):
        if f.calls == 6:
            msg = "its own"
            raise ArithmeticError(msg)
        return f(points)

    with pytest.raises(ArithmeticError, match="its own"):
        accelnn.numerical_gradient(fails, np.zeros(40), batched=True, chunk_size=7)
    assert f.calls == 6
