"""The states of callbacks in the file of a run."""

import numpy as np
import pytest

import accelnn
from accelnn.callbacks import CSVLog, EarlyStopping

DRAW = np.random.default_rng(8)
X = DRAW.normal(size=(23, 4))
# Noisy, so that a net overfits.
T = (X[:, :3] + DRAW.normal(size=(23, 3))).argmax(1)
TEST = DRAW.normal(size=(9, 4)), DRAW.integers(0, 3, 9)


class Keeps:
    def __init__(self, state):
        self.state = state

    def __call__(self, _net, _history):
        pass

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.found = state


class Half:
    def __call__(self, _net, _history):
        pass

    def state_dict(self):
        return {}


def train(path, *callbacks, epochs=2, rng=1, validation=TEST, resume=None):
    net = accelnn.MLP([4, 6, 3], rng=0, dtype="float64")
    options = {"optimizer": accelnn.Adam(0.1), "batch_size": 5, "epochs": epochs, "rng": rng}
    options |= {"checkpoint": path, "resume": resume or path, "validation": validation}
    return accelnn.fit(net, X, T, callbacks=callbacks, **options)


def test_those_of_a_finished_run_are_as_they_were(tmp_path):
    stop, again = EarlyStopping(patience=3), EarlyStopping(patience=3)
    train(tmp_path / "run", stop, epochs=60)
    train(tmp_path / "run", again, epochs=60)
    assert stop.stopped
    for name in ("stopped", "best", "best_step", "best_epoch"):
        assert getattr(again, name) == getattr(stop, name)


def test_so_is_the_generator_of_a_finished_run(tmp_path):
    draws = [np.random.default_rng(1) for _ in range(2)]
    for draw in draws:
        train(tmp_path / "run", rng=draw)
    assert draws[0].random() == draws[1].random()


def test_numbers_of_numpy_are_kept_and_another_callback_may_come_before(tmp_path):
    state = {"n": np.int64(3), "x": np.float32(0.5), "is": np.bool_(True)}  # noqa: FBT003 - a value
    train(tmp_path / "run", Keeps(state))
    kept = Keeps({})
    train(tmp_path / "run", lambda _net, _history: None, kept, epochs=3)
    assert kept.found == {"n": 3, "x": 0.5, "is": True}


@pytest.mark.parametrize("state", [{"a": [np.ones(2)]}, {"a": {1, 2}}, [1, 2]])
def test_what_a_file_cannot_keep_is_refused_at_the_start(tmp_path, state):
    with pytest.raises(TypeError, match=r"Keeps.state_dict\(\) must return") as caught:
        train(tmp_path / "run", Keeps(state))
    assert caught.value.history.steps == 0


def test_a_state_that_nobody_would_take_up_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Half has no method load_state_dict"):
        train(tmp_path / "run", Half())


def test_what_is_not_evaluated_on_batches_that_come_one_by_one_is_said():
    with pytest.raises(ValueError, match=r"use EarlyStopping\(monitor='test_accuracy'\)"):
        accelnn.fit(
            accelnn.MLP([4, 6, 3]),
            iter([(X, T)]),
            iters=1,
            validation=TEST,
            callbacks=[EarlyStopping(monitor="train_accuracy")],
        )


def test_test_data_may_come_later(tmp_path):
    train(tmp_path / "run", validation=None)
    log, stop = CSVLog(tmp_path / "log.csv"), EarlyStopping()
    history = train(tmp_path / "run", log, stop, epochs=4)
    assert history.evaluated_at == [10, 15, 20]
    assert stop.best in history.test_loss
    header, *lines = (tmp_path / "log.csv").read_text().splitlines()
    assert header == "step,epoch,train_loss,train_accuracy,test_loss,test_accuracy"
    assert [line.split(",")[0] for line in lines] == ["10", "15", "20"]


def test_one_file_by_two_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train("run", resume=tmp_path / "run").epochs == 2
    assert train(tmp_path / "run", resume="run", epochs=3).epochs == 3
