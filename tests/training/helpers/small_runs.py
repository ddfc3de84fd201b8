"""Small runs whose ends a test compares with those of others."""

import numpy as np

import accelnn

__all__ = ["BATCH", "PER_EPOCH", "N", "data", "new_net", "options"]

N, BATCH, PER_EPOCH = 23, 5, 5


def data(n=N):
    draw = np.random.default_rng(8)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def new_net(backend, dtype="float64", seed=0, **given):
    return accelnn.MLP([4, 6, 3], dtype=dtype, rng=seed, backend=backend, **given)


def options(**changes):
    return {"batch_size": BATCH, "optimizer": accelnn.Momentum(0.1), **changes}
