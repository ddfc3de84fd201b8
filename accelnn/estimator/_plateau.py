"""The loss of each epoch, and when it no longer falls."""

import numpy as np

from accelnn.nets import Net
from accelnn.training import History

__all__ = ["Plateau"]


class Plateau:
    """A callback that stops a run whose training loss no longer falls.

    Parameters
    ----------
    patience : float
        The run stops after so many epochs in a row without improvement.
    tol : float
        An improvement is a loss that is lower than the best one by more than this.
    samples, batch : int
        Samples in the data set and in a batch, of which the last may be short.

    Attributes
    ----------
    curve : list of float
        The mean loss of each epoch's samples, each before the update of its batch.
    stopped : bool
        Whether this object stopped the run.
    """

    def __init__(self, patience: float, tol: float, samples: int, batch: int) -> None:
        self.patience, self.tol = patience, tol
        self.curve: list[float] = []
        self.stopped = False
        self._sizes = np.diff(np.append(np.arange(0, samples, batch), samples))
        self._samples = samples
        self._best, self._waited = np.inf, 0

    def __call__(self, net: Net, history: History) -> bool:  # noqa: ARG002 - as callbacks are
        """Return whether to stop."""
        losses = history.loss[-history.batches_per_epoch :]
        loss = float(np.multiply(losses, self._sizes).sum() / self._samples)
        self.curve.append(loss)
        self._waited = 0 if loss < self._best - self.tol else self._waited + 1
        self._best = min(loss, self._best)
        self.stopped = self._waited >= self.patience
        return self.stopped
