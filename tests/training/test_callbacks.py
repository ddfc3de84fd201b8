"""Early stopping and the best parameters, against what a handwritten loop finds."""

import gc
import pickle
import weakref

import numpy as np
import pytest

import accelnn
from accelnn.callbacks import BestWeights, EarlyStopping
from accelnn.errors import DivergenceWarning
from accelnn.testing import StrictBackend

N, BATCH, PER_EPOCH = 23, 5, 5
MONITORS = ["test_loss", "test_accuracy", "train_loss", "train_accuracy"]
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "numba", StrictBackend])


def data(n=N, seed=8):
    """Return labels that can be learnt by heart only, so that the test loss soon gets worse."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def new_net(**options):
    return accelnn.MLP([4, 8, 3], **{"dtype": "float64", "rng": 0, **options})


class Snapshots:
    """Keeps the parameters of each evaluation, on the host."""

    def __init__(self):
        self.flat = []

    def on_start(self, net, _history):
        self.flat.append(np.array(net.backend.to_numpy(net.flat)))

    on_evaluation = on_start

    def __call__(self, net, history):
        pass


def run(*callbacks, backend="numpy", net=None, **options):
    """Return the parameters after a run, those of its evaluations, and its history."""
    net = net or new_net(backend=backend)
    snapshots = Snapshots()
    options = {
        "epochs": 12,
        "validation": data(40, seed=9),
        "batch_size": BATCH,
        "optimizer": accelnn.Adam(0.05),
        "rng": 1,
        **options,
    }
    history = accelnn.fit(net, *data(), callbacks=[snapshots, *callbacks], **options)
    return net.backend.to_numpy(net.flat), snapshots.flat, history


def play(callback, values, monitor="test_loss", net=None):
    """Call it as a loop of one's own would, an update per epoch; return what it answered."""
    net = net or accelnn.MLP([2, 2], rng=0, dtype="float64")
    history = accelnn.History(1)
    answers = []
    for step, value in enumerate(values):
        history.loss.extend([1.0] * (step > 0))
        history.evaluated_at.append(step)
        getattr(history, monitor).append(value)
        net.flat[...] = float(step)
        answers.append(callback(net, history))
    return answers


# The best parameters ------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_the_net_gets_its_best_parameters_when_epochs_are_over(kind, backend):
    callback = kind(monitor="test_loss")
    flat, seen, history = run(callback, backend=backend, epochs=8)
    best = int(np.argmin(history.test_loss))
    assert 0 < best < len(seen) - 1, "neither the start nor the end"
    np.testing.assert_array_equal(flat, seen[best])
    assert callback.best == history.test_loss[best]
    assert callback.best_step == history.evaluated_at[best]
    assert callback.best_epoch == best
    assert history.epochs == 8


@BACKENDS
def test_it_gets_them_when_the_run_is_stopped(backend):
    stop = EarlyStopping(patience=3)
    flat, seen, history = run(stop, backend=backend, epochs=50)
    best = int(np.argmin(history.test_loss))
    np.testing.assert_array_equal(flat, seen[best])
    assert stop.stopped
    assert history.epochs == best + 3


@pytest.mark.parametrize("monitor", MONITORS)
def test_each_curve_can_be_monitored(monitor):
    stop, keep = EarlyStopping(4, monitor), BestWeights(monitor)
    flat, seen, history = run(stop, keep, epochs=40)
    curve = getattr(history, monitor)
    best = int(np.argmax(curve) if "accuracy" in monitor else np.argmin(curve))
    np.testing.assert_array_equal(flat, seen[best])
    assert stop.best == keep.best == curve[best]
    assert stop.best_step == keep.best_step == history.evaluated_at[best]
    assert stop.stopped == (len(curve) == best + 5)


@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_the_start_may_be_the_best(kind):
    x, t = data()
    callback = kind()
    flat, seen, history = run(callback, validation=(x, (t + 1) % 3), epochs=3)
    assert history.test_loss[0] == min(history.test_loss)
    np.testing.assert_array_equal(flat, seen[0])
    assert callback.best_step == callback.best_epoch == 0


def test_a_last_partial_epoch_may_be_the_best():
    keep = BestWeights("train_loss")
    flat, seen, history = run(keep, epochs=None, iters=12)
    assert history.train_loss[-1] == min(history.train_loss)
    np.testing.assert_array_equal(flat, seen[-1])
    assert keep.best_step == 12
    assert keep.best_epoch == 12 / PER_EPOCH


def test_two_that_restore_do_not_disturb_each_other(tmp_path):
    """Of two, the last one's parameters remain; each saw those that were evaluated."""
    x, t = data()
    path = tmp_path / "best.safetensors"
    options = {"validation": (x, (t + 1) % 3), "epochs": None, "iters": 12}
    stop, keep = EarlyStopping(), BestWeights("train_loss", path=path)
    flat, seen, _ = run(stop, keep, **options)
    assert (stop.best_step, keep.best_step) == (0, 12)
    np.testing.assert_array_equal(flat, seen[-1])
    np.testing.assert_array_equal(accelnn.load(path).flat, seen[-1])
    flat, _, _ = run(keep, stop, **options)
    np.testing.assert_array_equal(flat, seen[0])


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_it_gets_them_when_something_goes_wrong(kind, error):
    def fail(_net, history):
        if history.steps > 6 * PER_EPOCH:
            raise error

    fail.every = 2
    net, seen = new_net(), Snapshots()
    with pytest.raises(error):
        run(kind(), seen, fail, net=net)
    _, _, history = run(epochs=6)
    np.testing.assert_array_equal(net.flat, seen.flat[int(np.argmin(history.test_loss))])


@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_it_gets_them_after_divergence(kind):
    net = accelnn.MLP([4, 8, 1], loss="sum_squared_error", activation="relu", rng=0)
    x, _ = data()
    callback, seen = kind(), Snapshots()
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning):
        accelnn.fit(
            net,
            x,
            x[:, :1],
            validation=(x, x[:, :1]),
            optimizer=accelnn.SGD(50.0),
            epochs=9,
            batch_size=BATCH,
            rng=0,
            callbacks=[callback, seen],
        )
    np.testing.assert_array_equal(net.flat, seen.flat[0])
    assert np.isfinite(callback.best)
    assert callback.best_step == 0


def test_restore_best_false_leaves_the_last_parameters():
    stop = EarlyStopping(3, restore_best=False)
    flat, seen, history = run(stop)
    np.testing.assert_array_equal(flat, seen[-1])
    assert stop.best == min(history.test_loss)
    assert stop.best < history.test_loss[-1]


def test_watching_changes_no_number():
    _, plain, history = run(epochs=6)
    _, watched, same = run(EarlyStopping(), BestWeights(), epochs=6)
    assert same == history
    np.testing.assert_array_equal(watched, plain)


@BACKENDS
def test_parameters_are_copied_where_they_are(backend, monkeypatch):
    net = new_net(backend=backend)

    def refuse(_array):
        message = "a copy to the host"
        raise AssertionError(message)

    monkeypatch.setattr(type(net.backend), "to_numpy", staticmethod(refuse))
    for callback in (EarlyStopping(), BestWeights()):
        play(callback, [2.0, 1.0, 3.0], net=net)
        callback.on_end(net, None)
    monkeypatch.undo()
    assert (net.backend.to_numpy(net.flat) == 1.0).all()


def test_parameters_that_another_callback_changes_are_not_those_evaluated():
    def reset(net, _history):
        net.flat[...] = 0.0

    keep = BestWeights("train_loss")
    flat, seen, history = run(reset, keep, epochs=3)
    np.testing.assert_array_equal(flat, seen[int(np.argmin(history.train_loss))])
    assert flat.any()


def test_saving_what_is_better(tmp_path):
    path = tmp_path / "best.safetensors"
    saved = []

    def look(_net, _history):
        saved.append(accelnn.load(path).flat.copy())

    _, seen, history = run(BestWeights(path=str(path)), look)
    so_far = [int(np.argmin(history.test_loss[: i + 1])) for i in range(1, len(seen))]
    np.testing.assert_array_equal(saved, [seen[i] for i in so_far])


def test_what_cannot_be_saved_is_known_before_the_training(tmp_path):
    net = new_net()
    before = net.flat.copy()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run(BestWeights(path=tmp_path / "none" / "best.safetensors"), net=net)
    np.testing.assert_array_equal(net.flat, before)


def test_nothing_is_kept_after_a_run():
    net = new_net()
    stop = EarlyStopping()
    run(stop, net=net)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    again = pickle.loads(pickle.dumps(stop))  # noqa: S301 - our own
    assert again.best == stop.best
    assert len(pickle.dumps(stop)) < 1000


# When to stop -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "values", "stops_at", "best_step"),
    [
        ({"patience": 1}, [3.0, 2.0, 2.5], 2, 1),
        ({"patience": 2}, [3.0, 2.0, 2.5, 2.0], 3, 1),
        ({"patience": 2}, [3.0, 2.0, 2.5, 1.9, 2.0, 1.95], 5, 3),
        ({"patience": 2}, [1.0, 2.0, 3.0], 2, 0),
        ({"patience": 3}, [1.0, 2.0, 3.0], None, 0),
        # As good is not better.
        ({"patience": 2}, [1.0, 1.0, 1.0], 2, 0),
        ({"patience": 2}, [1.0, np.nan, np.nan], 2, 0),
        ({"patience": 3}, [1.0, np.nan, 2.0, 0.5, 0.6], None, 3),
        ({"patience": 5}, [np.nan, 2.0, np.nan, np.inf], None, 1),
        ({"patience": 2, "monitor": "test_accuracy"}, [0.1, 0.3, 0.2, 0.3], 3, 1),
        ({"patience": 2, "monitor": "train_accuracy"}, [0.1, 0.3, 0.2, 0.4], None, 3),
        # Losses of one's own may be negative.
        ({"patience": 2}, [1.0, -1.0, -3.0, -2.0, -1.0], 4, 2),
        # What goes on by less than min_delta in all is no improvement, but may be the best.
        ({"patience": 2, "min_delta": 0.25}, [2.0, 1.9, 1.8], 2, 2),
        ({"patience": 2, "min_delta": 0.25}, [2.0, 1.9, 1.7, 1.6, 1.5], 4, 4),
        ({"patience": 2, "min_delta": 0.25}, [2.0, 1.75, 1.9], 2, 1),
        (
            {"patience": 2, "min_delta": 0.25, "monitor": "test_accuracy"},
            [0.25, 0.5, 0.75, 0.25],
            None,
            2,
        ),
    ],
)
def test_patience(options, values, stops_at, best_step):
    stop = EarlyStopping(**options)
    answers = play(stop, values, options.get("monitor", "test_loss"))
    first = answers.index(True) if True in answers else None
    assert first == stops_at
    assert stop.stopped == (stops_at is not None)
    assert stop.best_step == best_step
    assert stop.best == values[best_step]


def test_no_value_is_no_best():
    keep = BestWeights()
    net = accelnn.MLP([2, 2], rng=0)
    play(keep, [np.nan, np.inf, np.nan], net=net)
    keep.on_end(net, None)
    assert (net.flat == 2.0).all()
    assert keep.best is keep.best_step is keep.best_epoch is None


def test_patience_counts_evaluations_and_not_calls():
    stop = EarlyStopping(3)
    stop.every = 1
    _, _, history = run(stop, epochs=50)
    # The first call after the third epoch without improvement comes after an update.
    assert stop.stopped
    assert history.steps == stop.best_step + 3 * PER_EPOCH + 1


def test_it_works_inside_another_callback():
    stop = EarlyStopping(3, restore_best=False)
    _, seen, history = run(stop.__call__, epochs=50)
    again = EarlyStopping(3, restore_best=False)
    _, expected, _ = run(again, epochs=50)
    assert stop.stopped
    # It was first called after the first epoch, which is better than the start.
    assert history.test_loss[1] < history.test_loss[0]
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_parameters_after_an_evaluation_are_not_taken_for_those_of_it(kind):
    keep = kind("test_loss") if kind is BestWeights else kind()
    net, history = accelnn.MLP([2, 2], rng=0), accelnn.History(2)
    history.evaluated_at.append(0)
    history.test_loss.append(1.0)
    history.loss.append(1.0)
    keep(net, history)
    assert keep.best is None


# One object, several runs -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_each_run_starts_afresh(kind):
    callback = kind()
    run(callback)
    before = callback.best
    x, t = data()
    net = accelnn.MLP([4, 3], rng=3)
    flat, seen, history = run(
        callback, net=net, validation=(x, (t + 1) % 3), epochs=None, iters=7, batch_size=3
    )
    best = int(np.argmin(history.test_loss))
    np.testing.assert_array_equal(flat, seen[best])
    assert callback.best == history.test_loss[best] > before
    assert callback.best_step == history.evaluated_at[best]
    fresh = kind()
    run(fresh)
    run(callback)
    assert vars(callback) == vars(fresh)


def test_a_run_that_fails_at_its_start_leaves_the_net_as_it_is():
    keep = BestWeights()
    run(keep)
    net = new_net(rng=5)
    before = net.flat.copy()
    with pytest.raises(ValueError, match="validation="):
        run(keep, net=net, validation=None)
    np.testing.assert_array_equal(net.flat, before)


# Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
@pytest.mark.parametrize("monitor", ["val_loss", "loss", "evaluated_at", None, ["test_loss"]])
def test_an_unknown_curve(kind, monitor):
    with pytest.raises(ValueError, match=r"monitor must be one of 'train_loss', .*got ") as raised:
        kind(monitor=monitor)
    assert repr(monitor) in str(raised.value)


@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_a_run_that_evaluates_nothing(kind):
    net = new_net()
    before = net.flat.copy()
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} .*'test_loss'.*validation=\(x_test, t_test\)"
    ):
        run(kind(), net=net, validation=None)
    np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("monitor", ["train_accuracy", "test_accuracy"])
def test_accuracies_of_a_loss_that_does_not_classify(monitor):
    x, _ = data()
    net = accelnn.MLP([4, 2], loss="huber", rng=0)
    other = monitor.replace("accuracy", "loss")
    with pytest.raises(ValueError, match=rf"'huber'.*use BestWeights\(monitor='{other}'\)"):
        accelnn.fit(
            net,
            x,
            x[:, :2],
            validation=(x, x[:, :2]),
            epochs=1,
            callbacks=[BestWeights(monitor)],
        )


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"patience": 2.5}, TypeError, "patience must be an integer"),
        ({"min_delta": -0.1}, ValueError, "min_delta must be non-negative and finite, got -0.1"),
        ({"min_delta": np.nan}, ValueError, "min_delta must be non-negative and finite"),
        ({"min_delta": np.inf}, ValueError, "min_delta must be non-negative and finite"),
    ],
)
def test_wrong_options(options, error, match):
    with pytest.raises(error, match=match):
        EarlyStopping(**options)
