"""Workers for those who only say how many: processes, or threads for what cannot be sent."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from typing import Any

from accelnn.gradient.evaluators._workers import Mapper

__all__ = ["worker_map"]

# Processes take long to start, so that a pool stays for the next call.
_pools: dict[tuple[Callable[[int], Executor], int], Executor] = {}
_lock = threading.Lock()


def worker_map(count: int, f: object) -> tuple[Mapper, str]:
    """Return a function like `map` for so many workers, and what they are.

    They are processes; those of loky, which takes lambdas, where f cannot be pickled and joblib is
    installed; otherwise threads.
    """
    if _can_be_sent(f):
        return partial(_in_processes, _processes, count), f"{count} processes"
    if _loky_can_send(f):
        return partial(_in_processes, _loky, count), f"{count} processes (loky)"
    return partial(_in_threads, count), f"{count} threads"


def _in_threads(
    count: int, function: Callable[..., Any], tasks: Sequence[Any]
) -> Generator[Any, None, None]:
    pool = ThreadPoolExecutor(count, thread_name_prefix="accelnn")
    # All of them are handed over now, and none is begun once one has failed.
    mapped = pool.map(function, tasks)

    def results() -> Generator[Any, None, None]:
        with pool:
            yield from mapped

    return results()


def _in_processes(
    make: Callable[[int], Executor],
    count: int,
    function: Callable[..., Any],
    tasks: Sequence[Any],
) -> Generator[Any, None, None]:
    """Map in processes, which are started again once if one of them dies.

    What was finished by then is kept, and the rest is done again.
    """

    def submitted(tasks: Sequence[Any]) -> list[Future[Any]]:
        pool = _pool(make, count)
        return [pool.submit(function, task) for task in tasks]

    try:
        first = submitted(tasks)
    except BrokenProcessPool:
        # One died since the last call.
        _forget(make, count)
        first = submitted(tasks)

    def results() -> Generator[Any, None, None]:
        lost, error = yield from _finished(tasks, first)
        if lost:
            _forget(make, count)
            lost, error = yield from _finished(lost, submitted(lost))
        if lost:
            _forget(make, count)
            msg = (
                f"a worker process ended before its work was done, twice; "
                f"{len(tasks) - len(lost)} of {len(tasks)} tasks were finished. Each worker "
                f"imports the script: it must start its work under "
                f'`if __name__ == "__main__":`, and define the function above that line, where a '
                f"worker sees it. Otherwise the function itself ended the process, or memory ran "
                f"out. Threads need none of that: workers=ThreadPoolExecutor(n)"
            )
            raise RuntimeError(msg) from error

    return results()


def _finished(
    tasks: Sequence[Any], futures: list[Future[Any]]
) -> Generator[Any, None, tuple[list[Any], BrokenProcessPool | None]]:
    """Yield results; return the tasks that a dead process has left, and its error."""
    lost, died = [], None
    try:
        for task, future in zip(tasks, futures, strict=True):
            try:
                result = future.result()
            except BrokenProcessPool as error:
                lost.append(task)
                died = error
            else:
                yield result
    finally:
        # Nothing more is begun once one has failed.
        for future in futures:
            future.cancel()
    return lost, died


def _loky_can_send(f: object) -> bool:
    """Return whether joblib is installed, and its processes can be handed `f`."""
    try:
        # As loky itself will do it: newer versions of joblib hold no cloudpickle of their own.
        from joblib.externals.loky.backend.reduction import dumps
    except ImportError:
        return False
    try:
        dumps(f)
    except Exception:  # noqa: BLE001 - whatever a __reduce__ raises
        return False
    return True


def _loky(count: int) -> Executor:
    """Return an executor of our own: `joblib.Parallel` fails with a shared one of others."""
    from joblib.externals import loky

    executor: Executor = loky.ProcessPoolExecutor(count, initializer=_one_thread_each)
    return executor


def _processes(count: int) -> Executor:
    # Never fork: a child of a process with threads, and with Numba's or BLAS's, may hang.
    kinds = multiprocessing.get_all_start_methods()
    kind = "forkserver" if "forkserver" in kinds else "spawn"
    context = multiprocessing.get_context(kind)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_one_thread_each)


def _pool(make: Callable[[int], Executor], count: int) -> Executor:
    with _lock:
        if (make, count) not in _pools:
            _pools[make, count] = make(count)
        return _pools[make, count]


def _forget(make: Callable[[int], Executor], count: int) -> None:
    with _lock:
        pool = _pools.pop((make, count), None)
    if pool is not None:
        # What had not begun was cancelled by who submitted it.
        pool.shutdown(wait=False)


@atexit.register
def _forget_all() -> None:
    for make, count in list(_pools):
        _forget(make, count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def _one_thread_each() -> None:
    """Leave a worker one BLAS thread, because there are as many workers as processors."""
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)


def _can_be_sent(f: object) -> bool:
    """Return whether a new process can be handed `f`."""
    try:
        pickle.dumps(f)
    except Exception:  # noqa: BLE001 - whatever a __reduce__ raises
        return False
    # Of what adds arguments to f, f itself.
    f = getattr(f, "__wrapped__", f)
    # What was typed at a prompt is in a module that a new process has not.
    module = sys.modules.get(getattr(f, "__module__", None) or type(f).__module__)
    is_typed = getattr(module, "__name__", "") == "__main__" and not hasattr(module, "__file__")
    return not is_typed
