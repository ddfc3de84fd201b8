"""Runs that a test begins, that fail, and that go on from the file they are kept in."""

import numpy as np
import pytest

import accelnn

__all__ = [
    "Falls",
    "FallsError",
    "N",
    "assert_same",
    "data",
    "fall",
    "go_on",
    "new_net",
    "options",
    "whole",
]

N, BATCH = 23, 5


def data(n=N):
    draw = np.random.default_rng(8)
    x = draw.normal(size=(n, 4))
    # Noisy, so that a net overfits.
    return x, (x[:, :3] + draw.normal(size=(n, 3))).argmax(1)


def new_net(backend="numpy", dtype="float64", seed=0, **given):
    return accelnn.MLP([4, 6, 3], dtype=dtype, rng=seed, backend=backend, **given)


def options(**changes):
    given = {"batch_size": BATCH, "optimizer": accelnn.Momentum(0.1), "rng": 1, "epochs": 4}
    return {**given, "validation": data(9), **changes}


class FallsError(Exception):
    pass


class Falls:
    """A callback that ends the run after some update."""

    every = 1

    def __init__(self, at):
        self.at = at

    def __call__(self, _net, history):
        if history.steps == self.at:
            raise FallsError


def fall(path, at, **given):
    """Begin a run that fails after some update."""
    backend, net = given.pop("backend", "numpy"), given.pop("net", {})
    callbacks = [*given.pop("callbacks", ()), Falls(at)]
    call = options(checkpoint=path, resume=path, callbacks=callbacks, **given)
    with pytest.raises(FallsError):
        accelnn.fit(new_net(backend, **net), *data(), **call)


def go_on(path, **given):
    net = new_net(given.pop("backend", "numpy"), **given.pop("net", {}))
    return net, accelnn.fit(net, *data(), **options(checkpoint=path, resume=path, **given))


def whole(**given):
    net = new_net(given.pop("backend", "numpy"), **given.pop("net", {}))
    return net, accelnn.fit(net, *data(), **options(**given))


def assert_same(found, expected):
    (net, history), (other, curves) = found, expected
    assert history == curves
    assert history.ending.updates == curves.ending.updates
    assert net.backend.to_numpy(net.flat).tobytes() == other.backend.to_numpy(other.flat).tobytes()
