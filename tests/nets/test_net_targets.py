"""Targets that a loss cannot mean: each door refuses them, and names the call that mends them."""

import re

import numpy as np
import pytest

import accelnn

N = 12
X = np.linspace(-1.0, 1.0, 4 * N).reshape(N, 4)
LABELS = np.arange(N) % 3
SIGNS = np.where(LABELS > 0, 1, -1)
BITS = (SIGNS + 1) // 2
# What is wrong, sizes and loss of the net, what would be right, and the call in the message.
ROWS = {
    "signs as labels": (SIGNS, [4, 2], "cross_entropy", BITS, "(t > 0).astype(int)"),
    "labels from one": (LABELS + 1, [4, 5, 3], "cross_entropy", LABELS, "t - 1"),
    "signs in rows": (2 * np.eye(3)[LABELS] - 1, [4, 3], "cross_entropy", LABELS, "(t + 1) / 2"),
    "signs for a sigmoid": (SIGNS, [4, 1], "binary_cross_entropy", BITS, "(t + 1) / 2"),
    "a column of signs": (
        SIGNS[:, None].astype(float),
        [4, 1],
        "binary_cross_entropy",
        BITS,
        "(t + 1) / 2",
    ),
    "one and two": (BITS + 1, [4, 2, 1], "binary_cross_entropy", BITS, "t - 1"),
    "signs of several labels": (
        2 * np.eye(3)[LABELS] - 1,
        [4, 3],
        "binary_cross_entropy",
        np.eye(3)[LABELS],
        "(t + 1) / 2",
    ),
    "floats": (LABELS.astype(float), [4, 3], "cross_entropy", LABELS, "t.astype(int)"),
    "bools": (LABELS > 0, [4, 2], "cross_entropy", BITS, "t.astype(int)"),
    "a column": (LABELS[:, None], [4, 3], "cross_entropy", LABELS, "t.ravel()"),
    "a column of floats": (
        LABELS[:, None] * 1.0,
        [4, 3],
        "cross_entropy",
        LABELS,
        "t.ravel().astype(int)",
    ),
}
DOORS = [
    "loss",
    "accuracy",
    "gradient",
    "numerical_gradient",
    "check_gradient",
    "fit",
    "prepare",
    "validation",
]


def go_through(door, net, t, right):
    backend = net.backend
    if door == "fit":
        return accelnn.fit(net, X, t, iters=1)
    if door == "prepare":
        return accelnn.fit(net, accelnn.prepare(X, t, backend=backend), iters=1)
    if door == "validation":
        return accelnn.fit(net, X, right, validation=(X, t), iters=1)
    return getattr(net, door)(X, t)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ROWS)
def test_each_door_names_the_call(kind, door, backend):
    t, sizes, loss, right, call = ROWS[kind]

    def new_net():
        return accelnn.MLP(sizes, loss=loss, rng=0, backend=backend)

    with pytest.raises(ValueError, match=re.escape(call)) as caught:
        go_through(door, new_net(), t, right)
    assert len(str(caught.value)) < 300
    mended = eval(call, {"t": t})  # noqa: S307 - the message's own
    if door == "prepare" and mended.ndim == 1 and mended.dtype.kind == "f":
        # It knows no net that says what numbers without an axis are.
        mended = mended[:, None]
    go_through(door, new_net(), mended, right)
    if door == "loss":
        net = new_net()
        assert net.loss(X, mended) == pytest.approx(net.loss(X, right), rel=1e-6)


@pytest.mark.parametrize("t", [np.array([0, 1, 5, 2]), np.array([-1, 0, 1, 2]), np.array([1, 4])])
def test_labels_that_no_call_can_mend_get_none(t):
    with pytest.raises(ValueError, match="have the classes 0 to 2") as caught:
        accelnn.MLP([4, 3], rng=0).loss(X[: len(t)], t)
    assert "pass" not in str(caught.value)


def test_prepare_says_how_numbers_get_an_axis():
    y = X[:, 0]
    with pytest.raises(ValueError, match=re.escape("for a single output t[:, None]")):
        accelnn.prepare(X, y)
    net = accelnn.MLP([4, 1], loss="sum_squared_error", rng=0)
    assert accelnn.fit(net, accelnn.prepare(X, y[:, None]), iters=1).steps == 1


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_weight_of_one_sample_may_be_a_number(backend):
    net = accelnn.MLP([4, 3], dtype="float64", rng=0, backend=backend)
    assert net.loss(X[0], 1, sample_weight=3) == pytest.approx(3 * net.loss(X[0], 1))
    gradient = net.gradient(X[0], 1)["W1"]
    np.testing.assert_allclose(net.gradient(X[0], 1, sample_weight=3.0)["W1"], 3 * gradient)
    assert net.accuracy(X[0], 1, sample_weight=np.float32(2)) in (0.0, 1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        net.loss(X[0], 1, sample_weight=-1.0)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(\); pass one weight for each"):
        net.loss(X, LABELS, sample_weight=2.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: accelnn.MLP([4, 1]),
        lambda: accelnn.TwoLayerNet(4, 3, 1),
        lambda: accelnn.SimpleNet(4, 1),
    ],
    ids=["MLP", "TwoLayerNet", "SimpleNet"],
)
def test_one_output_under_a_softmax_is_refused(make):
    with pytest.raises(ValueError, match="over one output is always 1; take two outputs"):
        make()
