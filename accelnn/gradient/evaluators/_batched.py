"""Many points in one call of the function."""

from __future__ import annotations

import math

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.gradient._purity import require_untouched
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function
from accelnn.gradient.evaluators._values import Values

__all__ = ["Batched"]

# Bytes of all points of one call, which a processor keeps in its cache; what f allocates for them
# comes on top.
BATCH_BYTES = 1 << 20


class Batched(Evaluator):
    """Calls ``f`` with ``(k, *x.shape)``, k points at once.

    Parameters
    ----------
    chunk_size : int or None
        Rows per call; by default as many as keep the points within `BATCH_BYTES`.
    """

    def __init__(
        self, backend: Backend, f: Function, x: Array, values: Values, chunk_size: int | None
    ) -> None:
        super().__init__(backend, f, x, values)
        self.chunk_size = chunk_size

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """See `Evaluator.evaluate`."""
        backend, xp, x = self.backend, self.backend.xp, self.x
        rows, points, together = moved.shape
        size = max(1, math.prod(x.shape))
        chunk = min(rows, self.chunk_size or max(1, BATCH_BYTES // (8 * size * points)))
        flat = xp.reshape(x, (1, -1))
        # Every call gets the same memory, in which few numbers change.
        buffer = backend.zeros((chunk * points, flat.shape[1]), x.dtype)
        buffer[...] = flat
        found = []
        for start in range(0, rows, chunk):
            stop = min(start + chunk, rows)
            k = (stop - start) * points
            places = np.repeat(columns[start:stop], points, axis=0)
            backend.set_items(buffer, places, xp.reshape(moved[start:stop, ...], (k, together)))
            batch = xp.reshape(buffer[:k, :], (k, *x.shape))
            found.append(self.values.many(self.f(batch), batch))
            original = xp.take(flat[0, :], backend.asarray(places.ravel()))
            backend.set_items(buffer, places, xp.reshape(original, (k, together)))
            advance(stop - start)
        require_untouched(backend, buffer, flat)
        values = xp.concat(found)
        return xp.reshape(values, (rows, points, *tuple(values.shape)[1:]))
