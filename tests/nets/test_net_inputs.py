"""Inputs of every dtype, layout and size give the right answer or a clear error."""

import numpy as np
import pytest

import accelnn
from accelnn.testing._reference import ReferenceNet

SIZES = (6, 5, 3)
BACKENDS = ("numpy", "numba")
X = np.array([[0, 1, 2, 3, 0, 1], [1, 0, 0, 2, 1, 3], [2, 2, 1, 0, 0, 0], [3, 0, 1, 1, 2, 0]])
T = np.array([0, 2, 1, 1])


@pytest.fixture(params=BACKENDS)
def net(request):
    return accelnn.MLP(SIZES, dtype="float64", rng=3, backend=request.param)


@pytest.fixture
def reference(net):
    return ReferenceNet(net.params, "sigmoid", "cross_entropy")


def _strided(x):
    wide = np.full((2 * x.shape[0], 3 * x.shape[1]), 7.0)
    wide[::2, ::3] = x
    return wide[::2, ::3]


def _read_only(x):
    x = x.astype(np.float64)
    x.flags.writeable = False
    return x


LAYOUTS = {
    "list": lambda x: x.tolist(),
    "bool": lambda x: x > 0,
    "uint8": lambda x: x.astype(np.uint8),
    "int64": lambda x: x,
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "big-endian": lambda x: x.astype(">f8"),
    "fortran": lambda x: np.asfortranarray(x, dtype=np.float64),
    "strided": _strided,
    "reversed": lambda x: x[:, ::-1].astype(np.float64)[:, ::-1],
    "read-only": _read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_right_numbers(net, reference, layout):
    x = LAYOUTS[layout](X)
    plain = np.asarray(x, dtype=np.float64)
    before = np.array(x)
    one_hot = np.eye(3)[T]
    np.testing.assert_allclose(net.predict(x), reference.predict(plain), rtol=1e-12)
    assert net.loss(x, T) == pytest.approx(reference.loss(plain, one_hot), rel=1e-12)
    expected = reference.gradient(plain, one_hot)
    for gradient, tolerance in ((net.gradient(x, T), 1e-12), (net.numerical_gradient(x, T), 1e-8)):
        for key, value in gradient.items():
            np.testing.assert_allclose(value, expected[key], rtol=tolerance, atol=tolerance)
    assert net.accuracy(x, T) == (reference.predict(plain).argmax(axis=1) == T).mean()
    np.testing.assert_array_equal(np.array(x), before)


@pytest.mark.parametrize("layout", ["bool", "uint8", "float16", "fortran", "strided", "read-only"])
def test_targets_of_every_layout(net, reference, layout):
    t = LAYOUTS[layout](np.eye(3)[T])
    plain = np.asarray(t, dtype=np.float64)
    assert net.loss(X, t) == pytest.approx(reference.loss(X, plain), rel=1e-12)
    for key, value in reference.gradient(X, plain).items():
        np.testing.assert_allclose(net.gradient(X, t)[key], value, rtol=1e-12, atol=1e-14)


def test_a_float32_net_answers_in_float32():
    net = accelnn.MLP(SIZES, rng=3)
    assert net.predict(X.astype(np.float64)).dtype == np.float32
    assert {value.dtype for value in net.gradient(X, T).values()} == {np.dtype(np.float32)}
    assert type(net.loss(X, T)) is float
    assert type(net.accuracy(X, T)) is float


def test_gradients_are_new_arrays_at_every_call(net):
    first = net.gradient(X, T)
    kept = {key: value.copy() for key, value in first.items()}
    net.gradient(X[:2], T[:2])
    for key, value in first.items():
        np.testing.assert_array_equal(value, kept[key])


def test_predicting_nothing_gives_nothing(net):
    assert net.predict(np.zeros((0, 6))).shape == (0, 3)
    assert accelnn.SimpleNet(2, 3).predict(np.zeros((0, 2))).shape == (0, 3)


def test_infinite_inputs_saturate(net):
    x = np.array([[np.inf, 0, 0, 0, 0, 0], [0, -np.inf, 0, 0, 0, 0]])
    # NumPy's product may multiply an infinity by the zeros that it pads with, and warns.
    with np.errstate(invalid="ignore"):
        y = net.predict(x)
    for sample, row in enumerate((0, 1)):
        sign = 1.0 if sample == 0 else -1.0
        hidden = (sign * net.params["W1"][row] > 0).astype(float)
        scores = hidden @ net.params["W2"]
        np.testing.assert_allclose(y[sample], np.exp(scores) / np.exp(scores).sum(), rtol=1e-12)


def test_nan_marks_the_gradient_and_not_the_parameters(net):
    x = X.astype(float)
    x[0, 0] = np.nan
    assert np.isnan(net.gradient(x, T)["W1"]).any()
    assert np.isnan(net.numerical_gradient(x, T)["W1"]).any()
    assert np.isfinite(net.flat).all()


@pytest.mark.parametrize("x", ["abc", None, np.array([None] * 6), X.astype(complex)])
def test_what_holds_no_real_numbers_is_refused(net, x):
    with pytest.raises(TypeError, match="x must hold real numbers, got dtype"):
        net.predict(x)


def test_images_are_not_flattened_silently():
    net = accelnn.MLP([784, 10])
    with pytest.raises(ValueError, match=r"x has shape \(2, 1, 28, 28\).*x\.reshape\(2, 784\)"):
        net.predict(np.zeros((2, 1, 28, 28)))


def test_a_deep_net_agrees_with_the_reference():
    net = accelnn.MLP([6, 5, 7, 4, 6, 3], activation="tanh", dtype="float64", rng=1)
    reference = ReferenceNet(net.params, "tanh", "cross_entropy")
    one_hot = np.eye(3)[T]
    np.testing.assert_allclose(net.predict(X), reference.predict(X), rtol=1e-12)
    expected = reference.gradient(X, one_hot)
    backpropagated, numerical = net.gradient(X, T), net.numerical_gradient(X, T)
    assert len(expected) == 10
    for key, value in expected.items():
        np.testing.assert_allclose(backpropagated[key], value, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(numerical[key], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("call", ["loss", "gradient", "accuracy", "numerical_gradient", "fit"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_targets_below_zero_are_refused(loss, call, backend):
    net = accelnn.MLP(SIZES, loss=loss, rng=3, backend=backend)
    t = np.eye(3)[T]
    t[1, 2] = -0.25
    compute = (
        (lambda *data: accelnn.fit(net, *data, iters=1)) if call == "fit" else getattr(net, call)
    )
    taken = "of at least 0" if loss == "cross_entropy" else "from 0 to 1"
    message = f"t holds -0.25, and {loss} takes targets {taken}; .* loss='sum_squared_error'"
    with pytest.raises(ValueError, match=message):
        compute(X, t)
    accelnn.MLP(SIZES, loss="sum_squared_error", backend=backend).loss(X, t)


def test_targets_below_zero_for_one_sample_in_integers_and_for_tests():
    net = accelnn.MLP(SIZES, rng=3)
    with pytest.raises(ValueError, match="t holds -1, and cross_entropy"):
        net.loss(X[0], [-1, 1, 0])
    with pytest.raises(ValueError, match="validation t holds -1, and cross_entropy"):
        accelnn.fit(net, X, T, validation=(X, -np.eye(3)[T]), iters=1)


def test_targets_may_be_off_by_rounding_and_large():
    net = accelnn.MLP(SIZES, dtype="float64", rng=3)
    t = np.eye(3)[T]
    t[0] = [1.0, -np.finfo(np.float64).eps, 5.0]
    assert np.isfinite(net.loss(X, t))
    t[0, 1] = -5e-15
    with pytest.raises(ValueError, match="t holds -5e-15"):
        net.loss(X, t)


@pytest.mark.parametrize("wide", [2_000, 3])
def test_targets_below_zero_among_many(wide):
    """However they are looked through: copied to the host, or where they are."""
    net = accelnn.MLP([2, wide], dtype="float64", rng=3)
    t = np.zeros((3, wide))
    t[2, wide - 1] = -2.0
    with pytest.raises(ValueError, match="t holds -2, "):
        net.gradient(np.ones((3, 2)), t)


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_differences_of_a_loss_that_is_not_finite_are_nan(backend, activation, bad, structured):
    """In every coordinate, those of dead units too, on which the outputs do not depend."""
    net = accelnn.MLP(
        [4, 6, 3], activation=activation, loss="sum_squared_error", rng=0, backend=backend
    )
    net.params["b1"][...] = -100.0
    t = np.full((5, 3), 0.5)
    t[1, 2] = bad
    x = backend.asarray(np.ones((5, 4)))
    with np.errstate(all="ignore"):
        found = net.numerical_gradient(x, backend.asarray(t), structured=structured)
    for gradient in found.values():
        assert np.isnan(backend.to_numpy(gradient)).all()


@pytest.mark.parametrize("name", ["predict", "loss", "gradient", "accuracy"])
def test_a_prepared_data_set_is_for_fit_alone(name, backend):
    net = accelnn.MLP([4, 3], rng=0, backend=backend)
    data = accelnn.prepare(np.ones((2, 4)), [0, 1], backend=backend)
    given = (data,) if name == "predict" else (data, [0, 1])
    with pytest.raises(TypeError, match="a data set that prepare has returned, which only fit"):
        getattr(net, name)(*given)
