"""Training with learning-rate schedules."""

import itertools
import math

import numpy as np
import pytest

import accelnn
from accelnn import schedules
from accelnn.backends import Engine, TrainingState
from accelnn.errors import DivergenceWarning
from accelnn.formulas._rule import UpdateRule
from accelnn.testing import assert_equal_but_for_rounding
from accelnn.testing._reference import COEFFICIENTS, ReferenceNet, batches, reference_update

SIZES, N, BATCH, PER_EPOCH = (6, 5, 3), 43, 5, 9
UPDATES = 3 * PER_EPOCH
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "numba"])


def harmonic(k):
    return 0.2 / (k + 1)


# Each with the rate of update k by its formula.
ALL = {
    "step": (schedules.step(0.2, 4, 0.7), lambda k: 0.2 * 0.7 ** math.floor(k / 4)),
    "exponential": (schedules.exponential(0.2, 0.9), lambda k: 0.2 * 0.9**k),
    # It is over before the run is.
    "cosine": (
        schedules.cosine(0.2, 20),
        lambda k: 0.2 * math.cos(math.pi * k / 40) ** 2 if k < 20 else 0.0,
    ),
    "one_cycle": (
        schedules.one_cycle(0.2, 20),
        lambda k: (
            0.104 - 0.096 * math.cos(math.pi * k / 5)
            if k < 5
            else 8e-7 + (0.1 - 4e-7) * (1 + math.cos(math.pi * (min(k, 19) - 5) / 14))
        ),
    ),
    "warm_up": (
        schedules.warm_up(3, harmonic),
        lambda k: 0.05 * (k + 1) if k < 3 else 0.2 / (k - 2),
    ),
    "function": (harmonic, lambda k: 0.2 / (1 + k)),
}
EACH = pytest.mark.parametrize("name", ALL)


def data():
    draw = np.random.default_rng(8)
    labels = draw.integers(0, 3, N)
    return draw.normal(size=(3, 6))[labels] * 2 + draw.normal(size=(N, 6)), labels


def new_net(backend="numpy", **options):
    return accelnn.MLP(SIZES, **{"rng": 5, "dtype": "float64", "backend": backend, **options})


def run(rule, backend="numpy", **options):
    net = new_net(backend)
    options = {"batch_size": BATCH, "epochs": 3, "rng": 1, **options}
    return net, accelnn.fit(net, *data(), optimizer=rule, **options)


@BACKENDS
@EACH
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_a_loop_by_hand(optimizer, name, backend):
    schedule, formula = ALL[name]
    start = {key: value.copy() for key, value in new_net().params.items()}
    net, history = run(getattr(accelnn, optimizer)(schedule), backend)

    def by_hand(move):
        x, labels = data()
        net, targets = ReferenceNet(start, "sigmoid", "cross_entropy"), np.eye(3)[labels]
        net.params = {key: move(value) for key, value in net.params.items()}
        x, numbers, rates = move(x), move(COEFFICIENTS), move([formula(k) for k in range(UPDATES)])
        losses, state = [], {}
        for k, index in enumerate(batches(N, BATCH, UPDATES, seed=1)):
            losses.append(net.loss(x[index], targets[index]))
            grads = net.gradient(x[index], targets[index])
            now = (rates[k], *numbers[1:])
            reference_update(optimizer, net.params, grads, state, k + 1, now)
        return [np.array(losses), np.concatenate([p.ravel() for p in net.params.values()])]

    assert_equal_but_for_rounding([np.array(history.loss), net.flat], by_hand)


@BACKENDS
@EACH
@pytest.mark.parametrize("optimizer", ["Momentum", "Adam"])
def test_torch(optimizer, name, backend):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    made = {
        "step": lambda s, o: s.StepLR(o, 4, 0.7),
        "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
        # It would rise again where ours stays 0.
        "cosine": lambda s, o: s.CosineAnnealingLR(o, 20),
        "one_cycle": lambda s, o: s.OneCycleLR(o, 0.2, total_steps=20, cycle_momentum=False),
        "warm_up": lambda s, o: s.LambdaLR(o, lambda k: ALL["warm_up"][1](k) / 0.2),
        "function": lambda s, o: s.LambdaLR(o, lambda k: harmonic(k) / 0.2),
    }[name]
    updates = 20
    start = {key: value.copy() for key, value in new_net().params.items()}
    ours = getattr(accelnn, optimizer)(ALL[name][0])
    net, history = run(ours, backend, epochs=None, iters=updates)

    def by_torch(move):
        theirs = {k: torch.tensor(move(v), requires_grad=True) for k, v in start.items()}
        if optimizer == "Adam":
            rule = torch.optim.Adam(theirs.values(), lr=0.2)
        else:
            rule = torch.optim.SGD(theirs.values(), lr=0.2, momentum=0.9)
        scheduler, losses = made(torch.optim.lr_scheduler, rule), []
        x, labels = data()
        x, t = torch.tensor(move(x)), torch.tensor(labels)
        for index in batches(N, BATCH, updates, seed=1):
            rule.zero_grad()
            hidden = torch.sigmoid(x[index] @ theirs["W1"] + theirs["b1"])
            scores = hidden @ theirs["W2"] + theirs["b2"]
            loss = torch.nn.functional.cross_entropy(scores, t[index])
            loss.backward()
            losses.append(loss.item())
            rule.step()
            scheduler.step()
        return [np.array(losses), *(p.detach().numpy() for p in theirs.values())]

    assert_equal_but_for_rounding([np.array(history.loss), *net.params.values()], by_torch)


@BACKENDS
@EACH
def test_calls_of_any_length_compute_the_same_bits(name, backend):
    rule, found = accelnn.Adam(ALL[name][0]), []

    def nothing(_net, _history):
        """Only splits the run into calls."""

    nothing.every = 7
    for options in ({}, {"callbacks": [nothing]}, {"progress": True}):
        net, history = run(rule, backend, **options)
        found.append((history.loss, net.flat.tobytes()))
    # And an engine that is told no rates.
    net = new_net(backend)
    prepared = accelnn.prepare(*data(), backend=backend, dtype="float64")
    state = TrainingState(net.flat, rule, "analytic", net.backend)
    order = np.concatenate(list(batches(N, BATCH, PER_EPOCH, seed=1)))
    losses = net.engine.train(state, prepared, order[: 4 * BATCH], BATCH)
    losses = [*losses, *net.engine.train(state, prepared, order[4 * BATCH :], BATCH)]
    assert losses == found[0][0][:PER_EPOCH]
    assert found[0] == found[1] == found[2]


@EACH
def test_loops_of_ones_own(name):
    """They are those with each update's rate as a number."""
    schedule, (x, t) = ALL[name][0], data()
    rule, ours, theirs = accelnn.AdamW(schedule), new_net(), new_net()
    state, other = rule.init(ours.params), rule.init(theirs.params)
    for k in range(UPDATES):
        rule.update(ours.params, ours.gradient(x, t), state)
        # A rate of 0, which no number may be, is the last one.
        if schedule(k) > 0.0:
            accelnn.AdamW(schedule(k)).update(theirs.params, theirs.gradient(x, t), other)
        np.testing.assert_array_equal(ours.flat, theirs.flat)
    assert state["updates"] == UPDATES


def test_the_rates_of_a_rule():
    rule = accelnn.SGD(schedules.step(1.0, 2, 0.5))
    assert rule.rates(0, 5).tolist() == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert rule.rates(3, 2).tolist() == [0.5, 0.25]
    assert rule.rates(7, 0).tolist() == []
    assert accelnn.SGD(0.1).rates(7, 3).tolist() == [0.1, 0.1, 0.1]
    assert rule.rates(0, 1).dtype == accelnn.SGD(lambda _: 1).rates(0, 1).dtype == np.float64


def test_engines_are_told_numbers(monkeypatch):
    train, told = Engine.train, []

    def listening(self, *arguments, rates=None):
        told.append(rates)
        return train(self, *arguments, rates=rates)

    monkeypatch.setattr(Engine, "train", listening)
    run(accelnn.SGD(harmonic))
    expected = [0.2 / (k + 1) for k in range(UPDATES)]
    np.testing.assert_array_equal(np.concatenate(told), expected)
    assert len(told) == 3, "one array for each epoch's call"
    told.clear()
    run(accelnn.SGD(0.1))
    assert told == [None] * 3


def test_a_number_builds_no_rates(monkeypatch):
    def refuse(*_):
        pytest.fail("an array of rates was built")

    monkeypatch.setattr(UpdateRule, "rates", refuse)
    run(accelnn.Momentum(0.1))
    net, x_t = new_net(), data()
    rule = accelnn.Adam(0.1)
    rule.update(net.params, net.gradient(*x_t), rule.init(net.params))


def test_a_schedule_of_one_number_computes_the_bits_of_that_number():
    for backend, kind in itertools.product(("numpy", "numba"), (accelnn.SGD, accelnn.AdamW)):
        nets = [run(kind(lr), backend)[0] for lr in (0.1, lambda _: 0.1)]
        assert nets[0].flat.tobytes() == nets[1].flat.tobytes()


def test_a_rate_is_a_number_of_python():
    """A float64 scalar of NumPy would promote float32 arrays."""
    (x, t), bits = data(), []
    for lr in (0.1, lambda _: np.float64(0.1)):
        net, rule = new_net(dtype="float32"), accelnn.AdamW(lr)
        state = rule.init(net.params)
        for _ in range(5):
            rule.update(net.params, net.gradient(x, t), state)
        accelnn.fit(net, x, t, optimizer=rule, batch_size=BATCH, epochs=1, rng=0)
        bits.append(net.flat.tobytes())
    assert bits[0] == bits[1]


@BACKENDS
def test_rules_of_ones_own(backend):
    def plain(p, g, rate, _k):
        return p - rate * g

    nets = []
    for rule in (accelnn.Rule("sgd", plain, lr=harmonic), accelnn.SGD(harmonic)):
        net, _ = run(rule, backend)
        nets.append(net.flat)
    # Up to a fused multiplication in each of the updates, of less than one.
    np.testing.assert_allclose(*nets, rtol=0.0, atol=UPDATES * np.finfo(float).eps)


def test_rules_that_update_themselves():
    """They know no rates but their own, of which `fit` tells them nothing."""

    class Clipped(accelnn.Momentum):
        def update(self, params, grads, slots, step, xp):
            super().update(params, xp.clip(grads, -9.0, 9.0), slots, step, xp)

    class Signs:
        slots = 0
        lr = staticmethod(harmonic)

        def update(self, params, grads, slots, step, xp):
            del slots
            params -= self.lr(step - 1) * xp.sign(grads)

    net, _ = run(Clipped(harmonic))
    plain, _ = run(accelnn.Momentum(harmonic))
    np.testing.assert_array_equal(net.flat, plain.flat)
    _, history = run(Signs())
    assert history.steps == UPDATES


@BACKENDS
@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (
            lambda k: 0.1 - 0.05 * k,
            ValueError,
            r"lr\(3\) must be non-negative and finite, got -0.0",
        ),
        (lambda k: 0.1 if k < 3 else math.nan, ValueError, r"lr\(3\) must be .*, got nan"),
        (lambda k: 0.1 if k < 3 else math.inf, ValueError, r"lr\(3\) must be .*, got inf"),
        (lambda k: 0.1 if k < 3 else None, TypeError, r"lr\(3\) must be a number, got None"),
        (lambda k: 0.1 if k < 3 else True, TypeError, r"lr\(3\) must be a number, got True"),
        (lambda k: [0.1, 0.1, 0.1][k], IndexError, "list index out of range"),
    ],
)
def test_a_rate_that_is_none_is_refused_when_it_is_used(schedule, error, message, backend):
    net = new_net(backend)
    options = {"optimizer": accelnn.SGD(schedule), "batch_size": BATCH, "rng": 0}
    with pytest.raises(error, match=message) as caught:
        accelnn.fit(net, *data(), epochs=1, **options)
    assert caught.value.__notes__ == [f"lr is the schedule {schedule!r}, called with k=3"]
    assert (net.flat == new_net().flat).all(), "no update of the call was done"
    accelnn.fit(net, *data(), iters=3, **options)


def test_a_loop_of_ones_own_stays_as_it_is_where_there_is_no_rate():
    params, rule = {"W": np.ones((2, 2))}, accelnn.Momentum(lambda k: 0.1 - 0.1 * k)
    state = rule.init(params)
    for _ in range(2):
        rule.update(params, params, state)
    before = params["W"].copy(), state["velocity"]["W"].copy()
    with pytest.raises(ValueError, match=r"lr\(2\) must be non-negative and finite, got -0.1"):
        rule.update(params, params, state)
    assert state["updates"] == 2
    np.testing.assert_array_equal((params["W"], state["velocity"]["W"]), before)


@pytest.mark.parametrize("lr", [schedules.cosine, float])
def test_a_class_is_no_schedule(lr):
    message = rf"lr must be a number or a schedule, such as .*, got {lr}"
    for make in (accelnn.SGD, accelnn.AdamW, lambda lr: accelnn.Rule("own", max, lr=lr)):
        with pytest.raises(TypeError, match=message):
            make(lr)


def test_a_divergence_shows_the_schedule():
    rule = accelnn.SGD(schedules.exponential(1e200, 1e10))
    message = r"The optimizer was SGD\(lr=exponential\(start=1e\+200, decay=10000000000.0\)\)"
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning, match=message):
        accelnn.fit(
            new_net(loss="sum_squared_error", activation="relu"),
            data()[0],
            data()[0][:, :3],
            optimizer=rule,
            epochs=1,
            batch_size=BATCH,
        )
