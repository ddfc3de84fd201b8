"""What is done while no process is forked, because its child would wait for it for ever.

A child has one thread. A lock that another one held when it was forked is never released there:
not those of modules that are being imported, nor that of a compiler.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_forks"]

# Seconds after a fork, in which the call has returned.
SOON = 0.05
# A thread may fork within a block of its own.
_lock = threading.RLock()
_pressed = threading.Event()


def _wait() -> None:
    # What is raised here is ignored, and the process forked all the same.
    while True:
        try:
            _lock.acquire()
        except KeyboardInterrupt:
            _pressed.set()
        else:
            return


def _go_on() -> None:
    _lock.release()
    if _pressed.is_set():
        _pressed.clear()
        # A moment later, because here it would be ignored too.
        main = threading.main_thread().ident
        timer = threading.Timer(SOON, signal.pthread_kill, (main, signal.SIGINT))
        timer.daemon = True
        timer.start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_lock.release)


@contextmanager
def no_forks() -> Iterator[None]:
    """Let other threads that fork wait for the end of the block."""
    with _lock:
        yield
