"""A gradient over a Dask cluster of processes."""

import numpy as np
import pytest
from functions_elsewhere import Deadly, X, fails, neighbours, rosenbrock

import accelnn
from accelnn.errors import ImpureFunctionError


@pytest.mark.parametrize("method", ["central", "forward", "complex", "richardson"])
def test_a_cluster_agrees_with_serial_to_the_bit(dask, method):
    for workers in (dask, dask.map):
        divided = accelnn.numerical_gradient(rosenbrock, X.copy(), method=method, workers=workers)
        serial = accelnn.numerical_gradient(rosenbrock, X.copy(), method=method)
        np.testing.assert_array_equal(divided, serial)
    divided = accelnn.numerical_jacobian(neighbours, X.copy(), method=method, workers=dask)
    serial = accelnn.numerical_jacobian(neighbours, X.copy(), method=method)
    np.testing.assert_array_equal(divided, serial)


def test_a_cluster_takes_closures(dask):
    weights = np.arange(16.0)

    def weighted(x):
        return np.sum(weights * x**3)

    divided = accelnn.numerical_gradient(weighted, X.copy(), workers=dask)
    np.testing.assert_array_equal(divided, accelnn.numerical_gradient(weighted, X.copy()))
    x = X.copy()
    with pytest.raises(ImpureFunctionError, match="does not depend on its argument alone"):
        accelnn.numerical_gradient(lambda _: np.sum(x**2), x, workers=dask)
    np.testing.assert_array_equal(x, X)


def test_what_goes_wrong_in_a_cluster_is_raised(dask):
    with pytest.raises(ArithmeticError, match="too far"):
        accelnn.numerical_gradient(fails, X.copy(), workers=dask)


def test_what_a_killed_worker_had_is_computed_again(dask, tmp_path):
    deadly = Deadly(tmp_path)
    divided = accelnn.numerical_gradient(deadly, X.copy(), chunk_size=1, workers=dask)
    assert deadly.found("deaths") == 1
    np.testing.assert_array_equal(divided, accelnn.numerical_gradient(rosenbrock, X.copy()))


def test_a_task_that_dask_gives_up_says_what_was_finished(dask, tmp_path, monkeypatch):
    dask.wait_for_workers(2)
    monkeypatch.setattr(dask.cluster.scheduler, "allowed_failures", 0)
    deadly = Deadly(tmp_path, times=9)
    with pytest.raises(RuntimeError, match=r": \d+ of 1[67] tasks were finished") as raised:
        accelnn.numerical_gradient(deadly, X.copy(), chunk_size=1, workers=dask)
    assert type(raised.value.__cause__).__name__ == "KilledWorker"
    assert deadly.found("deaths") >= 1
