"""The methods that a callback may have beside its call."""

from collections.abc import Sequence
from contextlib import ExitStack

from accelnn.nets import Net
from accelnn.training._history import History

__all__ = ["Hooks"]


class Hooks:
    """Tells callbacks of the start, the evaluations and the end of a run, if they have a method.

    Parameters
    ----------
    callbacks : sequence of callables
        Those that have ``on_start``, ``on_evaluation`` or ``on_end`` are told.
    net : Net
        The net that is trained.
    history : History
        The record of the run.
    """

    def __init__(self, callbacks: Sequence[object], net: Net, history: History) -> None:
        self._callbacks, self._net, self._history = callbacks, net, history
        self._started: list[object] = []

    def start(self) -> None:
        """Call ``on_start``, once the start has been evaluated."""
        for callback in self._callbacks:
            self._tell(callback, "on_start")
            self._started.append(callback)

    def evaluated(self) -> None:
        """Call ``on_evaluation`` after an evaluation; of that of the start ``on_start`` tells."""
        for callback in self._started:
            self._tell(callback, "on_evaluation")

    def end(self) -> None:
        """Call ``on_end`` of each callback that has started, though that of another fails."""
        with ExitStack() as ends:
            for callback in reversed(self._started):
                ends.callback(self._tell, callback, "on_end")

    def _tell(self, callback: object, event: str) -> None:
        method = getattr(callback, event, None)
        if method is not None:
            method(self._net, self._history)
