"""What users hand over: arrays, trees, patterns, random and complex functions, options."""

# ruff: noqa: FBT003, PLC3002, PLW0108 - rows have what users write

import functools
import math

import numpy as np

import accelnn
from accelnn import functions
from accelnn.errors import ImpureFunctionError
from peer_rows import sources
from peer_rows._calls import ANY_ERROR, LOOSE, METHODS, X, gradient, with_threads
from peer_rows._row import Call, Raises, Value
from peer_rows.functions_of_many import rosenbrock, sum_of_sines, sum_of_squares
from peer_rows.vector_functions import MIXED, cyclic, cyclic_jacobian


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
        lambda: with_threads(noisy(), X.copy()),
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


ROWS = [*_arrays(), *_trees(), *_sparsity(), *_random(), *_complex(), *_products(), *_options()]
