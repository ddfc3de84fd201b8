"""The log of a run: a line for each evaluation, or for each epoch."""

import pickle

import numpy as np
import pytest

import accelnn
from accelnn.callbacks import CSVLog
from accelnn.errors import DivergenceWarning
from accelnn.testing import StrictBackend

N, BATCH = 23, 5


def data(n=N):
    draw = np.random.default_rng(8)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def run(*callbacks, net=None, **options):
    net = net or accelnn.MLP([4, 8, 3], dtype="float64", rng=0)
    options = {"epochs": 2, "validation": data(9), "batch_size": BATCH, "rng": 1, **options}
    return accelnn.fit(net, *data(), callbacks=callbacks, **options)


def read(path):
    header, *lines = path.read_text().splitlines()
    return header, [[float(number) for number in line.split(",")] for line in lines]


@pytest.mark.parametrize("backend", ["numpy", "numba", StrictBackend])
@pytest.mark.parametrize("options", [{"epochs": 3}, {"epochs": None, "iters": 12}])
def test_a_log_is_what_the_history_writes(options, backend, tmp_path):
    net = accelnn.MLP([4, 3], rng=0, backend=backend)
    history = run(CSVLog(tmp_path / "log.csv"), net=net, **options)
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "log.csv").read_bytes() == (tmp_path / "history.csv").read_bytes()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(history.evaluated_at)


def test_each_line_is_there_at_once(tmp_path):
    path = tmp_path / "log.csv"
    counts = []
    run(CSVLog(path), lambda *_: counts.append(len(path.read_text().splitlines())), epochs=3)
    assert counts == [3, 4, 5], "the names, the start and the epochs"


def test_without_validation_it_has_the_mean_loss_of_each_epoch(tmp_path):
    path = tmp_path / "log.csv"
    history = run(CSVLog(path), validation=None, epochs=None, iters=12)
    header, rows = read(path)
    assert header == "step,epoch,loss"
    assert [row[:2] for row in rows] == [[5, 1.0], [10, 2.0], [12, 2.4]]
    pieces = np.split(np.array(history.loss), [5, 10])
    # Two means of five numbers: each rounds five times, by half an ulp.
    np.testing.assert_allclose(
        [row[2] for row in rows],
        [sum(piece) / piece.size for piece in pieces],
        rtol=5 * np.finfo(float).eps,
    )


def test_or_of_every_k_updates(tmp_path):
    log = CSVLog(tmp_path / "log.csv")
    log.every = 4
    run(log, validation=None, epochs=2)
    assert [row[0] for row in read(log.path)[1]] == [4, 8, 10]


def test_a_loss_that_does_not_classify_has_no_columns_of_accuracies(tmp_path):
    x, _ = data()
    net = accelnn.MLP([4, 2], loss="huber", rng=0)
    path = tmp_path / "log.csv"
    targets = x[:, :2]
    accelnn.fit(net, x, targets, validation=(x, targets), epochs=1, callbacks=[CSVLog(path)])
    assert read(path)[0] == "step,epoch,train_loss,test_loss"


@pytest.mark.parametrize("validation", [None, data(9)])
def test_each_run_has_a_new_file_or_more_lines(validation, tmp_path):
    fresh, longer = CSVLog(tmp_path / "fresh.csv"), CSVLog(tmp_path / "longer.csv", append=True)
    for _ in range(2):
        run(fresh, longer, epochs=2, validation=validation)
    header, rows = read(fresh.path)
    assert read(longer.path) == (header, rows * 2)


def test_lines_are_appended_to_the_same_columns_only(tmp_path):
    log = CSVLog(tmp_path / "log.csv", append=True)
    run(log, epochs=1)
    before = log.path.read_text()
    with pytest.raises(ValueError, match=r"first line is 'step,epoch,train.*'step,epoch,loss'"):
        run(log, epochs=1, validation=None)
    assert log.path.read_text() == before


def test_a_log_is_closed_and_complete_when_a_run_fails(tmp_path):
    def fail(_net, history):
        if history.steps == 7:
            raise ZeroDivisionError

    fail.every = 1
    log = CSVLog(tmp_path / "log.csv")
    with pytest.raises(ZeroDivisionError):
        run(log, fail, validation=None)
    assert [row[0] for row in read(log.path)[1]] == [5, 7]
    assert pickle.loads(pickle.dumps(log)).path == log.path  # noqa: S301 - our own


def test_a_file_that_cannot_be_written_is_known_before_the_training(tmp_path):
    net = accelnn.MLP([4, 3], rng=0)
    before = net.flat.copy()
    with pytest.raises(FileNotFoundError):
        run(CSVLog(tmp_path / "none" / "log.csv"), net=net)
    np.testing.assert_array_equal(net.flat, before)


def test_divergence_is_in_the_log(tmp_path):
    log = CSVLog(tmp_path / "log.csv")
    net = accelnn.MLP([4, 8, 1], loss="sum_squared_error", activation="relu", rng=0)
    x, _ = data()
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning):
        accelnn.fit(
            net, x, x[:, :1], optimizer=accelnn.SGD(1e6), epochs=9, batch_size=5, callbacks=[log]
        )
    assert not np.isfinite(read(log.path)[1][-1][2])
