"""Edges of domains, bounds, and values that are not finite."""

# ruff: noqa: ARG005 - rows have what users write

import math

import numpy as np

import accelnn
from peer_rows import sources
from peer_rows._row import Call, Raises, Value, quiet
from peer_rows.vector_functions import vector_to_vector, vector_to_vector_jacobian

ANY_ERROR = (ValueError, TypeError)
BOTH_SIDES = ("central", "central4", "richardson")
METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")


def right_half(x):
    return np.sum(np.where(x >= 0.0, x, np.nan))


def left_half(x):
    return np.sum(np.where(x <= 0.0, x, np.nan))


def log_or_nan(x):
    with np.errstate(all="ignore"):
        return np.sum(np.log(x))


def two_kinks(x):
    return -np.abs(x[0] + 1) + np.abs(x[1] + 1)


def gradient(f, x, **options):
    return lambda: accelnn.numerical_gradient(f, x, **options)


def _one_sided():
    for method in BOTH_SIDES:
        for name, f in (("right", right_half), ("left", left_half)):
            yield Call(
                f"identity-{name}-half-{method}",
                gradient(f, np.zeros(1), method=method, full_output=True),
                Value([1.0], 1e-10, flags=[True]),
                sources.JACOBI,
            )
        yield Call(
            f"one-good-coordinate-{method}",
            gradient(right_half, np.array([0.0, 2.0]), method=method, full_output=True),
            Value([1.0, 1.0], 1e-9, flags=[True, False]),
            sources.JACOBI,
        )
        yield Call(
            f"sqrt-0-{method}",
            gradient(
                quiet(lambda x: np.sum(np.sqrt(x))), np.zeros(1), method=method, full_output=True
            ),
            Value(None, flags=[True]),
            sources.issue("JuliaNLSolvers/Optim.jl", 541),
        )
        # A step is 60,000 times as far as the pole: the side that is there, and said so.
        yield Call(
            f"log-1e-10-{method}",
            gradient(log_or_nan, np.array([1e-10]), method=method, full_output=True),
            (Value(None, flags=[True]), Value([1e10], 1e3)),
            sources.CALCULUS,
        )
    yield Call(
        "identity-right-half-forward",
        gradient(right_half, np.zeros(1), method="forward"),
        Value([1.0], 1e-7),
        sources.JACOBI,
    )
    yield Call(
        "identity-left-half-backward",
        gradient(left_half, np.zeros(1), method="backward"),
        Value([1.0], 1e-7),
        sources.JACOBI,
    )
    yield Call(
        "diff-right-half",
        lambda: accelnn.numerical_diff(lambda x: np.where(x >= 0, x, np.nan), np.zeros(3)),
        Value(np.ones(3), 1e-10),
        sources.JACOBI,
    )
    yield Call(
        "exp-at-both-ends",
        lambda: accelnn.numerical_diff(
            lambda x: np.where((x < 0) | (x > 2), np.nan, np.exp(x)), np.array([0.0, 1.0, 2.0])
        ),
        Value(np.exp([0.0, 1.0, 2.0]), 1e-8),
        sources.SCIPY_DIFFERENTIATE,
    )
    # A pole at the very end: f jumps to infinity there.
    yield Call(
        "infinite-at-x",
        gradient(
            quiet(lambda x: np.sum(x / np.sqrt(1 - x**2))), np.array([-1.0]), full_output=True
        ),
        (Value([np.nan], flags=[True]), Value([np.inf], flags=[True])),
        sources.issue("JuliaDiff/FiniteDifferences.jl", 239),
    )


def _not_finite():
    for method in METHODS:
        yield Call(
            f"nan-everywhere-{method}",
            gradient(lambda x: np.sum(x) * np.nan, np.array([1.0, 2.0]), method=method),
            Value([np.nan, np.nan]),
            sources.SCIPY_DIFFERENTIATE,
        )
        yield Call(
            f"infinite-everywhere-{method}",
            gradient(quiet(lambda x: np.sum(x * 0) + np.inf), np.array([0.5]), method=method),
            Value([np.nan]),
            sources.issue("pbrod/numdifftools", 6),
        )
    # A constant that is returned and no more: what is not finite has no derivative.
    yield Call(
        "returns-nan",
        gradient(lambda x: np.nan, np.array([1.0])),
        (Value([np.nan]), Raises(ValueError)),
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Call(
        "returns-inf-hessian",
        lambda: accelnn.numerical_hessian(quiet(lambda x: np.sum(x) * np.inf), np.array([0.1])),
        Value([[np.nan]]),
        sources.issue("pbrod/numdifftools", 6),
    )
    yield Call(
        "one-output-nan",
        lambda: accelnn.numerical_jacobian(
            lambda x: np.array([x[0] ** 2, np.nan * x[0], x[0]]), np.array([3.0])
        ),
        Value([[6.0], [np.nan], [1.0]], 1e-8),
        sources.SCIPY_DIFFERENTIATE,
    )
    for method in METHODS:
        yield Call(
            f"one-output-nan-{method}",
            lambda method=method: accelnn.numerical_jacobian(
                lambda x: np.array([x[0] ** 2, np.nan * x[0], x[0]]), np.array([3.0]), method=method
            ),
            Value([[6.0], [np.nan], [1.0]], 1e-6),
            sources.SCIPY_DIFFERENTIATE,
        )
        for bad in (np.nan, np.inf):
            yield Call(
                f"x-{bad}-{method}",
                gradient(lambda x: np.sum(x**2), np.array([2.0, bad, 3.0]), method=method),
                Raises(ValueError, "x"),
                sources.JACOBI if np.isnan(bad) else sources.FINITE_DIFF_JVP,
            )


def _bounds():
    x = np.array([1.0, 2.0])
    right = vector_to_vector_jacobian(x)
    infinite = np.full(2, np.inf)
    forms = {
        "low-inf": (np.ones(2), np.inf),
        "inf-high": (-np.inf, np.full(2, 2.0)),
        "low-high": (np.ones(2), np.full(2, 2.0)),
        "none-high": (None, np.full(2, 2.0)),
        "low-none": (1.0, None),
        "infinite": (-infinite, infinite),
    }
    for name, bounds in forms.items():
        for method, tolerance in (("central", 1e-8), ("forward", 1e-6), ("richardson", 1e-9)):
            yield Call(
                f"bounds-{name}-{method}",
                lambda bounds=bounds, method=method: accelnn.numerical_jacobian(
                    vector_to_vector, x, bounds=bounds, method=method
                ),
                Value(right, tolerance),
                sources.SCIPY_NUMDIFF,
            )
    y = np.array([10.0, 10.0])
    for method in ("forward", "central"):
        yield Call(
            f"bounds-tight-{method}",
            lambda method=method: accelnn.numerical_jacobian(
                vector_to_vector, y, bounds=(y - 3e-9, y + 2e-9), method=method
            ),
            # Differences over 2e-9 to 3e-9 of values up to 316, in units of their last place.
            Value(vector_to_vector_jacobian(y), 8 * 2.0**-52 * 316 / 2e-9),
            sources.SCIPY_NUMDIFF,
        )
    yield Call(
        "bounds-violated",
        lambda: accelnn.numerical_jacobian(
            vector_to_vector, np.array([-2.0, 0.2]), bounds=(-np.ones(2), np.ones(2))
        ),
        Raises(ValueError, "bounds"),
        sources.SCIPY_NUMDIFF,
    )
    for at in (0.0, 1e-8, -1e-8):
        for method in ("forward", "backward", "central", "richardson"):
            yield Call(
                f"bounds-inside-nan-{at:g}-{method}",
                gradient(
                    lambda x: np.sum(np.where(np.abs(x) <= 1e-8, x, np.nan)),
                    np.array([at]),
                    bounds=(-1e-8, 1e-8),
                    method=method,
                ),
                Value([1.0], 1e-6),
                sources.SCIPY_NUMDIFF,
            )
    three = np.array([0.5, 1.0, 2.0])
    squares = Value(2 * three, 1e-8)

    def f(x):
        # Complains where it is asked outside, as solvers do.
        if np.any(x < [0.0, 0.0, 2.0]) or np.any(x > [1.0, 1.0, 3.0]):
            raise AssertionError("outside")
        return np.sum(x**2)

    pairs = [(0.0, 1.0), (0.0, 1.0), (2.0, 3.0)]
    for method in ("central", "richardson", "forward", "backward", "central4"):
        loose = Value(2 * three, 1e-6)
        yield Call(
            f"bounds-pairs-{method}",
            gradient(f, three, bounds=pairs, method=method),
            loose,
            sources.issue("JuliaNLSolvers/Optim.jl", 541),
        )
    yield Call(
        "bounds-pairs-with-none",
        gradient(lambda x: np.sum(x**2), three, bounds=[(None, 1.0), (0.0, None), (None, None)]),
        squares,
        sources.issue("PatWie/CppNumericalSolvers", 92),
    )

    def scipy_bounds():
        from scipy.optimize import Bounds

        return accelnn.numerical_gradient(f, three, bounds=Bounds([0, 0, 2], [1, 1, 3]))

    yield Call(
        "bounds-scipy",
        scipy_bounds,
        squares,
        sources.issue("scipy/scipy", 11403),
        needs="scipy",
    )
    # Two pairs for two variables may be (low, high) too; no guess is made.
    yield Call(
        "bounds-two-pairs-of-two",
        gradient(lambda x: np.sum(x**2), np.array([0.5, 0.5]), bounds=[(0.0, 1.0), (0.0, 1.0)]),
        Raises(ValueError, "(?i)pair|low"),
        sources.issue("scipy/scipy", 14212),
    )
    yield Call(
        "bounds-equal",
        gradient(
            lambda x: np.sum(x**2),
            three,
            bounds=(np.array([0.5, 0.0, 0.0]), np.array([0.5, 5.0, 5.0])),
            full_output=True,
        ),
        Value([0.0, 2.0, 4.0], 1e-8, flags=[True, False, False]),
        sources.pull("scipy/scipy", 12889),
    )
    yield Call(
        "bounds-negative-zero",
        gradient(
            lambda x: np.sum(x**2) + x[0],
            np.array([-0.0, 0.5]),
            bounds=(np.zeros(2), np.ones(2)),
        ),
        Value([1.0, 1.0], 1e-8),
        sources.issue("scipy/scipy", 11367),
    )
    yield Call(
        "bounds-swapped",
        gradient(lambda x: np.sum(x**2), np.array([0.5]), bounds=(1.0, 0.0)),
        Raises(ValueError),
        sources.SCIPY_NUMDIFF,
    )
    yield Call(
        "diff-bounds",
        lambda: accelnn.numerical_diff(quiet(np.sqrt), np.array([0.25, 4.0]), bounds=(0.25, 4.0)),
        Value([1.0, 0.25], 1e-8),
        sources.SCIPY_NUMDIFF,
    )
    yield Call(
        "diff-full-output",
        lambda: accelnn.numerical_diff(np.exp, np.array([0.0, 1.0]), full_output=True),
        Value([1.0, math.e], 1e-9, flags=[False, False]),
        sources.SCIPY_DIFFERENTIATE,
    )


def _kinks():
    at = np.array([-1.0, -1.0])
    expected = {"forward": [-1.0, 1.0], "backward": [1.0, -1.0]}
    for method, right in expected.items():
        yield Call(
            f"kink-{method}",
            gradient(two_kinks, at, method=method, step=1e-8),
            Value(right, 1e-7),
            sources.issue("scipy/scipy", 12487),
        )
        yield Call(
            f"kink-integers-{method}",
            gradient(lambda x: two_kinks(np.asarray(x)), [-1, -1], method=method, step=1e-8),
            Value(right, 1e-7),
            sources.issue("scipy/scipy", 12487),
        )
    yield Call(
        "kink-forward-turned-round",
        gradient(two_kinks, at, method="forward", step=1e-8, bounds=(-np.inf, -1.0)),
        Value([1.0, -1.0], 1e-7),
        sources.issue("scipy/scipy", 12487),
    )
    yield Call(
        "kink-backward-turned-round",
        gradient(two_kinks, at, method="backward", step=1e-8, bounds=(-1.0, np.inf)),
        Value([-1.0, 1.0], 1e-7),
        sources.issue("scipy/scipy", 12487),
    )
    for method in BOTH_SIDES:
        yield Call(
            f"kink-flagged-{method}",
            gradient(two_kinks, at, method=method, full_output=True),
            Value(None, flags=[True, True]),
            sources.issue("scipy/scipy", 12887),
        )
        yield Call(
            f"relu-0-{method}",
            gradient(
                lambda x: np.sum(np.maximum(x, 0.0)),
                np.array([0.0, 1.0]),
                method=method,
                full_output=True,
            ),
            Value(None, flags=[True, False]),
            sources.issue("tensorflow/tensorflow", 62429),
        )
    yield Call(
        "abs-0",
        gradient(lambda x: np.sum(np.abs(x)), np.zeros(1), full_output=True),
        Value([0.0], 1e-12, flags=[True]),
        sources.JACOBI,
    )


def _steps():
    yield Call(
        "step-too-small",
        gradient(lambda x: np.sum(x**2), np.array([1.0, 2.0]), step=1e-50),
        Raises(ValueError, "usable|small"),
        sources.issue("scipy/scipy", 17636),
    )
    yield Call(
        "imaginary-step-1e-50",
        gradient(lambda x: np.sum(x**2), np.array([1.0, 2.0]), step=1e-50, method="complex"),
        Value([2.0, 4.0], 1e-15),
        sources.issue("sandialabs/pyGSTi", 596),
    )
    yield Call(
        "imaginary-step-1e-50-float32",
        gradient(lambda x: np.sum(x**3), np.float32([1.0, 2.0]), step=1e-50, method="complex"),
        Value([3.0, 12.0], 1e-5),
        sources.issue("sandialabs/pyGSTi", 596),
    )
    for name, x, right, tolerance in (
        ("1e300", np.array([1e300]), [0.5e-150], 1e-160),
        ("1e200", np.array([1e200]), [0.5e-100], 1e-110),
    ):
        yield Call(
            f"complex-sqrt-{name}",
            gradient(lambda x: np.sum(np.sqrt(x)), x, method="complex"),
            Value(right, tolerance),
            sources.issue("jax-ml/jax", 39797),
        )
    yield Call(
        "complex-linear-1e300",
        gradient(lambda x: np.sum(3.0 * x), np.array([1e300, -1e300]), method="complex"),
        Value([3.0, 3.0], 1e-14),
        sources.issue("jax-ml/jax", 39797),
    )
    x = np.float32([1e25])
    yield Call(
        "complex-float32-1e25",
        gradient(lambda x: np.sum(np.sqrt(x)), x, method="complex"),
        Value([0.5 / math.sqrt(float(x[0]))], 1e-19),
        sources.issue("jax-ml/jax", 39797),
    )
    # A relative step where x is small, and the default where it is 0.
    y = np.array([1e-9, 0.0, 1e6])
    for method, relative in (("central", 1e-5), ("forward", 1e-8), ("central4", 1e-3)):
        yield Call(
            f"rel-step-{method}",
            gradient(
                lambda x: np.sin(1e9 * x[0]) + np.sin(x[1]) + np.cos(1e-6 * x[2]),
                y,
                method=method,
                rel_step=relative,
            ),
            Value(
                [1e9 * math.cos(1.0), 1.0, -1e-6 * math.sin(1.0)],
                np.array([1e9, 1.0, 1e-6]) * (1e-6 if method == "forward" else 1e-7),
            ),
            sources.pull("scipy/scipy", 11263),
        )
    for bad in (0.0, -1e-3, np.nan, np.inf, "1e-3", True, np.array([1e-3, 0.0])):
        yield Call(
            f"step-{bad!r}",
            gradient(lambda x: np.sum(x**2), np.array([1.0, 2.0]), step=bad),
            Raises(ANY_ERROR, "step"),
            sources.SCIPY_DIFFERENTIATE,
        )
        yield Call(
            f"rel-step-{bad!r}",
            gradient(lambda x: np.sum(x**2), np.array([1.0, 2.0]), rel_step=bad),
            Raises(ANY_ERROR, "step"),
            sources.SCIPY_DIFFERENTIATE,
        )
    yield Call(
        "step-far-larger-than-x",
        gradient(lambda x: np.sum(np.sin(1e9 * x)), np.array([1e-9, -2e-9]), full_output=True),
        Value(None, flags=[True, True]),
        sources.issue("JuliaMath/Calculus.jl", 132),
    )


ROWS = [*_one_sided(), *_not_finite(), *_bounds(), *_kinks(), *_steps()]
