"""Single calls of a net on a batch, and the preparation of data."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import accelnn
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Calls, contestant
from accelnn.bench.contestants.data import load
from accelnn.bench.contestants.training import initial, net_of

__all__ = ["Door", "Prepared"]


class Door(Calls):
    """A call on as many samples as a batch has, compared with float64; the case says which."""

    def pose(self) -> None:
        data = load(self.case)
        rows = np.arange(self.case.batch) % len(data.x)
        self.x, self.t = data.x[rows], data.t[rows]
        self.exact = self.by_hand(np.float64)()

    def by_hand(self, dtype: Any) -> Callable[[], Any]:
        """Return a product and an activation for each layer, in plain NumPy."""
        layers = [layer.astype(dtype) for layer in initial(self.case)]
        x, activation = self.x.astype(dtype), self.case.activation
        if self.case.do == "predict":
            return lambda: plain.softmax(plain.forward(layers, x, activation)[-1])
        function: Any = getattr(plain, self.case.do)
        return lambda: function(layers, x, self.t, activation)


@contestant("accelnn numpy", "predict", "doors", kind=Door, backend="numpy")
@contestant("accelnn numba", "predict", "doors", kind=Door, backend="numba")
def ours(door: Door, backend: str) -> Callable[[], Any]:
    """Return `net.gradient`, `net.loss` or `net.predict`."""
    method = getattr(net_of(door.case, backend), door.case.do)
    return partial(method, door.x) if door.case.do == "predict" else partial(method, door.x, door.t)


@contestant("NumPy by hand", "doors", kind=Door)
@contestant("NumPy products", "predict", kind=Door)
def by_hand(door: Door) -> Callable[[], Any]:
    """Return the same in plain NumPy."""
    return door.by_hand(door.case.dtype)


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
    return partial(accelnn.prepare, x, t, backend=backend, dtype=problem.case.dtype)
