"""Rows of functions with many values, and of second derivatives, in every mode that fits them."""

import functools

import numpy as np
from peer_rows import _tolerance as tolerances
from peer_rows import hessians, jacobians
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
from scipy import sparse

import accelnn

SECOND = ("central", "forward", "backward", "complex", "richardson")


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
