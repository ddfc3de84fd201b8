"""The context manager and decorator behind `use_backend`."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

from accelnn._shown import shown
from accelnn.backends._base import Backend

__all__ = ["Choice", "chosen"]

F = TypeVar("F", bound=Callable[..., Any])

# The open ``with`` blocks and their backends; a tuple, because copied contexts share the value.
_entered: ContextVar[tuple[tuple["Choice", Backend], ...]] = ContextVar(
    "accelnn_backend", default=()
)


def chosen() -> Backend | None:
    """Return the backend of the innermost block, or None outside any."""
    entered = _entered.get()
    return entered[-1][1] if entered else None


class Choice:
    """What `accelnn.use_backend` returns: a reusable context manager and decorator.

    Parameters
    ----------
    find : callable
        Returns the backend; called whenever a block or a decorated function begins.
    """

    def __init__(self, find: Callable[[], Backend]) -> None:
        self._find = find

    def __enter__(self) -> Backend:
        backend = self._find()
        _entered.set((*_entered.get(), (self, backend)))
        return backend

    def __exit__(self, *error: object) -> None:
        entered = _entered.get()
        # Blocks that contain a yield may be left in any order: remove this one only.
        for i in reversed(range(len(entered))):
            if entered[i][0] is self:
                _entered.set(entered[:i] + entered[i + 1 :])
                return
        msg = (
            "a use_backend block is left where it was not entered: in another thread or asyncio "
            "task, or a second time. Its backend stays selected where it was entered. Enter and "
            "leave it in the same thread and task, or decorate the generator or function with "
            "@accelnn.use_backend(...)"
        )
        raise RuntimeError(msg)

    def __call__(self, function: F) -> F:
        """Return `function` wrapped so that its body runs with this backend.

        In a generator, coroutine or asynchronous generator the choice holds whenever the body runs,
        and not while it is suspended.
        """
        if isinstance(function, type) or not callable(function):
            msg = f"use_backend decorates functions, got {shown(function)}; decorate its methods"
            raise TypeError(msg)
        for is_kind, wrap in (
            (inspect.isasyncgenfunction, _async_generator),
            (inspect.iscoroutinefunction, _coroutine),
            (inspect.isgeneratorfunction, _generator),
        ):
            if is_kind(function):
                return wrap(self, function)  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]

    def begin(self) -> "_Suspendable":
        """Return the context of one call of a generator or coroutine."""
        return _Suspendable(((self, self._find()),))


class _Suspendable:
    """The open blocks inside a generator or coroutine, set whenever it is resumed."""

    def __init__(self, entered: tuple[tuple[Choice, Backend], ...]) -> None:
        self._entered = entered

    def run(self, piece: Callable[..., Any], *args: Any) -> Any:
        outside = _entered.get()
        _entered.set(self._entered)
        try:
            return piece(*args)
        finally:
            self._entered = _entered.get()
            _entered.set(outside)


class _Pieces(Generator[Any, Any, Any]):
    """Wraps a generator or awaitable so that it always runs with its own open blocks."""

    def __init__(self, suspendable: _Suspendable, running: Any) -> None:
        self._suspendable, self._running = suspendable, running

    def send(self, value: Any) -> Any:
        return self._suspendable.run(self._running.send, value)

    def throw(self, *error: Any) -> Any:
        return self._suspendable.run(self._running.throw, *error)

    def close(self) -> None:
        self._suspendable.run(self._running.close)

    def __await__(self) -> "_Pieces":
        return self


def _generator(choice: Choice, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from _Pieces(choice.begin(), function(*args, **kwargs)))

    return generator


def _coroutine(choice: Choice, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await _Pieces(choice.begin(), function(*args, **kwargs))

    return coroutine


def _async_generator(choice: Choice, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        suspendable, running = choice.begin(), function(*args, **kwargs)
        resume, told = running.asend, None
        try:
            while True:
                try:
                    value = await _Pieces(suspendable, resume(told))
                except StopAsyncIteration:
                    return
                try:
                    resume, told = running.asend, (yield value)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
                    resume, told = running.athrow, error
        finally:
            await _Pieces(suspendable, running.aclose())

    return generator
