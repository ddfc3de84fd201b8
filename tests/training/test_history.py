"""The record of a run."""

import numpy as np

import accelnn


def test_counts_of_steps_and_epochs():
    history = accelnn.History(8, loss=[1.0] * 20)
    assert history.steps == 20
    assert history.epochs == 2.5
    assert accelnn.History(8).epochs == 0.0


def test_repr_shows_the_end_of_the_run():
    assert repr(accelnn.History(4)) == "<History of 0 steps, 0 epochs>"
    history = accelnn.History(4, loss=[2.0, 0.51239], test_accuracy=[0.1, 0.98765])
    expected = "<History of 2 steps, 0.5 epochs, last loss 0.5124, test accuracy 0.9877>"
    assert repr(history) == expected
    assert "1,200 steps" in repr(accelnn.History(4, loss=[1.0] * 1200))


def test_two_histories_share_no_list():
    first, second = accelnn.History(1), accelnn.History(1)
    first.loss.append(1.0)
    assert second.loss == []


def test_of_a_run_without_validation():
    draw = np.random.default_rng(0)
    net = accelnn.MLP([4, 3], rng=0)
    history = accelnn.fit(net, draw.normal(size=(10, 4)), draw.integers(0, 3, 10), epochs=2)
    assert len(history.loss) == 2
    assert {type(value) for value in history.loss} == {float}
    assert history.evaluated_at == history.test_loss == history.train_loss == []
    assert history.test_accuracy == history.train_accuracy == []


def test_of_a_run_with_validation_holds_plain_numbers():
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(10, 4)), draw.integers(0, 3, 10)
    history = accelnn.fit(accelnn.MLP([4, 3]), x, t, validation=(x, t), iters=3, batch_size=5)
    assert history.evaluated_at == [0, 2, 3]
    assert history.train_loss == history.test_loss
    for values in (history.train_loss, history.train_accuracy, history.test_accuracy):
        assert [type(value) for value in values] == [float] * 3
