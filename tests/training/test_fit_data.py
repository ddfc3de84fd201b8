"""What `fit` and `prepare` take, and the messages for what they do not."""

import gc
import logging
import weakref

import numpy as np
import pytest

import accelnn
from accelnn.errors import BackendMismatchError, DivergenceWarning
from accelnn.testing import StrictBackend

N = 20


def data(n=N):
    draw = np.random.default_rng(8)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def new_net(**options):
    return accelnn.MLP([4, 5, 3], **{"rng": 0, **options})


def fit(net, *args, **options):
    return accelnn.fit(net, *args, **{"epochs": 2, "batch_size": 6, "rng": 1, **options})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["numpy", "numba", StrictBackend])
def test_a_data_set_trains_as_its_arrays_do(backend, dtype):
    runs = []
    prepared = accelnn.prepare(*data(), backend=backend, dtype=dtype)
    for args in (data(), (prepared,), (prepared,)):
        net = new_net(backend=backend, dtype=dtype)
        history = fit(net, *args, validation=args if len(args) == 2 else prepared)
        runs.append((history, net.backend.to_numpy(net.flat).tobytes()))
    assert runs[0] == runs[1] == runs[2]


def test_one_data_set_for_nets_of_different_kinds():
    prepared = accelnn.prepare(*data())
    for net in (
        new_net(),
        accelnn.MLP([4, 3]),
        accelnn.MLP([4, 9, 9, 7], activation="relu"),
        accelnn.SimpleNet(4, 3),
        new_net(loss="sum_squared_error"),
    ):
        assert fit(net, prepared).steps == 8


def test_the_data_set_says_what_it_is():
    prepared = accelnn.prepare(*data(), dtype="float64", backend="numba")
    assert (prepared.size, prepared.inputs, prepared.dtype) == (N, 4, "float64")
    assert prepared.backend is accelnn.get_backend("numba")


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: a.tolist(),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.astype(a.dtype.newbyteorder()),
    ],
    ids=["list", "fortran", "strided", "swapped"],
)
def test_every_layout_trains_alike(layout):
    x, t = data()
    net, expected = new_net(), new_net()
    fit(net, layout(x), layout(t))
    fit(expected, x, t)
    np.testing.assert_array_equal(net.flat, expected.flat)


def test_pixels_of_bytes_are_cast():
    x = np.arange(N * 4, dtype=np.uint8).reshape(N, 4)
    _, t = data()
    net, expected = new_net(), new_net()
    fit(net, x, t.astype(np.uint8))
    fit(expected, x.astype(np.float32), t)
    np.testing.assert_array_equal(net.flat, expected.flat)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (np.zeros((5, 4)), np.zeros(4, int), r"t has shape \(4,\) .* x of shape \(5, 4\)"),
        (np.zeros((5, 4)), np.zeros(5), r"integer class labels of shape \(5,\)"),
        (np.zeros((5, 4)), np.zeros((5, 1, 3)), r"targets of shape \(5, outputs\)"),
        (np.zeros((5, 4)), np.zeros((5, 2)), r"t has shape \(5, 2\).*pass targets of .*\(5, 3\)"),
        (np.zeros((5, 3)), np.zeros(5, int), r"x has 3 inputs per sample, and this net takes 4"),
        (np.zeros((5, 4)), np.full(5, 3), r"t of shape \(5,\) holds the label 3"),
        (np.zeros((5, 4)), np.full(5, -1), r"holds the label -1"),
        (np.zeros((0, 4)), np.zeros(0, int), r"x has shape \(0, 4\); expected .* n > 0"),
        (np.zeros(4), np.zeros(4, int), r"x has shape \(4,\); expected \(n, inputs\)"),
        (np.zeros((5, 2, 2)), np.zeros(5, int), r"flatten it with x\.reshape\(5, 4\)"),
        (np.full((5, 4), np.inf), np.zeros(5, int), r"x\[0, 0\] is inf; 20 of 20"),
        (np.zeros((5, 4)), np.full((5, 3), np.nan), r"t must be finite, but t\[0, 0\] is nan"),
    ],
)
def test_data_that_does_not_fit(x, t, message):
    net = new_net()
    before = net.flat.tobytes()
    with pytest.raises(ValueError, match=message) as raised:
        fit(net, x, t)
    with pytest.raises(ValueError, match=r"^validation ") as of_validation:
        fit(net, *data(), validation=(x, t))
    assert str(of_validation.value).startswith(f"validation {str(raised.value)[:10]}")
    assert net.flat.tobytes() == before


def test_a_value_that_overflows_the_nets_dtype_is_refused():
    x, t = data()
    x[3, 1] = 1e39
    with pytest.raises(ValueError, match="x holds numbers beyond the range of float32"):
        fit(new_net(dtype="float32"), x, t)
    assert fit(new_net(dtype="float64", activation="tanh"), x, t).steps == 8


def test_types_that_hold_no_real_numbers():
    x, t = data()
    with pytest.raises(TypeError, match="x must hold real numbers, got dtype complex128"):
        fit(new_net(), x.astype(complex), t)
    with pytest.raises(TypeError, match="t must hold real numbers, got dtype object"):
        fit(new_net(), x, np.array([None] * N))
    with pytest.raises(TypeError, match="validation x must hold real numbers, got dtype str"):
        fit(new_net(), x, t, validation=(x.astype(str), t))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_data_last_no_longer_than_the_run(backend):
    """In a cycle of references they would stay until the garbage is collected."""
    net, prepared = new_net(backend=backend), accelnn.prepare(*data(), backend=backend)
    held = weakref.ref(prepared)
    gc.disable()
    try:
        fit(net, prepared, validation=prepared)
        del prepared
        assert held() is None
    finally:
        gc.enable()


def test_targets_missing_or_twice():
    prepared = accelnn.prepare(*data())
    with pytest.raises(TypeError, match=r"t is missing; .* prepare\(\) .*lambda: iter\(batches\)"):
        fit(new_net(), data()[0])
    with pytest.raises(TypeError, match="t must be left out"):
        fit(new_net(), prepared, data()[1])


@pytest.mark.parametrize("validation", [data()[0], (data()[0],), (*data(), 1), {"x": 1, "t": 2}, 3])
def test_validation_is_a_pair(validation):
    with pytest.raises(TypeError, match=r"validation must be a tuple \(x, t\)"):
        fit(new_net(), *data(), validation=validation)


def test_validation_as_list_tuple_and_data_set():
    expected = fit(new_net(), *data(), validation=data(7))
    assert expected.test_loss[0] == pytest.approx(new_net().loss(*data(7)), rel=1e-6)
    assert fit(new_net(), *data(), validation=list(data(7))) == expected
    assert fit(new_net(), *data(), validation=accelnn.prepare(*data(7))) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, "prepared for 'numpy' in float64, and the net is on 'numpy' in fl"),
        ({"backend": "numba"}, "prepared for 'numba' in float32, and the net is on 'numpy'"),
    ],
)
def test_a_data_set_prepared_for_other_nets(options, message):
    other = accelnn.prepare(*data(), **options)
    with pytest.raises(BackendMismatchError, match=message) as raised:
        fit(new_net(), other)
    assert "call prepare(x, t, backend=net.backend, dtype='float32')" in str(raised.value)
    with pytest.raises(BackendMismatchError, match=message):
        fit(new_net(), *data(), validation=other)


def test_a_data_set_for_other_shapes():
    x, t = data()
    with pytest.raises(ValueError, match="x has 3 inputs per sample, and this net takes 4"):
        fit(new_net(), accelnn.prepare(x[:, :3], t))
    with pytest.raises(ValueError, match=r"validation t of shape .* holds the label 3"):
        fit(new_net(), x, t, validation=accelnn.prepare(x, t + 1))


def test_prepare_refuses_a_dtype_that_no_net_has():
    with pytest.raises(ValueError, match="float32 or float64; got dtype 'float16'"):
        accelnn.prepare(*data(), dtype="float16")


def test_moving_host_data_is_said_once_for_each_array(caplog):
    net = new_net(backend=StrictBackend)
    with caplog.at_level(logging.INFO, logger="accelnn"):
        fit(net, *data(), epochs=3)
    moved = [record.getMessage() for record in caplog.records]
    assert len(moved) == 2
    assert moved[0].startswith("moving x, 320 bytes, to "), "in the net's dtype"
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="accelnn"):
        fit(new_net(), *data())
    assert caplog.records == []


def test_arrays_of_another_device_are_refused():
    strict = accelnn.get_backend(StrictBackend)
    x, t = data()
    with pytest.raises(BackendMismatchError, match=r"x is a array_api_strict\.Array"):
        fit(new_net(), strict.asarray(x), t)


def test_regression_with_validation():
    draw = np.random.default_rng(1)
    x = draw.uniform(-1, 1, size=(200, 1))
    t = np.sin(3 * x)
    net = accelnn.MLP([1, 20, 1], activation="tanh", loss="sum_squared_error", rng=0)
    history = accelnn.fit(
        net,
        x[:150],
        t[:150],
        validation=(x[150:], t[150:]),
        optimizer=accelnn.Adam(0.05),
        batch_size=32,
        epochs=60,
        rng=0,
    )
    assert history.train_accuracy == history.test_accuracy == []
    assert len(history.test_loss) == len(history.train_loss) == len(history.evaluated_at) == 61
    residual = net.predict(x[150:]) - t[150:]
    assert history.test_loss[-1] == pytest.approx(float((residual**2).sum()) / 100, rel=1e-4)
    assert history.test_loss[-1] < 0.02 * history.test_loss[0]


def test_divergence_stops_and_names_the_step():
    x, t = data()
    net = new_net(activation="relu", loss="sum_squared_error")
    one_hot = np.eye(3)[t]
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning) as caught:
        history = fit(net, x, one_hot, optimizer=accelnn.SGD(1e8), epochs=50)
    (warning,) = caught
    assert f"the loss of step {history.steps} is {history.loss[-1]}" in str(warning.message)
    assert "SGD(lr=100000000.0): try a smaller learning rate" in str(warning.message)
    assert warning.filename == __file__, "the warning points at the call of fit"
    assert np.isfinite(history.loss[:-1]).all()
    assert not np.isfinite(history.loss[-1])
    assert history.steps < 200


def test_prepared_data_shares_no_memory_with_a_file(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4, 3))
    x[...] = 1.0
    prepared = accelnn.prepare(x, np.zeros(4, int))
    assert not np.shares_memory(prepared.x, x)


@pytest.mark.parametrize("place", ["x", "t"])
def test_test_data_that_are_not_finite_are_named(place):
    net = accelnn.MLP([4, 3], loss="sum_squared_error", rng=0)
    x, t = np.ones((5, 4)), np.ones((5, 3))
    test = {"x": x.copy(), "t": t.copy()}
    test[place][2, 1] = np.nan
    name = f"validation {place}"
    with pytest.raises(ValueError, match=rf"{name} must be finite, but {name}\[2, 1\] is nan"):
        accelnn.fit(net, x, t, validation=(test["x"], test["t"]), epochs=1)
