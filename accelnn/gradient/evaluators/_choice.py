"""Which way to evaluate, and what each must know of the function first."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from accelnn._processors import usable_processors
from accelnn._typing import Array
from accelnn._validation import as_floating, positive_int
from accelnn.backends import Backend
from accelnn.gradient._purity import (
    can_be_moved,
    is_compiled,
    require_pure,
    require_pure_rows,
    require_response,
    require_untouched,
)
from accelnn.gradient.evaluators._base import Evaluator, Function, restored
from accelnn.gradient.evaluators._batched import Batched, memory_for_points
from accelnn.gradient.evaluators._compiled import Compiled
from accelnn.gradient.evaluators._mappers import HasMap, Mapper, as_mapper
from accelnn.gradient.evaluators._serial import Serial
from accelnn.gradient.evaluators._values import Values
from accelnn.gradient.evaluators._workers import Workers

__all__ = ["Start", "make_evaluator"]

# Points of the call that shows whether they meet, at most.
PROBES = 3


class Start(NamedTuple):
    """A function at its point, ready to be evaluated beside it.

    Attributes
    ----------
    evaluator : Evaluator
        How.
    base : array or float
        f(x).
    is_pure : bool
        Whether it is proven that f depends on its argument alone, or it need not.
    probe : array
        What f was called with: x, or with ``batched=True`` one row that holds it.
    """

    evaluator: Evaluator
    base: Any
    is_pure: bool
    probe: Array

    def repeats(self) -> bool:
        """Return whether f gives the same value at x once more."""
        evaluator = self.evaluator
        evaluator.count += 1
        again = evaluator.f(self.probe)
        many = self.probe.shape != evaluator.x.shape
        value = (
            evaluator.values.many(again, self.probe)[0, ...]
            if many
            else evaluator.values.one(again)
        )
        backend = evaluator.backend
        base, value = (
            np.asarray(backend.to_numpy(v) if backend.owns(v) else v) for v in (self.base, value)
        )
        return np.array_equal(base, value, equal_nan=True)

    def require_response(self, derivative: Array) -> None:
        """Refuse a function that never responded, unless that is known to be its own."""
        backend, f = self.evaluator.backend, self.evaluator.f
        if 0 in derivative.shape or (self.is_pure and not is_compiled(f)):
            return
        if backend.owns(derivative):
            responds = bool(backend.to_numpy(backend.xp.any(derivative != 0)))
        else:
            responds = bool(np.any(derivative != 0))
        if not responds:
            require_response(backend, f, self.probe)


def make_evaluator(
    backend: Backend,
    f: Function,
    given: object,
    x: Array,
    *,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    is_complex: bool = False,
    scalar: bool = True,
) -> Start:
    """Evaluate f at x, and return how to go on.

    Parameters
    ----------
    backend : Backend
        Whose arrays.
    f : callable
        The function.
    given : object
        What the caller handed over as x.
    x : array
        The same as an array.
    workers, batched, chunk_size
        As of `accelnn.numerical_gradient`.
    is_complex : bool
        Whether points are complex.
    scalar : bool
        Whether f must return a scalar.
    """
    if chunk_size is not None:
        positive_int(chunk_size, "chunk_size")
    count = _worker_count(workers, batched=batched)
    values = Values(backend, is_complex=is_complex, scalar=scalar)
    is_serial = not batched and count == 1
    in_loops = is_serial and scalar and not is_complex and backend.can_compile(f)
    in_place = is_serial and not is_complex and not in_loops and can_be_moved(backend, given)
    point = x if in_place else _own(backend, x, is_complex=is_complex)

    calls, seconds = 0, math.inf

    def counted(x: Array) -> Any:
        nonlocal calls, seconds
        calls += x.shape[0] if batched else 1
        since = time.perf_counter()
        result = f(x)
        # The first call may be slower than all that follow.
        seconds = min(seconds, time.perf_counter() - since)
        return result

    probe = point[None, ...] if batched else point
    with memory_for_points(backend, point, PROBES) if batched else nullcontext():
        with restored(backend, point) as original:
            result = counted(probe)
            base = values.many(result, probe)[0, ...] if batched else values.one(result)
            require_untouched(backend, point, original)
        base = _in_its_dtype(backend, f, base)
        if in_place:
            is_pure = True
        elif batched:
            is_pure = require_pure_rows(backend, counted, given, probe, base[None, ...])
        else:
            is_pure = require_pure(backend, counted, given, probe, base)

    evaluator: Evaluator
    if batched:
        evaluator = Batched(backend, f, point, values, chunk_size)
    elif in_loops:
        evaluator = Compiled(backend, f, point, values)
    elif is_serial:
        evaluator = Serial(backend, f, point, values)
    else:
        mapper = _worker_map(count, f) if isinstance(count, int) else count
        evaluator = Workers(
            backend,
            f,
            point,
            values,
            mapper=mapper,
            count=count if isinstance(count, int) else None,
            chunk_size=chunk_size,
            seconds=seconds,
        )
    evaluator.count = calls
    return Start(evaluator, base, is_pure, probe)


def _worker_count(workers: int | Mapper | HasMap | None, *, batched: bool) -> int | Mapper:
    """Return how many workers, or the caller's own map."""
    if workers is None:
        return 1
    if batched:
        msg = "batched=True evaluates in this process: leave out workers, or batched"
        raise ValueError(msg)
    if not isinstance(workers, int | np.integer | float):
        return as_mapper(workers)
    return usable_processors() if workers == -1 else positive_int(workers, "workers")


def _worker_map(count: int, f: Function) -> Mapper:
    # Here, because it imports multiprocessing, which `import accelnn` is not to wait for.
    from accelnn.gradient.evaluators._pool import worker_map

    return worker_map(count, f)


def _in_its_dtype(backend: Backend, f: Function, base: Any) -> Any:
    """Return f(x) in the dtype that Numba computes it in, which a Python number does not show."""
    signatures = getattr(f, "nopython_signatures", None)
    if (
        not signatures
        or not isinstance(base, float)
        or str(signatures[-1].return_type) != "float32"
    ):
        return base
    return backend.asarray(np.asarray(base, np.float32))


def _own(backend: Backend, x: Array, *, is_complex: bool) -> Array:
    """Return a copy of x that may be moved."""
    floating = as_floating(backend, x)
    if not is_complex:
        return backend.xp.asarray(floating, copy=True)
    single = np.dtype("float32").itemsize
    wide = "complex64" if backend.xp.finfo(floating.dtype).bits <= 8 * single else "complex128"
    return backend.xp.asarray(backend.xp.astype(floating, backend.dtype(wide)), copy=True)
