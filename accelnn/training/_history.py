"""The record of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelnn.training._resume import Ending

__all__ = ["History"]


@dataclass
class History:
    """The curves of a training run.

    Attributes
    ----------
    loss : list of float
        ``loss[i]`` is the loss of batch i before its update.
    batches_per_epoch : int
        Number of batches in one pass over the data.
    evaluated_at : list of int
        Numbers of updates done when the lists below got a value: 0, every epoch's end, and the end
        of a last partial epoch. Empty without ``validation``.
    train_accuracy, test_accuracy : list of float
        On the training data and on ``validation``; empty for a loss that does not classify.
    train_loss, test_loss : list of float
        Mean loss over the whole training data and over ``validation``.
    ending : Ending or None
        The state in which the run ended, for ``fit(..., resume=history)``: that of the optimiser
        and of the generator that draws the batches.
    """

    batches_per_epoch: int
    loss: list[float] = field(default_factory=list)
    evaluated_at: list[int] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    ending: Ending | None = field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> int:
        """Number of updates done."""
        return len(self.loss)

    @property
    def epochs(self) -> float:
        """Passes over the data done, a partial one as a fraction."""
        return self.steps / self.batches_per_epoch

    def __repr__(self) -> str:
        last = f", last loss {self.loss[-1]:.4g}" if self.loss else ""
        accuracy = f", test accuracy {self.test_accuracy[-1]:.4f}" if self.test_accuracy else ""
        return f"<History of {self.steps:,} steps, {self.epochs:.4g} epochs{last}{accuracy}>"
