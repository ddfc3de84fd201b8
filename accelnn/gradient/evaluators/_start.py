"""The first calls of a function: its value, what it reads, and so which way to evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from accelnn._processors import usable_processors
from accelnn._typing import Array
from accelnn._validation import positive_int
from accelnn.errors import ImpureFunctionError
from accelnn.gradient._argument import Argument
from accelnn.gradient._purity import (
    Reads,
    alike,
    is_compiled,
    on_host,
    refuse_random,
    same,
    what_is_read,
)
from accelnn.gradient.evaluators._base import Evaluator, Function, InPlace, Serial
from accelnn.gradient.evaluators._batched import Batched, Compiled
from accelnn.gradient.evaluators._values import Values
from accelnn.gradient.evaluators._workers import HasMap, Mapper, Workers, as_mapper

__all__ = ["Start", "start"]

# Points of the call that shows whether they meet.
PROBES = 3
# A batch may be summed in another order than one row.
SAME_ROW = 1e-4


class Start(NamedTuple):
    """A function at its point, ready to be evaluated beside it.

    Attributes
    ----------
    evaluator : Evaluator
        How.
    base : array or float
        f(x), as the evaluator gives it.
    """

    evaluator: Evaluator
    base: Any

    def finish(self, *, diagnose: bool) -> bool:
        """Call f at x once more, and return whether it gives the same value.

        In serial mode this is always the last call, and on x itself: an f that keeps its argument
        holds x then, and nothing that was beside it.
        """
        evaluator, argument = self.evaluator, self.evaluator.argument
        is_serial = isinstance(evaluator, Serial | InPlace)
        if not is_serial and not diagnose:
            return True
        is_complex = evaluator.values.is_complex
        again = None
        if diagnose and is_complex:
            # Complex arithmetic rounds otherwise.
            again = evaluator.at_copy()
        if is_serial and argument.is_handed_over:
            with argument.moving():
                evaluator.count += 1
                value = evaluator.f(argument.given)
                again = evaluator.values.one(value) if again is None else again
        elif again is None:
            again = evaluator.at_copy()
        return (is_complex and not diagnose) or same(evaluator.backend, self.base, again)


def start(
    f: Function,
    argument: Argument,
    beside: Iterator[np.ndarray],
    *,
    is_complex: bool,
    scalar: bool | None,
    f0: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
) -> Start:
    """Evaluate f at x, find out what it reads, and return how to go on.

    Parameters
    ----------
    f, argument
        The function, and x.
    beside : iterator of numpy.ndarray
        Points as of `points_beside`.
    is_complex, scalar : bool
        Whether points are complex; whether f must return one number.
    f0, in_place, workers, batched, chunk_size
        As of `accelnn.numerical_gradient`.
    """
    if chunk_size is not None:
        positive_int(chunk_size, "chunk_size")
    count = _worker_count(workers, batched=batched)
    values = Values(argument.backend, is_complex=is_complex, scalar=scalar)
    point = _lifted(argument) if is_complex else argument.flat
    parts = (f, argument, point, values)
    base = None if f0 is None else _given(values, f0)
    is_serial = not batched and count == 1
    # Who says that the argument alone counts is not asked what f reads.
    asks = in_place is None
    if in_place and not (is_serial and argument.can_move and not is_complex):
        msg = (
            "in_place=True moves x itself, one call of f after the other: leave out workers, "
            "batched and method='complex', and pass x as a writable float array"
        )
        raise ValueError(msg)
    if not is_serial and not batched:
        mapper, how, workers_known = _mapper(count, f)
        evaluator = Workers(
            *parts, mapper=mapper, count=workers_known, chunk_size=chunk_size, how=how
        )
        return Start(evaluator, evaluator.begin(next(beside), base, asks=asks))
    if batched:
        many = Batched(*parts, chunk_size)
        try:
            return Start(many, _begin_batched(many, beside, base, asks=asks))
        except MemoryError:
            with many.memory_for(PROBES):
                raise
    return _begin_serial(Serial(*parts), beside, base, in_place=in_place)


def _given(values: Values, f0: Any) -> Any:
    """Return f(x) as the caller knows it."""
    try:
        return values.one(f0)
    except (TypeError, ValueError) as error:
        msg = f"f0 is no value of f: {error}"
        raise type(error)(msg) from error


def _begin_serial(
    serial: Serial, beside: Iterator[np.ndarray], base: Any, *, in_place: bool | None
) -> Start:
    argument, f = serial.argument, serial.f
    compiles = not argument.is_tree and serial.values.scalar and not serial.values.is_complex
    in_loops = compiles and argument.backend.can_compile(f)
    can_move = argument.can_move and not serial.values.is_complex and not in_loops
    with argument.moving() as restore:
        if base is None:
            base = serial.at_copy()
            restore()
        if is_compiled(f) and isinstance(base, float):
            _note_single(serial, f)
        moves = bool(in_place)
        if in_place is None:
            reads = _probe(serial, base, beside, restore)
            if reads.argument and reads.x and not same(serial.backend, base, serial.at_copy()):
                # Random, which a serial difference survives, and a caller may want to know.
                reads = Reads(argument=True, x=False)
            moves = what_is_read(reads, f, can_move=can_move)
    parts = (f, argument, serial.point, serial.values)
    evaluator: Evaluator = serial
    if moves:
        evaluator = InPlace(*parts)
    elif in_loops:
        evaluator = Compiled(*parts)
    evaluator.count = serial.count
    return Start(evaluator, base)


def _probe(
    evaluator: Evaluator, base: Any, beside: Iterable[np.ndarray], restore: Callable[[], None]
) -> Reads:
    """Move the argument while x stays, and x while the argument stays; `restore` puts x back."""
    reads = Reads(argument=False, x=None)
    for i, point in enumerate(beside):
        # The differences go as far as the first point. The others, for where it shows nothing,
        # may be out of the domain of f.
        reads = _probe_at(evaluator, base, point, restore, is_safe=i == 0)
        if reads.argument or reads.x or 0 in point.shape:
            break
    return reads


def _probe_at(
    evaluator: Evaluator,
    base: Any,
    point: np.ndarray,
    restore: Callable[[], None],
    *,
    is_safe: bool,
) -> Reads:
    backend, argument = evaluator.backend, evaluator.argument

    def responds(where: np.ndarray | None) -> bool:
        try:
            with np.errstate(all="ignore") if not is_safe else nullcontext():
                return not same(backend, base, evaluator.at_copy(where))
        except Exception:
            if is_safe:
                raise
            return True

    reads_argument, reads_x = responds(point), None
    restore()
    if argument.shared and not is_compiled(evaluator.f):
        argument.write(point)
        reads_x = responds(None)
        restore()
    return Reads(reads_argument, reads_x)


def _begin_batched(many: Batched, beside: Iterator[np.ndarray], base: Any, *, asks: bool) -> Any:
    """Return f(x); one call more shows what f reads, and whether its points meet."""
    backend, argument = many.backend, many.argument
    with argument.moving() as restore:
        if base is None:
            base = many.at_copy()
            restore()
        point, near = backend.to_numpy(many.point), next(beside)
        three = backend.asarray(np.array([point, near, point]), many.point.dtype)
        if asks and argument.shared:
            argument.write(near)
        found = backend.to_numpy(many.at_rows(three))
        restore()
        alone = on_host(backend, base)[None]
        if alike(found[::2], alone):
            if asks and alike(found[1:2], alone):
                what_is_read(_probe(many, base, [near, *beside], restore), many.f, can_move=False)
            return base
        if asks:
            reads = _probe_at(many, base, near, restore, is_safe=True)
            if same(backend, base, many.at_copy()):
                what_is_read(reads, many.f, can_move=False)
        far = [point.astype(near.dtype) for point in beside]
        _require_rows(many, base, [np.array([point, other, point]) for other in far])
        return base


def _require_rows(many: Batched, base: Any, batches: list[np.ndarray]) -> None:
    """Say which fault made a point's value change in a batch."""
    backend = many.backend
    alone, again = (on_host(backend, value) for value in (base, many.at_copy()))
    if not alike(alone, again):
        refuse_random(alone, again)
    for points in batches:
        with np.errstate(all="ignore"):
            found = backend.to_numpy(many.at_rows(backend.asarray(points, many.point.dtype)))
            # A batch may be summed in another order than one row.
            apart = np.abs(found[::2] - alone) > SAME_ROW * np.abs(alone)
        if apart.any():
            msg = (
                "f gives a point another value when other points are in its batch: with "
                "batched=True, each value must depend on its own row alone, not on their number, "
                "mean or spread"
            )
            raise ImpureFunctionError(msg)


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


def _mapper(count: int | Mapper, f: Function) -> tuple[Mapper, str, int | None]:
    if not isinstance(count, int):
        return count, "the workers given", None
    from accelnn.gradient.evaluators._pool import worker_map

    mapper, how = worker_map(count, f)
    return mapper, how, count


def _note_single(serial: Serial, f: Any) -> None:
    """Note that Numba computes f in float32, which a Python number does not show."""
    signatures = getattr(f, "nopython_signatures", None)
    if signatures and str(signatures[-1].return_type) == "float32":
        serial.values.epsilon = float(np.finfo(np.float32).eps)


def _lifted(argument: Argument) -> Array:
    """Return x as complex numbers, in double precision at least, where tiny steps are not 0."""
    backend, flat = argument.backend, argument.flat
    if backend.xp.finfo(flat.dtype).bits > np.finfo(np.float64).bits:
        return flat + 0j
    return backend.xp.astype(flat, backend.dtype("complex128"))
