"""The methods of callbacks that `fit` calls at the start, at evaluations and at the end."""

import numpy as np
import pytest

import accelnn
from accelnn.errors import DivergenceWarning

N, BATCH, PER_EPOCH = 23, 5, 5


def data(n=N):
    draw = np.random.default_rng(8)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def run(callbacks, **options):
    net = accelnn.MLP([4, 3], dtype="float64", rng=0)
    options = {"epochs": 2, "validation": data(9), "batch_size": BATCH, "rng": 1, **options}
    return accelnn.fit(net, *data(), callbacks=callbacks, **options)


class Told:
    """Notes what it is told, when, and how much had been evaluated then."""

    def __init__(self, log, name="", fails_at=None, error=RuntimeError):
        self.log, self.name, self.fails_at, self.error = log, name, fails_at, error

    def note(self, event, history):
        self.log.append((self.name + event, history.steps, len(history.test_loss)))
        if event == self.fails_at:
            raise self.error(self.name + event)

    def __call__(self, _net, history):
        self.note("call", history)

    def on_start(self, _net, history):
        self.note("start", history)

    def on_evaluation(self, _net, history):
        self.note("evaluation", history)

    def on_end(self, _net, history):
        self.note("end", history)


def events(log):
    return [event for event, *_ in log]


def test_what_a_callback_is_told_and_when():
    log = []
    run([Told(log)], epochs=None, iters=12)
    assert log == [
        ("start", 0, 1),
        ("evaluation", 5, 2),
        ("call", 5, 2),
        ("evaluation", 10, 3),
        ("call", 10, 3),
        ("evaluation", 12, 4),
        ("end", 12, 4),
    ]


def test_without_validation_there_are_no_evaluations():
    log = []
    run([Told(log)], validation=None)
    assert log == [("start", 0, 0), ("call", 5, 0), ("call", 10, 0), ("end", 10, 0)]


def test_callbacks_that_are_called_every_k_updates_are_told_too():
    log = []
    told = Told(log)
    told.every = 4
    run([told], epochs=1)
    assert log == [("start", 0, 1), ("call", 4, 1), ("evaluation", 5, 2), ("end", 5, 2)]


def test_all_are_told_in_their_order_beside_callables_without_methods():
    log = []
    run([Told(log, "a "), lambda _net, _history: log.append(("bare",)), Told(log, "b ")], epochs=1)
    assert events(log) == [
        *("a start", "b start", "a evaluation", "b evaluation", "a call", "bare", "b call"),
        *("a end", "b end"),
    ]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("fails_at", ["call", "evaluation"])
def test_the_end_is_told_whatever_ends_the_run(error, fails_at):
    log = []
    with pytest.raises(error, match=f"b {fails_at}"):
        run([Told(log, "a "), Told(log, "b ", fails_at, error)])
    assert events(log)[-2:] == ["a end", "b end"]


def test_the_end_is_told_after_divergence():
    log = []
    net = accelnn.MLP([4, 3, 3], activation="relu", loss="sum_squared_error", rng=0)
    x, t = data()
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning):
        accelnn.fit(
            net, x, t, optimizer=accelnn.SGD(1e6), epochs=9, batch_size=5, callbacks=[Told(log)]
        )
    assert events(log)[-1] == "end"


def test_who_has_not_started_is_told_no_end():
    log = []
    with pytest.raises(RuntimeError, match="b start"):
        run([Told(log, "a "), Told(log, "b ", "start"), Told(log, "c ")])
    assert events(log) == ["a start", "b start", "a end"]


def test_the_end_of_one_does_not_depend_on_that_of_another():
    log = []
    with pytest.raises(RuntimeError, match="a end"):
        run([Told(log, "a ", "end"), Told(log, "b ")], epochs=1)
    assert events(log)[-2:] == ["a end", "b end"]


def test_an_evaluation_that_is_interrupted_leaves_no_half(monkeypatch):
    histories = []
    left = [3]
    net = accelnn.MLP([4, 3], dtype="float64", rng=0, backend="numpy")
    original = type(net.engine).evaluate

    def interrupted(*arguments):
        # Of the second evaluation the training data's is done.
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments)

    class Keep(Told):
        def on_end(self, _net, history):
            histories.append(history)

    monkeypatch.setattr(type(net.engine), "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accelnn.fit(
            net, *data(), validation=data(9), epochs=2, batch_size=BATCH, callbacks=[Keep([])]
        )
    (history,) = histories
    assert history.steps == PER_EPOCH
    assert history.evaluated_at == [0]
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        assert len(getattr(history, name)) == 1, name
