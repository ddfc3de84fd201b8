"""Integers that are too large for a float or a count are refused in one line, which names them."""

import sys

import numpy as np
import pytest

import accelnn
from accelnn import callbacks, schedules
from accelnn.formulas._table import RULES

# More than any float, and any that a machine counts to.
HUGE = 10**400
X, T = np.ones((6, 4)), np.arange(6) % 2


def fit(**options):
    net = accelnn.MLP([4, 3, 2], rng=0)
    return accelnn.fit(net, X, T, **({"epochs": 1} if "iters" not in options else {}) | options)


def squares(x):
    return np.sum(x**2)


CALLS = {
    "lr": [
        *RULES.values(),
        lambda lr: accelnn.gradient_descent(squares, np.ones(2), lr=lr),
    ],
    "weight_decay": [lambda n: accelnn.SGD(weight_decay=n)],
    "momentum": [lambda n: accelnn.Momentum(momentum=n)],
    "eps": [lambda n: accelnn.Adam(eps=n)],
    r"betas\[1\]": [lambda n: accelnn.Adam(betas=(0.9, n))],
    r"lr\(0\)": [lambda n: fit(optimizer=accelnn.SGD(lambda _: n))],
    "start": [lambda n: schedules.cosine(n, 10), lambda n: schedules.exponential(n, 0.5)],
    "factor": [lambda n: schedules.step(0.1, 2, n)],
    "every": [lambda n: schedules.step(0.1, n, 0.5)],
    "total_steps": [
        lambda n: schedules.cosine(0.1, n),
        lambda n: schedules.one_cycle(0.1, n),
    ],
    "steps": [lambda n: schedules.warm_up(n, 0.1)],
    "then": [lambda n: schedules.warm_up(3, n)],
    "patience": [callbacks.EarlyStopping],
    "min_delta": [lambda n: callbacks.EarlyStopping(min_delta=n)],
    "dropout": [lambda n: accelnn.MLP([4, 3, 2], dropout=n)],
    "label_smoothing": [lambda n: accelnn.MLP([4, 3, 2], label_smoothing=n)],
    "init": [lambda n: accelnn.MLP([4, 3, 2], init=n)],
    r"sizes\[1\]": [lambda n: accelnn.MLP([4, n, 2])],
    "negative_slope": [accelnn.LeakyReLU],
    "alpha": [accelnn.ELU],
    "threshold": [accelnn.Huber],
    "batch_size": [lambda n: fit(batch_size=n)],
    "epochs": [lambda n: fit(epochs=n)],
    "iters": [lambda n: fit(iters=n)],
    "clip_norm": [lambda n: fit(clip_norm=n)],
    "checkpoint_every": [lambda n: fit(checkpoint="unwritten", checkpoint_every=n)],
    "chunk_size": [lambda n: accelnn.numerical_gradient(squares, np.ones(2), chunk_size=n)],
    "step": [
        lambda n: accelnn.numerical_gradient(squares, np.ones(2), step=n),
        lambda n: accelnn.numerical_hessian(squares, np.ones(2), step=n),
        lambda n: accelnn.check_gradient(squares, lambda x: 2 * x, np.ones(2), step=n),
        lambda n: accelnn.gradient_descent(squares, np.ones(2), step=n),
    ],
    "rel_step": [lambda n: accelnn.numerical_jacobian(squares, np.ones(2), rel_step=n)],
    "rtol": [lambda n: accelnn.check_gradient(squares, lambda x: 2 * x, np.ones(2), rtol=n)],
    "atol": [lambda n: accelnn.check_gradient(squares, lambda x: 2 * x, np.ones(2), atol=n)],
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("huge", [HUGE, -HUGE], ids=["positive", "negative"])
def test_a_huge_integer_is_refused_in_one_line(name, huge):
    for call in CALLS[name]:
        with pytest.raises(ValueError, match=rf"^{name} must be ") as raised:
            call(huge)
        told = str(raised.value)
        assert "\n" not in told
        assert len(told) < 600


def test_what_a_float_holds_is_taken():
    assert accelnn.SGD(10**20).lr == 1e20
    assert callbacks.EarlyStopping(sys.maxsize).patience == sys.maxsize
    assert schedules.one_cycle(0.1, sys.maxsize)(0) == pytest.approx(0.004)
    assert fit(batch_size=sys.maxsize).steps == 1
    for step in (10**20, np.float64(1e20)):
        found = accelnn.numerical_gradient(lambda x: np.sum(3.0 * x), np.ones(2), step=step)
        np.testing.assert_allclose(found, 3.0)


def test_a_descent_may_be_asked_for_more_steps_than_memory_holds():
    with pytest.warns(accelnn.errors.DivergenceWarning, match="after update 0 of 1000"):
        found = accelnn.gradient_descent(
            squares, np.ones(1), step_num=10**20, grad=lambda x: np.nan * x, full_output=True
        )
    assert found.diverged
    assert len(found.trajectory) == 1
