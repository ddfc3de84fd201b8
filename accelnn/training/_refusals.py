"""What `fit` refuses, because it would be ignored or could not be meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accelnn.backends import Optimizer
from accelnn.formulas._rule import UpdateRule
from accelnn.nets import Net
from accelnn.nets._overridden import refuse_overridden
from accelnn.training._checkpoint import PathLike

__all__ = ["refuse_own_methods", "refuse_shared_file", "refuse_vanishing_eps"]

BY_LOOP = (
    "train it by a loop of optimizer.update(net.params, net.gradient(x, t), state), or pass a loss "
    "of your own as loss=accelnn.Loss(...)"
)
RENAMED = "give it another name"


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
