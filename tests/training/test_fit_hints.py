"""What `fit` says of runs that learn nothing or explode; of healthy ones it says nothing."""

import warnings

import numpy as np
import pytest

import accelnn
from accelnn.errors import DivergenceWarning, ScalingWarning

BACKENDS = ["numpy", "numba"]
(PIXELS, DIGITS), _ = accelnn.load_mnist(subset="5k")
DRAW = np.random.default_rng(0)
# A table of what people have: ages, incomes, shares; and who buys.
TABLE = np.column_stack(
    [DRAW.uniform(20, 70, 400), DRAW.lognormal(10.5, 0.5, 400), DRAW.uniform(0, 1, 400)]
)
SCALED = (TABLE - TABLE.mean(0)) / TABLE.std(0)
BUYS = (SCALED @ [1.0, 0.5, 1.0] > 0.8).astype(int)
RULES = [
    accelnn.SGD(0.1),
    accelnn.SGD(),
    accelnn.Momentum(0.01),
    accelnn.Nesterov(0.01),
    accelnn.AdaGrad(),
    accelnn.RMSprop(0.001),
    accelnn.Adam(),
    accelnn.AdamW(0.01),
]


def warned(net, *data, **options):
    """Return the warnings of a run."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        accelnn.fit(net, *data, **{"rng": 0, **options})
    assert all(w.filename == __file__ for w in caught)
    return [w.message for w in caught]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", ["labels", "one-hot", "prepared", "sigmoid"])
def test_a_table_that_is_not_scaled_ends_at_the_largest_class(way, backend):
    one_output = way == "sigmoid"
    net = accelnn.MLP(
        [3, 8, 1 if one_output else 2],
        loss="binary_cross_entropy" if one_output else "cross_entropy",
        rng=0,
        backend=backend,
    )
    t = np.eye(2)[BUYS] if way == "one-hot" else BUYS
    data = (accelnn.prepare(TABLE, t, backend=backend),) if way == "prepared" else (TABLE, t)
    (found,) = warned(net, *data, epochs=40, batch_size=50)
    assert isinstance(found, ScalingWarning)
    # Eight updates an epoch, so that the 13th is the first with a hundred behind it.
    assert "learned nothing in 104 updates" in str(found)
    shares = np.bincount(BUYS) / 400
    assert f"{-(shares @ np.log(shares)):.3g} is that of one output" in str(found)
    assert "Its features have standard deviations from 0." in str(found)
    assert "(x - x.mean(0)) / (x.std(0) + 1e-8)" in str(found)
    assert len(str(found)) < 400
    assert net.accuracy(TABLE, t) < shares.max() + 0.05
    assert warned(accelnn.MLP([3, 8, 2], rng=0), SCALED, BUYS, epochs=40, batch_size=50) == []


def test_a_short_run_is_judged_at_its_end_and_a_very_short_one_never():
    for iters, is_judged in ((19, False), (25, True), (99, True)):
        net = accelnn.MLP([3, 8, 2], rng=0)
        found = warned(net, TABLE, BUYS, iters=iters, batch_size=50)
        assert [type(w) for w in found] == [ScalingWarning] * is_judged


def test_raw_pixels_where_they_are_learned_and_where_not():
    raw, options = PIXELS * 255, {"epochs": 4}
    for activation, rule, is_learned in (
        ("sigmoid", accelnn.SGD(0.1), True),
        ("relu", accelnn.SGD(0.1), False),
        # Far too sure of what it gets wrong, so that its loss is high and its accuracy too.
        ("relu", accelnn.Adam(), True),
    ):
        net = accelnn.MLP([784, 50, 10], activation=activation, rng=0)
        found = warned(net, raw, DIGITS, optimizer=rule, **options)
        assert (net.accuracy(raw, DIGITS) > 0.6) == is_learned
        if is_learned:
            assert found == []
        else:
            assert "Its features are as large as 255" in str(found[0])


def test_pixels_that_are_mostly_black_are_not_of_different_sizes():
    net = accelnn.TwoLayerNet(784, 20, 10, rng=0)
    assert warned(net, PIXELS, DIGITS, optimizer=accelnn.SGD(1e-4), epochs=4) == []
    assert net.accuracy(PIXELS, DIGITS) < 0.2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_regression_that_is_no_better_than_the_mean(backend):
    t = SCALED @ [1.0, 2.0, -1.0]
    net = accelnn.MLP([3, 8, 1], activation="tanh", loss="huber", rng=0, backend=backend)
    (found,) = warned(net, TABLE, t, epochs=20, batch_size=50)
    assert isinstance(found, ScalingWarning)
    net = accelnn.MLP([3, 8, 1], activation="tanh", loss="huber", rng=0, backend=backend)
    assert warned(net, SCALED, t, epochs=20, batch_size=50) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("activation", "rule"),
    [
        ("sigmoid", accelnn.SGD(500.0)),
        ("sigmoid", accelnn.RMSprop(50.0)),
        ("relu", accelnn.SGD(50.0)),
        # It has exploded, and lies dead at the loss of a net that knows nothing.
        ("relu", accelnn.Adam(5.0)),
        ("relu", accelnn.SGD(3.0)),
        ("relu", accelnn.SGD(10.0)),
    ],
    ids=str,
)
def test_a_loss_that_explodes_and_stays_finite(activation, rule, backend):
    net = accelnn.MLP([784, 50, 10], activation=activation, rng=0, backend=backend)
    (found,) = warned(net, PIXELS, DIGITS, optimizer=rule, epochs=3)
    assert isinstance(found, DivergenceWarning)
    message = str(found)
    assert message.startswith("the loss went from 2.")
    assert f"The optimizer was {rule}: try a smaller learning rate." in message


def test_a_short_run_that_explodes_beyond_doubt():
    net = accelnn.MLP([3, 8, 2], activation="relu", rng=0)
    (found,) = warned(net, SCALED, BUYS, optimizer=accelnn.SGD(1e6), iters=7)
    assert isinstance(found, DivergenceWarning)
    assert "try a smaller learning rate" in str(found)


def test_a_loss_that_is_not_finite_names_features_that_want_scaling():
    net = accelnn.MLP([3, 4, 1], activation="identity", loss="sum_squared_error", rng=0)
    (found,) = warned(net, TABLE, BUYS, epochs=20)
    assert isinstance(found, DivergenceWarning)
    assert "training stops" in str(found)
    assert "Its features have standard deviations from" in str(found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(
    "length",
    [
        {"iters": 1},
        {"iters": 5},
        {"iters": 20},
        {"iters": 60, "batch_size": 1},
        {"epochs": 3, "sampling": "replacement"},
    ],
    ids=str,
)
def test_healthy_runs_are_left_alone(length, rule, dtype):
    t = SCALED @ [1.0, 2.0, -1.0]
    # Weights that make a rare class as frequent as others change what a constant output achieves.
    balanced = (400 / (2 * np.bincount(BUYS)))[BUYS]
    options = {"dtype": dtype, "rng": 0}
    net = accelnn.TwoLayerNet(784, 20, 10, **options)
    assert warned(net, PIXELS[:1000], DIGITS[:1000], optimizer=rule, **length) == []
    net = accelnn.MLP([3, 8, 2], activation="relu", **options)
    assert warned(net, SCALED, BUYS, optimizer=rule, sample_weight=balanced, **length) == []
    # Far from zero, so that the first losses are huge.
    net = accelnn.MLP([3, 8, 1], activation="tanh", loss="huber", **options)
    assert warned(net, SCALED, 1e4 * t + 1e5, optimizer=rule, **length) == []


@pytest.mark.parametrize("batch_size", [32, 128, 256])
def test_a_few_samples_far_from_all_others(batch_size):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(10_000, 8))
    t = x @ draw.normal(size=8) / 8
    t[draw.integers(10_000, size=4)] = 200.0
    net = accelnn.MLP([8, 20, 1], activation="relu", loss="sum_squared_error", rng=0)
    options = {"optimizer": accelnn.Adam(0.001), "epochs": 5, "batch_size": batch_size}
    assert warned(net, x, t, **options) == []


def test_a_trained_net_may_go_on_with_harder_samples():
    net = accelnn.MLP([3, 8, 2], dtype="float64", rng=0)
    is_easy = np.abs(SCALED @ [1.0, 0.5, 1.0] - 0.8) > 1.0
    first = warned(net, SCALED[is_easy], BUYS[is_easy], optimizer=accelnn.Adam(0.05), epochs=200)
    assert first == []
    assert net.loss(SCALED[is_easy], BUYS[is_easy]) < 1e-3
    assert warned(net, SCALED, BUYS, optimizer=accelnn.Adam(), epochs=10, batch_size=10) == []


def test_a_loss_of_ones_own_is_computed_where_it_is_compiled(caplog):
    def slope(a, t):
        return 1.0 if a > t else -1.0

    loss = accelnn.Loss("mae", lambda a, t: abs(a - t), slope)
    t = SCALED @ [1.0, 2.0, -1.0]
    for x, expected in ((SCALED, []), (TABLE, [ScalingWarning])):
        net = accelnn.MLP([3, 8, 1], activation="tanh", loss=loss, rng=0, backend="numba")
        found = warned(net, x, t, epochs=20, batch_size=50)
        assert [type(w) for w in found] == expected
    assert "which is slow" not in caplog.text


@pytest.mark.parametrize(
    ("net", "t"),
    [
        (accelnn.MLP([3, 8, 1], loss="huber", rng=0), np.full(400, 0.1)),
        (accelnn.MLP([3, 8, 1], loss="binary_cross_entropy", rng=0), np.ones(400)),
        (accelnn.MLP([3, 8, 2], rng=0), np.zeros(400, int)),
    ],
    ids=["huber", "binary", "softmax"],
)
def test_of_targets_that_are_all_the_same_nothing_is_to_be_learned(net, t):
    assert warned(net, TABLE, t, epochs=30, optimizer=accelnn.Adam(0.01)) == []


def test_weights_of_zero_divide_nothing():
    net = accelnn.MLP([3, 8, 2], rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accelnn.fit(net, TABLE, BUYS, epochs=30, sample_weight=np.zeros(400), rng=0)
