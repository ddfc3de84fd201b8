"""Single calls of a net on a batch, and the preparation of data."""

from collections.abc import Callable
from typing import Any

import numpy as np

import accelnn
from accelnn.bench._case import Case
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Calls, contestant
from accelnn.bench.contestants.data import load
from accelnn.bench.contestants.training import initial, net_of

__all__ = ["Door", "Prepared"]


class Door(Calls):
    """A call on as many samples as a batch has; the case says which."""

    def pose(self) -> None:
        data = load(self.case)
        rows = np.arange(self.case.batch) % len(data.x)
        self.x, self.t = data.x[rows], data.t[rows]
        self.layers = initial(self.case)

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation from float64."""
        layers = [layer.astype(np.float64) for layer in self.layers]
        exact = _by_hand(self.case, layers, self.x.astype(np.float64), self.t)()
        found = self.found.values() if isinstance(self.found, dict) else self.found
        if self.case.do != "gradient":
            found, exact = [found], [exact]
        apart = [float(np.abs(a - b).max()) for a, b in zip(found, exact, strict=True)]
        return {"deviation": max(apart)}


@contestant("accelnn numpy", "predict", "doors", kind=Door, backend="numpy")
@contestant("accelnn numba", "predict", "doors", kind=Door, backend="numba")
def ours(door: Door, backend: str) -> Callable[[], Any]:
    """Return `net.gradient`, `net.loss` or `net.predict`."""
    net, x, t = net_of(door.case, backend), door.x, door.t
    if door.case.do == "predict":
        return lambda: net.predict(x)
    method = getattr(net, door.case.do)
    return lambda: method(x, t)


@contestant("NumPy by hand", "doors", kind=Door)
@contestant("NumPy products", "predict", kind=Door)
def by_hand(door: Door) -> Callable[[], Any]:
    """Return a product and an activation for each layer, in plain NumPy."""
    return _by_hand(door.case, door.layers, door.x, door.t)


def _by_hand(case: Case, layers: plain.Layers, x: np.ndarray, t: np.ndarray) -> Callable[[], Any]:
    if case.do == "predict":
        return lambda: plain.softmax(plain.forward(layers, x, case.activation)[-1])
    function: Any = plain.backprop if case.do == "gradient" else plain.loss
    return lambda: function(layers, x, t, case.activation)


class Prepared(Calls):
    """A preparation of the training data."""

    def facts(self) -> dict[str, Any]:
        """Return the number of samples."""
        return {"samples": self.found.size}


@contestant("accelnn numpy", "prepare", kind=Prepared, backend="numpy")
@contestant("accelnn numba", "prepare", kind=Prepared, backend="numba")
def prepare(problem: Prepared, backend: str) -> Callable[[], Any]:
    """Return `accelnn.prepare`."""
    x, t, *_ = load(problem.case)
    return lambda: accelnn.prepare(x, t, backend=backend, dtype=problem.case.dtype)
