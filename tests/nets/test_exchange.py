"""Parameters by torch's names: they go there and come back, all or none."""

import numpy as np
import pytest

import accelnn
from accelnn.testing import StrictBackend, assert_equal_but_for_rounding

BACKENDS = ["numpy", "numba", StrictBackend]
X = np.random.default_rng(0).normal(size=(9, 4))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_names_and_layout(dtype, backend):
    net = accelnn.MLP([4, 5, 3, 2], rng=0, dtype=dtype, backend=backend)
    found = net.state_dict()
    params = {name: net.backend.to_numpy(array) for name, array in net.params.items()}
    assert list(found) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    for (key, array), expected in zip(found.items(), params.values(), strict=True):
        assert type(array) is np.ndarray
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable
        np.testing.assert_array_equal(array, expected.T, err_msg=key)


def test_a_net_without_biases():
    net = accelnn.SimpleNet(4, 3, rng=0)
    assert {key: array.shape for key, array in net.state_dict().items()} == {"0.weight": (3, 4)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_there_and_back(backend):
    net = accelnn.MLP([4, 5, 3], rng=0, backend=backend)
    other = accelnn.MLP([4, 5, 3], rng=1)
    engine_sees = net.flat
    net.load_state_dict(other.state_dict())
    assert net.flat is engine_sees
    assert net.backend.to_numpy(net.flat).tobytes() == other.flat.tobytes()
    # Arrays of its own backend, of another dtype, and lists.
    state = {key: net.backend.asarray(array) for key, array in other.state_dict().items()}
    state |= {"0.bias": np.arange(5.0), "2.bias": [1, 2, 3]}
    net.load_state_dict(state)
    np.testing.assert_array_equal(net.backend.to_numpy(net.params["b1"]), np.arange(5))
    np.testing.assert_array_equal(net.backend.to_numpy(net.params["b2"]), [1, 2, 3])


def test_they_are_copies():
    net = accelnn.MLP([4, 4, 4], rng=0)
    before = net.flat.copy()
    for array in net.state_dict().values():
        array[...] = 7
    np.testing.assert_array_equal(net.flat, before)
    state = net.state_dict()
    net.load_state_dict(state)
    state["0.weight"][...] = 7
    np.testing.assert_array_equal(net.flat, before)
    first, second = net.params["W1"].copy(), net.params["W2"].copy()
    state = net.state_dict() | {"0.weight": net.params["W2"].T, "2.weight": net.params["W1"].T}
    net.load_state_dict(state)
    np.testing.assert_array_equal(net.params["W1"], second)
    np.testing.assert_array_equal(net.params["W2"], first)


STATE = accelnn.MLP([4, 3, 2], rng=1).state_dict()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"missing '0.weight', '0.bias', '2.weight', '2.bias'$"),
        (STATE | {"4.bias": 1}, "numpy>: unexpected '4.bias'$"),
        (
            {key: value for key, value in STATE.items() if key != "2.bias"} | {"W": 1, 3: 4},
            "missing '2.bias'; unexpected 'W', 3$",
        ),
        (
            STATE | {f"k{i}": 0 for i in range(99)},
            "unexpected 'k0', 'k1', 'k2', 'k3', 'k4', 94 more",
        ),
        (
            STATE | {"0.weight": np.zeros((4, 3))},
            r"'0.weight' has shape \(4, 3\) in place of \(3, 4\)",
        ),
        (STATE | {"2.bias": 1.0}, r"'2.bias' has shape \(\) in place of \(2,\)"),
    ],
)
def test_what_does_not_fit_changes_nothing(state, message):
    net = accelnn.MLP([4, 3, 2], rng=0)
    before = net.flat.copy()
    with pytest.raises(ValueError, match=message) as raised:
        net.load_state_dict(state)
    assert len(str(raised.value)) < 250
    np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("wrong", [None, "x", ["a"], np.zeros((3, 4), complex)])
def test_what_is_no_array_of_numbers_changes_nothing(wrong):
    net = accelnn.MLP([4, 3, 2], rng=0)
    before = net.flat.copy()
    for key in ("0.weight", "2.bias"):
        with pytest.raises(TypeError, match=rf"state\['{key}'\] must hold real numbers"):
            net.load_state_dict(STATE | {key: wrong})
    np.testing.assert_array_equal(net.flat, before)
    with pytest.raises(TypeError, match="state must be a dictionary as "):
        net.load_state_dict(wrong)


def _in_torch(torch, net):
    """Return the module that computes what a net does before its output function."""
    activations = {
        "sigmoid": lambda _: torch.nn.Sigmoid(),
        "relu": lambda _: torch.nn.ReLU(),
        "tanh": lambda _: torch.nn.Tanh(),
        "leaky_relu": lambda own: torch.nn.LeakyReLU(own.negative_slope),
        "elu": lambda own: torch.nn.ELU(own.alpha),
        "gelu": lambda _: torch.nn.GELU(),
        "silu": lambda _: torch.nn.SiLU(),
        "softplus": lambda _: torch.nn.Softplus(),
        "identity": lambda _: torch.nn.Identity(),
    }
    layers, dtype = [], getattr(torch, net.dtype)
    for n_in, n_out, own in zip(
        net.spec.sizes, net.spec.sizes[1:], (*net.spec.activations, None), strict=False
    ):
        layers.append(torch.nn.Linear(n_in, n_out, bias=net.spec.bias, dtype=dtype))
        if own is not None:
            layers.append(activations[own.name](own))
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [*accelnn.activations.ACTIVATIONS, accelnn.LeakyReLU(0.2)])
def test_a_sequential_of_torch_computes_the_same(activation, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net = accelnn.MLP(
        [4, 6, 5, 3], activation=activation, loss="huber", rng=0, dtype=dtype, init=1.0
    )
    module = _in_torch(torch, net)
    state = net.state_dict()
    module.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    x = X.astype(dtype)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()

    def reference(move):
        one = accelnn.MLP([4, 6, 5, 3], activation=activation, loss="huber", dtype=dtype)
        one.load_state_dict({key: move(array) for key, array in state.items()})
        return [one.predict(move(x))]

    assert_equal_but_for_rounding([found], reference)
    # And back, from parameters that record gradients too.
    other = accelnn.MLP([4, 6, 5, 3], activation=activation, loss="huber", dtype=dtype)
    for there in (module.state_dict(), dict(module.named_parameters())):
        other.flat[...] = 0
        other.load_state_dict(there)
        assert other.flat.tobytes() == net.flat.tobytes()
    halves = {key: value.bfloat16() for key, value in module.state_dict().items()}
    with pytest.raises(TypeError, match="bfloat16"):
        other.load_state_dict(halves)
    simple = accelnn.SimpleNet(4, 3, rng=0, dtype=dtype)
    simple.load_state_dict(_in_torch(torch, simple).state_dict())
