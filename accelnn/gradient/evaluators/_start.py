"""The first calls of a function: its value, what it reads, and so which way to evaluate it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from accelnn._typing import Array
from accelnn._validation import positive_int
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._base import Evaluator, Function, InPlace, Serial
from accelnn.gradient.evaluators._batched import Batched, Compiled
from accelnn.gradient.evaluators._reads import Reads, alike, probe, what_is_read
from accelnn.gradient.evaluators._values import Values
from accelnn.gradient.evaluators._workers import HasMap, Mapper, Workers, workers_for

__all__ = ["Start", "start"]


class Start(NamedTuple):
    """A function at its point, ready to be evaluated beside it.

    Attributes
    ----------
    evaluator : Evaluator
        How.
    base : numpy.ndarray
        f(x), as the evaluator gives it.
    """

    evaluator: Evaluator
    base: np.ndarray

    def finish(self, *, diagnose: bool) -> bool:
        """Call f at x once more, and return whether it gives the same value.

        In serial mode this is always the last call, and on x itself: an f that keeps its argument
        holds x then, and nothing that was beside it.
        """
        evaluator, argument = self.evaluator, self.evaluator.argument
        is_serial = isinstance(evaluator, Serial)
        is_on_x = is_serial and argument.is_handed_over
        # Complex arithmetic rounds otherwise than that of f at x itself.
        tells = is_on_x and not evaluator.values.is_complex
        again = self.base
        if (diagnose and not tells) or (is_serial and not is_on_x):
            again = evaluator.at_copy()
        if is_on_x:
            with argument.moving():
                evaluator.count += 1
                value = evaluator.values.one(evaluator.f(argument.given))
            again = evaluator.values.on_host(value) if tells else again
        return alike(self.base, again)


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
    if batched and workers is not None:
        msg = "batched=True evaluates in this process: leave out workers, or batched"
        raise ValueError(msg)
    crew = None if workers is None else workers_for(workers, f)
    is_serial = not batched and crew is None
    if in_place and not (is_serial and argument.can_move and not is_complex):
        msg = (
            "in_place=True moves x itself, one call of f after the other: leave out workers, "
            "batched and method='complex', and pass x as a writable float array"
        )
        raise ValueError(msg)
    values = Values(argument.backend, is_complex=is_complex, scalar=scalar)
    parts = (f, argument, _lifted(argument) if is_complex else argument.flat, values)
    base = None if f0 is None else _given(values, f0)
    if is_serial:
        return _begin_serial(Serial(*parts), beside, base, in_place=in_place)
    evaluator: Batched | Workers
    evaluator = Workers(*parts, crew, chunk_size) if crew else Batched(*parts, chunk_size)
    # Who says that the argument alone counts is not asked what f reads.
    return Start(evaluator, evaluator.begin(beside, base, asks=in_place is None))


def _given(values: Values, f0: Any) -> np.ndarray:
    """Return f(x) as the caller knows it."""
    try:
        return values.on_host(values.one(f0))
    except (TypeError, ValueError) as error:
        msg = f"f0 is no value of f: {error}"
        raise type(error)(msg) from error


def _begin_serial(
    serial: Serial, beside: Iterator[np.ndarray], base: Any, *, in_place: bool | None
) -> Start:
    argument, f, values = serial.argument, serial.f, serial.values
    in_loops = (
        values.scalar
        and not values.is_complex
        and not argument.is_tree
        and argument.backend.can_compile(f)
    )
    moves = bool(in_place)
    with argument.moving() as restore:
        if base is None:
            base = serial.at_copy()
            restore()
        if _is_single(f):
            values.epsilon = float(np.finfo(np.float32).eps)
        if in_place is None:
            reads = probe(serial, base, beside, restore)
            if reads.argument and reads.x and not alike(base, serial.at_copy()):
                # Random, which a serial difference survives, and a caller may want to know.
                reads = Reads(argument=True, x=False)
            can_move = argument.can_move and not values.is_complex and not in_loops
            moves = what_is_read(reads, f, can_move=can_move)
    parts = (f, argument, serial.point, values)
    evaluator: Evaluator = serial
    if moves:
        evaluator = InPlace(*parts)
    elif in_loops:
        evaluator = Compiled(*parts)
    evaluator.count = serial.count
    return Start(evaluator, base)


def _is_single(f: Any) -> bool:
    """Return whether Numba computes f in float32, which a Python number does not show."""
    signatures = getattr(f, "nopython_signatures", None)
    return False if not signatures else str(signatures[-1].return_type) == "float32"


def _lifted(argument: Argument) -> Array:
    """Return x as complex numbers, in double precision at least, where tiny steps are not 0."""
    backend, flat = argument.backend, argument.flat
    if backend.xp.finfo(flat.dtype).bits > np.finfo(np.float64).bits:
        return flat + 0j
    return backend.xp.astype(flat, backend.dtype("complex128"))
