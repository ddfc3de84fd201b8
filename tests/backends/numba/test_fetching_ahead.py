"""Calls that follow each other fetch each other's samples, which changes no bit of what they do."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import accelnn
from accelnn.backends import TrainingState

ROWS, INPUTS = 60, 32
DRAW = np.random.default_rng(5)
DENSE = DRAW.normal(size=(ROWS, INPUTS))
FEW = np.where(DRAW.random((ROWS, INPUTS)) < 0.1, DENSE, 0.0)
SAMPLES = {"dense": DENSE, "zeros": FEW, "bytes": np.round(np.abs(FEW) * 50), "sparse": FEW}


def trained(backend, way, batch, following):
    """Train by calls of two batches each; return parameters and losses."""
    x = csr_array(SAMPLES[way]) if way == "sparse" else SAMPLES[way]
    net = accelnn.MLP([INPUTS, 9, 3], rng=0, backend=backend)
    data = accelnn.prepare(x, np.arange(ROWS) % 3, backend=backend)
    state = TrainingState(net.flat, accelnn.Momentum(0.1), "analytic", net.backend)
    order, losses = np.random.default_rng(6).permutation(ROWS), []
    for start in range(0, ROWS, 2 * batch):
        state.following = following(order[start + 2 * batch :], batch)
        losses.extend(net.engine.train(state, data, order[start : start + 2 * batch], batch))
        assert state.following is None
    return net.flat, losses


@pytest.mark.parametrize("batch", [1, 7, 30, 50])
@pytest.mark.parametrize("way", SAMPLES)
def test_what_follows_is_only_fetched(compiled, way, batch):
    params, losses = trained(compiled, way, batch, lambda _rest, _batch: None)
    assert len(losses) == -(-ROWS // batch)
    guesses = {
        "what comes": lambda rest, batch: rest[: 2 * batch],
        "less": lambda rest, _: rest[:1],
        "more": lambda rest, _: np.concatenate((rest, np.arange(ROWS))),
        "something else": lambda _rest, batch: np.full(batch, ROWS - 1),
        "nothing": lambda rest, _: rest[:0],
    }
    for guess in guesses.values():
        others, again = trained(compiled, way, batch, guess)
        np.testing.assert_array_equal(others, params)
        assert again == losses
