"""What callbacks knew when a run ended, where it goes on from a file."""

import pytest
from kept_runs import assert_same, data, fall, go_on, whole

import accelnn
from accelnn.training._checkpoint import Checkpoint


@pytest.mark.parametrize("at", [2, -12, -6, -1])
def test_early_stopping_stops_where_it_would_have(backend, path, at):
    def given():
        stop = accelnn.callbacks.EarlyStopping(patience=3)
        return stop, {
            "callbacks": [stop],
            "epochs": 60,
            "optimizer": accelnn.Adam(0.1),
            "backend": backend,
        }

    stop, call = given()
    expected = whole(**call)
    assert stop.stopped
    at = at if at > 0 else expected[1].steps + at
    fall(path, at, **given()[1])
    again, call = given()
    found = go_on(path, **call)
    assert_same(found, expected)
    names = ("stopped", "best", "best_step", "best_epoch")
    for name in names:
        assert getattr(again, name) == getattr(stop, name)
    # Done: neither the same call trains on, nor a longer one that would have stopped there too.
    assert go_on(path, **given()[1])[1] == expected[1]
    longer = {**given()[1], "epochs": 61}
    assert_same(go_on(path, **longer), expected)
    # With more patience it goes on as if it had never stopped.
    longer |= {"epochs": 62, "callbacks": [accelnn.callbacks.EarlyStopping(patience=5)]}
    found = go_on(path, **longer)
    assert found[1].steps > expected[1].steps
    longer["callbacks"] = [accelnn.callbacks.EarlyStopping(patience=5)]
    assert_same(found, whole(**longer))


@pytest.mark.parametrize("before", [-2, -1, 0, 1])
def test_a_run_that_was_stopped_in_its_last_epoch_stays_stopped(path, before):
    """Whether it was stopped, and not whether it has done all that was asked for, counts."""

    def stop():
        return [accelnn.callbacks.EarlyStopping(patience=3)]

    call = {"optimizer": accelnn.Adam(0.1), "callbacks": stop()}
    expected = whole(epochs=60, **call)
    epochs = round(expected[1].epochs)
    go_on(path, epochs=epochs + before, **call | {"callbacks": stop()})
    assert_same(go_on(path, epochs=60, **call | {"callbacks": stop()}), expected)
    # So it is with a function that stops it.
    path.unlink()
    call["callbacks"] = [lambda _net, history: history.epochs >= epochs]
    expected = whole(epochs=60, **call)
    assert expected[1].epochs == epochs
    go_on(path, epochs=epochs + before, **call)
    assert_same(go_on(path, epochs=60, **call), expected)


def test_the_best_weights_are_kept(path):
    call = {"epochs": 12, "optimizer": accelnn.SGD(3.0)}
    keep = accelnn.callbacks.BestWeights()
    expected = whole(callbacks=[keep], **call)
    assert 0 < keep.best_step <= 50, "else the test shows nothing"
    fall(path, 52, callbacks=[accelnn.callbacks.BestWeights()], **call)
    again = accelnn.callbacks.BestWeights()
    assert_same(go_on(path, callbacks=[again], **call), expected)
    assert again.best == keep.best


@pytest.mark.parametrize("to_file", [False, True])
def test_a_longer_run_goes_on_from_the_last_weights_not_from_the_best(path, to_file):
    best = path.with_name("best.safetensors") if to_file else None

    def call(epochs):
        keep = accelnn.callbacks.BestWeights(path=best)
        return {"epochs": epochs, "optimizer": accelnn.SGD(3.0), "callbacks": [keep]}

    short, _ = whole(**call(11))
    found, _ = go_on(path, **call(11))
    assert found.flat.tobytes() == short.flat.tobytes()
    assert Checkpoint.read(path).last is not None, "else the test shows nothing"
    found, expected = go_on(path, **call(12)), whole(**call(12))
    assert_same(found, expected)
    assert found[0].flat.tobytes() == short.flat.tobytes(), "the last epoch was not better"
    if to_file:
        assert accelnn.load(best).flat.tobytes() == short.flat.tobytes()
    assert_same(go_on(path, **call(18)), whole(**call(18)))
    assert_same(go_on(path, **call(18)), whole(**call(18)))


def test_the_best_file_is_of_the_start_if_a_callback_comes_with_it(path):
    """A new one, of which the checkpoint has no state; and nothing is better afterwards."""
    fall(path, 12, optimizer=accelnn.SGD(0.1))
    best = path.with_name("best.safetensors")
    keep = accelnn.callbacks.BestWeights("test_accuracy", path=best)
    net, history = go_on(path, optimizer=accelnn.SGD(0.1), callbacks=[keep])
    assert keep.best_step in history.evaluated_at
    assert accelnn.load(best).flat.tobytes() == net.flat.tobytes()


@pytest.mark.parametrize("validation", [None, data(9)])
def test_the_log_is_that_of_the_whole_run(path, tmp_path, validation):
    logs = tmp_path / "whole.csv", tmp_path / "parts.csv"
    call = {"validation": validation}
    whole(callbacks=[accelnn.callbacks.CSVLog(logs[0])], **call)
    fall(path, 12, callbacks=[accelnn.callbacks.CSVLog(logs[1])], **call)
    go_on(path, callbacks=[accelnn.callbacks.CSVLog(logs[1])], **call)
    assert logs[1].read_text() == logs[0].read_text()


def test_each_is_called_as_often(path):
    def counting(calls, every):
        def count(_net, history):
            calls.append((history.steps, every))

        if every:
            count.every = every
        return count

    def both(calls):
        return [counting(calls, None), counting(calls, 3)]

    expected, found = [], []
    whole(callbacks=both(expected))
    fall(path, 6, callbacks=both(found), checkpoint_every=2)
    # Whoever is called at the update at which another one fails is called there again.
    assert found.pop() == (6, 3)
    go_on(path, callbacks=both(found), checkpoint_every=2)
    assert found == expected


def test_others_begin_afresh(path):
    fall(path, 12, callbacks=[accelnn.callbacks.EarlyStopping()])
    stop = accelnn.callbacks.BestWeights()
    go_on(path, callbacks=[stop])
    assert stop.best is not None
