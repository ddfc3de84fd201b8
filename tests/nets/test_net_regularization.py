"""Dropout and label smoothing of nets: what they refuse, keep, and leave alone."""

import copy
import pickle

import numpy as np
import pytest

import accelnn
from accelnn.testing._rounding import assert_equal_but_for_rounding


def data(n=17):
    draw = np.random.default_rng(3)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def new_net(backend="numpy", **options):
    options = {"dropout": 0.5, "label_smoothing": 0.1, "dtype": "float64", **options}
    return accelnn.MLP([4, 6, 3], rng=1, backend=backend, **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, ValueError, "dropout must be in"),
        ({"dropout": float("nan")}, ValueError, "dropout must be in"),
        ({"dropout": "half"}, TypeError, "dropout must be a number, got 'half'"),
        ({"dropout": True}, TypeError, "dropout must be a number"),
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing must be in"),
        ({"label_smoothing": None}, TypeError, "label_smoothing must be a number"),
        (
            {"label_smoothing": 0.1, "loss": "huber"},
            ValueError,
            "for the losses 'cross_entropy' and 'binary_cross_entropy', and this net's is 'huber'",
        ),
        ({"label_smoothing": 0.1, "loss": "sum_squared_error"}, ValueError, "for the losses"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        accelnn.MLP([4, 6, 3], **options)
    with pytest.raises(error, match=words):
        accelnn.TwoLayerNet(4, 6, 3, **options)


def test_a_net_without_hidden_units_has_none_to_drop():
    with pytest.raises(ValueError, match=r"sizes \[4, 3\] have no hidden layer"):
        accelnn.MLP([4, 3], dropout=0.5)


def test_a_loss_of_ones_own_has_no_even_target():
    own = accelnn.Loss("own", lambda a, t: (a - t) ** 2, lambda a, t: 2 * (a - t))
    with pytest.raises(ValueError, match="this net's is 'own'"):
        accelnn.MLP([4, 3], loss=own, label_smoothing=0.1)


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (3, TypeError, r"dropout_key must be \(seed, update\), got 3"),
        ((1, 2, 3), TypeError, "must be"),
        ((1.0, 2), TypeError, "two integers"),
        ((True, 2), TypeError, "two integers"),
        ((-1, 2), ValueError, "seed below"),
        ((2**64, 2), ValueError, "seed below"),
        ((1, 2**32), ValueError, "update below"),
    ],
)
def test_wrong_keys_are_refused(key, error, words):
    for method in ("loss", "gradient", "numerical_gradient"):
        with pytest.raises(error, match=words):
            getattr(new_net(), method)(*data(), dropout_key=key)


def test_copies_files_and_pickles_keep_both(tmp_path):
    net = new_net()
    net.save(tmp_path / "net.safetensors")
    loaded = accelnn.load(tmp_path / "net.safetensors")
    for again in (loaded, copy.copy(net), pickle.loads(pickle.dumps(net)), net.to("numba")):  # noqa: S301
        assert (again.spec.dropout, again.spec.label_smoothing) == (0.5, 0.1)
        assert again.spec == net.spec


def test_a_file_without_them_is_as_before(tmp_path):
    """So that earlier versions read it."""
    paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    new_net(dropout=0.0, label_smoothing=0.0).save(paths[0])
    accelnn.MLP([4, 6, 3], rng=1, dtype="float64").save(paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"dropout" not in paths[0].read_bytes()


def test_a_net_without_dropout_takes_a_key():
    """So that one loop of one's own trains either."""
    net, (x, t) = new_net(dropout=0.0), data()
    assert net.loss(x, t, dropout_key=(1, 2)) == net.loss(x, t)


def test_no_seed_is_drawn_without_dropout():
    losses = []
    for draw in (np.random.default_rng(1), np.random.default_rng(1)):
        net = new_net(dropout=0.0)
        losses.append(accelnn.fit(net, *data(), epochs=1, rng=draw, batch_size=5).loss)
    plain = accelnn.fit(new_net(dropout=0.0), *data(), epochs=1, rng=1, batch_size=5)
    assert plain.dropout_seed is None
    assert losses == [plain.loss] * 2


def test_history_tells_the_seed_of_each_update(backend):
    """A loop of one's own with the seed of a run drops what the run has dropped."""
    net = new_net(backend, label_smoothing=0.0)
    again = net.to(backend)
    x, t = data()
    order, here = np.random.default_rng(9), (backend.asarray(x), backend.asarray(t))
    history = accelnn.fit(net, x, t, iters=6, batch_size=len(x), rng=order)
    order = np.random.default_rng(9)
    order.integers(2**64, dtype=np.uint64)
    losses = []
    for update in range(6):
        rows = backend.asarray(order.permutation(len(x)))
        batch = [backend.take(array, rows) for array in here]
        key = history.dropout_seed, update
        losses.append(again.loss(*batch, dropout_key=key))
        for name, gradient in again.gradient(*batch, dropout_key=key).items():
            again.params[name] -= 0.1 * gradient

    def once_more(move):
        other = new_net("numpy", label_smoothing=0.0)
        order = np.random.default_rng(9)
        order.integers(2**64, dtype=np.uint64)
        found, xs = [], move(x)
        other.params = {name: move(value) for name, value in other.params.items()}
        for update in range(6):
            rows = order.permutation(len(x))
            key = history.dropout_seed, update
            found.append(other.loss(xs[rows], t[rows], dropout_key=key))
            for name, gradient in other.gradient(xs[rows], t[rows], dropout_key=key).items():
                other.params[name] -= 0.1 * gradient
        return [found]

    assert_equal_but_for_rounding([losses], once_more)
    assert_equal_but_for_rounding([history.loss], once_more)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("soft", [False, True])
def test_smoothing_is_that_of_torch(loss, soft):
    torch = pytest.importorskip("torch")
    draw, outputs = np.random.default_rng(2), 3
    x, t = draw.normal(size=(9, 4)), draw.random((9, outputs))
    t /= t.sum(1, keepdims=True)
    if not soft:
        t = np.eye(outputs)[t.argmax(1)]
    net = new_net(dropout=0.0, label_smoothing=0.3, loss=loss)
    plain = new_net(dropout=0.0, label_smoothing=0.0, loss=loss)
    (w1, b1, w2, b2), a = net.params.values(), torch.nn.functional
    scores = a.sigmoid(torch.from_numpy(x @ w1 + b1)) @ torch.from_numpy(w2) + torch.from_numpy(b2)
    if loss == "cross_entropy":
        value = a.cross_entropy(scores, torch.from_numpy(t), label_smoothing=0.3)
    else:
        smooth = torch.from_numpy(t * 0.7 + 0.15)
        value = a.binary_cross_entropy_with_logits(scores, smooth, reduction="sum") / len(x)
    assert net.loss(x, t) == pytest.approx(float(value), rel=1e-14)
    assert net.accuracy(x, t) == plain.accuracy(x, t)


def test_bits_are_smoothed_as_a_column():
    net = accelnn.MLP([4, 5, 1], loss="binary_cross_entropy", label_smoothing=0.2, rng=0)
    x = data()[0]
    t = np.arange(len(x)) % 2
    assert net.loss(x, t) == net.loss(x, t[:, None].astype(float))
    columns = [accelnn.fit(net.to("numpy"), x, u, epochs=2, rng=1) for u in (t, t[:, None] * 1.0)]
    assert columns[0].loss == columns[1].loss


def test_prepared_data_is_left_as_it_is(backend):
    """One data set trains nets with and without smoothing."""
    x, t = data()
    prepared = accelnn.prepare(x, t, backend=backend, dtype="float64")
    first = accelnn.fit(new_net(backend), prepared, epochs=2, rng=1, batch_size=5)
    again = accelnn.fit(new_net(backend), prepared, epochs=2, rng=1, batch_size=5)
    alone = accelnn.fit(new_net(backend), x, t, epochs=2, rng=1, batch_size=5)
    assert first.loss == again.loss == alone.loss


def test_labels_out_of_range_are_told_with_smoothing_too(backend):
    x, t = data()
    for method in ("loss", "gradient", "numerical_gradient"):
        with pytest.raises(ValueError, match="label 3, but"):
            getattr(new_net(backend), method)(backend.asarray(x), backend.asarray(t + 1))


def test_a_net_says_what_it_has():
    net = new_net()
    assert repr(net).startswith(
        "<MLP 4-6-3, sigmoid, cross_entropy, dropout 0.5, label smoothing 0"
    )
    assert net.summary().startswith("MLP, cross_entropy, dropout 0.5, label smoothing 0.1, float64")
    plain = new_net(dropout=0.0, label_smoothing=0.0)
    assert repr(plain).startswith("<MLP 4-6-3, sigmoid, cross_entropy, float64, 51 parameters on")
