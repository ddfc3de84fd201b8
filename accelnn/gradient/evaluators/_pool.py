"""Workers for those who only say how many: processes, or threads for what cannot be sent."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
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
        return _mapper(_processes, count), f"{count} processes"
    if _loky_can_send(f):
        return _mapper(_loky, count), f"{count} processes (loky)"

    def threads(function: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[Any]:
        pool = ThreadPoolExecutor(count, thread_name_prefix="accelnn")
        futures = _submitted(pool, function, tasks)

        def results() -> Iterator[Any]:
            with pool, _cancelled_after(futures):
                for future in futures:
                    yield future.result()

        return results()

    return threads, f"{count} threads"


def _submitted(
    pool: Executor, function: Callable[..., Any], tasks: Sequence[Any]
) -> list[Future[Any]]:
    return [pool.submit(function, task) for task in tasks]


@contextmanager
def _cancelled_after(futures: list[Future[Any]]) -> Iterator[None]:
    """Begin nothing more once one has failed."""
    try:
        yield
    finally:
        for future in futures:
            future.cancel()


def _mapper(make: Callable[[int], Executor], count: int) -> Mapper:
    """Return a map for processes, which are started again once if one of them dies.

    What was finished by then is kept, and the rest is done again.
    """

    def submitted(function: Callable[..., Any], tasks: Sequence[Any]) -> list[Future[Any]]:
        try:
            return _submitted(_pool(make, count), function, tasks)
        except BrokenProcessPool:
            # One died since the last call.
            _forget(make, count)
            return _submitted(_pool(make, count), function, tasks)

    def mapped(function: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[Any]:
        first = submitted(function, tasks)

        def results() -> Iterator[Any]:
            lost: list[Any] = []
            error = yield from _finished(tasks, first, lost)
            if error is None:
                return
            _forget(make, count)
            again, lost = lost, []
            error = yield from _finished(again, submitted(function, again), lost)
            if error is not None:
                _forget(make, count)
                raise _died(len(tasks) - len(lost), len(tasks)) from error

        return results()

    return mapped


def _finished(
    tasks: Sequence[Any], futures: list[Future[Any]], lost: list[Any]
) -> Generator[Any, None, BrokenProcessPool | None]:
    """Yield results; add the tasks that a dead process left to `lost`, and return its error."""
    died = None
    with _cancelled_after(futures):
        for task, future in zip(tasks, futures, strict=True):
            try:
                result = future.result()
            except BrokenProcessPool as error:
                lost.append(task)
                died = error
            else:
                yield result
    return died


def _died(done: int, count: int) -> RuntimeError:
    return RuntimeError(
        f"a worker process ended before its work was done, twice; {done} of {count} tasks were "
        f"finished. Each worker imports the "
        'script: it must start its work under `if __name__ == "__main__":`, and define '
        "the function above that line, where a worker sees it. Otherwise the function "
        "itself ended the process, or memory ran out. Threads need none of that: "
        "workers=ThreadPoolExecutor(n)"
    )


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


def _forget_in_child() -> None:
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


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
