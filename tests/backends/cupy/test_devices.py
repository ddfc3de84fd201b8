"""Several devices: named, inferred, kept apart, and current only for as long as they compute."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from stand_in_streams import Launch, Wait

import accelnn
from accelnn.backends import Engine
from accelnn.backends.cupy import CupyBackend
from accelnn.cli import app
from accelnn.errors import BackendMismatchError

pytestmark = [pytest.mark.cuda_on_cpu, pytest.mark.usefixtures("cupy")]

X, T = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3


@pytest.fixture
def first():
    return accelnn.get_backend("cupy:0")


@pytest.fixture
def second():
    return accelnn.get_backend("cupy:1")


@pytest.fixture
def net(second):
    return accelnn.MLP([4, 5, 4, 3], rng=0, backend=second)


@pytest.fixture
def there(second):
    """Return samples and labels on the second device."""
    return second.asarray(X), second.asarray(T)


@pytest.fixture
def on(net, there):
    return SimpleNamespace(net=net, x=there[0], t=there[1])


@pytest.fixture
def as_it_was(cupy):
    """Return a check that the caller's device and stream are what they were, which are not ours."""
    stream = cupy.cuda.Stream()

    def check():
        assert cupy.cuda.Device().id == 0
        assert cupy.cuda.Stream.current == [stream]

    with stream:
        check()
        yield check
        check()


# Names --------------------------------------------------------------------------------------------


def test_each_device_has_one_backend(first, second):
    assert first is not second
    assert accelnn.get_backend("cupy:1") is second
    assert accelnn.get_backend("cupy") is accelnn.get_backend(CupyBackend) is first
    assert [b.device for b in (first, second)] == ["cuda:0", "cuda:1"]
    assert [b.address for b in (first, second)] == ["cupy:0", "cupy:1"]
    assert repr(second) == "<accelnn backend 'cupy' on cuda:1>"
    assert repr(accelnn.MLP([2, 3], rng=0, backend=second)).endswith("on cupy:1>")
    rows = [row for row in accelnn.list_backends() if row.name.startswith("cupy")]
    assert rows == [("cupy", True, "", "cuda:0")]


@pytest.mark.parametrize("ask_first", ["cupy", "cupy:0", "cupy:1"])
def test_without_a_number_it_is_the_device_that_was_current_at_first(cupy, ask_first):
    with cupy.cuda.Device(1):
        accelnn.get_backend(ask_first)
        default = accelnn.get_backend("cupy")
    assert default.device == "cuda:1"
    assert accelnn.get_backend("cupy") is accelnn.get_backend("cupy:1") is default
    assert accelnn.get_backend("cupy:0").device == "cuda:0"


@pytest.mark.parametrize("number", ["2", "7", "x", "", "-1", "1:0", " 1", "1.0"])
def test_an_unknown_device_is_named_beside_those_there_are(number):
    message = (
        rf"unknown device '{number}' of the backend 'cupy'; known devices are 'cupy:0', 'cupy:1'$"
    )
    with pytest.raises(ValueError, match=message):
        accelnn.get_backend(f"cupy:{number}")


def test_a_backend_without_devices_takes_no_number():
    message = "unknown device '1' of the backend 'numpy'; it has no numbered devices: use 'numpy'"
    with pytest.raises(ValueError, match=message):
        accelnn.get_backend("numpy:1")


@pytest.mark.parametrize("name", ["auto:1", "jax:1"])
def test_a_number_after_an_unknown_name(name):
    with pytest.raises(ValueError, match=f"unknown backend '{name}'; known backends are 'numpy'"):
        accelnn.get_backend(name)


def test_a_registered_name_may_have_devices_but_no_colon(second):
    with pytest.raises(ValueError, match="the name 'my:1' has a colon"):
        accelnn.register_backend(CupyBackend, name="my:1")
    accelnn.register_backend(CupyBackend, name="mine")
    assert accelnn.get_backend("mine:1") is second
    with pytest.raises(ValueError, match="known devices are 'mine:0', 'mine:1'"):
        accelnn.get_backend("mine:2")


def test_a_device_is_chosen_wherever_a_backend_is(second, monkeypatch):
    assert accelnn.MLP([2, 3], backend="cupy:1").backend is second
    assert accelnn.MLP([2, 3]).to("cupy:1").backend is second
    assert accelnn.prepare(X, T, backend="cupy:1").backend is second
    with accelnn.use_backend("cupy:1") as chosen:
        assert chosen is accelnn.get_backend() is second
    monkeypatch.setenv("ACCELNN_BACKEND", "cupy:1")
    assert accelnn.get_backend() is second
    monkeypatch.setenv("ACCELNN_BACKEND", "cupy:2")
    with pytest.raises(ValueError, match="ACCELNN_BACKEND names an unknown device '2'"):
        accelnn.get_backend()
    accelnn.set_backend("cupy:1")
    assert accelnn.get_backend() is second


def test_the_command_line_takes_a_device():
    arguments = ["check-gradient", "--images", "2", "--hidden", "3", "--backend"]
    done = CliRunner().invoke(app, [*arguments, "cupy:1"])
    assert done.exit_code == 0, done.output
    assert "on cupy:1>, 2 images" in done.output
    wrong = CliRunner().invoke(app, [*arguments, "cupy:7"])
    assert wrong.exit_code == 2
    assert "unknown device '7' of the backend 'cupy'" in wrong.output


def test_a_pickle_finds_its_device_again(second, net):
    assert pickle.loads(pickle.dumps(second)) is second  # noqa: S301 - our own bytes
    back = pickle.loads(pickle.dumps(net))  # noqa: S301 - our own bytes
    assert back.backend is second
    np.testing.assert_array_equal(second.to_numpy(back.flat), second.to_numpy(net.flat))
    own = CupyBackend(1)
    assert pickle.loads(pickle.dumps(own)) is second  # noqa: S301 - our own bytes


# Arrays -------------------------------------------------------------------------------------------

USES = {
    "function": lambda b, x: accelnn.sigmoid(x, backend=b),
    "target": lambda b, x: accelnn.sum_squared_error(b.asarray(X), x, backend=b),
    "predict": lambda b, x: accelnn.MLP([4, 3], backend=b).predict(x),
    "targets": lambda b, x: accelnn.MLP([4, 4], backend=b).loss(b.asarray(X), x),
    "prepare": lambda b, x: accelnn.prepare(x, T, backend=b),
    "fit": lambda b, x: accelnn.fit(accelnn.MLP([4, 3], backend=b), x, T, epochs=1),
    "parameter": lambda b, x: accelnn.MLP([12, 4], backend=b).params.update(W1=x),
    "point": lambda b, x: accelnn.numerical_gradient(b.xp.sum, x, backend=b),
    "value": lambda b, x: accelnn.numerical_gradient(
        lambda _: x[:1, :1].reshape(()), b.zeros(2, float), backend=b
    ),
}


@pytest.mark.parametrize("use", USES)
def test_an_array_on_another_device_is_refused_and_both_are_named(use, first, second, as_it_was):
    message = (
        r"is on the device cuda:1, but the backend is 'cupy' \(device cuda:0\) and nothing is "
        r"converted implicitly. Move it with accelnn.get_backend\('cupy:0'\).asarray\(...\), or "
        r"choose the backend 'cupy:1'.$"
    )
    with pytest.raises(BackendMismatchError, match=message):
        USES[use](first, second.asarray(X))
    as_it_was()


def test_what_the_message_says_moves_it(cupy, first, second):
    x = second.asarray(X)
    del cupy.events[:]
    moved = first.asarray(x)
    assert (x.device.id, moved.device.id) == (1, 0)
    # Not through the host, which waits until x has been computed.
    assert cupy.events == [Wait(1)]
    assert first.asarray(moved) is moved
    assert cupy.events == [Wait(1)]
    np.testing.assert_array_equal(first.to_numpy(accelnn.relu(moved)), X.clip(0))


def test_arrays_select_the_backend_of_their_device(second, there, as_it_was):
    x, t = there
    assert accelnn.sigmoid(x).device.id == 1
    assert accelnn.cross_entropy_error(accelnn.softmax(x[:, :3]), t).device.id == 1
    assert accelnn.prepare(x, t).backend is second
    assert accelnn.numerical_gradient(lambda x: x.sum(), second.zeros(2, float)).device.id == 1
    as_it_was()


def test_arrays_of_two_devices_are_refused_by_both_names(first, second):
    with pytest.raises(BackendMismatchError, match=r"\('cupy:0' and 'cupy:1'\)"):
        accelnn.sum_squared_error(first.asarray(X), second.asarray(X))


def test_a_data_set_of_another_device_is_refused(net):
    data = accelnn.prepare(X, T, backend="cupy:0")
    with pytest.raises(
        BackendMismatchError, match=r"for 'cupy:0' .* call prepare\(x, t, backend=net.backend,"
    ):
        accelnn.fit(net, data, epochs=1)


# Computing ----------------------------------------------------------------------------------------


def _square(x):
    return (x * x).sum()


def _squares(x):
    return (x * x).sum(axis=(1, 2))


DOORS = {
    "sum_squared_error": lambda on: accelnn.sum_squared_error(on.x, on.x),
    "cross_entropy_error": lambda on: accelnn.cross_entropy_error(on.net.predict(on.x), on.t),
    "predict": lambda on: on.net.predict(on.x),
    "loss": lambda on: on.net.loss(on.x, on.t),
    "accuracy": lambda on: on.net.accuracy(on.x, on.t),
    "gradient": lambda on: on.net.gradient(on.x, on.t)["W2"],
    "differences": lambda on: on.net.numerical_gradient(on.x, on.t)["b2"],
    "unstructured": lambda on: on.net.numerical_gradient(on.x, on.t, structured=False)["b2"],
    "net.check_gradient": lambda on: on.net.check_gradient(on.x, on.t),
    "to": lambda on: on.net.to("cupy:0"),
    "copy": lambda on: copy.deepcopy(on.net),
    "prepare": lambda on: accelnn.prepare(on.x, on.t),
    "fit": lambda on: accelnn.fit(on.net, on.x, on.t, validation=(on.x, on.t), epochs=1),
    "fit on host data": lambda on: accelnn.fit(on.net, X, T, epochs=1),
    "numerical fit": lambda on: accelnn.fit(on.net, on.x, on.t, epochs=1, gradient="numerical"),
    "numerical_diff": lambda on: accelnn.numerical_diff(on.net.backend.tanh, on.x),
    "numerical_gradient": lambda on: accelnn.numerical_gradient(_square, on.x),
    "one-sided": lambda on: accelnn.numerical_gradient(_square, on.x, method="forward"),
    "richardson": lambda on: accelnn.numerical_gradient(_square, on.x, method="richardson"),
    "full": lambda on: accelnn.numerical_gradient(_square, on.x, full_output=True).gradient,
    "batched": lambda on: accelnn.numerical_gradient(_squares, on.x, batched=True),
    "numerical_jacobian": lambda on: accelnn.numerical_jacobian(lambda x: x * x, on.x[0]),
    "numerical_hessian": lambda on: accelnn.numerical_hessian(_square, on.x[0]),
    "check_gradient": lambda on: accelnn.check_gradient(_square, lambda x: 2.0 * x, on.x),
    "check_gradient of several": lambda on: accelnn.check_gradient(
        lambda p: _square(p["a"]), lambda p: {"a": 2.0 * p["a"]}, {"a": on.x}
    ),
    "gradient_descent": lambda on: accelnn.gradient_descent(_square, on.x, step_num=2),
}
FUNCTIONS = ("sigmoid", "sigmoid_grad", "relu", "relu_grad", "tanh", "tanh_grad", "identity")
FUNCTIONS += ("softmax", "log_softmax")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_computes_where_its_array_is(name, on, as_it_was):
    result = getattr(accelnn, name)(on.x)
    as_it_was()
    assert result.device.id == 1


@pytest.mark.parametrize("door", DOORS)
def test_everything_computes_where_the_backend_is(door, cupy, on, as_it_was):
    result = DOORS[door](on)
    as_it_was()
    if isinstance(result, cupy.ndarray):
        assert result.device.id == 1


def test_parameters_are_assigned_where_the_net_is(net, second, as_it_was):
    net.params["b1"] = [1.0] * 5
    net.params |= {"b2": second.asarray([2.0] * 4)}
    net.params = {"b3": [3.0] * 3}
    as_it_was()
    for key, value in (("b1", 1.0), ("b2", 2.0), ("b3", 3.0)):
        assert set(second.to_numpy(net.params[key]).tolist()) == {value}


def test_a_loop_of_ones_own_stands_in_the_context_of_the_backend(net, there, as_it_was):
    before, grads = net.loss(*there), net.gradient(*there)
    with pytest.raises(AssertionError, match="not current"):
        net.params["W1"] -= 0.1 * grads["W1"]
    with net.backend.current():
        for key in net.params:
            net.params[key] -= 0.1 * grads[key]
    as_it_was()
    assert net.loss(*there) < before


def test_a_net_is_the_same_on_each_device(net, there):
    first = net.to("cupy:0")
    assert first.backend.device == "cuda:0"
    assert first.flat.device.id == 0
    assert first.loss(first.backend.asarray(X), first.backend.asarray(T)) == net.loss(*there)


def test_engines_are_made_where_the_backend_is(cupy, second, monkeypatch, as_it_was):
    made_on, make = [], CupyBackend.make_engine

    def noted(backend, *arguments):
        made_on.append(cupy.cuda.Device().id)
        return make(backend, *arguments)

    monkeypatch.setattr(CupyBackend, "make_engine", noted)
    accelnn.MLP([4, 2], backend=second)
    as_it_was()
    assert made_on == [1]


def test_threads_compute_where_the_backend_is(second, as_it_was):
    x = second.asarray(X)
    with ThreadPoolExecutor(2) as pool:
        gradient = accelnn.numerical_gradient(_square, x, workers=pool)
    np.testing.assert_allclose(second.to_numpy(gradient), 2.0 * X, rtol=1e-8, atol=1e-8)
    as_it_was()


def test_warmup_computes_where_the_backend_is(cupy, as_it_was):
    cupy.grid = 1, 1
    accelnn.warmup(backend="cupy:1", dtypes=["float32"])
    as_it_was()


def test_pictures_are_computed_where_the_backend_is(second, as_it_was):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    from accelnn.plotting import plot_descent, plot_tangent

    plot_tangent(_square, 1.0, backend="cupy:1")
    plot_descent(_square, second.asarray([[2.0, 1.0], [1.0, 0.5]]), points=3)
    pyplot.close("all")
    as_it_was()


def test_kernels_are_launched_on_the_device_and_the_callers_stream(cupy, net, there):
    stream = cupy.cuda.Stream()
    net.gradient(*there)
    with stream:
        del cupy.events[:]
        net.loss(*there)
        net.gradient(*there)
        net.to("cupy:1").numerical_gradient(*there)
        accelnn.fit(net, *there, epochs=1)
    launches = [event for event in cupy.events if isinstance(event, Launch)]
    assert {"evaluate", "batch_gradient", "differences", "train"} <= {e.name for e in launches}
    assert {(event.device, event.stream) for event in launches} == {(1, stream)}


def _fail(*_):
    raise ValueError


@pytest.mark.parametrize(
    "fail",
    [
        lambda on: on.net.predict(on.x[:, :2]),
        lambda on: on.net.loss(on.x, on.t[:3]),
        lambda on: accelnn.fit(on.net, on.x, on.t, epochs=1, callbacks=[_fail]),
        lambda on: accelnn.numerical_gradient(_fail, on.x),
        lambda on: accelnn.numerical_diff(_fail, on.x),
        lambda on: accelnn.check_gradient(_fail, on.x, on.x),
        lambda on: accelnn.gradient_descent(_fail, on.x),
        lambda on: accelnn.sum_squared_error(on.x, on.x[:2]),
        lambda on: accelnn.prepare(on.x, on.t[:3]),
    ],
)
def test_an_error_leaves_the_callers_device_and_stream(fail, on, as_it_was):
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        fail(on)
    as_it_was()


# Precision ----------------------------------------------------------------------------------------


@pytest.fixture
def made(cupy, monkeypatch):
    """Return the dtypes of all arrays that are made on a device, and what kernels compute in."""
    dtypes, options = set(), set()
    make, kernel = cupy.ndarray.__init__, cupy.RawKernel

    def noted(self, host):
        dtypes.add(host.dtype.name)
        make(self, host)

    def compiled(*arguments, **given):
        options.update(given["options"])
        return kernel(*arguments, **given)

    monkeypatch.setattr(cupy.ndarray, "__init__", noted)
    monkeypatch.setattr(cupy, "RawKernel", compiled, raising=False)
    return dtypes, options


@pytest.mark.parametrize("wide", [np.float64, np.float16])
def test_a_net_of_single_precision_computes_in_it_whatever_it_is_given(wide, second, made):
    net = accelnn.MLP([4, 5, 3], rng=0, backend=second)
    x, t = second.asarray(X.astype(wide)), second.asarray(np.eye(3, dtype=wide)[T])
    assert net.predict(x).dtype == np.float32
    assert {value.dtype for value in net.gradient(x, t).values()} == {np.dtype(np.float32)}
    assert isinstance(net.loss(x, t), float)
    accelnn.fit(net, x, t, validation=(x, t), epochs=1)
    assert {o for o in made[1] if o.startswith("-DREAL=")} == {"-DREAL=float"}
    assert {v.dtype for v in net.params.values()} == {np.dtype(np.float32)}
    differences = net.numerical_gradient(x, t)
    assert {value.dtype for value in differences.values()} == {np.dtype(np.float64)}
    assert "-DREAL=double" in made[1]


def test_nothing_portable_is_promoted(second, made):
    net = accelnn.MLP([4, 5, 3], rng=0, backend=second)
    net.engine = Engine(second, net.spec, "float32")
    x, t = second.asarray(X, "float32"), second.asarray(T)
    made[0].clear()
    for name in ("sigmoid", "relu_grad", "tanh_grad", "softmax", "log_softmax"):
        assert getattr(accelnn, name)(x).dtype == np.float32
    accelnn.cross_entropy_error(accelnn.softmax(x[:, :3]), t)
    accelnn.sum_squared_error(x, x)
    net.predict(x)
    net.loss(x, t)
    net.gradient(x, t)
    assert {name for name in made[0] if name.startswith("float")} == {"float32"}
