"""The table of op cases for the conformance tests and the op benchmarks.

References are float64 or longer, and written independently of the ops.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelnn.testing._formulas import ACTIVATION_ROWS, ActivationRow

__all__ = ["OP_CASES", "SHAPES", "OpCase"]

# Odd sizes, one element, no elements, no axes.
SHAPES = ((), (1,), (0,), (7,), (3, 5), (1, 1), (2, 3, 4), (31, 33), (785,))
ROW_SHAPES = ((1,), (7,), (3, 1), (1, 10), (31, 33), (2, 3, 4), (0, 5))

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class OpCase:
    """One op with arguments and the expected result.

    Attributes
    ----------
    op : str
        The method of `accelnn.Backend`.
    arguments : callable
        ``arguments(draw, shape)`` returns float64 arrays.
    reference : callable
        Takes the arguments, cast to the dtype under test and then to long double, and returns the
        expected result.
    shapes : tuple of shapes
        Shapes for which the op is defined.
    options : tuple
        Further positional arguments.
    ulps : float
        The relative tolerance, in ulp.
    floor : float
        An additional absolute tolerance, in ulp of 1.
    size : callable, optional
        Of the arguments: added to the magnitudes that `ulps` scales, where terms may cancel.
    """

    op: str
    arguments: Callable[[np.random.Generator, tuple[int, ...]], Arrays]
    reference: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    options: tuple[Any, ...] = ()
    ulps: float = 16.0
    floor: float = 0.0
    size: Callable[..., Any] | None = None

    def __str__(self) -> str:
        return self.op


def _wide(draw: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return (draw.normal(scale=4.0, size=shape),)


def _with_small_move(draw: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Draw moves from 1e-6 to 10, so that cancellation shows."""
    size = 10.0 ** draw.uniform(-6.0, 1.0, size=shape)
    return draw.normal(scale=3.0, size=shape), draw.choice([-1.0, 1.0], size=shape) * size


def _probabilities_and_targets(draw: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    y = draw.uniform(0.01, 1.0, size=shape)
    t = draw.uniform(0.0, 1.0, size=shape)
    return y / y.sum(axis=-1, keepdims=True), t


def _pair(draw: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return draw.normal(size=shape), draw.normal(size=shape)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _activation_cases(name: str, row: ActivationRow) -> Iterator[OpCase]:
    """Yield the cases of the three ops of an activation."""
    yield OpCase(name, _wide, row.value)
    yield OpCase(f"{name}_grad", _wide, row.slope, size=row.size_of_slope)
    yield OpCase(f"{name}_delta", _with_small_move, row.change_of, size=row.size_of_change)


OP_CASES = (
    *itertools.chain.from_iterable(_activation_cases(*row) for row in ACTIVATION_ROWS.items()),
    OpCase("softmax", _wide, _softmax, ROW_SHAPES, ulps=32.0),
    OpCase("log_softmax", _wide, lambda x: np.log(_softmax(x)), ROW_SHAPES, floor=16.0),
    OpCase("logsumexp", _wide, lambda x: np.log(np.exp(x).sum(axis=-1)), ROW_SHAPES, floor=16.0),
    OpCase("sum_squared_error", _pair, lambda y, t: ((y - t) ** 2).sum() / 2.0),
    OpCase(
        "cross_entropy_error",
        _probabilities_and_targets,
        lambda y, t: -(t * np.log(y + 1e-7)).sum(axis=-1).mean(),
        ROW_SHAPES[:-1],
        options=(1e-7,),
        floor=4.0,
    ),
)
