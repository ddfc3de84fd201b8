"""The number of updates and the batches of a run, and how batches are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from accelnn._validation import positive_int

__all__ = ["Orders", "Plan", "Sampling"]

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

    def epochs(self, draw: np.random.Generator) -> Orders:
        """Return each epoch's sample indices, drawn when they are asked for or ahead.

        A whole epoch is always drawn, so that the order does not depend on where the run ends.
        """
        return Orders(self, draw)


class Orders:
    """An iterator over epochs, each as the indices of its samples.

    Parameters
    ----------
    plan : Plan
        What is drawn.
    draw : numpy.random.Generator
        By whom.
    """

    def __init__(self, plan: Plan, draw: np.random.Generator) -> None:
        self._plan, self._draw = plan, draw
        self._starts = iter(range(0, plan.steps, plan.batches_per_epoch))
        self._ahead: tuple[Any, np.ndarray] | None = None

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> np.ndarray:
        """Return the next epoch's order."""
        if self._ahead is None:
            return self._next(next(self._starts))
        (_, order), self._ahead = self._ahead, None
        return order

    def draw_ahead(self) -> None:
        """Draw the next epoch's order, if there is one, while the device is busy."""
        start = next(self._starts, None) if self._ahead is None else None
        if start is not None:
            before = self._draw.bit_generator.state
            self._ahead = before, self._next(start)

    def put_back(self) -> None:
        """Restore the generator to before an order that was drawn ahead and never used."""
        if self._ahead is not None:
            self._draw.bit_generator.state, _ = self._ahead

    def _next(self, start: int) -> np.ndarray:
        plan = self._plan
        if plan.sampling == "shuffle":
            order = self._draw.permutation(plan.samples)
        else:
            size = plan.batches_per_epoch * plan.batch
            order = self._draw.integers(0, plan.samples, size=size)
        steps = min(plan.batches_per_epoch, plan.steps - start)
        return order[: steps * plan.batch]
