"""Early stopping by samples that do not count alike."""

from typing import Any

import numpy as np

from accelnn.callbacks import EarlyStopping
from accelnn.nets import Net

__all__ = ["WeightedStop"]


class WeightedStop(EarlyStopping):
    """Early stopping by the mean loss of samples with weights, the loss that training lowers.

    By the loss without them, a net that gives its due to a rare class may never be better than it
    was before it had learnt anything.

    Parameters
    ----------
    patience : int
        As of `accelnn.callbacks.EarlyStopping`.
    min_delta : float
        As there.
    x, t : array_like
        The samples set aside, as for `Net.loss`.
    weights : numpy.ndarray of shape (n,)
        Theirs, with a mean of 1.

    Attributes
    ----------
    losses : list of float
        One for each evaluation, that of the start included.
    """

    def __init__(
        self, patience: int, min_delta: float, x: Any, t: np.ndarray, weights: np.ndarray
    ) -> None:
        super().__init__(patience, min_delta=min_delta)
        self.losses: list[float] = []
        self._samples = x, t, weights

    def _curve(self, net: Net) -> list[float]:
        evaluations = super()._curve(net)
        if len(self.losses) < len(evaluations):
            with net.backend.current():
                # Sparse rows are taken as they are.
                x, t, weights = (
                    net.backend.asarray(part) if isinstance(part, np.ndarray) else part
                    for part in self._samples
                )
                self.losses.append(float(net.loss(x, t, sample_weight=weights)))
        return self.losses
