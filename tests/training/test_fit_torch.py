"""Whole runs against torch: each rule with decay, clipping, weights, smoothing and a schedule."""

import numpy as np
import pytest

import accelnn
from accelnn.testing._reference import batches
from accelnn.testing._rounding import assert_equal_but_for_rounding

torch = pytest.importorskip("torch", reason="torch is not installed")

N, BATCH, UPDATES, PEAK = 37, 8, 30, 0.01
# Ours, and torch's of the same formula.
RULES = {
    "SGD": torch.optim.SGD,
    "Momentum": lambda p, **o: torch.optim.SGD(p, momentum=0.9, **o),
    "Nesterov": lambda p, **o: torch.optim.SGD(p, momentum=0.9, nesterov=True, **o),
    "AdaGrad": torch.optim.Adagrad,
    "RMSprop": torch.optim.RMSprop,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}
OPTIONS = {
    "decay": {"decay": 0.1},
    "clip": {"clip": 0.2},
    "weights": {"weights": True},
    "smoothing": {"smoothing": 0.2},
    "schedule": {"schedule": True},
    "all": {"decay": 0.1, "clip": 0.2, "weights": True, "smoothing": 0.2, "schedule": True},
}
# The largest difference of any number of a run. How rounding errors grow decides by how much they
# may differ; rules that divide by a root of squares let them grow most.
MOST = 2e-13


def data():
    draw = np.random.default_rng(8)
    return draw.normal(size=(N, 5)), draw.integers(0, 3, N), draw.uniform(0.0, 2.0, N)


def ours(rule, backend, decay=0.0, clip=None, weights=None, smoothing=0.0, schedule=None):
    x, t, w = data()
    net = accelnn.MLP(
        [5, 7, 6, 3],
        activation="tanh",
        label_smoothing=smoothing,
        dtype="float64",
        rng=0,
        backend=backend,
    )
    start = [value.copy() for value in net.params.values()]
    rate = accelnn.schedules.one_cycle(PEAK, UPDATES) if schedule else PEAK
    optimizer = getattr(accelnn, rule)(rate, weight_decay=decay, decay_biases=True)
    history = accelnn.fit(
        net,
        x,
        t,
        optimizer=optimizer,
        batch_size=BATCH,
        iters=UPDATES,
        rng=1,
        clip_norm=clip,
        sample_weight=w if weights else None,
    )
    return start, [np.array(history.loss), *net.params.values()]


def theirs(rule, start, move, decay=0.0, clip=None, weights=None, smoothing=0.0, schedule=None):
    params = [torch.tensor(move(p), requires_grad=True) for p in start]
    optimizer = RULES[rule](params, lr=PEAK, weight_decay=decay)
    rates = None
    if schedule:
        rates = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, PEAK, total_steps=UPDATES, cycle_momentum=False
        )
    x, t, w = data()
    x, t, w = torch.tensor(move(x)), torch.tensor(t), torch.tensor(move(w))
    losses = []
    for index in batches(N, BATCH, UPDATES, seed=1):
        optimizer.zero_grad()
        a = x[index]
        for i in range(0, 6, 2):
            a = a @ params[i] + params[i + 1]
            a = a if i == 4 else torch.tanh(a)
        each = torch.nn.functional.cross_entropy(
            a, t[index], label_smoothing=smoothing, reduction="none"
        )
        loss = (each * w[index] if weights else each).mean()
        loss.backward()
        losses.append(loss.item())
        if clip:
            torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        if rates:
            rates.step()
    return [np.array(losses), *(p.detach().numpy() for p in params)]


@pytest.mark.parametrize("backend", ["numpy", "numba", "numba:1"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rule", RULES)
def test_a_run_is_that_of_torch(rule, options, backend):
    given = OPTIONS[options]
    start, found = ours(rule, backend, **given)
    assert_equal_but_for_rounding(found, lambda move: theirs(rule, start, move, **given))
    exact = theirs(rule, start, lambda value: value, **given)
    assert max(np.abs(a - b).max() for a, b in zip(found, exact, strict=True)) < MOST
