"""Evaluation on workers: processes, threads, or anything with a map."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from accelnn._processors import most_threads, usable_processors
from accelnn._shown import shown
from accelnn._typing import Array
from accelnn._validation import positive_int
from accelnn.errors import ImpureFunctionError
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, Serial, no_progress
from accelnn.gradient.evaluators._reads import (
    Reads,
    alike,
    refuse_random,
    what_is_read,
)
from accelnn.gradient.evaluators._values import Values

__all__ = ["HasMap", "Mapper", "Workers", "workers_for"]

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""A function like `map`, which may yield results in any order."""


class HasMap(Protocol):
    """A pool, executor or client with a method `map`."""

    @property
    def map(self) -> Callable[..., Any]:
        """The method."""


Task: TypeAlias = tuple[int, np.ndarray, np.ndarray]
Result: TypeAlias = tuple[int, list[Any], float]
# Relative tolerance between values of f here and in a worker, which may sum in another order.
SAME_VALUE = 1e-6
# Tasks per worker: at least so many, to balance the load, and at most so many, because each has to
# be sent.
FEWEST_EACH, MOST_EACH = 2, 8
# Target duration of a task within these limits; sending one takes a fraction of a millisecond.
TASK_SECONDS = 0.1
# Number of tasks if the number of workers is unknown.
TASKS = 32


class Workers(Evaluator):
    """Sends the moves of x to workers in tasks, and collects the values.

    Parameters
    ----------
    crew : tuple
        What `workers_for` returns.
    chunk_size : int or None
        Coordinates per task; by default such that each worker gets several tasks.
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
        # A point near x and f there, to be evaluated once more with x restored.
        self.beside: tuple[np.ndarray, np.ndarray] | None = None

    def begin(
        self, beside: Iterator[np.ndarray], base: np.ndarray | None, *, in_place: bool | None
    ) -> np.ndarray:
        """See `Evaluator.begin`.

        It takes the time of one evaluation: x is shifted while f is called at the original x and at
        a point near it, in workers and here. While the workers compute the first differences, f is
        called here once more with x restored, which shows whether f reads x.
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
                    # In this process, without workers.
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
        """Return the number of points per task."""
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
        """Return the values of each task; errors say how many tasks were finished."""
        found: list[tuple[int, list[Any]]] = []
        with _explained(len(tasks), found):
            for result in results:
                if not isinstance(result, tuple) or len(result) != 3:  # noqa: PLR2004 - a `Result`
                    msg = f"workers must be a function like map, but a result is {shown(result)}"
                    raise TypeError(msg)
                start, values, epsilon = result
                self.values.epsilon = max(self.values.epsilon, epsilon)
                self.values.require(tuple(getattr(values[0], "shape", ())))
                found.append((start, values))
                advance(len(values))
        # A `joblib.Parallel` may return left-over results of a call that failed.
        if sorted(start for start, _ in found) != sorted(task[0] for task in tasks):
            msg = (
                f"workers must be a function like map: of {len(tasks)} tasks it gave {len(found)} "
                f"results, not one for each. If it is a pool whose last call failed, make a new one"
            )
            raise ValueError(msg)
        return dict(found)

    def _require_untouched(self, handed: list[Array], before: list[Array]) -> None:
        pairs = zip(handed, before, strict=True)
        if not all(self.backend.to_numpy(self.backend.xp.all(a == b)) for a, b in pairs):
            msg = "f changes its argument in place, and workers may share it; let it work on a copy"
            raise ImpureFunctionError(msg)

    def _require_same(self, here: np.ndarray, there: np.ndarray) -> None:
        """Refuse workers in which f has another value, because of other module state there."""
        with np.errstate(all="ignore"):
            is_same = np.isclose(there, here, rtol=SAME_VALUE, atol=0.0, equal_nan=True)
        if is_same.all():
            return
        first, second = self.at_copy(), self.at_copy()
        if not alike(first, second):
            refuse_random(first, second)
        msg = (
            f"f has another value in a worker than in this process: at one point it gave "
            f"{shown(there)} there and {shown(here)} here. A worker process imports f's module "
            f"again and does not see later changes to it: pass what f depends on as arguments, or "
            f"with functools.partial. In worker threads, f must not write to shared data"
        )
        raise ImpureFunctionError(msg)


# What executors raise when a worker died, by name so that their packages need not be imported: the
# base class in `concurrent.futures` and loky, and the error of Dask for a task that has killed
# several workers.
DIED = {"BrokenExecutor", "KilledWorker"}


@contextmanager
def _explained(count: int, finished: Sized) -> Iterator[None]:
    """Explain errors of pickling f and of workers that died."""
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
        # Python 3.13 says "Can't get local object" of a local function, and nothing of pickling.
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
    """Return a map, its description and its number of workers; None for serial evaluation."""
    if not isinstance(workers, int | np.integer | float):
        return _as_mapper(workers), "the workers given", None
    count = usable_processors() if workers == -1 else positive_int(workers, "workers")
    if count > most_threads():
        msg = (
            f"workers must be at most {most_threads():,} on {usable_processors()} usable "
            f"processors, got {count:,}; for more of them, such as on other machines, pass a pool"
        )
        raise ValueError(msg)
    if count == 1:
        return None
    from accelnn.gradient.evaluators._pool import worker_map

    return *worker_map(count, f), count


def _as_mapper(workers: Any) -> Mapper:
    """Return a function like `map` for a pool, executor, client, `joblib.Parallel` or function."""
    if not isinstance(workers, type) and _is_joblib(workers):
        return lambda function, tasks: workers((function, (task,), {}) for task in tasks)
    mapper = getattr(workers, "map", workers)
    if not callable(mapper):
        msg = (
            f"workers must be an integer, a function like map, or a pool or executor that has one, "
            f"got {shown(workers)}"
        )
        raise TypeError(msg)
    # All tasks are submitted now; results are awaited later.
    return lambda function, tasks: _results(mapper(function, tasks))


def _is_joblib(workers: Any) -> bool:
    return any(c.__module__.partition(".")[0] == "joblib" for c in type(workers).__mro__)


def _results(mapped: Any) -> Iterator[Any]:
    """Yield results; futures, such as those of Dask, are awaited."""
    if not isinstance(mapped, Iterable):
        msg = (
            f"workers must be a function like map, but it returned a {type(mapped).__name__}: pass "
            f"one that returns results, as the map of a pool does, and not map_async or submit"
        )
        raise TypeError(msg)
    return (result.result() if hasattr(result, "result") else result for result in mapped)


def evaluate_task(evaluator: Serial, task: Task) -> Result:
    """Evaluate the points of a task; runs in a worker."""
    start, columns, moved = task
    # The current device is a property of each thread.
    with evaluator.backend.current():
        try:
            values = evaluator.evaluate(columns, moved, no_progress)
        except Exception as error:  # noqa: BLE001 - f may raise anything
            raise _sendable(error) from None
    return start, values, evaluator.values.epsilon


def _sendable(error: Exception) -> Exception:
    """Return an error itself if it can be pickled, otherwise one with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - a __reduce__ may raise anything
        return RuntimeError(f"f raised {type(error).__name__}: {error}")
    return error
