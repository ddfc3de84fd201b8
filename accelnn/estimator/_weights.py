"""Weights of samples, from those that are passed and those of classes."""

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

__all__ = ["checked_weights", "mean_one"]


def checked_weights(
    sample_weight: Any, X: Any, class_weight: Any = None, y: Any = None
) -> np.ndarray | None:
    """Return the weight of each sample, or None where all count the same."""
    if sample_weight is None and class_weight is None:
        return None
    weights: np.ndarray = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if class_weight is not None:
        weights = weights * compute_sample_weight(class_weight, y)
    return weights


def mean_one(weights: np.ndarray | None, train: np.ndarray) -> np.ndarray | None:
    """Return the weights of the samples to train on, scaled to a mean of 1."""
    if weights is None:
        return None
    chosen: np.ndarray = weights[train]
    # Scaled first by the largest, so that neither the sum nor the quotient overflows.
    largest = chosen.max()
    if largest == 0.0:
        msg = "all weights of the samples to train on are zero: at least one must be positive"
        raise ValueError(msg)
    chosen /= largest
    chosen /= chosen.mean()
    return chosen
