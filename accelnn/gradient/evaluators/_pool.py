"""Pools behind ``workers=n``: processes, or threads if f cannot be pickled."""

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

# Processes are slow to start, so that pools are kept for the next call.
_pools: dict[tuple[Callable[[int], Executor], int], Executor] = {}
_lock = threading.Lock()


def worker_map(count: int, f: object) -> tuple[Mapper, str]:
    """Return a function like `map` for so many workers, and its description.

    Processes if f can be pickled; those of loky, which takes lambdas, if joblib is installed;
    otherwise threads.
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
    # All tasks are submitted now; after a failure no further one is started.
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
    """Map in processes, which are restarted once if one of them dies.

    Finished results are kept, and the other tasks are submitted again.
    """

    def submitted(tasks: Sequence[Any]) -> list[Future[Any]]:
        pool = _pool(make, count)
        return [pool.submit(function, task) for task in tasks]

    try:
        first = submitted(tasks)
    except BrokenProcessPool:
        # A process died since the last call.
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
                f"imports the script, which must define the function at the top level and start "
                f'its work under `if __name__ == "__main__":`. Otherwise the function ended the '
                f"process, or memory ran out. Threads do not import the script: "
                f"workers=ThreadPoolExecutor(n)"
            )
            raise RuntimeError(msg) from error

    return results()


def _finished(
    tasks: Sequence[Any], futures: list[Future[Any]]
) -> Generator[Any, None, tuple[list[Any], BrokenProcessPool | None]]:
    """Yield results; return the tasks lost with a dead process, and its error."""
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
        # After a failure no further task is started.
        for future in futures:
            future.cancel()
    return lost, died


def _loky_can_send(f: object) -> bool:
    """Return whether joblib is installed and can pickle `f`."""
    try:
        # loky's own pickler, because newer versions of joblib bundle no cloudpickle.
        from joblib.externals.loky.backend.reduction import dumps
    except ImportError:
        return False
    try:
        dumps(f)
    except Exception:  # noqa: BLE001 - whatever a __reduce__ raises
        return False
    return True


def _loky(count: int) -> Executor:
    """Return a separate executor, because `joblib.Parallel` fails with a shared one."""
    from joblib.externals import loky

    executor: Executor = loky.ProcessPoolExecutor(count, initializer=_one_thread_each)
    return executor


def _processes(count: int) -> Executor:
    # Never fork: a child of a process with threads, such as those of Numba or BLAS, may hang.
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
        # Pending tasks have been cancelled by whoever submitted them.
        pool.shutdown(wait=False)


@atexit.register
def _forget_all() -> None:
    for make, count in list(_pools):
        _forget(make, count)


def _begin_anew() -> None:
    """Discard the pools of the parent, and a lock that may be held by a thread of it."""
    global _lock  # noqa: PLW0603 - it may be locked for good
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _one_thread_each() -> None:
    """Limit a worker to one BLAS thread, because there is a worker for each processor."""
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)


def _can_be_sent(f: object) -> bool:
    """Return whether `f` can be sent to a new process."""
    try:
        pickle.dumps(f)
    except Exception:  # noqa: BLE001 - whatever a __reduce__ raises
        return False
    # Without bound arguments.
    f = getattr(f, "__wrapped__", f)
    # A new process cannot import what was typed at a prompt.
    module = sys.modules.get(getattr(f, "__module__", None) or type(f).__module__)
    is_typed = getattr(module, "__name__", "") == "__main__" and not hasattr(module, "__file__")
    return not is_typed
