"""Training on batches that someone else makes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from accelnn._progress import Advance
from accelnn._typing import ArrayLike
from accelnn._validation import positive_int
from accelnn.backends import Dataset
from accelnn.training._prepare import dataset_for, weights_for
from accelnn.training._refusals import refuse_several_labels
from accelnn.training._run import Run, dropout_of

__all__ = ["BatchRun", "Batches", "Passes", "is_batches"]

Batches: TypeAlias = Callable[[], Iterator[tuple[ArrayLike, ...]]] | Iterator[tuple[ArrayLike, ...]]


def is_batches(x: object) -> bool:
    """Return whether `x` is an iterator, or a function that returns one."""
    is_array = hasattr(x, "shape") or hasattr(x, "__array__")
    return not isinstance(x, Dataset) and not is_array and (callable(x) or hasattr(x, "__next__"))


@dataclass
class Passes:
    """The batches of a run, as `Plan` has them for a data set.

    Attributes
    ----------
    source : callable or iterator
        Returns an iterator for each pass; an iterator is one pass.
    passes : int or None
        How many passes, or None for as many as `steps` need.
    steps : int or None
        Number of updates.
    batch : int
        Samples of the largest batch so far.
    """

    source: Batches
    passes: int | None
    steps: int | None
    batch: int = field(default=1)

    @classmethod
    def of(cls, source: Batches, epochs: int | None, iters: int | None) -> Passes:
        """Check the options of `fit` and return what they ask for."""
        if (epochs is None) == (iters is None):
            msg = f"pass exactly one of epochs and iters; got epochs={epochs}, iters={iters}"
            raise TypeError(msg)
        if epochs is not None and not callable(source):
            msg = (
                "an iterator of batches can be read only once: pass iters=, or a function that "
                "returns an iterator for each epoch, such as fit(net, lambda: batches(), epochs=10)"
            )
            raise TypeError(msg)
        passes = None if epochs is None else positive_int(epochs, "epochs")
        return cls(source, passes, None if iters is None else positive_int(iters, "iters"))

    def __iter__(self) -> Iterator[Iterator[Any]]:
        """Yield an iterator over the batches of each pass."""
        if not callable(self.source):
            yield iter(self.source)
            return
        for _ in itertools.count() if self.passes is None else range(self.passes):
            batches = self.source()
            if not hasattr(batches, "__iter__"):
                msg = (
                    f"the function that makes batches must return an iterator over tuples (x, t), "
                    f"got {type(batches).__name__}"
                )
                raise TypeError(msg)
            yield iter(batches)

    @property
    def batches_per_epoch(self) -> int:
        """1: how many there are is found out in the first pass."""
        return 1


# Batches of a run that are looked at for several labels to a sample; small ones may have few.
LOOKED_AT = 100


class BatchRun(Run):
    """One call of `fit` on batches that come one by one."""

    is_whole = False

    def begin(self, draw: np.random.Generator) -> None:
        """Start the run; only dropout draws anything."""
        self.done = self.offset = 0
        self.seeded(dropout_of(self.net, draw))
        self.passes = iter(self.plan)
        self.orders = self._epochs()

    def _epochs(self) -> Iterator[Any]:
        """Yield passes until all updates are done."""
        for batches in self.passes:
            before = self.history.steps
            yield batches
            if self.history.steps == before:
                msg = "the iterator over batches was empty"
                raise ValueError(msg)
            if self.plan.steps is not None and self.history.steps >= self.plan.steps:
                return
        if self.plan.steps is not None and not self.divergence:
            self.shortage = (
                f"the batches ended after {self.history.steps:,} of {self.plan.steps:,} updates; "
                f"pass a function that returns an iterator, to begin anew"
            )

    def _record(self, losses: np.ndarray) -> None:
        super()._record(losses)
        if self.finished == 0:
            self.history.batches_per_epoch = self.history.steps

    def epoch(self, order: Any, advance: Advance, *, timed: bool) -> bool:  # noqa: ARG002 - one by one
        """Train on the batches of one pass; return whether to stop."""
        history, self.is_whole = self.history, False
        while self.plan.steps is None or history.steps < self.plan.steps:
            self.interrupts.release()
            batch = next(order, None)
            if batch is None:
                self.is_whole = True
                return False
            data, options = self._read(batch)
            rates = self.state.scheduled_rates(1)
            if rates is not None:
                options["rates"] = rates
            engine, index = self.net.engine, np.arange(data.size)
            given = self.state, self.smoothed(data), index, data.size
            # Not interrupted: the iterator does not give the batch again.
            losses = self.commit(partial(engine.train, *given, **options), listens=False)
            if self.divergence:
                return True
            advance(1, f"loss {losses[-1]:.4f}")
            if self._call_if_due():
                return True
        return False

    def _read(self, batch: Any) -> tuple[Dataset, dict[str, Any]]:
        """Return a batch, checked, as a data set, and the options of its update."""
        name = f"of batch {self.history.steps + 1}"
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            msg = (
                f"a batch must be a tuple (x, t) or (x, t, sample_weight), and that {name} "
                f"is of type {type(batch).__name__}"
                + (f" and of length {len(batch)}" if isinstance(batch, tuple | list) else "")
            )
            raise TypeError(msg)
        data = dataset_for(self.net, batch[0], batch[1], f"x {name}", f"t {name}")
        if self.history.steps < LOOKED_AT:
            refuse_several_labels(self.net, data, f"t {name}")
        options = dict(self.options)
        if len(batch) == 3:  # noqa: PLR2004 - with weights
            options["weights"] = weights_for(self.net, batch[2], data.size)
        self.plan.batch = max(self.plan.batch, data.size)
        return data, options

    def is_epoch_end(self) -> bool:
        """Return whether a pass has ended."""
        return self.is_whole

    def _finish_if_due(self) -> bool:
        return False

    def _end(self) -> None:
        # Where it would go on is not known.
        pass
