"""The data sets, optimisers and state that engines train with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from accelnn._typing import Array
from accelnn.formulas._rule import UpdateRule

if TYPE_CHECKING:
    from accelnn.backends._base import Backend

__all__ = ["LONG", "Dataset", "Extras", "Optimizer", "OwnOptimizer", "TrainingState"]

# Samples times parameters of a call from which it may be interrupted: some tenths of a second, if
# all are multiplied.
LONG = 5_000_000_000


class OwnOptimizer(Protocol):
    """A user-defined optimiser: a frozen configuration that updates a flat parameter buffer."""

    @property
    def slots(self) -> int:
        """Number of state buffers."""

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:
        """Apply update number `step`, counted from 1, in place."""


Optimizer: TypeAlias = UpdateRule | OwnOptimizer


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and targets on an engine's device and in its layout.

    Attributes
    ----------
    x : array of shape (n, inputs)
        Samples in `dtype`.
    t : array
        Integer class labels of shape (n,), or targets of shape (n, outputs) in `dtype`.
    backend : Backend
        The backend of the arrays.
    dtype : str
        The dtype of the nets that can train on them.
    """

    x: Array
    t: Array
    backend: Backend
    dtype: str

    @property
    def size(self) -> int:
        """Number of samples."""
        return int(self.x.shape[0])

    @property
    def inputs(self) -> int:
        """Number of features per sample."""
        return int(self.x.shape[1])

    @property
    def rows_at_once(self) -> int:
        """How many samples are to be read at a time, so that memory is bounded."""
        return self.size

    def take(self, index: Array) -> tuple[Array, Array]:
        """Return the samples and the targets of these rows."""
        xp = self.backend.xp
        return xp.take(self.x, index, axis=0), xp.take(self.t, index, axis=0)

    def with_targets(self, t: Array) -> Dataset:
        """Return a data set of the same samples, which are shared, with other targets."""
        return replace(self, t=t)

    def piece(self, rows: slice) -> tuple[Array, Array]:
        """Return the samples and the targets of consecutive rows."""
        return self.x[rows, ...], self.t[rows, ...]


@dataclass(eq=False)
class TrainingState:
    """The mutable state of a training run.

    Attributes
    ----------
    params : array of shape (size,)
        The net's own flat buffer.
    optimizer : Optimizer
        Computes the updates.
    gradient : {"analytic", "numerical"}
        Backpropagation, or structured central differences.
    step : int
        Updates done so far.
    meanwhile : callable, optional
        Host work that an engine may do while it waits for the device.
    listening : callable
        Returns a block in which nothing is changed, so that it may be interrupted.
    following : array of int, optional
        Rows of the data set with which the call after the next one is likely to begin. The next one
        may fetch them while it computes; nothing else depends on them.
    """

    params: Array
    optimizer: Optimizer
    gradient: str
    backend: Backend
    step: int = 0
    meanwhile: Callable[[], None] | None = None
    listening: Callable[[], AbstractContextManager[None]] = nullcontext
    following: np.ndarray | None = None
    grads: Array = field(init=False)
    # What an engine keeps from one batch to the next: passes; memory of kernels; a batch's samples
    # and targets; and pieces of parameters, gradients and state, with scratch memory for their
    # updates.
    kept: tuple[Any, list[Any]] | None = field(init=False, repr=False, default=None)
    workspace: Any = field(init=False, repr=False, default=None)
    batch: tuple[Dataset, int, Array | None, Array | None] | None = field(
        init=False, repr=False, default=None
    )
    parts: list[Array] = field(init=False, repr=False, default_factory=list)
    pieces: list[tuple[slice, Array, Array, list[Array]]] = field(
        init=False, repr=False, default_factory=list
    )
    scratch: Array | None = field(init=False, repr=False, default=None)
    slots: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        size, dtype = self.params.shape[0], self.params.dtype
        self.grads = self.backend.zeros(size, dtype)
        buffer = self.backend.zeros((self.optimizer.slots, size), dtype)
        self.slots = [buffer[i, ...] for i in range(self.optimizer.slots)]

    def scheduled_rates(self, updates: int) -> np.ndarray | None:
        """Return the learning rates of the next updates, or None if `lr` is not a schedule."""
        rule = self.optimizer
        is_scheduled = callable(getattr(rule, "lr", None))
        if is_scheduled and isinstance(rule, UpdateRule) and not rule.updates_itself:
            return rule.rates(self.step, updates)
        return None


class Extras(NamedTuple):
    """The sample weights and dropout masks of a batch.

    Attributes
    ----------
    weights : array of shape (n,) or None
        The weight of each sample.
    masks : tuple of arrays of shape (n, units)
        The dropout mask of each hidden layer; empty without dropout.
    """

    weights: Array | None = None
    masks: tuple[Array, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there are neither weights nor masks."""
        return self.weights is None and not self.masks
