"""A compiled function, called in compiled loops of the backend's."""

from __future__ import annotations

import time

import numpy as np

from accelnn._typing import Array
from accelnn.gradient.evaluators._base import Advance, Evaluator

__all__ = ["Compiled"]

# Seconds that one call of the backend's should take: Ctrl-C is heard, and progress seen, after it.
PIECE_SECONDS = 0.2
FIRST_ROWS = 2


class Compiled(Evaluator):
    """Leaves the loop to `Backend.evaluate_compiled`, in pieces."""

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """See `Evaluator.evaluate`."""
        rows, start, size, found = len(columns), 0, FIRST_ROWS, []
        while start < rows:
            stop = min(start + size, rows)
            since = time.perf_counter()
            found.append(
                self.backend.evaluate_compiled(
                    self.f, self.x, columns[start:stop], moved[start:stop, ...]
                )
            )
            seconds = time.perf_counter() - since
            advance(stop - start)
            # Not more than eight times as many as before: the first piece may not be typical.
            size = max(1, min(8 * size, int(size * PIECE_SECONDS / max(seconds, 1e-9))))
            start = stop
        return self.backend.xp.concat(found)
