"""Points divided among workers: processes, threads, or whatever maps."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.errors import ImpureFunctionError
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, no_progress
from accelnn.gradient.evaluators._mappers import Mapper
from accelnn.gradient.evaluators._serial import Serial
from accelnn.gradient.evaluators._values import Values

__all__ = ["Workers"]

Task: TypeAlias = tuple[int, np.ndarray, Array]
Result: TypeAlias = tuple[int, Any, Array]
# Values of f here and in a worker, which may sum in another order, agree to this part.
SAME_VALUE = 1e-6

# How many tasks for each worker: no fewer, so that one that is late gets less to do, and no more,
# because each costs an evaluation of its own.
FEWEST_EACH, MOST_EACH = 2, 8
# Between these, what lasts so many seconds: a task is sent in a fraction of a millisecond.
TASK_SECONDS = 0.1
# How many tasks where nobody knows how many workers there are.
TASKS = 32


class Workers(Evaluator):
    """Sends each worker the point and some rows, and gets their values.

    Parameters
    ----------
    mapper : callable
        Like `map`.
    count : int or None
        How many workers, if that is known.
    chunk_size : int or None
        Rows of one task; by default what makes some tasks for each worker.
    seconds : float
        What one evaluation takes.
    """

    def __init__(
        self,
        backend: Backend,
        f: Function,
        x: Array,
        values: Values,
        *,
        mapper: Mapper,
        count: int | None,
        chunk_size: int | None,
        seconds: float,
    ) -> None:
        super().__init__(backend, f, x, values)
        self.mapper = mapper
        self.workers, self.chunk_size, self.seconds = count, chunk_size, seconds

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """See `Evaluator.evaluate`."""
        rows = len(columns)
        size = self.chunk_size or self._rows_of_a_task(rows, points=moved.shape[1])
        starts = range(0, rows, size)
        tasks = [
            (start, columns[start : start + size], moved[start : start + size, ...])
            for start in starts
        ]
        beside = self._beside(columns, moved)
        here = self.values.one(self.f(self.backend.xp.asarray(beside, copy=True)))
        work = partial(evaluate_task, self.backend, self.f, self.x, beside, self.values)
        found: dict[int, Array] = {}
        for result in self._mapped(work, tasks):
            if not isinstance(result, tuple) or len(result) != 3:  # noqa: PLR2004 - a `Result`
                msg = f"workers must be a function like map, but a result is {result!r}"
                raise TypeError(msg)
            start, there, values = result
            self._require_same(here, there)
            found[start] = values
            advance(values.shape[0])
        if sorted(found) != list(starts):
            msg = (
                f"workers must be a function like map: of {len(tasks)} tasks it gave results of "
                f"{len(found)}"
            )
            raise ValueError(msg)
        self.count += 1 + len(tasks)
        return self.backend.xp.concat([found[start] for start in starts])

    def _rows_of_a_task(self, rows: int, points: int) -> int:
        if self.workers is None:
            return -(-rows // TASKS)
        least, most = (-(-rows // (each * self.workers)) for each in (MOST_EACH, FEWEST_EACH))
        return min(max(int(TASK_SECONDS / (points * max(self.seconds, 1e-9))), least), most)

    def _beside(self, columns: np.ndarray, moved: Array) -> Array:
        """Return a point where f must be the same here and there: at x itself it may vanish."""
        backend, xp = self.backend, self.backend.xp
        beside = backend.zeros((1, math.prod(self.x.shape)), self.x.dtype)
        beside[...] = xp.reshape(self.x, (1, -1))
        backend.set_items(beside, columns.reshape(1, -1), xp.reshape(moved[:, 0, :], (1, -1)))
        return xp.reshape(beside, self.x.shape)

    def _mapped(self, work: Callable[[Task], Result], tasks: list[Task]) -> Iterator[Result]:
        """Yield what the workers give, and say why they cannot."""
        try:
            yield from self.mapper(work, tasks)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            if "pickle" not in str(error):
                raise
            msg = (
                f"these workers are processes, and f cannot be sent to one ({error}): define f at "
                f"the top of a module, or pass workers=ThreadPoolExecutor(n)"
            )
            raise TypeError(msg) from error

    def _require_same(self, here: Any, there: Any) -> None:
        """Refuse a worker whose f is another, because its module is in another state there."""
        backend = self.backend
        here, there = (
            np.asarray(backend.to_numpy(v) if backend.owns(v) else v) for v in (here, there)
        )
        with np.errstate(all="ignore"):
            is_same = np.isclose(there, here, rtol=SAME_VALUE, atol=0.0, equal_nan=True)
        if not is_same.all():
            msg = (
                f"f is another function in a worker than here: at one point it gave "
                f"{_show(there)} there and {_show(here)} here. A process imports f anew, without "
                f"what was changed since: hand over what it depends on, as functools.partial does. "
                f"Threads share what f writes to: let it write to nothing"
            )
            raise ImpureFunctionError(msg)


def evaluate_task(
    backend: Backend, f: Function, x: Array, beside: Array, values: Values, task: Task
) -> Result:
    """Evaluate one after the other, on a copy of the point; this runs in a worker."""
    # Every thread and process has a current device of its own.
    with backend.current():
        own = backend.xp.asarray(x, copy=True)
        start, columns, moved = task
        try:
            there = values.one(f(backend.xp.asarray(beside, copy=True)))
            return start, there, Serial(backend, f, own, values)(columns, moved, no_progress)
        except Exception as error:  # noqa: BLE001 - whatever f raises is sent on
            raise _sendable(error) from None


def _sendable(error: Exception) -> Exception:
    """Return an error as it is, or its text if it would not arrive in another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever its own code raises
        return RuntimeError(f"f raised {type(error).__name__}: {error}")
    return error


def _show(value: np.ndarray) -> str:
    return repr(value.item()) if value.size == 1 else f"an array of shape {value.shape}"
