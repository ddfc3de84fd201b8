"""Processes that take what cannot be pickled, where joblib is installed."""

import os
import sys

import numpy as np
import pytest
from functions_elsewhere import X

import accelnn
from accelnn.errors import ImpureFunctionError
from accelnn.gradient.evaluators import _pool


def test_loky_takes_closures(joblib):
    assert joblib
    weights, home = np.arange(16.0), os.getpid()
    functions = {
        "a lambda": lambda x: np.sum(np.sin(x)),
        "a closure over an array": lambda x: np.sum(weights * x**3),
    }
    for name, f in functions.items():
        for method in ("central", "complex", "richardson"):
            serial = accelnn.numerical_gradient(f, X.copy(), method=method, full_output=True)
            divided = accelnn.numerical_gradient(
                f, X.copy(), method=method, full_output=True, workers=2
            )
            np.testing.assert_array_equal(divided.gradient, serial.gradient, err_msg=name)
            assert divided.how == "2 processes (loky)"
    mapper, how = _pool.worker_map(2, lambda _: home)
    assert how == "2 processes (loky)"
    assert home not in set(mapper(lambda _: os.getpid(), range(8)))


def test_a_closure_over_x_itself_is_refused(joblib):
    assert joblib
    x = X.copy()
    for f, reason in (
        (lambda _: np.sum(x**2), "does not depend on its argument alone"),
        (lambda p: p @ x, "also reads the array x directly"),
    ):
        with pytest.raises(ImpureFunctionError, match=reason):
            accelnn.numerical_gradient(f, x, workers=2)
        np.testing.assert_array_equal(x, X)


def test_joblib_itself_works_as_before(joblib):
    """It reuses loky's shared executor, and fails with one that is not of its own making."""
    weights = np.arange(16.0)
    accelnn.numerical_gradient(lambda x: np.sum(weights * x), X.copy(), workers=2)
    assert joblib.Parallel(n_jobs=2)((abs, (i,), {}) for i in (-1, -2)) == [1, 2]
    accelnn.numerical_gradient(lambda x: np.sum(weights * x), X.copy(), workers=2)


def test_without_joblib_they_are_threads(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib.externals.loky.backend.reduction", None)
    found = accelnn.numerical_gradient(
        lambda x: np.sum(x**2), X.copy(), workers=2, full_output=True
    )
    assert found.how == "2 threads"
