"""Functions that ignore their argument or return what they should not, and wrong arguments."""

# ruff: noqa: ARG005, PLW0108, T201 - rows have what users write

from decimal import Decimal
from fractions import Fraction

import numpy as np

import accelnn
from accelnn.errors import ImpureFunctionError
from peer_rows import sources
from peer_rows._calls import ANY_ERROR, METHODS, X, gradient
from peer_rows._row import Call, Raises, Value
from peer_rows.functions_of_many import sum_of_squares


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
    *_flat(),
    *_returns(),
    *_arguments(),
]
