"""What `fit` would ignore, or cannot be meant, is refused with the way out."""

import math
import re

import numpy as np
import pytest

import accelnn

X = np.linspace(-1.0, 1.0, 40).reshape(10, 4)
T = np.arange(10) % 3
SIZES = [4, 5, 3]


class Penalised(accelnn.MLP):
    def loss(self, x, t):
        return super().loss(x, t) + 0.5 * float((self.flat**2).sum())

    def gradient(self, x, t):
        found = super().gradient(x, t)
        return {key: found[key] + self.params[key] for key in found}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", ["loss", "gradient", "predict", "accuracy", "numerical_gradient"])
@pytest.mark.parametrize("base", [accelnn.MLP, accelnn.SimpleNet])
def test_a_method_of_ones_own_is_never_ignored(base, name, backend):
    def own(*_args, **_options):
        raise AssertionError

    def new_net(kind):
        options = {"rng": 0, "backend": backend}
        return kind([4, 3], **options) if base is accelnn.MLP else kind(4, 3, **options)

    nets = [new_net(type("Mine", (base,), {name: own})), new_net(base)]
    setattr(nets[1], name, own)
    options = {"validation": (X, T)} if name == "accuracy" else {}
    if name == "numerical_gradient":
        options["gradient"] = "numerical"
    for net in nets:
        before = net.flat.copy()
        with pytest.raises(TypeError, match=f"has a method {name} of its own, which fit does not"):
            accelnn.fit(net, X, T, iters=1, **options)
        np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("name", ["accuracy", "numerical_gradient", "check_gradient", "save"])
def test_what_fit_has_no_use_for_may_be_overridden(name):
    net = type("Mine", (accelnn.MLP,), {name: None})(SIZES, rng=0)
    plain = accelnn.MLP(SIZES, rng=0)
    for each in (net, plain):
        accelnn.fit(each, X, T, epochs=2, rng=0)
    np.testing.assert_array_equal(net.flat, plain.flat)


def test_the_ways_out_work():
    net = Penalised(SIZES, dtype="float64", rng=0)
    net.check_gradient(X, T)
    rule, before = accelnn.Momentum(0.1), net.loss(X, T)
    state = rule.init(net.params)
    for _ in range(20):
        rule.update(net.params, net.gradient(X, T), state)
    assert net.loss(X, T) < before
    call = "accelnn.numerical_gradient(lambda _: net.loss(x, t), net.params)"
    with pytest.raises(TypeError, match=re.escape(call)):
        net.numerical_gradient(X, T)
    found = eval(call, {"accelnn": accelnn, "net": net, "x": X, "t": T})  # noqa: S307
    for key, exact in net.gradient(X, T).items():
        np.testing.assert_allclose(found[key], exact, atol=1e-8)


@pytest.mark.parametrize("rule", [accelnn.Adam, accelnn.AdamW, accelnn.RMSprop, accelnn.AdaGrad])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_pixel_that_is_always_black_moves_no_weight(rule, backend):
    x = X.copy()
    x[:, 1] = 0.0
    for dtype, eps in (("float32", 1e-44), ("float64", 5e-324), ("float32", 1e-8)):
        net = accelnn.MLP(SIZES, dtype=dtype, rng=0, backend=backend)
        before = net.params["W1"][1].copy()
        accelnn.fit(net, x, T, optimizer=rule(0.01, eps=eps, weight_decay=0.0), epochs=3, rng=0)
        np.testing.assert_array_equal(net.params["W1"][1], before)
        assert np.isfinite(net.flat).all()
    net = accelnn.MLP(SIZES, rng=0, backend=backend)
    with pytest.raises(ValueError, match=r"eps=1e-50 of \w+ is 0 in float32; take a larger one"):
        accelnn.fit(net, x, T, optimizer=rule(eps=1e-50), iters=1)


@pytest.mark.parametrize(
    ("checkpoint", "callbacks", "names"),
    [
        ("a", [accelnn.callbacks.BestWeights(path="a")], "checkpoint= and BestWeights"),
        ("a", [accelnn.callbacks.CSVLog("b/../a")], "checkpoint= and CSVLog"),
        (
            None,
            [accelnn.callbacks.CSVLog("a"), accelnn.callbacks.BestWeights(path="./a")],
            "CSVLog and BestWeights",
        ),
        (None, [accelnn.callbacks.CSVLog("a"), accelnn.callbacks.CSVLog("a")], "CSVLog and CSVLog"),
    ],
)
def test_two_that_would_write_one_file(checkpoint, callbacks, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    net = accelnn.MLP(SIZES, rng=0)
    given = {"validation": (X, T), "epochs": 1, "checkpoint": checkpoint, "callbacks": callbacks}
    with pytest.raises(ValueError, match=rf"{names} would both write '.*a': give each its own"):
        accelnn.fit(net, X, T, **given)
    assert not (tmp_path / "a").exists()
    callbacks[-1].path = tmp_path / "c"
    accelnn.fit(net, X, T, **given)


def test_what_a_callback_of_ones_own_calls_writes_may_be_anything():
    def own(_net, _history):
        pass

    own.writes = 7
    net = accelnn.MLP(SIZES, rng=0)
    assert accelnn.fit(net, X, T, epochs=1, callbacks=[own, own]).steps == 1


SEVERAL = np.column_stack([T == 0, T < 2, np.arange(10) == 9]).astype(np.float64)
GIVEN = {
    "arrays": lambda _, t: (X, t),
    "integers": lambda _, t: (X, t.astype(int)),
    "prepared": lambda net, t: (accelnn.prepare(X, t, backend=net.backend),),
    "stream": lambda net, t: (accelnn.prepare(X, t, backend=net.backend, stream=True),),
    "batches": lambda _, t: (lambda: iter([(X, t)]),),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("way", GIVEN)
def test_several_labels_under_a_softmax(way, backend):
    net = accelnn.MLP(SIZES, rng=0, backend=backend)
    before = net.flat.copy()
    with pytest.raises(ValueError, match=r"has up to 3 ones in a row, .*binary_cross_entropy"):
        accelnn.fit(net, *GIVEN[way](net, SEVERAL), iters=2)
    np.testing.assert_array_equal(net.flat, before)
    assert not SEVERAL.any(axis=1).all()
    shares = SEVERAL / np.maximum(SEVERAL.sum(axis=1, keepdims=True), 1)
    accelnn.fit(net, *GIVEN[way](net, shares), iters=1)
    labels = accelnn.MLP(SIZES, loss="binary_cross_entropy", rng=0, backend=backend)
    accelnn.fit(labels, *GIVEN[way](labels, SEVERAL), iters=1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("count", [1.0, 3.0])
def test_all_rows_are_looked_at_where_some_look_like_several_labels(count, stream):
    # More rows than are looked at together; the last one tells counts from labels.
    rows = 40_000
    t = np.tile([1.0, 1.0, 0.0], (rows, 1))
    t[-1, 2] = count
    data = accelnn.prepare(np.ones((rows, 4)), t, stream=stream)
    net = accelnn.MLP(SIZES, rng=0)
    if count == 1.0:
        with pytest.raises(ValueError, match="up to 3 ones"):
            accelnn.fit(net, data, iters=1)
    else:
        accelnn.fit(net, data, iters=1)


@pytest.mark.parametrize(
    "t",
    [
        np.eye(3)[T],
        np.eye(3)[T] * 2.0,
        # Rows need not sum to one, and counts are targets too.
        np.tile([1.0, 1.0, 2.0], (10, 1)),
        np.tile([1.0, 1.0, 0.5], (10, 1)),
        np.zeros((10, 3)),
    ],
    ids=["one-hot", "twice", "counts", "soft", "none"],
)
def test_soft_targets_are_no_table_of_several_labels(t):
    accelnn.fit(accelnn.MLP(SIZES, rng=0), X, t, iters=2)


def test_several_labels_in_what_is_only_evaluated_or_comes_later():
    net, one = accelnn.MLP(SIZES, rng=0), np.eye(3)[T]
    with pytest.raises(ValueError, match="validation t has up to 3 ones"):
        accelnn.fit(net, X, one, validation=(X, SEVERAL), iters=1)
    with pytest.raises(ValueError, match="t of batch 2 has up to 3 ones"):
        accelnn.fit(net, lambda: iter([(X, one), (X, SEVERAL)]), epochs=1)


def test_a_loss_of_ones_own_makes_of_scores_what_it_likes():
    def each(a, t):
        return max(a, 0.0) - a * t + math.log1p(math.exp(-abs(a)))

    def slope(a, t):
        return 1.0 / (1.0 + math.exp(-a)) - t

    loss = accelnn.Loss("per_label", each, slope, output="softmax")
    accelnn.fit(accelnn.MLP(SIZES, loss=loss, rng=0), X, SEVERAL, iters=1)


@pytest.mark.parametrize("given", [(X,), (X, T, T)])
def test_what_validation_is(given):
    message = rf"must be a tuple \(x, t\), .* got tuple of length {len(given)}"
    with pytest.raises(TypeError, match=message):
        accelnn.fit(accelnn.MLP(SIZES), X, T, validation=given, iters=1)


def test_numbers_that_are_text():
    net = accelnn.MLP([4, 1], loss="huber")
    message = "t must hold real numbers, got dtype str; .* numbers that are text .* t.astype"
    with pytest.raises(TypeError, match=message):
        accelnn.fit(net, X, T.astype(str), iters=1)


def test_lists_of_labels():
    tags = [["cat"], ["cat", "dog"], *[[]] * 8]
    with pytest.raises(ValueError, match=r"t is not an array of numbers.*MultiLabelBinarizer"):
        accelnn.fit(accelnn.MLP(SIZES, loss="binary_cross_entropy"), X, tags, iters=1)


def test_a_log_in_no_folder(tmp_path):
    log = accelnn.callbacks.CSVLog(tmp_path / "nowhere" / "log.csv")
    with pytest.raises(FileNotFoundError, match=r"log.csv': there is no folder '.*nowhere'"):
        accelnn.fit(accelnn.MLP(SIZES), X, T, iters=1, callbacks=[log])
