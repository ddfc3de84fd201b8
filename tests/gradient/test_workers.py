"""Work divided among processes, threads, and whatever maps."""

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from functions_to_send import (
    end_the_process,
    end_the_process_once,
    fail_above_two,
    fail_awkwardly,
    process_number,
    rosenbrock,
    scaled,
    squares,
    threads_of_blas,
    zero_at_one,
)

import accelnn
from accelnn.errors import ImpureFunctionError
from accelnn.gradient.evaluators import _pool, _workers

X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
METHODS = ("central", "forward", "backward", "richardson")


@pytest.fixture(scope="module")
def spawn():
    return multiprocessing.get_context("spawn")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [1, 2, -1])
def test_processes_agree_with_serial_to_the_bit(method, workers):
    serial = accelnn.numerical_gradient(rosenbrock, X.copy(), method=method)
    divided = accelnn.numerical_gradient(rosenbrock, X.copy(), method=method, workers=workers)
    np.testing.assert_array_equal(divided, serial)


def test_any_map_will_do(spawn):
    serial = accelnn.numerical_gradient(rosenbrock, X.copy())
    with (
        spawn.Pool(2) as pool,
        ProcessPoolExecutor(2, mp_context=spawn) as processes,
        ThreadPoolExecutor(2) as threads,
    ):
        for mapper in (map, pool.map, pool.imap, processes.map, threads.map, pool, processes):
            divided = accelnn.numerical_gradient(rosenbrock, X.copy(), workers=mapper)
            np.testing.assert_array_equal(divided, serial)


@pytest.mark.parametrize(("pause", "tasks"), [(0.0, 4), (0.06, 16)])
def test_a_slow_function_is_cut_into_more_tasks(monkeypatch, pause, tasks):
    """Two for each worker at least, and eight where they last, by a clock of our own."""
    counts, now = [], [0.0]

    def recorded(_count, _f):
        def mapper(function, tasks):
            counts.append(len([task for task in tasks if task[0] >= 0]))
            return map(function, tasks)

        return mapper, "recorded"

    def f(x):
        now[0] += pause
        return np.sum(x**2)

    monkeypatch.setattr(_pool, "worker_map", recorded)
    monkeypatch.setattr(_workers, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    accelnn.numerical_gradient(f, np.ones(16), method="forward", workers=2)
    # First f(x) and f beside it.
    assert counts == [2, tasks]


class Depth:
    """Counts how many evaluations came one after the other."""

    def __init__(self, pause):
        self.pause, self.ended, self.deepest, self.calls = pause, 0, 0, 0
        self.lock = threading.Lock()

    def __call__(self, x):
        with self.lock:
            depth = self.ended + 1
            self.calls += 1
        time.sleep(self.pause)
        with self.lock:
            self.ended = max(self.ended, depth)
            self.deepest = max(self.deepest, depth)
        return np.sum(x**2)


@pytest.mark.parametrize(("method", "coordinates"), [("central", 16), ("forward", 32)])
@pytest.mark.parametrize("kind", ["array", "list"])
def test_with_enough_workers_the_wall_time_is_two_evaluations(method, coordinates, kind):
    """All calls of either round wait for each other, so that none may come after another."""
    x = np.linspace(1.0, 2.0, coordinates)
    # f(x) and what f reads; the differences, and once more what it reads where x is shared.
    rounds = [threading.Barrier(3), threading.Barrier(32 + (kind == "array"))]
    calls, lock = 0, threading.Lock()

    def f(point):
        nonlocal calls
        with lock:
            calls += 1
            number = calls
        rounds[number > 3].wait(timeout=60.0)
        return np.sum(point**2)

    with ThreadPoolExecutor(32) as threads:
        found = accelnn.numerical_gradient(
            f, x if kind == "array" else x.tolist(), method=method, workers=threads
        )
    np.testing.assert_allclose(found, 2.0 * x, rtol=1e-6)
    assert calls == sum(barrier.parties for barrier in rounds)


def test_with_enough_workers_a_check_is_as_deep_as_its_comparisons():
    x = np.linspace(1.0, 2.0, 6)
    f = Depth(0.2)
    with ThreadPoolExecutor(16) as threads:
        report = accelnn.check_gradient(f, lambda x: 2 * x, x, mode="sampled", workers=threads)
    assert report.passed
    # And f(x) once more, which tells whether f is random.
    assert f.deepest <= 3


def test_joblib():
    joblib = pytest.importorskip("joblib")
    serial = accelnn.numerical_gradient(rosenbrock, X.copy())
    parallel = joblib.Parallel(n_jobs=2)
    divided = accelnn.numerical_gradient(rosenbrock, X.copy(), workers=parallel)
    np.testing.assert_array_equal(divided, serial)


def test_dask():
    distributed = pytest.importorskip("distributed")
    serial = accelnn.numerical_gradient(rosenbrock, X.copy())
    local = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with distributed.Client(**local) as client:
        for workers in (client, client.map):
            divided = accelnn.numerical_gradient(rosenbrock, X.copy(), workers=workers)
            np.testing.assert_array_equal(divided, serial)


def test_results_that_are_still_to_come():
    """As a Dask client's."""
    serial = accelnn.numerical_gradient(rosenbrock, X.copy())
    with ThreadPoolExecutor(2) as threads:
        divided = accelnn.numerical_gradient(
            rosenbrock,
            X.copy(),
            workers=lambda function, tasks: [threads.submit(function, task) for task in tasks],
        )
    np.testing.assert_array_equal(divided, serial)


def test_what_is_no_map_says_so(spawn):
    with ThreadPoolExecutor(1) as threads, spawn.Pool(1) as pool:
        for workers, returned in ((threads.submit, "Future"), (pool.map_async, "MapResult")):
            with pytest.raises(TypeError, match=f"returned a {returned}: pass one that returns"):
                accelnn.numerical_gradient(rosenbrock, X.copy(), workers=workers)


def test_workers_are_other_processes_and_stay():
    first, second = (
        set(_pool.worker_map(2, rosenbrock)[0](process_number, range(20))) for _ in range(2)
    )
    assert os.getpid() not in first | second
    assert 1 <= len(first | second) <= 2


@pytest.mark.parametrize("f", ["threads_of_blas", "lambda x: threads_of_blas(x)"])
def test_processes_have_one_thread_of_blas_each(f):
    """In a new process, because those of this one may have been told to have one."""
    pytest.importorskip("threadpoolctl")
    if f.startswith("lambda"):
        pytest.importorskip("joblib")
    if not threads_of_blas(None):
        pytest.skip("threadpoolctl does not know this BLAS")
    code = f"""
from functions_to_send import threads_of_blas
from accelnn.gradient.evaluators._pool import worker_map
f = {f}
mapper, how = worker_map(2, f)
print(how, *mapper(f, range(4)))
"""
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(accelnn.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert re.fullmatch(r"2 processes( \(loky\))? \[1\] \[1\] \[1\] \[1\]\n", run.stdout), run


def test_results_may_come_in_any_order():
    def backwards(function, tasks):
        return reversed([function(task) for task in tasks])

    divided = accelnn.numerical_gradient(rosenbrock, X.copy(), workers=backwards)
    np.testing.assert_array_equal(divided, accelnn.numerical_gradient(rosenbrock, X.copy()))


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_map_that_loses_results_is_refused(call, lost):
    calls = []

    def lossy(function, tasks):
        calls.append(len(tasks))
        is_lossy = len(calls) == call + 1
        return [function(task) for i, task in enumerate(tasks) if not (is_lossy and i == lost)]

    with pytest.raises(ValueError, match=r"workers must be a function like map: of \d+ tasks"):
        accelnn.numerical_gradient(rosenbrock, X.copy(), workers=lossy)


@pytest.mark.parametrize("f", [scaled, zero_at_one])
def test_a_worker_with_another_state_is_found_out(monkeypatch, f):
    import functions_to_send

    accelnn.numerical_gradient(f, np.ones(3), workers=2)
    monkeypatch.setattr(functions_to_send, "SCALE", 5.0)
    with pytest.raises(ImpureFunctionError, match="another value in a worker than in this process"):
        accelnn.numerical_gradient(f, np.ones(3), workers=2)


def test_what_cannot_be_sent_to_the_processes_of_a_map_says_so(spawn):
    with (
        ProcessPoolExecutor(1, mp_context=spawn) as processes,
        pytest.raises(TypeError, match="define f at the top of a module"),
    ):
        accelnn.numerical_gradient(lambda x: np.sum(x**2), np.ones(3), workers=processes)


def test_results_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="like map, but a result is 7"):
        accelnn.numerical_gradient(rosenbrock, X, workers=lambda _, tasks: [7 for _ in tasks])


def test_an_error_that_cannot_travel_arrives_as_text():
    with pytest.raises(RuntimeError, match=r"f raised AwkwardError: .*too far"):
        accelnn.numerical_gradient(fail_awkwardly, np.array([0.0, 2.0]), workers=2)


def test_what_cannot_be_sent_runs_in_threads():
    names = set()

    lock = threading.Lock()

    def f(x):
        with lock:
            names.add(threading.current_thread().name)
        return np.sum(x**2)

    x = np.arange(20.0)
    np.testing.assert_allclose(accelnn.numerical_gradient(f, x, workers=2), 2.0 * x, atol=1e-8)
    assert len({name for name in names if name.startswith("accelnn")}) >= 1


def _recorded(tasks_seen):
    def mapper(function, tasks):
        tasks_seen.append(tasks)
        return map(function, tasks)

    return mapper


def test_chunks_are_tasks():
    seen = []
    accelnn.numerical_gradient(rosenbrock, np.zeros(10), workers=_recorded(seen), chunk_size=4)
    _, differences = seen
    # Two points of each of four coordinates.
    assert [len(task[1]) for task in differences if task[0] >= 0] == [8, 8, 4]


def test_tasks_hold_indices_and_not_a_point_for_each():
    seen = []
    accelnn.numerical_gradient(np.sum, np.zeros(1000), workers=_recorded(seen))
    numbers = [sum(np.size(part) for part in task[1:]) for tasks in seen for task in tasks]
    # An index and a number for each of 2,000 points; the point beside x is a whole one.
    assert sum(numbers) == 2 * 2000 + 2 * 1000


def test_jacobians_are_divided_too():
    x = np.array([1.0, 2.0, 3.0])
    expected = [[2.0, 1.0, 0.0], [0.0, 4.0, 0.0], [3.0, 0.0, 1.0]]
    found = accelnn.numerical_jacobian(squares, x, workers=2)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("x", [np.array([0.0, 2.0]), [0.0, 2.0]])
def test_what_goes_wrong_in_a_worker_is_raised_and_x_is_untouched(x):
    before = np.array(x)
    with pytest.raises(ArithmeticError, match="too far"):
        accelnn.numerical_gradient(fail_above_two, x, workers=2)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(
        accelnn.numerical_gradient(rosenbrock, np.ones(3), workers=2), np.zeros(3), atol=1e-4
    )


def test_a_worker_that_dies_is_explained_and_replaced():
    with pytest.raises(RuntimeError, match="a worker process ended before its work was done"):
        accelnn.numerical_gradient(end_the_process, np.array([0.0, 2.0]), workers=2)
    accelnn.numerical_gradient(rosenbrock, np.ones(3), workers=2)


# Within a step of 2, and further away than f is tried beside x.
ALMOST_FAR = 2.0 - 0.95 * 2.0 * 2.0 ** (-52 / 3)


def test_a_worker_that_dies_once_is_replaced_and_what_it_had_is_done_again(tmp_path):
    x = np.linspace(0.0, 1.0, 9)
    found = accelnn.numerical_gradient(
        end_the_process_once, x, args=(str(tmp_path / "died"),), workers=2
    )
    assert (tmp_path / "died").exists()
    np.testing.assert_allclose(found, 2.0 * x, atol=1e-9)


def test_the_error_of_a_worker_that_dies_twice_says_what_was_finished():
    x = np.zeros(30)
    x[-1] = ALMOST_FAR
    with pytest.raises(RuntimeError, match=r"twice; \d+ of \d+ tasks were finished"):
        accelnn.numerical_gradient(end_the_process, x, workers=2)


@pytest.mark.parametrize("last", [ALMOST_FAR, 3.0], ids=["later", "first"])
def test_the_error_of_a_dead_pool_says_what_was_finished(spawn, last):
    """Only who made a pool can make it anew."""
    with (
        ProcessPoolExecutor(2, mp_context=spawn) as pool,
        pytest.raises(RuntimeError, match=r"\d+ of \d+ tasks were finished\. Make a new pool"),
    ):
        accelnn.numerical_gradient(end_the_process, np.array([0.0, last]), workers=pool)


def test_workers_say_what_they_are():
    x = np.ones(3)

    def how(f, workers):
        return accelnn.numerical_gradient(f, x, workers=workers, full_output=True).how

    assert how(rosenbrock, 2) == "2 processes"
    assert re.fullmatch(r"2 (processes \(loky\)|threads)", how(lambda x: np.sum(x**2), 2))
    lock = threading.Lock()
    assert how(lambda x: np.sum(x**2) if lock else 0.0, 2) == "2 threads"
    assert how(rosenbrock, map) == "the workers given"
    assert how(rosenbrock, 1) == how(rosenbrock, None) == "one call after the other"
    closure = accelnn.numerical_gradient(lambda _: np.sum(x**2), x, full_output=True)
    assert closure.how == "one call after the other, x itself moved"


def test_a_closure_is_refused():
    x = np.array([3.0, 4.0])
    with pytest.raises(ImpureFunctionError, match="does not depend on its argument alone"):
        accelnn.numerical_gradient(lambda _: np.sum(x**2), x, workers=2)


@pytest.mark.parametrize("workers", [0, -2, 1.5, "two", True])
def test_workers_must_be_a_number_or_a_map(workers):
    with pytest.raises((ValueError, TypeError), match="workers must be"):
        accelnn.numerical_gradient(np.sum, np.ones(2), workers=workers)


@pytest.mark.parametrize("workers", [100_000, 2**31, 10**20, 10**400])
@pytest.mark.parametrize("f", [scaled, lambda x: np.sum(x**2)], ids=["processes", "threads"])
def test_more_workers_than_a_machine_can_run_are_refused(f, workers):
    for find in (accelnn.numerical_gradient, accelnn.numerical_jacobian, accelnn.numerical_hessian):
        with pytest.raises(ValueError, match=r"^workers must be at most \d"):
            find(f, np.ones(40), workers=workers)
    with pytest.raises(ValueError, match=r"^workers must be at most \d"):
        accelnn.check_gradient(f, np.ones(40), np.ones(40), workers=workers)


def test_workers_and_batched_exclude_each_other():
    with pytest.raises(ValueError, match="leave out workers, or batched"):
        accelnn.numerical_gradient(np.sum, np.ones(2), workers=2, batched=True)


def test_a_script_without_a_guard_says_what_to_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "import numpy as np, accelnn\n"
        "def f(x): return np.sum(x**2)\n"
        "print(accelnn.numerical_gradient(f, np.ones(3), workers=2).round(6))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(accelnn.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode != 0
    assert 'if __name__ == "__main__"' in run.stderr, run.stderr
    assert "\nRuntimeError: a worker process ended before its work was done" in run.stderr
