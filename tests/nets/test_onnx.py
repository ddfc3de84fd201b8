"""ONNX files: another runtime computes what the net predicts."""

import math

import numpy as np
import pytest

import accelnn
from accelnn.activations import ACTIVATIONS
from accelnn.formulas._own import OUTPUTS
from accelnn.losses import LOSSES
from accelnn.nets import _onnx
from accelnn.nets._onnx import ACTIVATION_NODES, WRITTEN_OUT
from accelnn.testing import StrictBackend, assert_equal_but_for_rounding

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
FORMULAS = [*ACTIVATIONS, accelnn.LeakyReLU(0.2), accelnn.LeakyReLU(1), accelnn.ELU(0.7)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def check(net, path, x):
    """Compare what a file computes with what its net predicts."""
    net.to_onnx(path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [one.name for one in (*model.graph.input, *model.graph.output)] == ["x", "y"]
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    to_numpy, x = net.backend.to_numpy, x.astype(net.dtype)
    flat = to_numpy(net.flat)

    def reference(move):
        one = net.to("numpy")
        one.flat[...] = move(flat)
        return [one.predict(move(x))]

    # Of terms of the size of 1, such as exp(x) - 1, and of the size of x, such as x + erf(x) x.
    terms = max([1.0, *(float(np.abs(pre).max()) for pre in _pre(net.to("numpy"), x))])
    for rows in (x, x[:1]):
        (found,) = session.run(None, {"x": rows})
        assert found.shape == (len(rows), net.spec.sizes[-1])
        if rows is x:
            assert_equal_but_for_rounding([found], reference, terms=terms)


def _pre(net, x):
    """Yield the scores of all layers."""
    for i, (w, b) in enumerate(net.spec.layers(net.flat, np)):
        x = x @ w + (0 if b is None else b)
        yield x
        if i < len(net.spec.activations):
            x = net.spec.activations[i].value(x)


X = np.random.default_rng(0).normal(size=(40, 4)) * 3


def test_every_activation_has_a_node():
    assert ACTIVATION_NODES.keys() == ACTIVATIONS.keys()
    assert set(WRITTEN_OUT) <= ACTIVATIONS.keys()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", FORMULAS, ids=str)
def test_activations(path, activation, dtype):
    options = {"loss": "sum_squared_error", "init": 1.0, "dtype": dtype, "rng": 0}
    check(accelnn.MLP([4, 6, 5, 3], activation=activation, **options), path, X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_far_out(path, name, dtype):
    """Where exponentials over- or underflow."""
    net = accelnn.MLP([1, 1, 1], activation=name, loss="huber", dtype=dtype)
    net.params = {"W1": [[1]], "b1": [0], "W2": [[1]], "b2": [0]}
    net.to_onnx(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.array([[0.0], *([sign * 10.0**k] for k in range(-9, 9) for sign in (1, -1))], dtype)
    (found,) = session.run(None, {"x": x})
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found, net.predict(x), rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_give_the_outputs_of_predict(path, loss, dtype):
    check(accelnn.MLP([4, 6, 3], loss=loss, dtype=dtype, init=1.0, rng=0), path, X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_simple_net_gives_scores(path, dtype):
    check(accelnn.SimpleNet(4, 3, rng=0, dtype=dtype), path, X)


@pytest.mark.parametrize("seed", range(30))
def test_random_nets(path, seed):
    rng = np.random.default_rng(seed)
    sizes = [4, *map(int, rng.integers(1, 20, size=rng.integers(0, 5))), int(rng.integers(2, 6))]
    net = accelnn.MLP(
        sizes,
        activation=[FORMULAS[i] for i in rng.integers(len(FORMULAS), size=len(sizes) - 2)],
        loss=str(rng.choice([*LOSSES])),
        dtype=str(rng.choice(["float32", "float64"])),
        rng=seed,
    )
    for name, array in net.params.items():
        if name[0] == "b":
            array[...] = rng.normal(size=array.shape)
    check(net, path, X)


@pytest.mark.parametrize("backend", ["numba", StrictBackend])
def test_nets_of_other_backends_give_the_same_file(path, backend):
    net = accelnn.TwoLayerNet(4, 5, 3, rng=0, dtype="float64", activation="gelu")
    net.to_onnx(path)
    net.to(backend).to_onnx(path.with_name("second"))
    assert path.with_name("second").read_bytes() == path.read_bytes()


def test_what_others_read_in_it(path):
    accelnn.MLP([4, 5, 3], rng=0).to_onnx(path)
    model = onnx.load(path)
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Sigmoid", "Gemm", "Softmax"]
    assert [one.name for one in model.graph.initializer] == ["W1", "b1", "W2", "b2"]
    for one, size in ((model.graph.input[0], 4), (model.graph.output[0], 3)):
        batch, width = one.type.tensor_type.shape.dim
        assert (batch.dim_param, width.dim_value) == ("n", size)
    assert model.opset_import[0].version == 13
    assert (model.producer_name, model.producer_version) == ("accelnn", accelnn.__version__)


def test_an_activation_of_ones_own_is_refused(path):
    own = accelnn.Activation("cube", lambda x: x**3, lambda x: 3 * x**2)

    class Bent(accelnn.ELU):
        pass

    path.write_bytes(b"old")
    for activation, name in ((own, "cube"), (Bent(), "Bent")):
        net = accelnn.MLP([4, 5, 3], activation=activation)
        with pytest.raises(TypeError, match=rf"{name}.* is not one of accelnn's own activations"):
            net.to_onnx(path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_loss_of_ones_own_has_an_output_that_is_known(path, output):
    own = accelnn.Loss(
        "log_cosh", lambda a, t: math.log(math.cosh(a - t)), lambda a, t: math.tanh(a - t), output
    )
    check(accelnn.MLP([4, 5, 3], loss=own, rng=0), path, X)


def test_an_output_that_is_not(path):
    class Mine(type(LOSSES["huber"])):
        output = "log_softmax"

    with pytest.raises(TypeError, match="has the output 'log_softmax', and ONNX has no node"):
        accelnn.MLP([4, 5, 3], loss=Mine(), rng=0).to_onnx(path)
    assert not path.exists()


def test_nets_that_no_file_holds(path, monkeypatch):
    monkeypatch.setattr(_onnx, "LARGEST", 100)
    accelnn.MLP([4, 5], rng=0).to_onnx(path)
    with pytest.raises(ValueError, match=r"an ONNX file holds at most 100 bytes, and .* has 120"):
        accelnn.MLP([5, 5], rng=0).to_onnx(path)


def test_the_file_is_replaced_whole(path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        accelnn.MLP([4, 5], rng=0).to_onnx(path / "net.onnx")
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=path.name):
        accelnn.MLP([4, 5], rng=0).to_onnx(path)
