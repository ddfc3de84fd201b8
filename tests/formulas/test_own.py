"""Activations and losses from scalar functions, and activations for each layer."""

import copy
import importlib
import logging
import math
import pickle

import numpy as np
import pytest

import accelnn
from accelnn.formulas._table import ACTIVATIONS, LOSSES
from accelnn.testing import StrictBackend, assert_equal_but_for_rounding


def softplus(x):
    return math.log1p(math.exp(x))


def logistic(x):
    return 1.0 / (1.0 + math.exp(-x))


def mish(x):
    return x * math.tanh(softplus(x))


def mish_slope(x):
    t = math.tanh(softplus(x))
    return t + x * (1.0 - t * t) * logistic(x)


def log_cosh(a, t):
    return math.log(math.cosh(a - t))


def log_cosh_slope(a, t):
    return math.tanh(a - t)


BACKENDS = ["numpy", "numba", StrictBackend]
MISH = accelnn.Activation("mish", mish, mish_slope, initializer="he")
LOG_COSH = accelnn.Loss("log_cosh", log_cosh, log_cosh_slope)


def _data(outputs=3):
    draw = np.random.default_rng(0)
    return draw.normal(size=(20, 5)), draw.uniform(size=(20, outputs))


def _assert_gradient_is_right(net, x, t, step=1e-4):
    """Compare it with central differences of two steps, extrapolated to none.

    What is left is of the fourth order, and the rounding of values near 1 over the step.
    """
    to_numpy = net.backend.to_numpy
    near, far = (net.numerical_gradient(x, t, step=s) for s in (step, 2.0 * step))
    for name, value in net.gradient(x, t).items():
        extrapolated = (4.0 * to_numpy(near[name]) - to_numpy(far[name])) / 3.0
        bound = step**4 + 8.0 * np.finfo(float).eps / step
        np.testing.assert_allclose(extrapolated, to_numpy(value), rtol=0.0, atol=bound)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_net_with_both_is_right_and_trains(backend):
    b = accelnn.get_backend(backend)
    x, t = map(b.asarray, _data())
    net = accelnn.MLP([5, 4, 3], activation=MISH, loss=LOG_COSH, dtype="float64", rng=1, backend=b)
    _assert_gradient_is_right(net, x, t)
    history = accelnn.fit(net, x, t, optimizer=accelnn.Adam(0.02), epochs=60, rng=0)
    assert history.loss[-1] < 0.5 * history.loss[0]


def test_it_computes_what_the_built_in_formula_of_that_name_does():
    own = accelnn.Activation("softplus", softplus, logistic, initializer="he")
    data = _data()[0], np.arange(20) % 3

    def run(activation, move=lambda value: value):
        net = accelnn.MLP([5, 4, 4, 3], activation=activation, rng=1, dtype="float64")
        net.flat[...] = move(net.flat.copy())
        history = accelnn.fit(net, move(data[0]), data[1], epochs=30, rng=0)
        return np.array(history.loss), net.flat

    assert_equal_but_for_rounding(run(own), lambda move: run("softplus", move))
    assert own != ACTIVATIONS["softplus"]


def test_equal_names_and_functions_make_equal_formulas():
    twin = accelnn.Activation("mish", mish, mish_slope, initializer="he")
    assert twin == MISH
    assert hash(twin) == hash(MISH)
    assert accelnn.Activation("mish", mish, mish_slope) != MISH
    assert copy.deepcopy(MISH) == MISH
    assert pickle.loads(pickle.dumps(LOG_COSH)) == LOG_COSH  # noqa: S301 - of our own
    assert accelnn.Activation("mish", softplus, logistic) != MISH


def test_a_slope_that_is_wrong_is_refused():
    with pytest.raises(
        ValueError, match=r"the slope of accelnn.Activation\('mish', ...\) is .* at -4"
    ):
        accelnn.Activation("mish", mish, lambda x: 1.01 * mish_slope(x))
    with pytest.raises(ValueError, match="but its value changes by"):
        accelnn.Loss("square", lambda a, t: (a - t) ** 2, lambda a, t: a - t)


def test_a_complex_step_tells_of_a_slope_to_the_last_digit():
    with pytest.raises(ValueError, match="the slope of"):
        accelnn.Activation("cube", lambda x: x**3, lambda x: 3 * x**2 + 1e-5)
    accelnn.Activation("cube", lambda x: x**3, lambda x: 3 * x**2)


@pytest.mark.parametrize("wrong", [("", mish, mish_slope), (3, mish, mish_slope)])
def test_names_are_texts(wrong):
    with pytest.raises(TypeError, match="name must be a text"):
        accelnn.Activation(*wrong)
    with pytest.raises(TypeError, match=r"slope must be a function of plain numbers, got 1\.0"):
        accelnn.Activation("mish", mish, 1.0)
    with pytest.raises(ValueError, match="initializer must be 'xavier' or 'he', got 'best'"):
        accelnn.Activation("mish", mish, mish_slope, initializer="best")


def test_numpy_says_once_that_it_is_slow(caplog):
    def unheard(x):
        return 2.0 * x

    own = accelnn.Activation("double", unheard, lambda _: 2.0)
    net = accelnn.MLP([5, 4, 3], activation=own, rng=0)
    with caplog.at_level(logging.WARNING, "accelnn"):
        for _ in range(3):
            net.predict(np.ones((2, 5)))
    assert [record for record in caplog.messages if "unheard" in record] == [
        record for record in caplog.messages if "unheard" in record
    ][:1]


def _predicted(sizes, activation, x, backend="numpy", move=lambda value: value):
    options = {"rng": 0, "dtype": "float64", "backend": backend}
    net = accelnn.MLP(sizes, activation=activation, **options)
    net.flat[...] = move(net.flat.copy())
    return net.predict(move(x))


def test_what_numba_cannot_compile_runs_all_the_same(caplog):
    table = {"scale": 2.0}

    def looked_up(x):
        return table["scale"] * x

    own = accelnn.Activation("looked up", looked_up, lambda _: table["scale"])
    x = np.ones((2, 5))
    with caplog.at_level(logging.WARNING, "accelnn"):
        found = _predicted([5, 4, 3], own, x, "numba")
    assert any("Numba cannot compile" in message for message in caplog.messages)
    assert_equal_but_for_rounding([found], lambda move: [_predicted([5, 4, 3], own, x, move=move)])


def test_a_device_has_no_use_for_plain_numbers():
    class OnDevice(StrictBackend):
        """A backend whose arrays are in a memory of their own."""

        def memory(self):
            return accelnn.backends.Memory(1, 1)

    with pytest.raises(TypeError, match=r"mish is a function of plain numbers.*'numpy' or 'numba'"):
        OnDevice().map(mish, OnDevice().asarray([1.0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_layer_has_its_own(backend):
    b = accelnn.get_backend(backend)
    x, t = map(b.asarray, _data())
    activation = ["tanh", accelnn.LeakyReLU(0.3), "gelu"]
    options = {"loss": "sum_squared_error", "dtype": "float64", "rng": 2, "backend": b}
    net = accelnn.MLP([5, 4, 6, 4, 3], activation=activation, **options)
    assert "tanh-leaky_relu-gelu" in repr(net)
    _assert_gradient_is_right(net, x, t)
    history = accelnn.fit(net, x, t, optimizer=accelnn.SGD(0.1), epochs=20, rng=0)
    assert history.loss[-1] < history.loss[0]


def test_as_many_activations_as_hidden_layers():
    message = r"activation has 1 entries, and sizes \[5, 4, 4, 3\] have 2 hidden layers"
    with pytest.raises(ValueError, match=message):
        accelnn.MLP([5, 4, 4, 3], activation=["relu"])
    with pytest.raises(
        ValueError, match="unknown activation 'swish'; known activations are 'sigmoid'"
    ):
        accelnn.MLP([5, 4, 4, 3], activation=["relu", "swish"])
    with pytest.raises(TypeError, match=r"or an object such as accelnn.LeakyReLU\(0.2\), got 3"):
        accelnn.MLP([5, 4, 3], activation=3)


def test_one_activation_for_all_layers_is_the_same_net():
    nets = [accelnn.MLP([5, 4, 4, 3], activation=a, rng=0) for a in ("relu", ["relu", "relu"])]
    assert nets[0].engine is nets[1].engine
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes()


PARTS = [
    {"activation": "gelu", "loss": "huber"},
    {"activation": ["tanh", "elu"], "loss": "binary_cross_entropy"},
    {"activation": accelnn.LeakyReLU(0.2), "loss": accelnn.Huber(0.5)},
    {"activation": [accelnn.ELU(0.7), "relu"]},
]


@pytest.mark.parametrize("parts", PARTS)
def test_saved_and_loaded(parts, tmp_path):
    net = accelnn.MLP([5, 4, 4, 3], rng=0, **parts)
    net.save(tmp_path / "net.safetensors")
    loaded = accelnn.load(tmp_path / "net.safetensors")
    assert loaded.spec == net.spec
    assert loaded.flat.tobytes() == net.flat.tobytes()


def test_functions_that_can_be_imported_are_saved_by_their_path(tmp_path, monkeypatch):
    source = "def value(x):\n    return x**3\n\n\ndef slope(x):\n    return 3 * x**2\n"
    source += "\n\ndef distance(a, t):\n    return (a - t) ** 2\n"
    source += "\n\ndef twice(a, t):\n    return 2 * (a - t)\n"
    (tmp_path / "formulas_of_mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("formulas_of_mine")
    own = accelnn.Activation("cube", mine.value, mine.slope, initializer="he")
    loss = accelnn.Loss("distance", mine.distance, mine.twice, output="tanh")
    net = accelnn.MLP([5, 4, 4, 3], activation=[own, "relu"], loss=loss, rng=0)
    net.save(tmp_path / "net.safetensors")
    assert accelnn.load(tmp_path / "net.safetensors").spec == net.spec
    monkeypatch.delattr(mine, "slope")
    with pytest.raises(ValueError, match="slope of 'cube', formulas_of_mine:slope, cannot be"):
        accelnn.load(tmp_path / "net.safetensors")


def test_a_lambda_trains_and_is_not_saved(tmp_path):
    own = accelnn.Activation("half", lambda x: 0.5 * x, lambda _: 0.5)
    net = accelnn.MLP([5, 4, 3], activation=own, rng=0)
    accelnn.fit(net, _data()[0], np.arange(20) % 3, epochs=1, rng=0)
    with pytest.raises(
        TypeError, match=r"cannot be saved: its value, .*<lambda>, cannot be imported"
    ):
        net.save(tmp_path / "net.safetensors")


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_class_or_another(backend):
    b = accelnn.get_backend(backend)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 2))
    t = (x[:, 0] + x[:, 1] > 0.0).astype(int)
    net = accelnn.MLP([2, 8, 1], loss="binary_cross_entropy", dtype="float64", rng=0, backend=b)
    x_on, t_on = b.asarray(x), b.asarray(t)
    accelnn.fit(net, x_on, t_on, optimizer=accelnn.Adam(0.05), epochs=40, rng=0)
    outputs = b.to_numpy(net.predict(x_on))
    assert outputs.shape == (200, 1)
    accuracy = net.accuracy(x_on, t_on)
    assert accuracy == ((outputs[:, 0] > 0.5) == t).mean()
    assert accuracy > 0.95
    column = b.asarray(t[:, None].astype(float))
    assert net.loss(x_on, t_on) == pytest.approx(net.loss(x_on, column), rel=1e-15)
    assert net.loss(x[0].tolist(), int(t[0])) >= 0.0


def test_several_labels_at_once():
    x, t = _data(4)
    t = (t > 0.5).astype(float)
    net = accelnn.MLP([5, 6, 4], loss="binary_cross_entropy", dtype="float64", rng=0)
    outputs = net.predict(x)
    assert net.accuracy(x, t) == pytest.approx(((outputs > 0.5) == (t > 0.5)).mean())
    values = -np.log(np.where(t > 0, outputs, 1 - outputs))
    # A probability p is off by two units of itself, and log(1 - p) by p / (1 - p) times as many;
    # logarithms, and sums of at most 80 of them in pairs, are off by a few units of themselves.
    odds = np.where(t > 0, 1.0, outputs / (1 - outputs))
    bound = np.finfo(float).eps * (2.0 * odds + 8.0 * values).sum() / 20
    assert abs(net.loss(x, t) - values.sum() / 20) <= bound


@pytest.mark.parametrize("wrong", [-0.1, 1.5, 2, math.nan])
def test_targets_that_are_no_probabilities(wrong):
    net = accelnn.MLP([5, 4, 1], loss="binary_cross_entropy", rng=0)
    with pytest.raises(ValueError, match="takes targets from 0 to 1"):
        net.loss(np.ones((2, 5)), np.array([0.0, wrong]))


def test_cross_entropy_of_one_output_is_refused():
    with pytest.raises(ValueError, match="loss='binary_cross_entropy'"):
        accelnn.MLP([3, 4, 1])


def test_names_are_those_of_the_table():
    assert list(LOSSES) == ["cross_entropy", "sum_squared_error", "binary_cross_entropy", "huber"]
    assert set(ACTIVATIONS) == {
        *("sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "identity")
    }


def test_slopes_of_functions_with_abs():
    """A complex step through abs() loses its imaginary part."""
    accelnn.Activation("softsign", lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2)
    accelnn.Activation("q", lambda x: x * abs(x), lambda x: 2 * abs(x))
    with pytest.raises(ValueError, match="the slope of"):
        accelnn.Activation("softsign", lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)))
    with pytest.raises(ValueError, match="the slope of"):
        accelnn.Loss("l", lambda a, t: (a - t) * abs(a - t) ** 2, lambda a, t: abs(a - t) ** 2)


def test_kinks_and_steep_slopes():
    accelnn.Activation("r", lambda x: max(x, 0.0), lambda x: 1.0 if x > 0 else 0.0)
    accelnn.Activation("h", lambda x: min(max(x, -1.0), 1.0), lambda x: float(-1 < x < 1))
    accelnn.Activation("l", lambda x: x if x > 0 else 0.1 * x, lambda x: 1.0 if x > 0 else 0.1)
    accelnn.Activation("s", lambda x: math.tanh(50 * x), lambda x: 50 / math.cosh(50 * x) ** 2)
    accelnn.Activation("w", lambda x: math.sin(100 * x), lambda x: 100 * math.cos(100 * x))
    with pytest.raises(ValueError, match="at 0"):
        accelnn.Activation("r", lambda x: max(x, 0.0), lambda x: 1.0 if x > 0 else 1.5 * (x == 0))


@pytest.mark.parametrize("value", [math.tanh, np.tanh], ids=["builtin", "ufunc"])
def test_functions_not_written_in_python_run_on_numba_too(value):
    own = accelnn.Activation("t", value, lambda x: 1 / math.cosh(x) ** 2)
    x = np.ones((2, 3))
    found = _predicted([3, 4, 2], own, x, "numba")
    assert_equal_but_for_rounding([found], lambda move: [_predicted([3, 4, 2], own, x, move=move)])


def test_integers_are_promoted():
    own = accelnn.Activation("t", math.tanh, lambda x: 1 / math.cosh(x) ** 2)
    for formula in (own, *ACTIVATIONS.values()):
        found = formula.change(np.array([1, 2]), np.array([1, 1]))
        expected = formula.change(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
        np.testing.assert_array_equal(found, expected)
        assert formula.change(1.0, 0.5).shape == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_changes_at_the_ends_of_the_number_line(name, dtype):
    formula = ACTIVATIONS[name]
    x = np.array([-1e30, -100.0, 85.0, 1e18, 1e30, np.nan], dtype)
    for d in (-1.0, 1e-3, 50.0):
        found = formula.change(x, np.full_like(x, d))
        assert found.dtype == dtype
        # Far from all bends a change is a constant times d: of both, the constant and the product
        # may be rounded, by half a unit each.
        far = np.isin(np.abs(x), [dtype(1e30), dtype(1e18)])
        expected = np.array([formula.slope(a) * float(dtype(d)) for a in x[far].astype(float)])
        assert (np.abs(found[far] - expected) <= np.finfo(dtype).eps * np.abs(expected)).all()
        assert np.isnan(found[-1])
    unbounded = {"leaky_relu", "identity"}
    end = formula.change(np.array([-np.inf], dtype), np.array([1.0], dtype))
    assert name in unbounded or end == 0.0


def test_targets_of_one_axis_everywhere():
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0])
    losses = []
    for targets in (t, t > 0, t.astype(float), t.astype(float)[:, None], t.tolist()):
        net = accelnn.MLP([3, 4, 1], loss="binary_cross_entropy", rng=0, dtype="float64")
        history = accelnn.fit(net, x, targets, validation=(x, targets), epochs=2, rng=0)
        losses.append((history.loss, history.test_accuracy))
    assert all(found == losses[0] for found in losses)


def test_a_file_names_functions_and_calls_none(tmp_path):
    from accelnn import checkpoint
    from accelnn.nets._files import KEY, architecture_of

    net = accelnn.MLP([3, 4, 2], rng=0)
    arrays = {name: np.ascontiguousarray(value) for name, value in net.params.items()}
    for value in ("math:tanh", "no_such_module:f", 5, "os.path:join.nothing"):
        own = {"kind": "activation", "name": "q", "value": value, "slope": "sys:exit"}
        described = architecture_of(net) | {"activation": [own | {"initializer": "he"}]}
        checkpoint.write(tmp_path / "net.safetensors", arrays, KEY, described)
        with pytest.raises(ValueError, match="describes no net"):
            accelnn.load(tmp_path / "net.safetensors")


def test_a_file_names_a_module_that_ends_the_interpreter(tmp_path, monkeypatch):
    from accelnn import checkpoint
    from accelnn.nets._files import KEY, architecture_of

    (tmp_path / "ends_at_once.py").write_text("raise SystemExit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    net = accelnn.MLP([3, 4, 2], rng=0)
    arrays = {name: np.ascontiguousarray(value) for name, value in net.params.items()}
    own = {"name": "q", "value": "ends_at_once:f", "slope": "math:cosh", "initializer": "he"}
    for kind, message in (("activation", "SystemExit: 7"), ("kind", "describes no net")):
        described = architecture_of(net) | {"activation": [own | {"kind": kind}]}
        checkpoint.write(tmp_path / "net.safetensors", arrays, KEY, described)
        with pytest.raises(ValueError, match=message):
            accelnn.load(tmp_path / "net.safetensors")


def test_a_kind_of_formula_that_is_not_known(tmp_path, monkeypatch):
    from accelnn.formulas._own import described_own

    (tmp_path / "a_square.py").write_text("def f(x):\n    return x * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = {"name": "q", "value": "a_square:f", "slope": "a_square:f", "initializer": "he"}
    assert described_own(own | {"kind": "activation"}).initializer == "he"
    with pytest.raises(KeyError, match="zzz"):
        described_own(own | {"kind": "zzz"})


def test_other_wrong_uses():
    with pytest.raises(ValueError, match="output must be one of 'identity', 'sigmoid'"):
        accelnn.Loss("l", log_cosh, log_cosh_slope, output="sigmoidd")

    class Unhashable:
        __hash__ = None

        def __call__(self, x):
            return x

    with pytest.raises(TypeError, match="value must be hashable"):
        accelnn.Activation("u", Unhashable(), lambda _: 1.0)
