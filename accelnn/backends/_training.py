"""What an engine trains with: samples, a rule, and the state of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from accelnn._typing import Array
from accelnn.formulas._rule import UpdateRule

if TYPE_CHECKING:
    from accelnn.backends._base import Backend

__all__ = ["Dataset", "Extras", "Optimizer", "OwnOptimizer", "TrainingState"]


class OwnOptimizer(Protocol):
    """A frozen configuration of a user's own that updates a flat parameter buffer."""

    @property
    def slots(self) -> int:
        """Number of state buffers."""

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:
        """Apply step number `step` (from 1) in place."""


Optimizer: TypeAlias = UpdateRule | OwnOptimizer


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and targets where and how an engine wants them.

    Attributes
    ----------
    x : array of shape (n, inputs)
        Samples in `dtype`.
    t : array
        Integer class labels of shape (n,), or targets of shape (n, outputs) in `dtype`.
    backend : Backend
        Where they are.
    dtype : str
        The dtype of the nets that can use them.
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
        """Number of inputs per sample."""
        return int(self.x.shape[1])

    def take(self, index: Array) -> tuple[Array, Array]:
        """Return the samples and the targets of these rows."""
        xp = self.backend.xp
        return xp.take(self.x, index, axis=0), xp.take(self.t, index, axis=0)

    def piece(self, rows: slice) -> tuple[Array, Array]:
        """Return the samples and the targets of consecutive rows."""
        return self.x[rows, ...], self.t[rows, ...]


@dataclass(eq=False)
class TrainingState:
    """What a training run changes as it goes.

    Attributes
    ----------
    params : array of shape (size,)
        The net's own flat buffer.
    optimizer : Optimizer
        The rule of the updates.
    gradient : {"analytic", "numerical"}
        Backpropagation, or structured central differences.
    step : int
        Updates done so far.
    meanwhile : callable, optional
        What an engine may call while a device works and the host has nothing to do.
    """

    params: Array
    optimizer: Optimizer
    gradient: str
    backend: Backend
    step: int = 0
    meanwhile: Callable[[], None] | None = None
    grads: Array = field(init=False)
    slots: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        size, dtype = self.params.shape[0], self.params.dtype
        self.grads = self.backend.zeros(size, dtype)
        buffer = self.backend.zeros((self.optimizer.slots, size), dtype)
        self.slots = [buffer[i, ...] for i in range(self.optimizer.slots)]


class Extras(NamedTuple):
    """What a batch has besides samples and targets.

    Attributes
    ----------
    weights : array of shape (n,) or None
        What each sample's loss counts.
    masks : tuple of arrays of shape (n, units)
        What the outputs of each hidden layer are multiplied by; empty without dropout.
    """

    weights: Array | None = None
    masks: tuple[Array, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is none of it."""
        return self.weights is None and not self.masks
