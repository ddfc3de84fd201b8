"""How many updates, on how many samples, drawn how."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from accelnn._validation import positive_int

__all__ = ["Plan", "Sampling"]

Sampling: TypeAlias = Literal["shuffle", "replacement"]


@dataclass(frozen=True)
class Plan:
    """The batches of a run, before they are drawn.

    Attributes
    ----------
    samples : int
        Number of samples in the data set.
    batch : int
        Samples per batch.
    steps : int
        Number of updates.
    sampling : {"shuffle", "replacement"}
        How batches are drawn.
    """

    samples: int
    batch: int
    steps: int
    sampling: Sampling

    @classmethod
    def of(
        cls,
        samples: int,
        batch_size: int,
        epochs: int | None,
        iters: int | None,
        sampling: Sampling,
    ) -> Plan:
        """Check the options of `fit` and return what they ask for."""
        batch = positive_int(batch_size, "batch_size")
        if sampling not in ("shuffle", "replacement"):
            msg = f"sampling must be 'shuffle' or 'replacement', got {sampling!r}"
            raise ValueError(msg)
        if (epochs is None) == (iters is None):
            msg = f"pass exactly one of epochs and iters; got epochs={epochs}, iters={iters}"
            raise TypeError(msg)
        per_epoch = math.ceil(samples / batch)
        if epochs is not None:
            steps = positive_int(epochs, "epochs") * per_epoch
        else:
            steps = positive_int(iters, "iters")
        return cls(samples, batch, steps, sampling)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in one pass over the data, a short last one included."""
        return math.ceil(self.samples / self.batch)

    def epochs(self, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield each epoch's sample indices.

        A whole epoch is always drawn, so that the order does not depend on where the run ends.
        """
        for start in range(0, self.steps, self.batches_per_epoch):
            if self.sampling == "shuffle":
                order = draw.permutation(self.samples)
            else:
                order = draw.integers(0, self.samples, size=self.batches_per_epoch * self.batch)
            steps = min(self.batches_per_epoch, self.steps - start)
            yield order[: steps * self.batch]
