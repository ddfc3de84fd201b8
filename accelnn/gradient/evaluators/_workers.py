"""Points divided among workers: processes, threads, or whatever maps."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from accelnn._processors import usable_processors
from accelnn._typing import Array
from accelnn._validation import positive_int
from accelnn.errors import ImpureFunctionError
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, Serial, no_progress
from accelnn.gradient.evaluators._reads import (
    Reads,
    alike,
    refuse_random,
    shown,
    what_is_read,
)
from accelnn.gradient.evaluators._values import Values

__all__ = ["HasMap", "Mapper", "Workers", "workers_for"]

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""A function like `map`; its results may come in any order."""


class HasMap(Protocol):
    """A pool, an executor or a client: whatever has a method `map`."""

    @property
    def map(self) -> Callable[..., Any]:
        """The method."""


Task: TypeAlias = tuple[int, np.ndarray, np.ndarray]
Result: TypeAlias = tuple[int, list[Any], float]
# Values of f here and in a worker, which may sum in another order, agree to this part.
SAME_VALUE = 1e-6
# How many tasks for each worker: no fewer, so that one that is late gets less to do, and no more,
# because each costs a message.
FEWEST_EACH, MOST_EACH = 2, 8
# Between these, what lasts so many seconds: a task is sent in a fraction of a millisecond.
TASK_SECONDS = 0.1
# How many tasks where nobody knows how many workers there are.
TASKS = 32


class Workers(Evaluator):
    """Sends each worker the point and some moves of it, and gets the values.

    Parameters
    ----------
    crew : tuple
        As of `workers_for`.
    chunk_size : int or None
        Coordinates of one task; by default what makes some tasks for each worker.
    """

    def __init__(
        self,
        f: Function,
        argument: Argument,
        point: Array,
        values: Values,
        crew: tuple[Mapper, str, int | None],
        chunk_size: int | None,
    ) -> None:
        super().__init__(f, argument, point, values)
        self.mapper, self.how, self.workers = crew
        self.chunk_size, self.seconds = chunk_size, 0.0
        # A point beside x, and f there, which has yet to be seen with x where it is.
        self.beside: tuple[np.ndarray, np.ndarray] | None = None

    def begin(
        self, beside: Iterator[np.ndarray], base: np.ndarray | None, *, in_place: bool | None
    ) -> np.ndarray:
        """See `Evaluator.begin`.

        All of it is one evaluation deep: x is shifted while f is called at a copy of it and at a
        point beside it, in workers and here. While the values that follow are computed elsewhere,
        f is called here once more, with x where it is: that tells whether f reads it.
        """
        argument, near, asks = self.argument, next(beside), in_place is None
        tasks = [(1, np.arange(near.size)[None], near[None, None])]
        if base is None:
            tasks.insert(0, (0, np.zeros((1, 0), int), np.zeros((1, 1, 0))))
        with argument.moving() as restore:
            if asks and argument.shared:
                argument.write(near)
            flat = self.backend.asarray(near.copy(), self.point.dtype)
            handed = [*argument.leaves, flat]
            before = [self.backend.xp.asarray(array, copy=True) for array in handed]
            results = self._handed_over(tasks)
            since = time.perf_counter()
            value = self.at(flat)
            self.seconds = time.perf_counter() - since
            found = self._gathered(results, tasks, no_progress)
            self._require_untouched(handed, before)
            restore()
            self.count += len(tasks)
            here, there = self.values.on_host(value), self.values.on_host(found[1][0])
            base = self.values.on_host(found[0][0]) if base is None else base
            self._require_same(here, there)
            if asks and alike(base, there):
                reads = Reads(argument=False, x=None)
                if argument.shared:
                    # Here, and in no hurry.
                    reads = self.probe(self.at_copy(), [near], restore)
                what_is_read(reads, self.f, can_move=False)
            elif asks and argument.shared:
                self.beside = near, here
        return base

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        rows, points = moved.shape[:2]
        places, numbers = np.repeat(columns, points, axis=0), moved.reshape(rows * points, 1, -1)
        size = self.chunk_size * points if self.chunk_size else self._size(len(places))
        starts = range(0, len(places), size)
        tasks = [(s, places[s : s + size], numbers[s : s + size]) for s in starts]
        results = self._handed_over(tasks)
        if self.beside is not None:
            (beside, before), self.beside = self.beside, None
            after = self.at_copy(beside)
            if not alike(before, after):
                if not alike(after, self.at_copy(beside)):
                    refuse_random(self.at_copy(), self.at_copy())
                what_is_read(Reads(argument=True, x=True), self.f, can_move=False)
        done = 0

        def count(number: int) -> None:
            nonlocal done
            advance((done + number) // points - done // points)
            done += number

        found = self._gathered(results, tasks, count)
        self.count += len(places)
        return [value for start in starts for value in found[start]]

    def _size(self, points: int) -> int:
        """Return how many points make a task."""
        if self.workers is None:
            return -(-points // TASKS)
        least, most = (-(-points // (each * self.workers)) for each in (MOST_EACH, FEWEST_EACH))
        return min(max(int(TASK_SECONDS / max(self.seconds, 1e-9)), least), most)

    def _handed_over(self, tasks: list[Task]) -> Iterable[Result]:
        work = partial(evaluate_task, Serial(self.f, self.argument, self.point, self.values))
        with _explained(len(tasks), ()):
            return self.mapper(work, tasks)

    def _gathered(
        self, results: Iterable[Result], tasks: list[Task], advance: Advance
    ) -> dict[int, list[Any]]:
        """Return the values of each task, or say what there is of them, and why no more."""
        found: list[tuple[int, list[Any]]] = []
        with _explained(len(tasks), found):
            for result in results:
                if not isinstance(result, tuple) or len(result) != 3:  # noqa: PLR2004 - a `Result`
                    msg = f"workers must be a function like map, but a result is {result!r}"
                    raise TypeError(msg)
                start, values, epsilon = result
                self.values.epsilon = max(self.values.epsilon, epsilon)
                self.values.require(tuple(getattr(values[0], "shape", ())))
                found.append((start, values))
                advance(len(values))
        # Neither less nor more: a `joblib.Parallel` may give what is left of a call that failed.
        if sorted(start for start, _ in found) != sorted(task[0] for task in tasks):
            msg = (
                f"workers must be a function like map: of {len(tasks)} tasks it gave {len(found)} "
                f"results, or not one of each. If it is a pool whose last call failed, make it anew"
            )
            raise ValueError(msg)
        return dict(found)

    def _require_untouched(self, handed: list[Array], before: list[Array]) -> None:
        pairs = zip(handed, before, strict=True)
        if not all(self.backend.to_numpy(self.backend.xp.all(a == b)) for a, b in pairs):
            msg = "f changes its argument in place, and workers may share it; let it work on a copy"
            raise ImpureFunctionError(msg)

    def _require_same(self, here: np.ndarray, there: np.ndarray) -> None:
        """Refuse a worker whose f is another, because its module is in another state there."""
        with np.errstate(all="ignore"):
            is_same = np.isclose(there, here, rtol=SAME_VALUE, atol=0.0, equal_nan=True)
        if is_same.all():
            return
        first, second = self.at_copy(), self.at_copy()
        if not alike(first, second):
            refuse_random(first, second)
        msg = (
            f"f is another function in a worker than here: at one point it gave "
            f"{shown(there)} there and {shown(here)} here. A process imports f anew, without "
            f"what was changed since: hand over what it depends on, as functools.partial does. "
            f"Threads share what f writes to: let it write to nothing"
        )
        raise ImpureFunctionError(msg)


# What executors raise when a worker died, by name: their packages are not imported for this.
# The first is the base class of those in `concurrent.futures` and loky. The other is of Dask, which
# gives up a task that several workers have died of.
DIED = {"BrokenExecutor", "KilledWorker"}


@contextmanager
def _explained(count: int, finished: Sized) -> Iterator[None]:
    """Say why f could not be sent to a process, or what was finished when a worker died."""
    try:
        yield
    except Exception as error:
        if DIED.intersection(base.__name__ for base in type(error).__mro__):
            msg = (
                f"a worker ended before its work was done: {len(finished)} of {count} tasks "
                f"were finished. Make a new pool, or pass workers=n, which starts processes again"
            )
            raise RuntimeError(msg) from error
        is_pickling = isinstance(error, AttributeError | TypeError | pickle.PicklingError)
        # Python 3.13 says of a local function that it "can't get" it, and nothing of pickling.
        if is_pickling and ("pickle" in str(error) or "Can't get local" in str(error)):
            msg = (
                f"these workers are processes, and f cannot be sent to one ({error}): define f at "
                f"the top of a module, or pass workers=ThreadPoolExecutor(n)"
            )
            raise TypeError(msg) from error
        raise


def workers_for(
    workers: int | Mapper | HasMap, f: Function
) -> tuple[Mapper, str, int | None] | None:
    """Return what maps, what that is, and how many workers it has; None for f in this thread."""
    if not isinstance(workers, int | np.integer | float):
        return _as_mapper(workers), "the workers given", None
    count = usable_processors() if workers == -1 else positive_int(workers, "workers")
    if count == 1:
        return None
    from accelnn.gradient.evaluators._pool import worker_map

    return *worker_map(count, f), count


def _as_mapper(workers: Any) -> Mapper:
    """Return the map of a pool, an executor, a client or a `joblib.Parallel`, or a function."""
    if not isinstance(workers, type) and _is_joblib(workers):
        return lambda function, tasks: workers((function, (task,), {}) for task in tasks)
    mapper = getattr(workers, "map", workers)
    if not callable(mapper):
        msg = (
            f"workers must be an integer, a function like map, or a pool or executor that has one, "
            f"got {workers!r}"
        )
        raise TypeError(msg)
    # What is to be mapped is handed over at once; only its results are waited for.
    return lambda function, tasks: _results(mapper(function, tasks))


def _is_joblib(workers: Any) -> bool:
    return any(c.__module__.partition(".")[0] == "joblib" for c in type(workers).__mro__)


def _results(mapped: Any) -> Iterator[Any]:
    """Return results, of those that are still to come when they are there, as Dask's."""
    if not isinstance(mapped, Iterable):
        msg = (
            f"workers must be a function like map, but it returned a {type(mapped).__name__}: pass "
            f"one that returns results, as the map of a pool does, and not map_async or submit"
        )
        raise TypeError(msg)
    return (result.result() if hasattr(result, "result") else result for result in mapped)


def evaluate_task(evaluator: Serial, task: Task) -> Result:
    """Evaluate one point after the other; this runs in a worker."""
    start, columns, moved = task
    # Every thread and process has a current device of its own.
    with evaluator.backend.current():
        try:
            values = evaluator.evaluate(columns, moved, no_progress)
        except Exception as error:  # noqa: BLE001 - whatever f raises is sent on
            raise _sendable(error) from None
    return start, values, evaluator.values.epsilon


def _sendable(error: Exception) -> Exception:
    """Return an error as it is, or its text if it would not arrive in another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever its own code raises
        return RuntimeError(f"f raised {type(error).__name__}: {error}")
    return error
