"""How a row is run: in every mode that fits it, and within its tolerance."""

import warnings

import numpy as np
import pytest

import accelnn
from accelnn.errors import GradientCheckError, InconclusiveCheckWarning
from peer_rows import _tolerance as tolerances
from peer_rows.known import KNOWN

METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")
MODES = ("directional", "sampled", "full")
# What is added to one coordinate of a right gradient, in units of its norm.
WRONG_BY = {"float16": 0.4}
# An estimate may say that less was possible, but not that nothing was.
LOOSEST_ESTIMATE = 1000.0


def each(rows):
    """Make a test of each row; what cannot pass is marked, with its reason."""
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(
                row,
                id=row.name,
                marks=[pytest.mark.xfail(reason=KNOWN[row.name])] if row.name in KNOWN else (),
            )
            for row in rows
        ],
    )


def in_each_mode(row, modes, run):
    """Run a row in all of its modes, and then report every mode in which it fails.

    Thousands of tests of a millisecond each would take longer to collect than to run.
    """
    modes, failed = list(modes), []
    assert modes, f"no mode fits {row.name}"
    for mode in modes:
        name = f"{row.name}-{mode}"
        try:
            run(row, mode)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other modes are run
            if name not in KNOWN:
                error.add_note(f"in mode {mode}")
                failed.append(error)
        else:
            if name in KNOWN:
                failed.append(AssertionError(f"{name} passes, but is known to fail: {KNOWN[name]}"))
    if failed:
        msg = f"{row.name} fails in {len(failed)} of {len(modes)} modes"
        raise ExceptionGroup(msg, failed)


def fitting(row, method, *, elementwise=False):
    """Return the options and the tolerance of a method, or None where no step fits.

    Where the default step is too long for f, as it is in small units, a relative one is taken.
    """
    for options in (row.options, {**row.options, "rel_step": tolerance_of_relative(row, method)}):
        if options is not row.options and (
            "step" in row.options or method not in tolerances.POWERS
        ):
            continue
        tolerance = tolerances.first_order(row, method, options, elementwise=elementwise)
        if np.all(np.isfinite(tolerance)):
            return options, tolerance
    return None


def tolerance_of_relative(row, method):
    return tolerances.epsilon_of(row) ** tolerances.POWERS.get(method, 1.0)


def methods_of(row, *, elementwise=False):
    return [
        method
        for method in METHODS
        if (method != "complex" or row.complex_steps)
        # Where an extrapolation begins is no step of the others.
        and not (method == "richardson" and "step" in row.options)
        and fitting(row, method, elementwise=elementwise) is not None
    ]


def copied(x):
    """Return x so that a test may be sure of it: a copy of an array in the same form."""
    return x.copy(order="K") if type(x) is np.ndarray and x.flags.owndata else x


def assert_near(found, right, tolerance, estimate=None):
    found, right = np.asarray(found), np.asarray(right, float)
    assert found.shape == right.shape, f"shape {found.shape} for {right.shape}"
    error = np.abs(found.astype(float) - right)
    # The result has the dtype of x, and of what is right only the digits that it has.
    eps = float(np.finfo(found.dtype).eps) if found.dtype.kind == "f" else 2.0**-52
    allowed = np.broadcast_to(tolerance, right.shape) + 2.0 * eps * np.abs(right)
    if estimate is not None:
        allowed = np.maximum(
            allowed, np.minimum(np.asarray(estimate, float), LOOSEST_ESTIMATE * allowed)
        )
    worst = np.argmax(error - allowed) if right.size else 0
    assert np.all(error <= allowed), (
        f"off by {error.reshape(-1)[worst]:.3g} where {allowed.reshape(-1)[worst]:.3g} is allowed; "
        f"{found.reshape(-1)[worst]!r} for {right.reshape(-1)[worst]!r}"
    )


def verdict(f, grad, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconclusiveCheckWarning)
        try:
            return accelnn.check_gradient(f, grad, x, **options)
        except GradientCheckError as error:
            return error.report


def bound_to(row):
    """Return f of one argument: checks take no others."""
    args, kwargs = row.options.get("args", ()), row.options.get("kwargs") or {}
    return (lambda x: row.f(x, *args, **kwargs)) if args or kwargs else row.f


def batched(f):
    return lambda points, *args, **kwargs: np.array(
        [np.asarray(f(point, *args, **kwargs)) for point in points]
    )


def direction(x):
    return np.cos(1.0 + np.arange(np.size(x))).reshape(np.shape(x))


def along_of(row):
    if row.options or np.asarray(row.x).dtype != np.float64:
        return None
    found = tolerances.along(row, direction(row.x), "central")
    return found if np.all(np.isfinite(found)) else None


def wrong_by(row, right, dtype):
    """Return a part of the gradient's norm, or 1 where the gradient is as good as zero."""
    norm = float(np.linalg.norm(right))
    fits = fitting(row, "central")
    floor = 10.0 * float(np.max(fits[1], initial=0.0)) if fits else 0.0
    return WRONG_BY.get(dtype.name, 0.1) * norm if norm > floor else 1.0
