"""Every row of the table, in every mode that fits it."""

import functools
import importlib.util
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from peer_rows import _tolerance as tolerances
from peer_rows import (
    checks,
    checks_of_nets,
    domains,
    faults,
    forms,
    functions_of_many,
    gradient_forms,
    gradients,
    hessians,
    jacobians,
    scalar,
    scalar_scipy,
    shared_state,
)
from peer_rows._row import Raises, Value
from peer_rows.known import KNOWN
from scipy import sparse

import accelnn
from accelnn.errors import GradientCheckError, InconclusiveCheckWarning

METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")
SECOND = ("central", "forward", "backward", "complex", "richardson")
MODES = ("directional", "sampled", "full")
# From here on a row takes tenths of a second for each mode, and from there on one of each will do.
LONG = 500
MANY = 2000
# What is added to one coordinate of a right gradient, in units of its norm.
WRONG_BY = {"float16": 0.4}
# An estimate may say that less was possible, but not that nothing was.
LOOSEST_ESTIMATE = 1000.0


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


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


def is_movable(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.flags.writeable and x.ndim > 0


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


# --- one variable


def derivative_modes(row):
    methods = methods_of(row, elementwise=True)
    yield from methods
    for order in range(2, len(row.right) + 1):
        for method in ("central", "richardson"):
            if not row.options and np.all(np.isfinite(tolerances.higher_order(row, order, method))):
                yield f"order{order}-{method}"
    if np.ndim(row.x) == 0:
        yield from (f"gradient-{m}" for m in ("central", "richardson") if m in methods)


@each([*scalar.ROWS, *scalar_scipy.ROWS])
def test_derivative(row):
    in_each_mode(row, derivative_modes(row), differentiate)


def differentiate(row, mode):
    right = [np.broadcast_to(np.asarray(d, float), np.shape(row.x)) for d in row.right]
    if mode.startswith("order"):
        order, method = int(mode[5]), mode[7:]
        found = accelnn.numerical_diff(row.f, copied(row.x), order=order, method=method)
        assert_near(found, right[order - 1], tolerances.higher_order(row, order, method))
        return
    method = mode.removeprefix("gradient-")
    options, tolerance = fitting(row, method, elementwise=True)
    if mode.startswith("gradient-"):
        found = accelnn.numerical_gradient(
            row.f, copied(row.x), method=method, full_output=True, **options
        )
        assert_near(found.gradient, right[0], tolerance, found.error)
        return
    found = accelnn.numerical_diff(row.f, copied(row.x), method=method, **options)
    assert_near(found, right[0], tolerance)


# --- many variables


def gradient_modes(row):
    if np.size(row.x) > MANY:
        yield from modes_of_many(row)
        return
    methods = methods_of(row)
    yield from doors_of(row, methods)
    if "central" in methods and "rel_step" not in fitting(row, "central")[0]:
        yield "central-jacobian"
        if np.ndim(row.x) and along_of(row) is not None:
            yield "central-jvp"
    for mode in (*MODES, "full-wrong", "directional-wrong"):
        yield f"check-{mode}"


def doors_of(row, methods):
    """Every way to evaluate f, of every method."""
    is_long = np.size(row.x) > LONG
    for method in methods:
        yield method
        if row.batches:
            yield f"{method}-batched"
        if not (is_long and method == "richardson"):
            yield f"{method}-workers"
    if is_movable(row.x) and not is_overlapping(row.x):
        for method in ("central",) if is_long else ("central", "richardson"):
            if method in methods:
                yield f"{method}-closure"
                yield f"{method}-in_place"


def modes_of_many(row):
    yield "central"
    yield "central-batched"
    if np.size(row.x) == max(functions_of_many.MANY):
        yield "forward"
        yield "complex-batched"
        yield "central-workers"
        yield "central-closure"
        yield "check-directional"
        yield "check-sampled"


def is_overlapping(x):
    return isinstance(x, np.ndarray) and not x.flags.owndata


def direction(x):
    return np.cos(1.0 + np.arange(np.size(x))).reshape(np.shape(x))


def along_of(row):
    if row.options or np.asarray(row.x).dtype != np.float64:
        return None
    found = tolerances.along(row, direction(row.x), "central")
    return found if np.all(np.isfinite(found)) else None


@each([*gradients.ROWS, *gradient_forms.ROWS])
def test_gradient(row, pool):
    in_each_mode(row, gradient_modes(row), functools.partial(differentiate_of_many, pool=pool))


def differentiate_of_many(row, mode, pool):
    right = np.asarray(row.right, float).reshape(np.shape(row.x))
    if mode.startswith("check-"):
        check_row(row, right, mode)
        return
    method, _, door = mode.partition("-")
    options, tolerance = fitting(row, method)
    x, f = copied(row.x), row.f
    before = np.array(x)
    if door == "jacobian":
        found = accelnn.numerical_jacobian(f, x, method=method, **options)
        assert_near(np.squeeze(found), np.squeeze(right), np.squeeze(tolerance))
    elif door == "jvp":
        found = accelnn.numerical_jvp(f, x, direction(x), method=method)
        assert_near(np.squeeze(found), np.sum(right * direction(x)), along_of(row))
    else:
        if door == "batched":
            f, options = batched(f), {**options, "batched": True}
        elif door == "workers":
            options = {**options, "workers": pool}
        elif door == "in_place":
            options = {**options, "in_place": True}
        elif door == "closure":
            g, x = bound_to(row), np.array(x)
            f = lambda _: g(x)  # noqa: E731 - what users write
            options = {k: v for k, v in options.items() if k not in ("args", "kwargs")}
        wants_more = method == "richardson"
        found = accelnn.numerical_gradient(f, x, method=method, full_output=wants_more, **options)
        if wants_more:
            assert_near(found.gradient, right, tolerance, found.error)
        else:
            assert_near(found, right, tolerance)
    np.testing.assert_array_equal(np.array(x), before)


def wrong_by(row, right, dtype):
    """Return a part of the gradient's norm, or 1 where the gradient is as good as zero."""
    norm = float(np.linalg.norm(right))
    fits = fitting(row, "central")
    floor = 10.0 * float(np.max(fits[1], initial=0.0)) if fits else 0.0
    return WRONG_BY.get(dtype.name, 0.1) * norm if norm > floor else 1.0


def check_row(row, right, mode):
    """A right gradient is never wrong, and one that is off by a tenth of its norm never right."""
    options = {"mode": mode.split("-")[1]}
    x = copied(row.x)
    dtype = np.asarray(x).dtype
    given = right.astype(dtype if dtype.kind == "f" else np.float64)
    if mode.endswith("wrong"):
        given = given.reshape(-1).copy()
        given[np.argmax(np.abs(given))] += wrong_by(row, right, dtype)
        given = given.reshape(right.shape)
        assert verdict(bound_to(row), given, x, **options).verdict != "right"
    else:
        report = verdict(bound_to(row), given, x, **options)
        assert report.verdict != "WRONG", str(report)


# --- many values


def jacobian_modes(row):
    methods = methods_of(row)
    for method in methods:
        yield method
        yield f"{method}-batched"
    if "central" in methods:
        yield "central-workers"
        yield "central-f0"
        if along_of(row) is not None:
            yield "central-jvp"
    if np.ndim(row.right) == 2 and np.ndim(row.x) == 1 and isinstance(row.x, np.ndarray):
        yield from (f"{method}-sparse" for method in methods if method != "richardson")
        yield "central-scipy"
    if not row.options.get("rel_step"):
        for mode in MODES:
            yield f"check-{mode}"
        yield "check-full-wrong"


@each(jacobians.ROWS)
def test_jacobian(row, pool):
    in_each_mode(row, jacobian_modes(row), functools.partial(differentiate_values, pool=pool))


def differentiate_values(row, mode, pool):
    x, right = copied(row.x), np.asarray(row.right, float)
    if mode.startswith("check-"):
        check_row_of_many(row, right, mode)
        return
    method, _, door = mode.partition("-")
    options, tolerance = fitting(row, method)
    # From (x, values) to (values, x).
    axes = np.ndim(row.x)
    values = right.ndim - axes
    tolerance = np.broadcast_to(
        np.asarray(tolerance).reshape(
            np.shape(tolerance) + (1,) * (right.ndim - np.ndim(tolerance))
        )
        if np.ndim(tolerance) == axes
        else tolerance.reshape(np.shape(row.x) + right.shape[:values]),
        np.shape(row.x) + right.shape[:values],
    )
    tolerance = np.moveaxis(tolerance, range(axes), range(values, right.ndim))
    f = row.f
    if door == "jvp":
        found = accelnn.numerical_jvp(f, x, direction(x), method=method)
        expected = np.tensordot(right, direction(x), axes)
        assert_near(
            found,
            expected,
            np.reshape(along_of(row), expected.shape) if np.ndim(along_of(row)) else along_of(row),
        )
        return
    if door == "batched":
        f, options = batched(f), {**options, "batched": True}
    elif door == "workers":
        options = {**options, "workers": pool}
    elif door == "f0":
        options = {**options, "f0": bound_to(row)(np.array(x))}
    elif door in ("sparse", "scipy"):
        pattern = np.asarray(right != 0 if row.pattern is None else row.pattern)
        if door == "scipy":
            pattern = sparse.csr_array(pattern.astype(float))
        options = {**options, "sparsity": pattern}
    wants_more = method == "richardson"
    found = accelnn.numerical_jacobian(f, x, method=method, full_output=wants_more, **options)
    if door == "scipy":
        found = found.toarray()
    if wants_more:
        assert_near(found.gradient, right, tolerance, found.error)
    else:
        assert_near(found, right, tolerance)


def check_row_of_many(row, right, mode):
    options = {"mode": mode.split("-")[1]}
    given = right.copy()
    if mode.endswith("wrong"):
        given.reshape(-1)[np.argmax(np.abs(given))] += wrong_by(row, right, right.dtype)
        assert verdict(bound_to(row), given, copied(row.x), **options).verdict != "right"
    else:
        report = verdict(bound_to(row), given, copied(row.x), **options)
        assert report.verdict != "WRONG", str(report)


# --- second derivatives


def hessian_modes(row):
    methods = [
        method
        for method in SECOND
        if (method != "complex" or row.complex_steps)
        and np.all(np.isfinite(tolerances.second_order(row, method)))
    ]
    for method in methods:
        yield method
        yield f"{method}-diagonal"
    if "central" in methods:
        yield "central-batched"
        yield "central-workers"
        yield "central-hvp"
        if row.gradient is not None:
            yield "central-hvp-of-gradient"
    if row.gradient is not None:
        for mode in MODES:
            yield f"check-{mode}"
        yield "check-full-wrong"


@each(hessians.ROWS)
def test_hessian(row, pool):
    in_each_mode(row, hessian_modes(row), functools.partial(differentiate_twice, pool=pool))


def differentiate_twice(row, mode, pool):
    x, right = copied(row.x), np.asarray(row.right, float)
    if mode.startswith("check-"):
        given = right.copy()
        wrong = mode.endswith("wrong")
        if wrong:
            given.reshape(-1)[np.argmax(np.abs(given))] += 0.1 * (float(np.linalg.norm(right)) or 1)
        report = verdict(row.gradient, given, x, mode=mode.split("-")[1])
        assert report.verdict != ("right" if wrong else "WRONG"), str(report)
        return
    method, _, door = mode.partition("-")
    tolerance = tolerances.second_order(row, method)
    n = x.size
    if door.startswith("hvp"):
        v = direction(x)
        expected = np.tensordot(right, v, x.ndim)
        if door == "hvp":
            found = accelnn.numerical_hvp(row.f, x, v)
        else:
            found = accelnn.numerical_hvp(row.f, x, v, grad=row.gradient)
        # Each entry of the product is a sum over a row, and v is no longer than one in any.
        assert_near(found, expected, tolerance.reshape(n, n).sum(1).reshape(x.shape))
        return
    if door == "diagonal":
        found = accelnn.numerical_hessian(row.f, x, method=method, diagonal=True)
        expected = np.diag(right.reshape(n, n)).reshape(x.shape)
        assert_near(found, expected, np.diag(tolerance.reshape(n, n)).reshape(x.shape))
        return
    options = {"workers": pool} if door == "workers" else {}
    f = row.f
    if door == "batched":
        f, options = batched(f), {"batched": True}
    found = accelnn.numerical_hessian(f, x, method=method, **options)
    assert_near(found, right, tolerance)


# --- checks, and all the rest


@each([*checks.ROWS, *checks_of_nets.ROWS])
def test_check(row):
    in_each_mode(row, row.modes, check)


def check(row, mode):
    report = verdict(row.f, row.grad, row.x, mode=mode, **row.options)
    said = report.verdict
    if row.verdict.startswith("not "):
        assert said != row.verdict.removeprefix("not "), str(report)
    else:
        assert said == row.verdict, str(report)
    assert row.says in str(report)


@each([*domains.ROWS, *faults.ROWS, *shared_state.ROWS, *forms.ROWS])
def test_call(row):
    if row.needs and importlib.util.find_spec(row.needs) is None:
        pytest.skip(f"needs {row.needs}")
    answers = row.answer if isinstance(row.answer, tuple) else (row.answer,)
    failed = []
    try:
        found = row.call()
    except Exception as error:
        for answer in answers:
            if isinstance(answer, Raises) and isinstance(error, answer.error):
                with pytest.raises(answer.error, match=answer.match or None):
                    raise error from error.__cause__
                return
        raise
    for answer in answers:
        try:
            assert isinstance(answer, Value), f"{found!r}, where an error was due"
            compare(found, answer)
        except AssertionError as error:
            failed.append(str(error))
        else:
            return
    pytest.fail("; ".join(failed))


def compare(found, answer):
    value = getattr(found, "gradient", found)
    if answer.flags is not None:
        flagged = np.asarray(found.flags) != 0
        assert np.array_equal(flagged, answer.flags), f"flags {found.flags}, {value}"
    if answer.right is None:
        return
    right = np.asarray(answer.right, float)
    value = np.asarray(value)
    assert value.shape == right.shape, f"shape {value.shape} for {right.shape}"
    if answer.dtype is not None:
        assert value.dtype == answer.dtype
    finite = np.isfinite(right)
    np.testing.assert_array_equal(value[~finite], right[~finite])
    off = np.abs(value.astype(float) - right)
    allowed = np.broadcast_to(answer.tolerance, right.shape)
    assert np.all(off[finite] <= allowed[finite]), f"{value} for {right}"


def test_there_are_rows_enough():
    rows = [
        *scalar.ROWS,
        *scalar_scipy.ROWS,
        *gradients.ROWS,
        *gradient_forms.ROWS,
        *jacobians.ROWS,
        *hessians.ROWS,
        *checks.ROWS,
        *checks_of_nets.ROWS,
        *domains.ROWS,
        *faults.ROWS,
        *shared_state.ROWS,
        *forms.ROWS,
    ]
    assert len({(type(row), row.name) for row in rows}) == len(rows) >= 300
    assert all(row.source.startswith("https://github.com/") for row in rows)
