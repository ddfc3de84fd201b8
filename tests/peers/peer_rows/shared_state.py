"""Functions that keep their argument, close over x, or share data with other threads."""

# ruff: noqa: C901, FBT003, PLC3002, PLW0108 - rows have what users write

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import accelnn
from accelnn.errors import GradientCheckError, ImpureFunctionError
from peer_rows import sources
from peer_rows._calls import LOOSE, METHODS, X, gradient, with_threads
from peer_rows._row import Call, Raises, Value
from peer_rows.functions_of_many import rosenbrock
from peer_rows.vector_functions import cyclic, cyclic_jacobian


class Keeper:
    """Keeps its last argument, without a copy, and the value that belongs to it."""

    def __init__(self):
        self.x = None
        self.value = None

    def __call__(self, x):
        if self.x is None or not np.array_equal(self.x, x):
            self.x, self.value = x, np.sum(x**2)
        return self.value


class Model:
    """A loss that stores the weights that it is asked for, as textbook nets do."""

    def __init__(self, weights):
        self.weights = weights

    def loss(self):
        return float(np.sum(self.weights**3))


def _keepers():
    report = sources.pull("scipy/scipy", 10693)
    for method in METHODS:
        tolerance = LOOSE.get(method, 1e-8)
        yield Call(
            f"keeps-its-x-{method}",
            lambda method=method: accelnn.numerical_gradient(Keeper(), X.copy(), method=method),
            Value([6.0, 8.0], tolerance),
            report,
        )
        yield Call(
            f"keeps-its-x-list-{method}",
            lambda method=method: accelnn.numerical_gradient(Keeper(), [3.0, 4.0], method=method),
            Value([6.0, 8.0], tolerance),
            report,
        )
    yield Call(
        "keeps-its-x-zero-gradient",
        lambda: accelnn.check_gradient(Keeper(), lambda x: np.zeros_like(x), X.copy()),
        Raises(GradientCheckError),
        report,
    )
    yield Call(
        "keeps-its-x-right-gradient",
        lambda: accelnn.check_gradient(Keeper(), lambda x: 2 * x, X.copy()).passed,
        Value(True),
        report,
    )
    yield Call(
        "keeps-its-x-hessian",
        lambda: accelnn.numerical_hessian(Keeper(), X.copy()),
        Value(2 * np.eye(2), 1e-5),
        sources.pull("scipy/scipy", 11872),
    )

    def reused():
        buffer = np.empty(2)

        def f(x):
            buffer[:] = [10 * (x[1] - x[0] ** 2), 1 - x[0]]
            return buffer

        return f

    for method in ("central", "central4", "forward", "backward", "richardson"):
        yield Call(
            f"returns-one-buffer-{method}",
            lambda method=method: accelnn.numerical_jacobian(
                reused(), np.array([2.0, 2.0]), method=method
            ),
            Value([[-40.0, 10.0], [-1.0, 0.0]], 20 * LOOSE.get(method, 1e-8)),
            sources.issue("scipy/scipy", 11493),
        )

    def one_number():
        buffer = np.empty(())

        def f(x):
            buffer[...] = np.sum(x**2)
            return buffer

        return f

    yield Call(
        "returns-one-0-d-buffer",
        lambda: accelnn.numerical_gradient(one_number(), X.copy()),
        Value([6.0, 8.0], 1e-8),
        sources.issue("scipy/scipy", 11493),
    )

    def writes(x):
        x *= x
        return np.sum(x)

    # Fresh arrays make it right; a refusal is an answer, a wrong number is none.
    yield Call(
        "writes-its-argument",
        gradient(writes),
        (Value([6.0, 8.0], 1e-8), Raises(ImpureFunctionError)),
        sources.pull("scipy/scipy", 13741),
    )
    yield Call(
        "writes-its-argument-with-workers",
        lambda: with_threads(writes, X.copy()),
        (Value([6.0, 8.0], 1e-8), Raises(ImpureFunctionError)),
        sources.pull("scipy/scipy", 13741),
    )


def _closures():
    report = sources.issue("oreilly-japan/deep-learning-from-scratch", 51)

    def penalty():
        x = X.copy()
        return (lambda p: p @ x), x

    def read(**options):
        f, x = penalty()
        return accelnn.numerical_gradient(f, x, **options)

    yield Call("argument-and-closure", read, Raises(ImpureFunctionError, "in_place"), report)
    yield Call(
        "argument-and-closure-total",
        functools.partial(read, in_place=True),
        Value([6.0, 8.0], 1e-8),
        report,
    )
    yield Call(
        "argument-and-closure-partial",
        functools.partial(read, in_place=False),
        Value([3.0, 4.0], 1e-8),
        report,
    )
    yield Call(
        "argument-beside-a-list",
        lambda: (lambda x: accelnn.numerical_gradient(lambda p: np.dot(p, x), x))([3.0, 4.0]),
        Value([3.0, 4.0], 1e-8),
        report,
    )

    def closure(method):
        model = Model(X.copy())
        found = accelnn.numerical_gradient(lambda _: model.loss(), model.weights, method=method)
        if not np.array_equal(model.weights, X):
            raise AssertionError("the weights were not put back")
        return found

    for method in ("central", "central4", "forward", "backward", "richardson"):
        yield Call(
            f"closure-{method}",
            functools.partial(closure, method),
            Value([27.0, 48.0], 20 * LOOSE.get(method, 1e-8)),
            report,
        )

    def stores():
        model = Model(np.ones(2))
        x = X.copy()

        def f(weights):
            model.weights = weights
            return model.loss()

        found = accelnn.numerical_gradient(f, x)
        if not np.array_equal(model.weights, X):
            raise AssertionError("the last call was not at x")
        return found

    yield Call("stores-its-argument", stores, Value([27.0, 48.0], 1e-6), report)

    def raises_midway():
        x = X.copy()
        calls = []

        def f(_):
            calls.append(1)
            if len(calls) > 4:
                raise KeyError("solver")
            return float(np.sum(x**2))

        try:
            accelnn.numerical_gradient(f, x)
        except KeyError:
            return x
        return None

    yield Call("restored-after-an-error", raises_midway, Value(X), report)
    yield Call(
        "closure-with-workers",
        lambda: (lambda x: with_threads(lambda _: float(np.sum(x**2)), x))(X.copy()),
        Raises(ImpureFunctionError),
        report,
    )
    yield Call(
        "closure-batched",
        lambda: (
            lambda x: accelnn.numerical_gradient(
                lambda p: np.full(len(p), np.sum(x**2)), x, batched=True
            )
        )(X.copy()),
        Raises(ImpureFunctionError),
        report,
    )


def _threads():
    def shared():
        x = np.linspace(-1, 1, 300)
        before = x.copy()
        with ThreadPoolExecutor(4) as pool:
            found = list(
                pool.map(lambda _: accelnn.numerical_gradient(lambda v: np.sum(v**2), x), range(8))
            )
        if not np.array_equal(x, before):
            raise AssertionError("x was damaged")
        return np.array(found) - 2 * before

    yield Call(
        "eight-gradients-over-one-x",
        shared,
        Value(np.zeros((8, 300)), 1e-6),
        sources.pull("JuliaDiff/FiniteDiff.jl", 115),
    )

    def shared_jacobians():
        x = np.linspace(1.0, 2.0, 20)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: accelnn.numerical_jacobian(cyclic, x), range(8)))
        return np.array(found) - cyclic_jacobian(x)

    yield Call(
        "eight-jacobians-over-one-x",
        shared_jacobians,
        Value(np.zeros((8, 20, 20)), 1e-7),
        sources.pull("JuliaDiff/FiniteDiff.jl", 115),
    )

    def one_thread_or_many():
        x = np.sin(np.arange(40.0))
        serial = accelnn.numerical_gradient(rosenbrock, x)
        return np.array([with_threads(rosenbrock, x, k) - serial for k in (1, 2, 5)])

    yield Call(
        "whatever-the-threads",
        one_thread_or_many,
        Value(np.zeros((3, 40))),
        sources.issue("OpenMx/OpenMx", 254),
    )

    def depth():
        """Return whether all differences of 16 coordinates are under way at once."""
        everybody = threading.Barrier(32)

        def f(x):
            if np.count_nonzero(x != 1.0) == 1:
                everybody.wait(timeout=60.0)
            return np.sum(x**2)

        with ThreadPoolExecutor(64) as pool:
            found = accelnn.numerical_gradient(f, np.ones(16), workers=pool)
        return np.allclose(found, 2.0)

    yield Call("two-evaluations-deep", depth, Value(True), sources.issue("scipy/scipy", 22119))

    def evaluations(method):
        count = []

        def f(x):
            count.append(1)
            return np.sum(x**2)

        accelnn.numerical_gradient(f, np.ones(20), method=method)
        return len(count)

    # f(x) is not evaluated again for every coordinate.
    yield Call(
        "forward-evaluates-f(x)-once",
        lambda: evaluations("forward") < 2 * 20,
        Value(True),
        sources.issue("JuliaDiff/FiniteDiff.jl", 202),
    )

    def processes():
        x = np.sin(np.arange(12.0))
        found = accelnn.numerical_gradient(rosenbrock, x, workers=2)
        return found - accelnn.numerical_gradient(rosenbrock, x)

    yield Call("two-processes", processes, Value(np.zeros(12)), sources.pull("scipy/scipy", 22141))

    def busy():
        lock = threading.Lock()

        def f(x):
            # A lock in a closure cannot be pickled: threads, and no error.
            with lock:
                return np.sum(x**2)

        return accelnn.numerical_gradient(f, X.copy(), workers=2)

    yield Call("not-pickled", busy, Value([6.0, 8.0], 1e-8), sources.pull("scipy/scipy", 22141))


ROWS = [
    *_keepers(),
    *_closures(),
    *_threads(),
]
