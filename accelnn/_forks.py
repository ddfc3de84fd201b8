"""What is done while no process is forked, because its child would wait for it for ever.

A child has one thread. A lock that another one held when it was forked is never released there:
not those of modules that are being imported, nor that of a compiler.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_forks"]

# A thread may fork within a block of its own.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


@contextmanager
def no_forks() -> Iterator[None]:
    """Let other threads that fork wait for the end of the block."""
    with _lock:
        yield
