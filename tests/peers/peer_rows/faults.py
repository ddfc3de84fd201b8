"""What users do: functions that keep, write, read elsewhere or return what they should not."""

# ruff: noqa: ARG005, C901, FBT003, PLC3002, PLW0108, T201 - rows have what users write

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction

import numpy as np

import accelnn
from accelnn.errors import GradientCheckError, ImpureFunctionError
from peer_rows import sources
from peer_rows._row import Call, Raises, Value
from peer_rows.functions_of_many import rosenbrock, sum_of_squares
from peer_rows.jacobians import cyclic, cyclic_jacobian

ANY_ERROR = (ValueError, TypeError)


X = np.array([3.0, 4.0])


METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")


LOOSE = {"forward": 1e-6, "backward": 1e-6}


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


def gradient(f, x=X, **options):
    return lambda: accelnn.numerical_gradient(
        f, x.copy() if isinstance(x, np.ndarray) else x, **options
    )


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


def with_threads(f, x, threads=2, **options):
    with ThreadPoolExecutor(threads) as pool:
        return accelnn.numerical_gradient(f, x, workers=pool, **options)


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


def _flat():
    report = sources.JACOBI
    yield Call("constant-of-a-number", gradient(lambda x: 5.0, 1.0), Value(0.0), report)
    yield Call("constant-of-a-list", gradient(lambda x: 5.0, [1.0, 2.0]), Value([0.0, 0.0]), report)
    frozen = np.array([1.0, 2.0])
    frozen.flags.writeable = False
    yield Call(
        "constant-of-read-only",
        lambda: accelnn.numerical_gradient(lambda x: 5.0, frozen),
        Value([0.0, 0.0]),
        report,
    )
    yield Call(
        "constant-of-integers", gradient(lambda x: 5, np.array([1, 2])), Value([0.0, 0.0]), report
    )
    yield Call(
        "constant-of-an-array",
        gradient(lambda x: 1.0, np.array([1.0, 2.0, 3.0])),
        Value(np.zeros(3)),
        report,
    )
    yield Call(
        "integer-constant-diff",
        lambda: accelnn.numerical_diff(lambda x: 5, 0),
        Value(0.0),
        sources.FINITE_DIFFERENCES,
    )
    for x in ([-1.0, -2.0], np.array([-1, -2]), (-1.0, -2.0), np.array([-1.0, -2.0])):
        yield Call(
            f"flat-relu-{type(x).__name__}-{np.asarray(x).dtype}",
            gradient(lambda x: np.sum(np.maximum(x, 0.0)), x),
            Value([0.0, 0.0]),
            sources.pull("mlpack/mlpack", 1341),
        )
    for method in METHODS:
        if method != "complex":
            yield Call(
                f"flat-relu-{method}",
                gradient(lambda x: np.sum(np.maximum(x, 0.0)), [-1.0, -2.0], method=method),
                Value([0.0, 0.0]),
                sources.pull("mlpack/mlpack", 1341),
            )
    outer = [3.0, 4.0]
    yield Call(
        "closure-of-a-list",
        lambda: accelnn.numerical_gradient(lambda _: sum(v * v for v in outer), outer),
        Raises(ImpureFunctionError),
        sources.issue("oreilly-japan/deep-learning-from-scratch", 51),
    )


def _returns():
    x = X.copy()
    errors = {
        "vector": (lambda x: x**2, "numerical_jacobian", sources.issue("scipy/scipy", 10078)),
        "column": (
            lambda x: x[:, None] ** 2,
            "numerical_jacobian",
            sources.issue("scipy/scipy", 19126),
        ),
        "none": (
            lambda x: print(end=""),
            "return",
            sources.issue("scipy/scipy", 14212),
        ),
        "value-and-gradient": (
            lambda x: (np.sum(x**2), 2 * x),
            "(?i)tuple|gradient",
            sources.pull("scipy/scipy", 177),
        ),
        "loss-and-cache": (
            lambda x: (np.sum(x**2), {"a": x}),
            "(?i)tuple|first",
            sources.pull("scipy/scipy", 177),
        ),
        "text": (lambda x: "s", "", sources.JACOBI),
        "ragged": (lambda x: [1, [1, 2]], "", sources.JACOBI),
        "complex": (
            lambda x: 1j * np.sum(x**2),
            "(?i)complex|real",
            sources.issue("pbrod/numdifftools", 38),
        ),
        "complex-constant": (
            lambda x: np.inner(x, x) - 1j,
            "(?i)complex|real",
            sources.issue("pbrod/numdifftools", 38),
        ),
    }
    for name, (f, match, source) in errors.items():
        yield Call(f"returns-{name}", gradient(f, x), Raises(ANY_ERROR, match), source)
    yield Call(
        "hessian-of-complex-values",
        lambda: accelnn.numerical_hessian(lambda x: 1j * np.inner(x, x), X.copy()),
        Raises(ANY_ERROR, "(?i)complex|real"),
        sources.NUMDIFFTOOLS,
    )
    yield Call(
        "hessian-of-a-vector",
        lambda: accelnn.numerical_hessian(lambda x: np.sin(x), X.copy()),
        Raises(ANY_ERROR),
        sources.issue("pbrod/numdifftools", 67),
    )
    yield Call(
        "diff-of-complex-values",
        lambda: accelnn.numerical_diff(lambda z: 1j * z**2, 2.0),
        Raises(ANY_ERROR, "(?i)complex|real"),
        sources.issue("pbrod/numdifftools", 72),
    )
    yield Call(
        "diff-of-another-shape",
        lambda: accelnn.numerical_diff(lambda x: np.array([1.0, 2.0, 3.0]), np.array([-2.0, -3.0])),
        Raises(ANY_ERROR, "shape"),
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Call(
        "jacobian-of-changing-shape",
        lambda: accelnn.numerical_jacobian(
            lambda x: np.ones(2 if x[0] > 3.0 else 3) * x[0], X.copy()
        ),
        Raises(ANY_ERROR, "shape"),
        sources.SCIPY_NUMDIFF,
    )
    numbers = {
        "decimal": lambda x: Decimal(float(x[0])) ** 2 + Decimal(float(x[1])) ** 2,
        "fraction": lambda x: Fraction(float(x[0])) ** 2 + Fraction(float(x[1])) ** 2,
        "object": lambda x: np.array(Fraction(float(x[0])) ** 2 + float(x[1]) ** 2, object),
        "bool-plus": lambda x: np.sum(x**2) + True,
        "list-of-one": lambda x: [np.sum(x**2)],
    }
    for name, f in numbers.items():
        right = Value([6.0, 8.0], 1e-8)
        yield Call(
            f"returns-{name}",
            gradient(f, x),
            (right, Raises(ANY_ERROR)) if name == "object" else right,
            sources.pull("scipy/scipy", 10673),
        )

    def torch_loss(x):
        import torch

        return torch.tensor(x, dtype=torch.float32).square().sum()

    yield Call(
        "returns-torch-float32",
        gradient(torch_loss, x),
        # A central difference of values of 25 in single precision.
        Value([6.0, 8.0], 8 * 2.0**-23 * 25 / (2.0**-23) ** (1 / 3) / 3),
        sources.issue("pytorch/pytorch", 8175),
        needs="torch",
    )

    def jax_loss(x):
        import jax.numpy as jnp

        return jnp.sum(jnp.asarray(x, jnp.float32) ** 2)

    yield Call(
        "returns-jax-float32",
        gradient(jax_loss, x),
        Value([6.0, 8.0], 8 * 2.0**-23 * 25 / (2.0**-23) ** (1 / 3) / 3),
        sources.JAX_CHECK_GRADS,
        needs="jax",
    )


def _arguments():
    for x in (np.array([1 + 2j, 3.0]), 1j, "abc", None, [1.0, "b"], {1.0, 2.0}, object()):
        yield Call(
            f"x-{type(x).__name__}-{np.size(x)}",
            gradient(sum_of_squares, x),
            Raises(ANY_ERROR),
            sources.SCIPY_DIFFERENTIATE,
        )
    for f in (None, 3.0, "f"):
        yield Call(f"f-{f}", gradient(f), Raises(ANY_ERROR), sources.SCIPY_DIFFERENTIATE)
    for method in ("centered", "cs", None, 2):
        yield Call(
            f"method-{method}",
            gradient(sum_of_squares, method=method),
            Raises(ANY_ERROR, "method"),
            sources.JACOBI,
        )
    for order in (0, -1, 5, 1.5, "2"):
        yield Call(
            f"order-{order}",
            lambda order=order: accelnn.numerical_diff(np.sin, 1.0, order=order),
            Raises(ANY_ERROR, "order"),
            sources.SCIPY_DIFFERENTIATE,
        )
    for tolerance in (-1.0, "ekki", np.nan):
        for name in ("rtol", "atol"):
            yield Call(
                f"{name}-{tolerance}",
                lambda tolerance=tolerance, name=name: accelnn.check_gradient(
                    sum_of_squares, lambda x: 2 * x, X.copy(), **{name: tolerance}
                ),
                Raises(ANY_ERROR, name),
                sources.SCIPY_DIFFERENTIATE,
            )
    yield Call(
        "jvp-of-another-shape",
        lambda: accelnn.numerical_jvp(sum_of_squares, X.copy(), np.ones(3)),
        Raises(ANY_ERROR, "shape"),
        sources.FINITE_DIFF_JVP,
    )
    yield Call(
        "check-of-another-shape",
        lambda: accelnn.check_gradient(sum_of_squares, np.ones(3), X.copy()),
        Raises(ANY_ERROR, "shape"),
        sources.issue("jax-ml/jax", 6452),
    )


ROWS = [
    *_keepers(),
    *_closures(),
    *_threads(),
    *_flat(),
    *_returns(),
    *_arguments(),
]
