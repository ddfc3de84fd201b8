"""Worker processes that are killed in the middle of a gradient."""

import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from functions_elsewhere import MIDDLE, Deadly, X, rosenbrock

import accelnn


def gradient(f, workers):
    return accelnn.numerical_gradient(f, X.copy(), chunk_size=1, workers=workers)


def finished(raised):
    done, count = re.search(r"(\d+) of (\d+) tasks were finished", str(raised.value)).groups()
    # One for each coordinate, and perhaps one that looks at what f reads.
    assert X.size <= int(count) <= X.size + 1
    assert int(done) < int(count)
    return int(done)


def test_what_was_lost_is_computed_again_and_nothing_else(tmp_path):
    deadly = Deadly(tmp_path)
    undisturbed = Deadly(tmp_path / "undisturbed", times=0)
    np.testing.assert_array_equal(gradient(deadly, 2), gradient(rosenbrock, None))
    assert deadly.found("deaths") == 1
    gradient(undisturbed, 2)
    # The other worker is stopped as well, in the middle of a task of two evaluations.
    assert deadly.found("calls") - undisturbed.found("calls") <= 4


def test_a_second_death_says_what_was_finished(tmp_path):
    deadly = Deadly(tmp_path, times=9)
    with pytest.raises(RuntimeError, match=r"a worker process ended .*, twice") as raised:
        gradient(deadly, 2)
    assert deadly.found("deaths") == 2
    # All before the one that kills, but for what the other worker had; itself never.
    assert finished(raised) >= MIDDLE - 1
    np.testing.assert_array_equal(gradient(rosenbrock, 2), gradient(rosenbrock, None))


def test_a_pool_of_the_caller_says_what_was_finished(tmp_path, spawn):
    with (
        ProcessPoolExecutor(2, mp_context=spawn) as pool,
        pytest.raises(RuntimeError, match="Make a new pool, or pass workers=n") as raised,
    ):
        gradient(Deadly(tmp_path), pool)
    assert finished(raised) >= MIDDLE - 1


def closure(deadly):
    """Return what only loky can send."""
    return lambda x: deadly(x)  # noqa: PLW0108 - a lambda is what it is about


def test_loky_computes_again_what_was_lost(joblib, tmp_path):
    assert joblib
    deadly = Deadly(tmp_path)
    found = accelnn.numerical_gradient(
        closure(deadly), X.copy(), chunk_size=1, workers=2, full_output=True
    )
    assert found.how == "2 processes (loky)"
    assert deadly.found("deaths") == 1
    expected = accelnn.numerical_gradient(rosenbrock, X.copy(), full_output=True)
    np.testing.assert_array_equal(found.gradient, expected.gradient)


def test_a_second_death_in_loky_says_what_was_finished(joblib, tmp_path):
    assert joblib
    deadly = Deadly(tmp_path, times=9)
    with pytest.raises(RuntimeError, match=r"a worker process ended .*, twice") as raised:
        gradient(closure(deadly), 2)
    assert deadly.found("deaths") == 2
    assert finished(raised) >= MIDDLE - 1
    np.testing.assert_array_equal(gradient(rosenbrock, 2), gradient(rosenbrock, None))


@pytest.mark.parametrize(("returned", "least"), [("list", 0), ("generator", 1)])
def test_joblib_says_what_was_finished(joblib, tmp_path, returned, least):
    """A list comes when all is finished, or not at all."""
    parallel = joblib.Parallel(n_jobs=2, return_as=returned, batch_size=1)
    deadly = Deadly(tmp_path)
    with pytest.raises(RuntimeError, match="a worker ended before its work was done") as raised:
        gradient(deadly, parallel)
    assert deadly.found("deaths") == 1
    assert finished(raised) >= least
    # A generator that failed may hand over in its next call what was left of this one.
    parallel = joblib.Parallel(n_jobs=2, return_as=returned, batch_size=1)
    np.testing.assert_array_equal(gradient(rosenbrock, parallel), gradient(rosenbrock, None))


@pytest.mark.parametrize("call", [0, 1])
def test_what_is_left_of_another_call_is_refused(call):
    calls = []

    def stale(function, tasks):
        calls.append(tasks)
        results = [function(task) for task in tasks]
        start, values, epsilon = results[0]
        before = (start, [value + 1.0 for value in values], epsilon)
        return [before, *results] if len(calls) == call + 1 else results

    with pytest.raises(ValueError, match="whose last call failed, make a new one"):
        gradient(rosenbrock, stale)
