"""How long a process has waited for compiled code, to be told apart from the work itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["compilation", "seconds_compiled"]

_lock = threading.Lock()
_seconds = 0.0
_depth = threading.local()


@contextmanager
def compilation() -> Iterator[None]:
    """Count the time of a block in which code is compiled or loaded; nested blocks count once."""
    global _seconds  # noqa: PLW0603 - of the process, as compiled code is
    depth = getattr(_depth, "value", 0)
    _depth.value = depth + 1
    started = time.perf_counter()
    try:
        yield
    finally:
        _depth.value = depth
        if depth == 0:
            with _lock:
                _seconds += time.perf_counter() - started


def seconds_compiled() -> float:
    """Return how many seconds the process has compiled kernels, or loaded them."""
    return _seconds
