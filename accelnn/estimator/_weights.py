"""Weights of samples, from those that are passed and those of classes."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

from accelnn._shown import shown

__all__ = ["checked_weights", "mean_one"]


def checked_weights(
    sample_weight: Any, X: Any, class_weight: Any = None, y: Any = None, classes: Any = ()
) -> np.ndarray | None:
    """Return the weight of each sample, or None where all count the same.

    `classes` are all that there are, some of which y may lack.
    """
    if sample_weight is None and class_weight is None:
        return None
    if class_weight is not None and not isinstance(class_weight, Mapping):
        # Of several labels, a list with a dict for each.
        if not isinstance(class_weight, list) and class_weight != "balanced":
            msg = (
                f"class_weight must be 'balanced', or a dict with the weights of classes, got "
                f"{shown(class_weight)}"
            )
            raise ValueError(msg)
    elif class_weight is not None:
        class_weight = _of_present(class_weight, y, classes)
    weights: np.ndarray = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if class_weight is not None:
        weights = weights * compute_sample_weight(class_weight, y)
    return weights


def _of_present(class_weight: Mapping[Any, float], y: np.ndarray, classes: Any) -> dict[Any, float]:
    """Return the weights of the classes in y; a part of the data may lack others."""
    for name, weight in class_weight.items():
        if not isinstance(weight, Real) or not 0.0 <= weight < np.inf:
            got = f"{shown(weight)} for {shown(name)}"
            msg = f"class_weight must be finite and not negative, got {got}"
            raise ValueError(msg)
    known = set(np.asarray(classes).tolist())
    others, left = [n for n in class_weight if n not in known], known.difference(class_weight)
    # Of a class that is not there, if all others have weights, the data may be a part.
    if others and left:
        msg = (
            f"class_weight names {shown(others[0])}, which is none of the {len(known)} classes, "
            f"and gives none to {shown(min(left, key=str))}"
        )
        raise ValueError(msg)
    present = set(np.unique(y).tolist()) if y.ndim == 1 else known
    return {name: weight for name, weight in class_weight.items() if name in present}


def mean_one(weights: np.ndarray, part: np.ndarray, what: str = "to train on") -> np.ndarray:
    """Return the weights of a part of the samples, scaled to a mean of 1."""
    chosen: np.ndarray = weights[part]
    # Scaled first by the largest, so that neither the sum nor the quotient overflows.
    largest = chosen.max()
    if largest == 0.0:
        msg = f"all weights of the samples {what} are zero: at least one must be positive"
        raise ValueError(msg)
    chosen /= largest
    chosen /= chosen.mean()
    return chosen
