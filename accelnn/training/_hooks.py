"""The methods that a callback may have beside its call."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

from accelnn.nets import Net
from accelnn.training._history import History

__all__ = ["Hooks", "States"]

# The class and the state of each callback; None where it has none.
States: TypeAlias = Sequence[tuple[str, dict[str, Any] | None]]


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

    def start(self, states: States = ()) -> None:
        """Call ``on_start``, once the start has been evaluated; restore states that were saved."""
        for callback in self._callbacks:
            self._tell(callback, "on_start")
            self._started.append(callback)
        self.restore(states)

    def restore(self, states: States) -> None:
        """Give callbacks the states that were saved of those of their class, one after another."""
        left = [(name, state) for name, state in states if state is not None]
        for callback in self._callbacks:
            name = type(callback).__name__
            place = next((i for i, (saved, _) in enumerate(left) if saved == name), None)
            if place is not None:
                callback.load_state_dict(left.pop(place)[1])  # type: ignore[attr-defined]

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
