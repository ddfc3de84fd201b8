"""Rows of checks and of other calls, by their verdict, value or error; and the table itself."""

import importlib.util

import numpy as np
import pytest
from peer_rows import (
    checks,
    checks_of_nets,
    domains,
    faults,
    forms,
    gradient_forms,
    gradients,
    hessians,
    jacobians,
    scalar,
    scalar_scipy,
    shared_state,
)
from peer_rows._modes import each, in_each_mode, verdict
from peer_rows._row import Raises, Value


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
