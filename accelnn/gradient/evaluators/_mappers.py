"""Whatever hands work to others, seen as one function like `map`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

__all__ = ["HasMap", "Mapper", "as_mapper"]

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""A function like `map`; its results may come in any order."""


class HasMap(Protocol):
    """A pool, an executor or a client: whatever has a method `map`."""

    @property
    def map(self) -> Callable[..., Any]:
        """The method."""


def as_mapper(workers: Any) -> Mapper:
    """Return the map of a pool, an executor, a client or a `joblib.Parallel`; a function as it is.

    Raises
    ------
    TypeError
        If `workers` maps nothing.
    """
    if not isinstance(workers, type) and _is_joblib(workers):
        return lambda function, tasks: workers((function, (task,), {}) for task in tasks)
    mapper = getattr(workers, "map", workers)
    if not callable(mapper):
        msg = (
            f"workers must be an integer, a function like map, or a pool or executor that has one, "
            f"got {workers!r}"
        )
        raise TypeError(msg)
    return lambda function, tasks: _results(mapper(function, tasks))


def _is_joblib(workers: Any) -> bool:
    return any(c.__module__.partition(".")[0] == "joblib" for c in type(workers).__mro__)


def _results(mapped: Any) -> Iterator[Any]:
    """Yield results, of those that are still to come when they are there, as Dask's."""
    if not isinstance(mapped, Iterable):
        msg = (
            f"workers must be a function like map, but it returned a {type(mapped).__name__}: pass "
            f"one that returns results, as the map of a pool does, and not map_async or submit"
        )
        raise TypeError(msg)
    for result in mapped:
        yield result.result() if hasattr(result, "result") else result
