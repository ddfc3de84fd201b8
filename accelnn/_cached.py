"""A `cached_property` without a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["cached_property"]

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801 - used as the standard library's is
    """`functools.cached_property` without the lock, which Python 3.12 removed.

    Up to Python 3.11 one lock per property is held while a value is computed, so a child process
    forked meanwhile deadlocks (https://github.com/python/cpython/issues/87634). Here several
    threads may compute a value at once, and all get the one that is stored first.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
        if instance is None:
            return self
        # From now on the instance attribute shadows this non-data descriptor.
        stored: T = instance.__dict__.setdefault(self._name, self._function(instance))
        return stored
