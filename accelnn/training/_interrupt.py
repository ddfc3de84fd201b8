"""Ctrl-C while an engine trains."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

__all__ = ["interrupts_wait"]


@contextlib.contextmanager
def interrupts_wait() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Let Ctrl-C wait for the end of the block, so that what belongs together is done together.

    Pressed twice, it does not wait. Nothing is changed in other threads, which Python never
    interrupts, nor where the program has a handler of its own. Yields what returns a block, within
    this one, in which it is heard at once.
    """
    usual = signal.default_int_handler
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not usual:
        yield contextlib.nullcontext
        return
    pressed = False

    def wait(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def listening() -> AbstractContextManager[None]:
        if pressed:
            raise KeyboardInterrupt
        return _heard_at_once(wait)

    signal.signal(signal.SIGINT, wait)
    try:
        yield listening
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _heard_at_once(wait: Callable[[int, object], None]) -> Iterator[None]:
    """Take Python's own handler for that of a block that waits."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, wait)
