"""Points divided among workers: processes, threads, or whatever maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, no_progress
from accelnn.gradient.evaluators._serial import Serial
from accelnn.gradient.evaluators._values import Values

__all__ = ["Mapper", "Workers"]

Task: TypeAlias = tuple[np.ndarray, Array]
Mapper: TypeAlias = Callable[[Callable[[Task], Array], Iterable[Task]], Iterable[Array]]
"""A function like `map`, whose results come in the order of the tasks."""

# How many parts the work is cut into where nobody says: enough that fast workers get more of them.
PARTS = 32


class Workers(Evaluator):
    """Sends each worker the point and some rows, and gets their values.

    Parameters
    ----------
    mapper : callable
        Like `map`.
    chunk_size : int or None
        Rows of one task; by default what makes `parts` tasks.
    parts : int
        How many tasks.
    """

    def __init__(
        self,
        backend: Backend,
        f: Function,
        x: Array,
        values: Values,
        *,
        mapper: Mapper,
        chunk_size: int | None,
        parts: int = PARTS,
    ) -> None:
        super().__init__(backend, f, x, values)
        self.mapper, self.chunk_size, self.parts = mapper, chunk_size, parts

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """See `Evaluator.evaluate`."""
        rows = len(columns)
        size = self.chunk_size or -(-rows // self.parts)
        starts = range(0, rows, size)
        tasks = [(columns[i : i + size], moved[i : i + size, ...]) for i in starts]
        work = partial(evaluate_task, self.backend, self.f, self.x, self.values)
        found = []
        for task, values in zip(tasks, self._results(work, tasks), strict=True):
            found.append(values)
            advance(len(task[0]))
        return self.backend.xp.concat(found)

    def _results(self, work: Callable[[Task], Array], tasks: list[Task]) -> Iterator[Any]:
        yield from self.mapper(work, tasks)


def evaluate_task(backend: Backend, f: Function, x: Array, values: Values, task: Task) -> Array:
    """Evaluate one after the other, on a copy of the point; this runs in a worker."""
    own = backend.xp.asarray(x, copy=True)
    columns, moved = task
    return Serial(backend, f, own, values)(columns, moved, no_progress)
