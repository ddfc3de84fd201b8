"""How long a process has waited for compiled code, to be told apart from the work itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["compilation", "seconds_compiled"]


class _Clock:
    """The time in which at least one thread compiles; several at once count once."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child must, where the threads that compiled are not."""
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self.seconds = 0.0

    def start(self) -> None:
        with self._lock:
            if self._running == 0:
                self._since = time.perf_counter()
            self._running += 1

    def stop(self) -> None:
        with self._lock:
            if self._running == 0:
                # In a child that was forked in the block, which began anew.
                return
            self._running -= 1
            if self._running == 0:
                self.seconds += time.perf_counter() - self._since


_clock = _Clock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clock.reset)


@contextmanager
def compilation() -> Iterator[None]:
    """Count the time of a block in which code is compiled or loaded."""
    _clock.start()
    try:
        yield
    finally:
        _clock.stop()


def seconds_compiled() -> float:
    """Return how many seconds the process has compiled kernels, or loaded them."""
    return _clock.seconds
