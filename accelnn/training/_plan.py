"""The number of updates and the batches of a run, and how batches are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np

from accelnn._shown import shown
from accelnn._validation import positive_int

__all__ = ["Generator", "Orders", "Plan", "Sampling"]

Sampling: TypeAlias = Literal["shuffle", "replacement"]


class Generator(NamedTuple):
    """A generator of random numbers at one moment.

    Attributes
    ----------
    kind : type
        Of the bit generator.
    state : dict
        Its state.
    """

    kind: Callable[[], np.random.BitGenerator]
    state: Any

    @classmethod
    def of(cls, generator: np.random.Generator) -> Generator:
        """Return a generator as it is now."""
        return cls(type(generator.bit_generator), generator.bit_generator.state)

    def revive(self) -> np.random.Generator:
        """Return a generator that goes on from there."""
        bits = self.kind()
        bits.state = self.state
        return np.random.Generator(bits)


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
        if not isinstance(sampling, str) or sampling not in ("shuffle", "replacement"):
            msg = f"sampling must be 'shuffle' or 'replacement', got {shown(sampling)}"
            raise ValueError(msg)
        if (epochs is None) == (iters is None):
            both = f"epochs={shown(epochs)}, iters={shown(iters)}"
            msg = f"pass exactly one of epochs and iters; got {both}"
            raise TypeError(msg)
        per_epoch = math.ceil(samples / batch)
        if epochs is not None:
            steps = positive_int(epochs, "epochs") * per_epoch
        else:
            steps = positive_int(iters, "iters")
        return cls(samples, batch, steps, sampling)

    def after(self, done: int) -> Plan:
        """Return what is left after some updates."""
        return replace(self, steps=self.steps - done)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in one pass over the data, a short last one included."""
        return math.ceil(self.samples / self.batch)

    def epochs(self, draw: np.random.Generator, skip: int = 0) -> Orders:
        """Return each epoch's sample indices, drawn when they are asked for or ahead.

        A whole epoch is always drawn, so that the order does not depend on where the run ends. The
        first `skip` updates of the first one were done before.
        """
        return Orders(self, draw, skip)


class Orders:
    """An iterator over epochs, each as the indices of its samples.

    Parameters
    ----------
    plan : Plan
        What is drawn.
    draw : numpy.random.Generator
        By whom.
    skip : int, default 0
        Updates of the first epoch that are left out.

    Attributes
    ----------
    before : Generator
        The generator before the current epoch was drawn.
    """

    def __init__(self, plan: Plan, draw: np.random.Generator, skip: int = 0) -> None:
        self._plan, self._draw = plan, draw
        self._start = self._skip = skip
        self._left = plan.steps
        # Updates of this run up to the end of the epoch that was drawn last.
        self._end = 0
        self._ahead: tuple[Generator, np.ndarray] | None = None
        # The generator before the order that is drawn ahead, or under way.
        self._unused: Generator | None = None
        self.before = Generator.of(draw)

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> np.ndarray:
        """Return the next epoch's order."""
        self._draw_next()
        if self._ahead is None:
            raise StopIteration
        # Ctrl-C may come between any two of these lines.
        self.before, order = self._ahead
        self._end += -(-order.size // self._plan.batch)
        self._ahead = self._unused = None
        return order

    def draw_ahead(self) -> None:
        """Draw the next epoch's order, if there is one, while the device is busy."""
        self._draw_next()

    def _draw_next(self) -> None:
        if self._ahead is not None or self._left <= 0:
            return
        plan = self._plan
        # Before the draw: Ctrl-C between the draw and what is noted of it would lose an epoch.
        self._unused = Generator.of(self._draw)
        if plan.sampling == "shuffle":
            order = self._draw.permutation(plan.samples)
        else:
            size = plan.batches_per_epoch * plan.batch
            order = self._draw.integers(0, plan.samples, size=size)
        steps = min(plan.batches_per_epoch - self._skip, self._left)
        first = self._skip * plan.batch
        self._left, self._skip = self._left - steps, 0
        self._ahead = self._unused, order[first : first + steps * plan.batch]

    def put_back(self) -> None:
        """Restore the generator to before an order that was drawn and never used."""
        if self._unused is not None:
            self._draw.bit_generator.state = self._unused.state

    def place(self, done: int) -> tuple[Generator, int]:
        """Return the generator before the epoch under way, and the updates done in it.

        Parameters
        ----------
        done : int
            Updates of this run.
        """
        position = (self._start + done) % self._plan.batches_per_epoch
        is_under_way = done < self._end or position > 0
        return (self.before if is_under_way else Generator.of(self._draw)), position
