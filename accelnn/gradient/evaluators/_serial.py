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
    if not shape:
        return [[()] * columns.shape[1]] * columns.shape[0]
    # Flat, because an index of shape (n, 1) with n > 8,192 comes out wrong in NumPy 2.3 and 2.4:
    # https://github.com/numpy/numpy/issues/31980
    axes = np.unravel_index(columns.ravel(), shape)
    flat = list(zip(*(axis.tolist() for axis in axes), strict=True))
    together = columns.shape[1]
    return [flat[i : i + together] for i in range(0, len(flat), together)]
