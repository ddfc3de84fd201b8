"""What `fit` refuses, because it would be ignored or could not be meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accelnn.backends import Dataset, Optimizer
from accelnn.formulas._rule import UpdateRule
from accelnn.nets import Net
from accelnn.nets._overridden import refuse_overridden
from accelnn.training._checkpoint import PathLike
from accelnn.training._hints import some_rows
from accelnn.training._streams import StreamedDataset

__all__ = [
    "refuse_own_methods",
    "refuse_several_labels",
    "refuse_shared_file",
    "refuse_vanishing_eps",
]

BY_LOOP = (
    "train it by a loop of optimizer.update(net.params, net.gradient(x, t), state), or pass a loss "
    "of your own as loss=accelnn.Loss(...)"
)
RENAMED = "give it another name"
# Rows of targets that are looked at together.
ROWS = 1 << 14


def refuse_own_methods(net: Net, gradient: str, *, validated: bool) -> None:
    """Raise TypeError if a subclass overrides what the engine would compute in its place."""
    instead = {"loss": BY_LOOP, "gradient": BY_LOOP, "predict": RENAMED}
    if gradient == "numerical":
        instead["numerical_gradient"] = BY_LOOP
    if validated:
        instead["accuracy"] = f"{RENAMED}, or leave validation out and call it in a callback"
    refuse_overridden(net, Net, "fit", instead)


def refuse_vanishing_eps(optimizer: Optimizer, dtype: str) -> None:
    """Raise ValueError if the rule's eps is 0 in the dtype of the net."""
    eps = getattr(optimizer, "eps", None)
    if isinstance(optimizer, UpdateRule) and isinstance(eps, float):
        least = float(np.finfo(dtype).smallest_subnormal)
        if eps < least:
            msg = f"eps={eps!r} of {type(optimizer).__name__} is 0 in {dtype}; take a larger one"
            raise ValueError(msg)


def refuse_several_labels(net: Net, data: Dataset | None, name: str) -> None:
    """Raise ValueError if a softmax is to be trained on several labels to a sample.

    The loss would be finite and its gradient right, but the best that a softmax can do with two
    labels is to call each half likely. Counts and shares have more than ones and zeros in them.
    """
    # A loss of one's own may make of the scores what it likes.
    if data is None or net.spec.loss.name != "cross_entropy" or len(data.t.shape) == 1:
        return
    # All rows are looked at only if some of them look like it.
    most = _most_labels(data, some_rows(data.size, net.spec.sizes[-1]))
    if most < 2:  # noqa: PLR2004 - several
        return
    for start in range(0, data.size, ROWS):
        found = _most_labels(data, np.arange(start, min(start + ROWS, data.size)))
        if not found:
            return
        most = max(most, found)
    msg = (
        f"{name} has up to {most} ones in a row, as tables of several labels have, and a softmax "
        f"is of one class to a sample: for several labels take loss='binary_cross_entropy'; if "
        f"shares of the classes are meant, pass t / np.maximum(t.sum(axis=1, keepdims=True), 1)"
    )
    raise ValueError(msg)


def _most_labels(data: Dataset, rows: np.ndarray) -> int:
    """Return the most ones in one of the rows, or 0 if there are other numbers than 0 and 1."""
    if isinstance(data, StreamedDataset):
        t = np.asarray(data.t[np.unique(rows)])
    else:
        backend = data.backend
        t = backend.to_numpy(backend.xp.take(data.t, backend.asarray(rows), axis=0))
    ones = t == 1.0
    return int(ones.sum(axis=1).max()) if (ones | (t == 0.0)).all() else 0


def refuse_shared_file(checkpoint: PathLike | None, callbacks: Sequence[object]) -> None:
    """Raise ValueError if two of what writes files in a run were to write the same one."""
    files = [] if checkpoint is None else [("checkpoint=", checkpoint)]
    for callback in callbacks:
        path = getattr(callback, "writes", None)
        # Of a user's callback it may be anything.
        if isinstance(path, str | os.PathLike):
            files.append((type(callback).__name__, path))
    writers: dict[Path, str] = {}
    for name, path in files:
        place = Path(path).resolve()
        if place in writers:
            msg = (
                f"{writers[place]} and {name} would both write {os.fspath(path)!r}: give each its "
                f"own file"
            )
            raise ValueError(msg)
        writers[place] = name
