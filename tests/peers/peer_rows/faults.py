"""What users do: functions that keep, write, read elsewhere or return what they should not."""

# ruff: noqa: ARG005, C901, FBT003, PLC3002, PLW0108, T201 - rows have what users write

import functools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction

import numpy as np

import accelnn
from accelnn import functions
from accelnn.errors import GradientCheckError, ImpureFunctionError
from peer_rows import sources
from peer_rows._row import Call, Raises, Value
from peer_rows.gradients import rosenbrock, sum_of_sines, sum_of_squares
from peer_rows.jacobians import MIXED, cyclic, cyclic_jacobian

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
        lambda: _with_threads(writes, X.copy()),
        (Value([6.0, 8.0], 1e-8), Raises(ImpureFunctionError)),
        sources.pull("scipy/scipy", 13741),
    )


def _with_threads(f, x, threads=2, **options):
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
        lambda: (lambda x: _with_threads(lambda _: float(np.sum(x**2)), x))(X.copy()),
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
        return np.array([_with_threads(rosenbrock, x, k) - serial for k in (1, 2, 5)])

    yield Call(
        "whatever-the-threads",
        one_thread_or_many,
        Value(np.zeros((3, 40))),
        sources.issue("OpenMx/OpenMx", 254),
    )

    def depth():
        """Return how many calls deep 16 coordinates are for 64 threads."""

        def f(x):
            time.sleep(0.2)
            return np.sum(x**2)

        with ThreadPoolExecutor(64) as pool:
            start = time.perf_counter()
            accelnn.numerical_gradient(f, np.ones(16), workers=pool)
            # Two in a row, and less than a third for all that is not f.
            return time.perf_counter() - start < 0.55

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


def _arrays():
    yield Call(
        "empty-gradient",
        gradient(lambda x: np.sum(x), np.zeros(0)),
        Value(np.zeros(0)),
        sources.JACOBI,
    )
    yield Call("empty-list", gradient(lambda x: np.sum(x), []), Value(np.zeros(0)), sources.JACOBI)
    yield Call(
        "empty-jacobian",
        lambda: accelnn.numerical_jacobian(np.exp, np.zeros(0)),
        Value(np.zeros((0, 0))),
        sources.JACOBI,
    )
    yield Call(
        "empty-diff",
        lambda: accelnn.numerical_diff(np.exp, np.zeros((0, 3))),
        Value(np.zeros((0, 3))),
        sources.JACOBI,
    )
    yield Call(
        "empty-hessian",
        lambda: accelnn.numerical_hessian(lambda x: np.sum(x), np.zeros(0)),
        Value(np.zeros((0, 0))),
        sources.JACOBI,
    )
    yield Call(
        "no-values",
        lambda: accelnn.numerical_jacobian(lambda x: x[:0], X.copy()),
        Value(np.zeros((0, 2))),
        sources.JACOBI,
    )
    yield Call(
        "matrix-class",
        gradient(lambda x: np.sum(np.asarray(x) ** 2), np.array([[1.0, 2.0]]).view(np.matrix)),
        (Value([[2.0, 4.0]], 1e-8), Raises(ANY_ERROR)),
        sources.pull("OpenMDAO/OpenMDAO", 69),
    )
    yield Call(
        "masked-array",
        gradient(lambda x: np.sum(x**2), np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])),
        (Raises(ANY_ERROR), Value([2.0, 0.0, 6.0], 1e-8), Value([2.0, 4.0, 6.0], 1e-8)),
        sources.issue("HDembinski/jacobi", 39),
    )
    yield Call(
        "float32-stays",
        gradient(sum_of_squares, np.float32([1.0, 2.0])),
        Value([2.0, 4.0], 1e-2, dtype=np.float32),
        sources.AUTOGRAD_WRAPPERS,
    )
    yield Call(
        "float16-stays",
        gradient(sum_of_squares, np.float16([1.0, 2.0])),
        Value([2.0, 4.0], 0.5, dtype=np.float16),
        sources.AUTOGRAD_WRAPPERS,
    )
    yield Call(
        "integers-become-float64",
        gradient(sum_of_squares, np.array([1, 2])),
        Value([2.0, 4.0], 1e-8, dtype=np.float64),
        sources.issue("oreilly-japan/deep-learning-from-scratch", 51),
    )
    long = np.array([1.0, 2.0], np.longdouble)
    for method in METHODS:
        yield Call(
            f"longdouble-{method}",
            gradient(lambda x: np.sum(x**3), long, method=method),
            (Value([3.0, 12.0], LOOSE.get(method, 1e-8)), Raises(ANY_ERROR)),
            sources.pull("scipy/scipy", 24210),
        )
    yield Call(
        "longdouble-hessian",
        lambda: accelnn.numerical_hessian(lambda x: np.sum(x**3), long),
        (Value(np.diag([6.0, 12.0]), 1e-4), Raises(ANY_ERROR)),
        sources.pull("scipy/scipy", 24210),
    )
    half = np.array([1.0, 2.0], np.float16)
    for method in METHODS:
        yield Call(
            f"float16-{method}",
            gradient(sum_of_squares, half, method=method),
            # Two digits in the worst method: half of them are left of three.
            (Value([2.0, 4.0], 0.5), Raises(ANY_ERROR)),
            sources.issue("jax-ml/jax", 39797) if method == "complex" else sources.SCIPY_NUMDIFF,
        )


def _trees():
    point = {"item_1": np.array([[0.3, 1.2]]), "item_2": np.array([0.5]), "item_X": np.ones(2)}

    def f(d):
        return np.sum(np.sin(d["item_1"])) + 2 * np.sum(d["item_2"])

    def flat(found):
        return np.concatenate([found[k].reshape(-1) for k in ("item_1", "item_2", "item_X")])

    right = np.array([math.cos(0.3), math.cos(1.2), 2.0, 0.0, 0.0])
    for method in METHODS:
        yield Call(
            f"dict-{method}",
            lambda method=method: flat(accelnn.numerical_gradient(f, point, method=method)),
            Value(right, LOOSE.get(method, 1e-9)),
            sources.AUTOGRAD_DICT,
        )
    yield Call(
        "dict-of-a-number",
        lambda: accelnn.numerical_gradient(lambda d: d["x"] ** 2, {"x": 3.0})["x"],
        Value(6.0, 1e-8),
        sources.AUTOGRAD_DICT,
    )
    a = np.array([[0.1, 0.2], [0.3, 0.4]])
    yield Call(
        "tuple-of-an-array-and-a-number",
        lambda: np.append(*accelnn.numerical_gradient(lambda t: np.sum(t[0]) * t[1], (a, 2.0))),
        Value([2.0, 2.0, 2.0, 2.0, 1.0], 1e-9),
        sources.FINITE_DIFFERENCES_GRAD,
    )
    yield Call(
        "list-of-arrays",
        lambda: np.concatenate(
            accelnn.numerical_gradient(
                lambda t: np.sum(t[0] ** 2) + np.sum(t[1]), [np.array([3.0]), np.array([1.0, 2.0])]
            )
        ),
        Value([6.0, 1.0, 1.0], 1e-8),
        sources.FINITE_DIFFERENCES_GRAD,
    )
    yield Call(
        "jvp-of-a-dict",
        lambda: accelnn.numerical_jvp(f, point, {k: np.ones_like(v) for k, v in point.items()}),
        Value(right.sum(), 1e-9),
        sources.FINITE_DIFFERENCES_GRAD,
    )


def _sparsity():
    report = sources.pull("OpenMDAO/OpenMDAO", 3450)
    truth = np.array([[3.0, 2.0], [0.0, 1.0]])
    for method in ("central", "central4", "forward", "backward", "complex"):
        yield Call(
            f"pattern-too-small-{method}",
            lambda method=method: accelnn.numerical_jacobian(
                lambda x: truth @ x, X.copy(), sparsity=np.eye(2), method=method
            ),
            Raises(ValueError, "(?i)sparsity|pattern"),
            report,
        )
    yield Call(
        "pattern-one-entry-short",
        lambda: accelnn.numerical_jacobian(
            lambda x: MIXED @ x, np.array([0.3, -1.4, 0.9]), sparsity=[[1, 1, 1], [1, 0, 1]]
        ),
        Raises(ValueError, "(?i)sparsity|pattern"),
        report,
    )
    yield Call(
        "pattern-of-another-shape",
        lambda: accelnn.numerical_jacobian(lambda x: truth @ x, X.copy(), sparsity=np.eye(3)),
        Raises(ValueError, "(?i)sparsity|shape"),
        report,
    )
    # A pattern that is exact: no false alarm where values are large and derivatives are small.
    yield Call(
        "pattern-exact-beside-large-values",
        lambda: accelnn.numerical_jacobian(
            lambda x: 1e6 + np.array([x[0], 2 * x[1]]), X.copy(), sparsity=np.eye(2)
        ),
        Value(np.diag([1.0, 2.0]), 1e-3),
        report,
    )

    def counted():
        calls = []

        def f(x):
            calls.append(1)
            return np.convolve(x, [1.0, -2.0, 1.0], "same")

        band = np.abs(np.subtract.outer(np.arange(30), np.arange(30))) <= 1
        accelnn.numerical_jacobian(f, np.sin(np.arange(30.0)), sparsity=band, method="forward")
        # Three colours, f(x), and what checks take, of which none grows with x.
        return len(calls) < 20

    yield Call("pattern-saves-evaluations", counted, Value(True), sources.FINITE_DIFF_COLORING)


def _random():
    def noisy():
        rng = np.random.default_rng(0)
        return lambda x: np.sum(x**2) + rng.random()

    yield Call(
        "random-is-refused-or-flagged",
        lambda: accelnn.numerical_gradient(noisy(), X.copy(), full_output=True),
        (Value(None, flags=[True, True]), Raises(ImpureFunctionError)),
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Call(
        "random-with-workers",
        lambda: _with_threads(noisy(), X.copy()),
        Raises(ImpureFunctionError),
        sources.SCIPY_DIFFERENTIATE,
    )


def _complex():
    refuse = {
        "abs": lambda x: np.sum(np.abs(x)),
        "conjugate": lambda x: np.sum(x * np.conj(x)),
        "real": lambda x: np.sum(np.real(x)) ** 2,
        "norm": lambda x: np.linalg.norm(x),
    }
    for name, f in refuse.items():
        yield Call(
            f"complex-step-through-{name}",
            gradient(f, np.array([1.5, -0.5]), method="complex"),
            Raises(ANY_ERROR, "(?i)complex"),
            sources.pull("statsmodels/statsmodels", 4297)
            if name == "abs"
            else sources.issue("statsmodels/statsmodels", 2839),
        )
    yield Call(
        "complex-step-through-math",
        # NumPy warns where Python's own complex numbers raise.
        gradient(lambda x: math.exp(x[0].item()), np.array([1.0]), method="complex"),
        Raises(ANY_ERROR),
        sources.SCIPY_NUMDIFF,
    )
    scores = np.array([[0.3, 2.5, 0.2], [1.3, -0.4, 0.9]])
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    report = sources.pull("deeplearning4j/deeplearning4j", 3827)
    yield Call(
        "softmax-under-complex-steps",
        gradient(lambda a: np.sum(labels * functions.softmax(a)), scores, method="complex"),
        Value(p * (labels - np.sum(labels * p, 1, keepdims=True)), 1e-14),
        report,
    )
    yield Call(
        "sigmoid-under-complex-steps",
        gradient(lambda a: np.sum(functions.sigmoid(a)), scores, method="complex"),
        Value(np.exp(-scores) / (1 + np.exp(-scores)) ** 2, 1e-14),
        report,
    )
    q = p[[0, 1], [1, 0]]
    slope = -(q / (q + 1e-7))[:, None] * (labels - p) / 2
    yield Call(
        "cross-entropy-under-complex-steps",
        gradient(
            lambda a: functions.cross_entropy_error(functions.softmax(a), labels),
            scores,
            method="complex",
        ),
        Value(slope, 1e-14),
        report,
    )


def _products():
    n = 60
    x = 100.0 * (1 + np.arange(1.0, n + 1) / n)
    v = np.sin(np.arange(1.0, n + 1))
    v /= np.linalg.norm(v)
    exact = cyclic_jacobian(x) @ v
    # Values of 4e4 are rounded; a step that grows with x, as peers ask, leaves no more than this.
    for scale in (1e-4, 1.0, 1e2, 1e4):
        for method, tolerance in (
            ("central", 1e-5),
            ("central4", 1e-6),
            ("forward", 1e-4),
            ("backward", 1e-4),
            ("complex", 1e-10),
            ("richardson", 1e-8),
        ):
            yield Call(
                f"jvp-scaled-{scale:g}-{method}",
                lambda scale=scale, method=method: (
                    accelnn.numerical_jvp(cyclic, x, scale * v, method=method) / scale
                ),
                Value(exact, tolerance),
                sources.FINITE_DIFF_JVP,
            )
    yield Call(
        "jvp-along-zero",
        lambda: accelnn.numerical_jvp(cyclic, x, np.zeros(n)),
        Value(np.zeros(n)),
        sources.FINITE_DIFF_JVP,
    )
    yield Call(
        "jvp-at-zero",
        lambda: accelnn.numerical_jvp(cyclic, np.zeros(n), v),
        Value(np.zeros(n), 1e-6),
        sources.FINITE_DIFF_JVP,
    )
    yield Call(
        "directional-rosenbrock",
        lambda: accelnn.numerical_jvp(
            lambda x: (1 - x[0]) ** 2 + 105.0 * (x[1] - x[0] ** 2) ** 2,
            np.array([2.0, 3.0]),
            np.array([1.0, -1.0]) / math.sqrt(2),
        ),
        Value((842.0 + 210.0) / math.sqrt(2), 1e-6),
        sources.NUMDIFFTOOLS,
    )
    a = np.array([1.6, -0.6, -0.5, -1.1, 0.9])
    w = np.array([-0.4, 0.2, 2.0, 1.0, -0.7])
    for name, options in (("", {}), ("-of-a-gradient", {"grad": np.cos})):
        yield Call(
            f"hvp-sum-of-sines{name}",
            lambda options=options: accelnn.numerical_hvp(sum_of_sines, a, w, **options),
            Value(-np.sin(a) * w, 1e-5 if not options else 1e-8),
            sources.AUTOGRAD_WRAPPERS,
        )
    tensor = np.sin(np.arange(24.0)).reshape(2, 3, 4)
    yield Call(
        "hvp-of-a-tensor",
        lambda: accelnn.numerical_hvp(sum_of_sines, tensor, np.cos(tensor)),
        Value(-np.sin(tensor) * np.cos(tensor), 1e-5),
        sources.AUTOGRAD_WRAPPERS,
    )


def _options():
    yield Call(
        "f0",
        gradient(sum_of_squares, f0=25.0, method="forward"),
        Value([6.0, 8.0], 1e-6),
        sources.SCIPY_NUMDIFF,
    )
    yield Call(
        "f0-of-a-jacobian",
        lambda: accelnn.numerical_jacobian(
            lambda x: x**2, X.copy(), f0=np.array([9.0, 16.0]), method="forward"
        ),
        Value(np.diag([6.0, 8.0]), 1e-6),
        sources.SCIPY_NUMDIFF,
    )

    def saved(f0):
        count = []

        def f(x):
            count.append(np.array(x))
            return np.sum(x**2)

        accelnn.numerical_gradient(f, np.ones(8), method="forward", f0=f0)
        return len(count)

    yield Call(
        "f0-saves-a-call", lambda: saved(8.0) < saved(None), Value(True), sources.SCIPY_NUMDIFF
    )
    yield Call(
        "f0-of-another-shape",
        lambda: accelnn.numerical_jacobian(lambda x: x**2, X.copy(), f0=np.ones(3)),
        Raises(ANY_ERROR, "f0"),
        sources.SCIPY_NUMDIFF,
    )
    yield Call(
        "args-of-one-array",
        lambda: accelnn.numerical_diff(lambda x, c: c * x - 1, 2.0, args=(3.0,)),
        Value(3.0, 1e-8),
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Call(
        "check-raises-false",
        lambda: (
            accelnn.check_gradient(sum_of_squares, lambda x: 3 * x, X.copy(), raises=False).verdict
            == "WRONG"
        ),
        Value(True),
        sources.issue("scipy/scipy", 7766),
    )
    yield Call(
        "partial",
        gradient(functools.partial(lambda y, x: np.sum(x**2) + y, 1.0)),
        Value([6.0, 8.0], 1e-8),
        sources.AUTOGRAD_WRAPPERS,
    )
    x = np.linspace(0.5, 1.0, 9)
    yield Call(
        "x-is-unchanged",
        lambda: (lambda y: (accelnn.numerical_gradient(rosenbrock, y), y)[1])(x.copy()),
        Value(x),
        sources.FINITE_DIFFERENCES_GRAD,
    )


ROWS = [
    *_keepers(),
    *_closures(),
    *_threads(),
    *_flat(),
    *_returns(),
    *_arguments(),
    *_arrays(),
    *_trees(),
    *_sparsity(),
    *_random(),
    *_complex(),
    *_products(),
    *_options(),
]
