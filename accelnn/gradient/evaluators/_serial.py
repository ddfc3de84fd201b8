"""One point after the other, by moving x itself."""

from __future__ import annotations

import numpy as np

from accelnn._typing import Array
from accelnn.gradient._purity import require_untouched
from accelnn.gradient.evaluators._base import Advance, Evaluator, restored

__all__ = ["Serial"]


class Serial(Evaluator):
    """Moves `x` in place and puts it back after every row, and even when `f` raises."""

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """See `Evaluator.evaluate`."""
        backend, f, x, one = self.backend, self.f, self.x, self.values.one
        places = _places(columns, tuple(x.shape))
        # Python numbers, which every library writes into single places, and without losing digits.
        rows = backend.to_numpy(moved).tolist()
        values = []
        with restored(backend, x) as original:
            for place, row in zip(places, rows, strict=True):
                for point in row:
                    for index, number in zip(place, point, strict=True):
                        x[index] = number
                    values.append(one(f(x)))
                for index in place:
                    x[index] = original[index]
                advance(1)
            # What f has written elsewhere has gone into all values since.
            require_untouched(backend, x, original)
        stacked = self.values.stack(values)
        shape = tuple(stacked.shape)[1:]
        return backend.xp.reshape(stacked, (len(rows), moved.shape[1], *shape))


def _places(columns: np.ndarray, shape: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """Return the index of each coordinate, row by row."""
    axes = [axis.tolist() for axis in np.unravel_index(columns, shape)] if shape else []
    if not axes:
        return [[()] * columns.shape[1]] * columns.shape[0]
    return [list(zip(*row, strict=True)) for row in zip(*axes, strict=True)]
