"""How many updates, on which samples, in which order."""

import numpy as np
import pytest

import accelnn
from accelnn.backends import Engine
from accelnn.testing._reference import ReferenceNet, batches

SIZES = (6, 5, 3)
N = 23


def data(n=N):
    draw = np.random.default_rng(8)
    labels = draw.integers(0, 3, n)
    return draw.normal(size=(3, 6))[labels] * 2 + draw.normal(size=(n, 6)), labels


def new_net(**options):
    return accelnn.MLP(SIZES, **{"rng": 5, "dtype": "float64", **options})


def reference_losses(net, steps, batch, *, sampling="shuffle", lr=0.1, seed=1):
    """Plain gradient descent around the reference net."""
    x, labels = data()
    reference = ReferenceNet(net.params, "sigmoid", "cross_entropy")
    losses = []
    for index in batches(N, batch, steps, seed, sampling):
        x_batch, t_batch = x[index], np.eye(3)[labels[index]]
        losses.append(reference.loss(x_batch, t_batch))
        grads = reference.gradient(x_batch, t_batch)
        for key, value in grads.items():
            reference.params[key] -= lr * value
    return losses


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "iters": 1}, {"epochs": None, "iters": None}])
def test_exactly_one_of_epochs_and_iters(given):
    with pytest.raises(TypeError, match="pass exactly one of epochs and iters; got epochs="):
        accelnn.fit(new_net(), *data(), **given)


@pytest.mark.parametrize("name", ["epochs", "iters", "batch_size"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "must be at least 1, got 0"),
        (-3, ValueError, "must be at least 1, got -3"),
        (2.0, TypeError, "must be an integer, got 2.0"),
        (True, TypeError, "must be an integer, got True"),
        ("2", TypeError, "must be an integer, got '2'"),
    ],
)
def test_counts_are_positive_integers(name, value, error, message):
    net = new_net()
    before = net.flat.tobytes()
    counts = {"epochs": 1, name: value} if name == "batch_size" else {name: value}
    with pytest.raises(error, match=f"{name} {message}"):
        accelnn.fit(net, *data(), **counts)
    assert net.flat.tobytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "random"}, "sampling must be 'shuffle' or 'replacement', got 'random'"),
        ({"gradient": "exact"}, "gradient must be 'analytic' or 'numerical', got 'exact'"),
    ],
)
def test_unknown_choices_name_the_known(options, message):
    with pytest.raises(ValueError, match=message):
        accelnn.fit(new_net(), *data(), epochs=1, **options)


def test_numpy_integers_count_too():
    history = accelnn.fit(new_net(), *data(), epochs=np.int64(2), batch_size=np.int32(10))
    assert history.steps == 6


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
@pytest.mark.parametrize("batch", [1, 5, 8, 23, 100])
def test_epochs_of_every_batch_size_follow_the_reference(sampling, batch):
    net = new_net()
    per_epoch = -(-N // batch)
    expected = reference_losses(net, 3 * per_epoch, batch, sampling=sampling)
    history = accelnn.fit(net, *data(), epochs=3, batch_size=batch, sampling=sampling, rng=1)
    assert history.batches_per_epoch == per_epoch
    assert history.steps == 3 * per_epoch
    np.testing.assert_allclose(history.loss, expected, rtol=1e-9)


def test_the_last_short_batch_is_kept():
    """23 samples in batches of 8 are 8, 8 and 7: in one epoch every sample counts once."""
    net = new_net()
    x, t = data()
    rule = accelnn.SGD(1e-12)
    history = accelnn.fit(net, x, t, optimizer=rule, epochs=1, batch_size=8, rng=0)
    whole = (8 * history.loss[0] + 8 * history.loss[1] + 7 * history.loss[2]) / 23
    assert whole == pytest.approx(new_net().loss(x, t), rel=1e-9)


def test_iterations_are_the_start_of_epochs():
    long, short = (
        accelnn.fit(new_net(), *data(), batch_size=8, rng=3, **count)
        for count in ({"epochs": 4}, {"iters": 7})
    )
    assert short.loss == long.loss[:7]


def test_seed_generator_and_entropy():
    def run(rng):
        return accelnn.fit(new_net(), *data(), batch_size=5, epochs=2, rng=rng).loss

    draw = np.random.default_rng(4)
    first, second = run(draw), run(draw)
    assert run(4) == run(np.random.default_rng(4)) == first
    assert second != first, "a generator moves on"
    assert run(5) != first
    assert run(None) != run(None)
    with pytest.raises(TypeError, match="got a legacy RandomState"):
        run(np.random.RandomState(0))


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_progress_bar_changes_no_bit(capsys, sampling, dtype):
    runs = []
    for progress in (False, True):
        net = new_net(dtype=dtype)
        history = accelnn.fit(
            net,
            *data(),
            validation=data(11),
            optimizer=accelnn.Adam(0.01),
            batch_size=2,
            iters=100,
            sampling=sampling,
            rng=2,
            progress=progress,
        )
        runs.append((history, net.flat.tobytes()))
    assert runs[0] == runs[1]
    assert capsys.readouterr().out == ""


def test_the_optimizer_of_one_run_leaves_nothing_for_the_next():
    rule = accelnn.Adam(0.05)
    runs = [
        accelnn.fit(new_net(), *data(), optimizer=rule, epochs=3, batch_size=5, rng=1).loss
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    defaults = [accelnn.fit(new_net(), *data(), epochs=3, batch_size=5, rng=1) for _ in range(2)]
    assert defaults[0] == defaults[1]
    np.testing.assert_allclose(defaults[0].loss, reference_losses(new_net(), 15, 5), rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", None, 0.1, accelnn.SGD])
def test_what_is_no_optimizer_is_refused(optimizer):
    with pytest.raises(TypeError, match=r"an object such as accelnn\.SGD\(0\.1\), got"):
        accelnn.fit(new_net(), *data(), optimizer=optimizer, epochs=1)


def test_training_goes_on_where_it_stopped():
    draw = np.random.default_rng(6)
    net, whole = new_net(), new_net()
    parts = [accelnn.fit(net, *data(), epochs=k, batch_size=5, rng=draw).loss for k in (1, 2)]
    history = accelnn.fit(whole, *data(), epochs=3, batch_size=5, rng=6)
    assert parts[0] + parts[1] == history.loss
    np.testing.assert_array_equal(net.flat, whole.flat)


def test_parameters_stay_the_same_arrays():
    net = new_net()
    live = dict(net.params)
    accelnn.fit(net, *data(), epochs=1)
    assert all(net.params[key] is live[key] for key in live)


def test_numerical_training_makes_the_steps_of_numerical_gradients():
    net, by_hand = new_net(), new_net()
    x, t = data()
    history = accelnn.fit(net, x, t, gradient="numerical", iters=3, batch_size=N, rng=0)
    order = np.random.default_rng(0)
    for loss in history.loss:
        index = order.permutation(N)
        assert by_hand.loss(x[index], t[index]) == loss
        grads = by_hand.numerical_gradient(x[index], t[index])
        for key in grads:
            by_hand.params[key] -= 0.1 * grads[key]
    np.testing.assert_array_equal(net.flat, by_hand.flat)


def _train_ahead(monkeypatch):
    """Let an engine of NumPy's draw the next epoch before it trains, as one of a device may."""
    train, ahead = Engine.train, []

    def drawing(self, state, *arguments, **options):
        if state.meanwhile is not None:
            state.meanwhile()
            # Once for each epoch, whoever asks again.
            state.meanwhile()
            ahead.append(state)
        return train(self, state, *arguments, **options)

    monkeypatch.setattr(Engine, "train", drawing)
    return ahead


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
@pytest.mark.parametrize("iters", [1, 5, 12, 13])
def test_epochs_that_are_drawn_ahead_are_the_same(monkeypatch, sampling, iters):
    found = []
    for ahead in (None, _train_ahead(monkeypatch)):
        draw, net = np.random.default_rng(3), new_net(backend="numpy")
        options = {"batch_size": 4, "iters": iters, "sampling": sampling, "rng": draw}
        history = accelnn.fit(net, *data(), **options)
        # Nothing more is drawn of the caller's generator.
        found.append((history.loss, draw.random()))
        assert ahead is None or ahead
    assert found[0] == found[1]


def test_what_was_drawn_ahead_of_an_interruption_is_put_back(monkeypatch):
    states = []

    def interrupted(self, state, *arguments, **options):
        del self, arguments, options
        states.append(draw.bit_generator.state)
        state.meanwhile()
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "train", interrupted)
    draw = np.random.default_rng(3)
    with pytest.raises(KeyboardInterrupt):
        accelnn.fit(new_net(backend="numpy"), *data(), batch_size=4, epochs=3, rng=draw)
    assert [draw.bit_generator.state] == states


def test_nothing_is_drawn_ahead_of_a_callback_that_may_draw(monkeypatch):
    ahead = _train_ahead(monkeypatch)
    net = new_net(backend="numpy")
    accelnn.fit(net, *data(), batch_size=4, epochs=2, rng=0, callbacks=[lambda *_: None])
    assert ahead == []


def test_calls_of_the_engine_become_as_long_as_ctrl_c_may_wait(monkeypatch):
    """However little the first is given, which tells nothing if it compiles."""
    monkeypatch.setattr("accelnn.training._run.CALL_WORK", 1)
    monkeypatch.setattr("accelnn.training._run.PATIENCE", 1e9)
    net, calls = new_net(), []

    original = type(net.engine).train

    def train(self, state, data, order, batch, **options):
        calls.append(order.size // batch)
        return original(self, state, data, order, batch, **options)

    monkeypatch.setattr(type(net.engine), "train", train)
    accelnn.fit(net, *data(100), batch_size=1, epochs=1, rng=1)
    assert calls == [1, 1, 98]


def test_a_short_last_batch_tells_little_of_whole_ones(monkeypatch):
    """A call of one sample, which takes no time, is not followed by one of a whole epoch."""
    net, calls, taken = new_net(), [], [0.0]

    # Each batch takes a second, and one sample its part of it.
    monkeypatch.setattr("accelnn.training._run.time.perf_counter", lambda: taken[0])
    monkeypatch.setattr("accelnn.training._run.CALL_WORK", 1)
    monkeypatch.setattr("accelnn.training._run.PATIENCE", 2.5)

    original = type(net.engine).train

    def train(self, state, data, order, batch, **options):
        calls.append(-(-order.size // batch))
        taken[0] += order.size / batch
        return original(self, state, data, order, batch, **options)

    monkeypatch.setattr(type(net.engine), "train", train)
    accelnn.fit(net, *data(41), batch_size=10, epochs=3, rng=1)
    assert max(calls) == 2
