"""Ctrl-C while an engine trains."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Self

__all__ = ["Interrupts"]


class Interrupts:
    """A context in which Ctrl-C can wait for the end of what belongs together.

    Within it, Ctrl-C is heard at once, as it is outside, but in blocks that it `waits` for. Such
    blocks cost next to nothing, so that each update may be one; a handler of signals, which this is
    for as long as the context lasts, takes ten microseconds to exchange. Nothing is changed in
    other threads, which Python never interrupts, nor where the program has a handler of its own.

    A context within another one, such as that of a run that a callback starts, shares its handler.
    """

    def __init__(self) -> None:
        self._handler = _Handler()
        self._is_ours = False

    def __enter__(self) -> Self:
        """Take the place of Python's own handler, if that is the one there is."""
        if threading.current_thread() is threading.main_thread():
            found = signal.getsignal(signal.SIGINT)
            if isinstance(found, _Handler):
                self._handler = found
            elif found is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._handler)
                self._is_ours = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Put Python's handler back, unless the program has taken another one meanwhile."""
        if self._is_ours and signal.getsignal(signal.SIGINT) is self._handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._is_ours = False

    def wait(self) -> _Block:
        """Return a block for whose end Ctrl-C waits; pressed twice, it does not."""
        return _Block(self._handler, waits=True)

    def listen(self) -> _Block:
        """Return a block, within one that is waited for, in which Ctrl-C is heard at once."""
        return _Block(self._handler, waits=False)


class _Handler:
    """What Python calls when Ctrl-C is pressed."""

    def __init__(self) -> None:
        self.waits = self.is_pressed = False

    def __call__(self, _number: int, _frame: object) -> None:
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

    __slots__ = ("_before", "_handler", "_waits")

    def __init__(self, handler: _Handler, *, waits: bool) -> None:
        self._handler, self._waits, self._before = handler, waits, handler.waits

    def __enter__(self) -> None:
        self._handler.waits = self._waits
        if not self._waits:
            self._handler.catch_up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        handler = self._handler
        handler.waits = self._before
        if not self._before:
            if error is None:
                handler.catch_up()
            handler.is_pressed = False
