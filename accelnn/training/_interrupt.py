"""Ctrl-C while an engine trains."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Self

__all__ = ["Interrupts"]

# The functions that those of `signal` call, which then look for a member of an enum that equals the
# handler, and find none, in seven microseconds: a callback after every update would wait for that
# three times.
try:
    import _signal as handlers  # type: ignore[import-not-found]
except ImportError:  # Of another Python.
    handlers = signal


class Interrupts:
    """A context in which Ctrl-C can wait for the end of what belongs together.

    Ctrl-C is heard at once but in blocks for which it is to `wait`. The handler of signals that
    sees to it is there from the first such block until its `release`, before a user's code is run:
    that may look for Python's own handler, as `asyncio.run` does. Nothing is changed in other
    threads, which Python never interrupts, nor where the program has a handler of its own.
    """

    def __init__(self) -> None:
        self.waits = self.is_pressed = self.is_there = False

    def __enter__(self) -> Self:
        """Do nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Put Python's handler back."""
        self.release()

    def wait(self) -> _Block:
        """Return a block for whose end Ctrl-C waits; pressed twice, it does not."""
        return _Block(self, waits=True)

    def listen(self) -> _Block:
        """Return a block, within one that is waited for, in which Ctrl-C is heard at once."""
        return _Block(self, waits=False)

    def release(self) -> None:
        """Put Python's handler back, until the next block."""
        # A schedule of learning rates may have taken another one.
        if self.is_there and handlers.getsignal(signal.SIGINT) == self._handle:
            handlers.signal(signal.SIGINT, signal.default_int_handler)
        self.is_there = False

    def take(self) -> None:
        """Take the place of Python's own handler, if that is the one there is."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and handlers.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Before it is there, because Ctrl-C may come in between.
            self.is_there = True
            handlers.signal(signal.SIGINT, self._handle)

    def _handle(self, _number: int, _frame: object) -> None:
        """Do what Python's handler does, or wait."""
        if not self.waits or self.is_pressed:
            self.is_pressed = False
            raise KeyboardInterrupt
        self.is_pressed = True

    def catch_up(self) -> None:
        """Raise what has waited."""
        if self.is_pressed:
            self.is_pressed = False
            raise KeyboardInterrupt


class _Block:
    """A block in which Ctrl-C waits, or in which it does not."""

    __slots__ = ("_before", "_interrupts", "_waits")

    def __init__(self, interrupts: Interrupts, *, waits: bool) -> None:
        self._interrupts, self._waits = interrupts, waits
        self._before = interrupts.waits

    def __enter__(self) -> None:
        own = self._interrupts
        if not own.is_there:
            own.take()
        own.waits = self._waits
        if not self._waits:
            own.catch_up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        own = self._interrupts
        own.waits = self._before
        if not self._before:
            if error is None:
                own.catch_up()
            own.is_pressed = False
