"""Rows of functions with one value, of one variable and of many, in every mode that fits them."""

import functools

import numpy as np
from peer_rows import _tolerance as tolerances
from peer_rows import functions_of_many, gradient_forms, gradients, scalar, scalar_scipy
from peer_rows._modes import (
    MODES,
    along_of,
    assert_near,
    batched,
    bound_to,
    copied,
    direction,
    each,
    fitting,
    in_each_mode,
    methods_of,
    verdict,
    wrong_by,
)

import accelnn

# From here on a row takes tenths of a second for each mode, and from there on one of each will do.
LONG = 500
MANY = 2000


def is_movable(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.flags.writeable and x.ndim > 0


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
