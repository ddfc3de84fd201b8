"""Dropout by a counter-based generator, so that all backends draw the same masks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Dropout", "philox"]

# Philox4x32-10: multipliers, key increments, and the number of rounds.
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10

WORD = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


class Dropout(NamedTuple):
    """The dropout of a training run.

    Attributes
    ----------
    p : float
        The probability that a hidden unit is dropped, in [0, 1).
    seed : int
        64 bits, the same for the whole run.
    """

    p: float
    seed: int

    def factors(self, update: int, layer: int, rows: int, units: int) -> np.ndarray:
        """Return the mask by which the outputs of a hidden layer are multiplied.

        Parameters
        ----------
        update : int
            The number of updates before this one.
        layer : int
            The hidden layer, from 0.
        rows, units : int
            Samples of the batch, and units of the layer.

        Returns
        -------
        numpy.ndarray of float64, shape (rows, units)
            0 with probability `p`, else 1 / (1 - p).
        """
        row, unit = np.meshgrid(np.arange(rows), np.arange(units), indexing="ij")
        word = philox((update, layer, row, unit), (self.seed & 0xFFFFFFFF, self.seed >> 32))[0]
        kept = word >= np.uint64(round(self.p * 2**32))
        return kept / (1.0 - self.p)


def philox(
    counter: tuple[int | np.ndarray, ...], key: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return four random 32-bit words for each counter of four words, by Philox4x32-10.

    References
    ----------
    Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC (2011).
    """
    a, b, c, d = np.broadcast_arrays(*(np.asarray(part, np.uint64) & WORD for part in counter))
    for turn in range(ROUNDS):
        first, second = (
            np.uint64((part + turn * weyl) & 0xFFFFFFFF)
            for part, weyl in zip(key, WEYL, strict=True)
        )
        x, y = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b, c, d = (y >> HALF) ^ b ^ first, y & WORD, (x >> HALF) ^ d ^ second, x & WORD
    return a, b, c, d
