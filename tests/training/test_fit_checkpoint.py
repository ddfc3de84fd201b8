"""Runs that are kept in a file, and go on from it."""

import os

import numpy as np
import pytest
from kept_runs import (
    Falls,
    FallsError,
    N,
    assert_same,
    data,
    fall,
    go_on,
    new_net,
    options,
    whole,
)

import accelnn
from accelnn import optimizers
from accelnn.errors import DivergenceWarning

RULES = [getattr(accelnn, name) for name in accelnn.optimizers.__all__ if name != "UpdateRule"]
RULES = [rule() for rule in RULES if rule is not optimizers.Rule]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_run_that_failed_goes_on_to_the_bit(backend, rule, dtype, path):
    """The same call again and again, of new nets, until it is done."""
    given = {"backend": backend, "optimizer": rule, "net": {"dtype": dtype}}
    fall(path, 3, **given)
    fall(path, 11, **given)
    assert_same(go_on(path, **given), whole(**given))


@pytest.mark.parametrize("every", [None, 1, 3, 7])
@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
@pytest.mark.parametrize("at", [1, 4, 5, 6, 10, 17])
def test_wherever_it_failed(at, sampling, every, path):
    given = {
        "sampling": sampling,
        "checkpoint_every": every,
        "clip_norm": 0.5,
        "sample_weight": np.arange(N) / 11.0,
        "optimizer": accelnn.Adam(accelnn.schedules.cosine(0.1, 20)),
        "net": {"dropout": 0.3, "label_smoothing": 0.1},
    }
    fall(path, at, **given)
    expected = dict(given)
    del expected["checkpoint_every"]
    assert_same(go_on(path, **given), whole(**expected))


def test_what_was_computed_after_the_last_checkpoint_is_computed_again(path, monkeypatch):
    """As after a power cut, at which nothing more is written."""
    monkeypatch.setattr("accelnn.training._run.Run._save", lambda *_args, **_options: None)
    fall(path, 13)
    monkeypatch.undo()
    updates = []
    net = new_net()

    class Counts:
        every = 1

        def __call__(self, _net, history):
            updates.append(history.steps)

    history = accelnn.fit(
        net, *data(), **options(checkpoint=path, resume=path, callbacks=[Counts()])
    )
    assert updates == list(range(11, 21))
    assert_same((net, history), whole())


def test_a_run_that_is_done_returns_at_once(path):
    expected = go_on(path)
    before = path.stat().st_mtime_ns

    def fail(_net, _history):
        raise AssertionError

    found = go_on(path, callbacks=[fail])
    assert_same(found, expected)
    assert_same(found, whole())
    assert path.stat().st_mtime_ns == before
    # Another object.
    assert_same(go_on(path, epochs=2), expected)


def test_more_epochs_are_in_total(path):
    go_on(path, epochs=2)
    assert_same(go_on(path, epochs=5), whole(epochs=5))


def test_it_goes_on_elsewhere(path):
    """A checkpoint is read without being written; a history in memory goes on from its end."""
    fall(path, 7)
    content = path.read_bytes()
    net = new_net()
    history = accelnn.fit(net, *data(), **options(resume=path, epochs=3))
    assert path.read_bytes() == content
    more = accelnn.fit(net, *data(), **options(resume=history, epochs=1, rng=None))
    expected = whole()
    assert_same((net, history + more), expected)


def test_a_run_that_continues_a_history_is_kept_too(path):
    net = new_net()
    first = accelnn.fit(net, *data(), **options(epochs=None, iters=7))
    copied = net.to("numpy")
    given = options(rng=None, epochs=2, checkpoint=path)
    with pytest.raises(FallsError):
        accelnn.fit(net, *data(), resume=first, callbacks=[Falls(6)], **given)
    again = new_net(seed=5)
    second = accelnn.fit(again, *data(), resume=path, **given)
    expected = accelnn.fit(copied, *data(), **options(resume=first, rng=None, epochs=2))
    assert_same((again, second), (copied, expected))


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_all_generators_go_on(path, kind):
    """And that of the caller is left as by one run."""

    def rng():
        draw = np.random.Generator(getattr(np.random, kind)(3))
        draw.standard_normal(5, dtype=np.float32)
        return draw

    draw, again = rng(), rng()
    fall(path, 7, rng=rng())
    assert_same(go_on(path, rng=again), whole(rng=draw))
    assert again.random() == draw.random()


class Own(np.random.PCG64):
    pass


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rng": 2}, ValueError, "rng is not what the run in the checkpoint began with"),
        ({"batch_size": 4}, ValueError, "with batch_size 5, and this call has 4"),
        ({"sampling": "replacement"}, ValueError, "with sampling shuffle"),
        ({"optimizer": accelnn.Adam()}, ValueError, "with optimizer Momentum"),
        ({"gradient": "numerical"}, ValueError, "with gradient analytic"),
        ({"clip_norm": 2.0}, ValueError, "with clip_norm 1.0, and this call has 2.0"),
        ({"sample_weight": None}, ValueError, "with sample_weight <checksum [0-9a-f]{8}>, and"),
        ({"sample_weight": np.full(N, 2.0)}, ValueError, "and this call has <checksum"),
        ({"net": {"dtype": "float32"}}, ValueError, "with dtype float64"),
        ({"net": {"dropout": 0.5}}, ValueError, "with dropout 0.0, and this call has 0.5"),
        ({"net": {"activation": "relu"}}, ValueError, r"with the net 4-6-3 \(sigmoid"),
    ],
)
def test_another_run_is_refused(path, changes, error, message):
    given = {"clip_norm": 1.0, "sample_weight": np.ones(N)}
    fall(path, 7, **given)
    content = path.read_bytes()
    with pytest.raises(error, match=message):
        go_on(path, **{**given, **changes})
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"checkpoint_every": 5}, TypeError, "pass checkpoint=path too"),
        ({"checkpoint": "a", "checkpoint_every": 0}, ValueError, "checkpoint_every must be at lea"),
        ({"checkpoint": "a", "checkpoint_every": 1.5}, TypeError, "must be an integer"),
        ({"checkpoint": 3}, TypeError, "must be the path of a file, got int"),
        ({"checkpoint": "nowhere/run"}, FileNotFoundError, "there is no folder"),
        ({"checkpoint": "run/"}, IsADirectoryError, "does not end with the name of a file"),
        ({"checkpoint": os.devnull}, OSError, "a device or a socket, and no regular file"),
        ({"checkpoint": "x" * 300}, OSError, "File name too long"),
        (
            {"resume": "nowhere"},
            FileNotFoundError,
            "there is no checkpoint 'nowhere' to go on from",
        ),
        ({"resume": 3}, TypeError, "the History that fit returned, or the path of a checkpoint"),
        (
            {"checkpoint": "a", "rng": np.random.Generator(Own(1))},
            TypeError,
            "one of NumPy's own generators, and rng uses Own",
        ),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_trained(
    given, error, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    net = new_net()
    before = net.flat.tobytes()
    with pytest.raises(error, match=message):
        accelnn.fit(net, *data(), **options(**given))
    assert net.flat.tobytes() == before


def test_other_files_are_refused(path):
    new_net().save(path)
    with pytest.raises(ValueError, match=r"run.safetensors' holds no training run of accelnn"):
        go_on(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        go_on(path)
    fall(path.with_name("other"), 3)
    with pytest.raises(ValueError, match="holds no net of accelnn"):
        accelnn.load(path.with_name("other"))


def test_a_run_that_diverged_stays_so(path):
    call = {"optimizer": accelnn.SGD(1e200), "validation": None, "net": {"activation": "relu"}}
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning, match="the loss of step"):
        expected = go_on(path, **call)
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning, match="the loss of step"):
        found = go_on(path, **call)
    np.testing.assert_array_equal(found[1].loss, expected[1].loss)
    with pytest.raises(ValueError, match=r"ended because the loss of step \d+ is (nan|inf): it ca"):
        go_on(path, epochs=9, **call)


def test_a_run_whose_evaluation_diverged_stays_so(path):
    """Though the losses of its batches, each before its update, are finite."""
    call = {
        "optimizer": accelnn.SGD(1e200),
        "net": {"activation": "relu"},
        "batch_size": N,
        "callbacks": [accelnn.callbacks.EarlyStopping()],
    }
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning, match="the loss after step 1"):
        _, expected = go_on(path, **call)
    assert np.isfinite(expected.loss).all()
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning, match="the loss after step 1"):
        go_on(path, **call)
    with pytest.raises(ValueError, match="ended because the loss after step 1 is"):
        go_on(path, epochs=9, **call)


def test_an_old_file_is_kept_until_there_is_a_new_one(path):
    """Of another run too, which replaces it after its first epoch."""
    go_on(path)
    old, seen = path.read_bytes(), []

    class Looks:
        every = 1

        def __call__(self, _net, history):
            seen.append((history.steps, path.read_bytes() == old))

    looks = options(checkpoint=path, callbacks=[Looks()], epochs=2, rng=3)
    accelnn.fit(new_net(), *data(), **looks)
    assert seen == [(step, step <= 5) for step in range(1, 11)]
