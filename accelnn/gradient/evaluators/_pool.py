"""Workers for those who only say how many: processes, or threads for what cannot be sent."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

__all__ = ["worker_map"]

# Processes take long to start, so that a pool stays for the next call.
_pools: dict[int, ProcessPoolExecutor] = {}
_lock = threading.Lock()


def worker_map(
    count: int, f: object
) -> Callable[[Callable[..., Any], Iterable[Any]], Iterator[Any]]:
    """Return a function like `map` for `count` processes, or for threads if `f` cannot leave."""
    return _processes(count) if _can_be_sent(f) else _threads(count)


def _threads(count: int) -> Callable[..., Iterator[Any]]:
    def mapped(function: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
        with ThreadPoolExecutor(count, thread_name_prefix="accelnn") as pool:
            yield from _in_order(pool, function, tasks)

    return mapped


def _processes(count: int) -> Callable[..., Iterator[Any]]:
    def mapped(function: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from _in_order(_pool(count), function, tasks)
        except BrokenProcessPool as error:
            _forget(count)
            msg = (
                "a worker process ended before its work was done. Each worker imports the "
                'script: it must start its work under `if __name__ == "__main__":`, and define '
                "the function above that line, where a worker sees it. Otherwise the function "
                "itself ended the process, or memory ran out. Threads need none of that: "
                "workers=ThreadPoolExecutor(n)"
            )
            raise RuntimeError(msg) from error

    return mapped


def _in_order(pool: Executor, function: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Yield results in the order of tasks; what has not begun when one fails is not begun."""
    futures = [pool.submit(function, task) for task in tasks]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _pool(count: int) -> ProcessPoolExecutor:
    with _lock:
        if count not in _pools:
            # Never fork: a child of a process with threads, and with Numba's or BLAS's, may hang.
            kinds = multiprocessing.get_all_start_methods()
            kind = "forkserver" if "forkserver" in kinds else "spawn"
            _pools[count] = ProcessPoolExecutor(
                count, mp_context=multiprocessing.get_context(kind), initializer=_one_thread_each
            )
        return _pools[count]


def _forget(count: int) -> None:
    with _lock:
        pool = _pools.pop(count, None)
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


@atexit.register
def _forget_all() -> None:
    for count in list(_pools):
        _forget(count)


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
    # What was typed at a prompt is in a module that a new process has not.
    module = sys.modules.get(getattr(f, "__module__", None) or type(f).__module__)
    is_typed = getattr(module, "__name__", "") == "__main__" and not hasattr(module, "__file__")
    return not is_typed
