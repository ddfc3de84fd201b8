"""Callbacks: when they are called, what they see, and how they stop a run."""

import numpy as np
import pytest

import accelnn

N, BATCH, PER_EPOCH = 23, 5, 5


def data(n=N):
    draw = np.random.default_rng(8)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def run(callbacks, **options):
    net = accelnn.MLP([4, 3], dtype="float64", rng=0)
    options = {"epochs": 3, "validation": data(9), "batch_size": BATCH, "rng": 1, **options}
    return net, accelnn.fit(net, *data(), callbacks=callbacks, **options)


class Record:
    """Notes at which steps it is called, and what it sees."""

    def __init__(self, every=None, answer=None, at=None):
        self.steps, self.evaluations, self.weights = [], [], []
        self.answer, self.at = answer, at
        if every is not None:
            self.every = every

    def __call__(self, net, history):
        self.steps.append(history.steps)
        self.evaluations.append(len(history.evaluated_at))
        self.weights.append(net.params["W1"].copy())
        return self.answer if self.at in (None, history.steps) else None


def test_at_the_end_of_every_epoch():
    record = Record()
    run([record])
    assert record.steps == [5, 10, 15]
    assert record.evaluations == [2, 3, 4], "the epoch's accuracies are there already"


def test_a_partial_epoch_is_no_epoch():
    record = Record()
    _, history = run([record], epochs=None, iters=12)
    assert record.steps == [5, 10]
    assert history.evaluated_at == [0, 5, 10, 12]


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 15, 16])
def test_every_k_updates_exactly(every, progress):
    record = Record(every)
    _, history = run([record], progress=progress)
    assert record.steps == list(range(every, 16, every))
    assert history.steps == 15


def test_several_rhythms_at_once():
    records = [Record(2), Record(3), Record(), Record(7)]
    run(records)
    assert [r.steps for r in records] == [
        [2, 4, 6, 8, 10, 12, 14],
        [3, 6, 9, 12, 15],
        [5, 10, 15],
        [7, 14],
    ]


def test_rhythms_change_no_number():
    plain, watched = run([]), run([Record(2), Record(3), Record()])
    assert plain[1] == watched[1]
    np.testing.assert_array_equal(plain[0].flat, watched[0].flat)


def test_it_sees_updated_parameters_and_their_losses():
    record = Record(1)
    _, history = run([record], optimizer=accelnn.SGD(0.1))
    first, second = record.weights[:2]
    net = accelnn.MLP([4, 3], dtype="float64", rng=0)
    x, t = data()
    order = np.random.default_rng(1).permutation(N)
    for weights, loss, start in ((first, history.loss[0], 0), (second, history.loss[1], BATCH)):
        index = order[start : start + BATCH]
        assert net.loss(x[index], t[index]) == pytest.approx(loss, rel=1e-12)
        grads = net.gradient(x[index], t[index])
        for key in grads:
            net.params[key] -= 0.1 * grads[key]
        np.testing.assert_allclose(weights, net.params["W1"], rtol=1e-12)


@pytest.mark.parametrize(
    ("callback", "steps", "evaluated_at"),
    [
        (Record(answer=True), 5, [0, 5]),
        (Record(answer=True, at=10), 10, [0, 5, 10]),
        (Record(3, answer=True), 3, [0, 3]),
        (Record(3, answer=True, at=6), 6, [0, 5, 6]),
        # At an epoch's end, which must not be evaluated twice.
        (Record(5, answer=True), 5, [0, 5]),
        (Record(1, answer=True, at=15), 15, [0, 5, 10, 15]),
    ],
)
def test_true_stops(callback, steps, evaluated_at):
    callback = Record(getattr(callback, "every", None), callback.answer, callback.at)
    net, history = run([callback])
    assert history.steps == callback.steps[-1] == steps
    assert history.evaluated_at == evaluated_at
    lists = (history.train_loss, history.test_loss, history.train_accuracy, history.test_accuracy)
    assert {len(values) for values in lists} == {len(evaluated_at)}
    assert history.test_loss[-1] == pytest.approx(net.loss(*data(9)), rel=1e-12)


def test_the_first_steps_of_a_stopped_run_are_those_of_a_whole_one():
    _, stopped = run([Record(3, answer=True, at=6)])
    assert stopped.loss == run([])[1].loss[:6]


def test_the_true_of_numpy_stops_too():
    _, history = run([lambda _, history: np.mean(history.loss) > 0.0])
    assert history.steps == 5


@pytest.mark.parametrize("answer", [False, None, 1, "stop", [0], np.False_])
def test_nothing_else_stops(answer):
    _, history = run([Record(answer=answer), Record(2, answer=answer)])
    assert history.steps == 15


def test_all_callbacks_of_a_step_are_called_though_one_stops():
    last = Record()
    run([Record(answer=True), last])
    assert last.steps == [5]


@pytest.mark.parametrize(
    ("every", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), (None, TypeError)]
)
def test_a_wrong_rhythm_is_refused_before_training(every, error):
    callback = Record()
    callback.every = every
    with pytest.raises(error, match="every must be"):
        run([callback])
    assert callback.steps == []


def test_an_exception_passes_and_leaves_the_net_usable():
    net = accelnn.MLP([4, 3], dtype="float64", rng=0)
    start = net.flat.copy()

    def fail(_, history):
        message = f"after {history.steps}"
        raise RuntimeError(message)

    fail.every = 4
    with pytest.raises(RuntimeError, match="after 4"):
        accelnn.fit(net, *data(), epochs=3, batch_size=BATCH, rng=1, callbacks=[fail])
    _, history = run([Record(4, answer=True)])
    expected = accelnn.MLP([4, 3], dtype="float64", rng=0)
    accelnn.fit(expected, *data(), iters=4, batch_size=BATCH, rng=1)
    assert (net.flat != start).any()
    np.testing.assert_array_equal(net.flat, expected.flat)
    assert accelnn.fit(net, *data(), epochs=1, rng=1).steps == 1
    assert history.steps == 4


def test_a_callback_may_change_the_parameters():
    def reset(net, _):
        net.flat[...] = 0.0

    net, history = run([reset], epochs=1)
    assert not net.flat.any()
    assert history.test_loss[-1] != pytest.approx(np.log(3))
    _, history = run([reset], epochs=2)
    # Three classes of equal probability.
    assert history.loss[PER_EPOCH] == pytest.approx(np.log(3), rel=1e-12)


@pytest.mark.parametrize("callbacks", [lambda _net, _history: None, [3], None])
def test_what_is_no_sequence_of_callables_is_refused_before_the_training(callbacks):
    net = accelnn.MLP([3, 2], rng=0)
    before = net.flat.copy()
    with pytest.raises(TypeError, match=r"sequence of callables, such as \[callback\]"):
        accelnn.fit(net, np.zeros((4, 3)), np.zeros(4, int), epochs=1, callbacks=callbacks)
    np.testing.assert_array_equal(net.flat, before)


def test_a_class_in_the_place_of_an_object_is_refused():
    stopping = accelnn.callbacks.EarlyStopping
    with pytest.raises(TypeError, match=r"pass callbacks=\[EarlyStopping\(...\)\]"):
        run([stopping])


def test_a_stop_at_the_end_of_an_epoch_still_ends_the_epoch():
    called = []

    def stop(_net, _history):
        return True

    stop.every = 4
    accelnn.fit(
        accelnn.MLP([3, 2], rng=0),
        np.zeros((40, 3)),
        np.zeros(40, int),
        batch_size=10,
        epochs=3,
        callbacks=[stop, lambda _net, history: called.append(history.steps)],
    )
    assert called == [4]
