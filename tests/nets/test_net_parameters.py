"""The dictionary of parameters, and copies of nets."""

import copy
import pickle

import numpy as np
import pytest

import accelnn
from accelnn.testing import StrictBackend


@pytest.fixture
def net():
    return accelnn.MLP([4, 3, 2], dtype="float64", rng=0)


def test_it_is_a_dict_in_layer_order(net):
    assert isinstance(net.params, dict)
    assert list(net.params) == ["W1", "b1", "W2", "b2"]
    assert [value.shape for value in net.params.values()] == [(4, 3), (3,), (3, 2), (2,)]
    deep = accelnn.MLP([2] * 12)
    assert list(deep.params)[-4:] == ["W10", "b10", "W11", "b11"]


def test_an_unknown_key_names_the_known_ones(net):
    for assign in (
        lambda: net.params.__setitem__("W3", np.zeros((2, 2))),
        lambda: net.params.update(W3=np.zeros((2, 2))),
    ):
        with pytest.raises(KeyError, match=r"unknown parameter 'W3'; .*'W1', 'b1', 'W2', 'b2'"):
            assign()
    with pytest.raises(KeyError, match="W3"):
        net.params.setdefault("W3", np.zeros((2, 2)))
    assert list(net.params) == ["W1", "b1", "W2", "b2"]


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (3, 4), (12,), (1, 4, 3)])
def test_a_wrong_shape_is_never_broadcast(net, shape):
    before = net.params["W1"].copy()
    with pytest.raises(ValueError, match=r"params\['W1'\] has shape \(4, 3\); got a value of"):
        net.params["W1"] = np.ones(shape)
    np.testing.assert_array_equal(net.params["W1"], before)


def test_a_complex_value_is_refused(net):
    with pytest.raises(TypeError, match=r"params\['b1'\] must hold real numbers"):
        net.params["b1"] = np.ones(3, complex)


def test_assignment_copies_and_keeps_views_valid(net):
    live, corner, flat = net.params["W1"], net.params["W1"][:2, :2], net.flat
    source = np.arange(12.0).reshape(4, 3)
    net.params["W1"] = source
    source[...] = -1.0
    expected = np.arange(12.0).reshape(4, 3)
    assert net.params["W1"] is live
    np.testing.assert_array_equal(live, expected)
    np.testing.assert_array_equal(corner, expected[:2, :2])
    np.testing.assert_array_equal(flat[:12], np.arange(12.0))
    live[0, 0] = 99.0
    assert flat[0] == corner[0, 0] == 99.0


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4], [5, 6]],
        np.array([[1, 2], [3, 4], [5, 6]], np.int8),
        np.array([[1, 2], [3, 4], [5, 6]], np.float16),
        np.asfortranarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        np.array([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]).T,
    ],
    ids=["list", "int8", "float16", "fortran", "transposed"],
)
def test_assigned_values_are_cast(net, value):
    net.params["W2"] = value
    assert net.params["W2"].dtype == np.float64
    np.testing.assert_array_equal(net.params["W2"], [[1, 2], [3, 4], [5, 6]])


def test_assigning_its_own_reversal():
    net = accelnn.MLP([3, 3], dtype="float64", rng=0)
    before = net.params["W1"].copy()
    net.params["W1"] = net.params["W1"].T
    np.testing.assert_array_equal(net.params["W1"], before.T)
    net.params["W1"] = net.params["W1"][::-1]
    np.testing.assert_array_equal(net.params["W1"], before.T[::-1])


def test_update_and_its_operator_assign_in_place(net):
    live = dict(net.params)
    net.params.update({"b1": [1, 2, 3]}, b2=[4, 5])
    params = net.params
    params |= {"W2": np.ones((3, 2))}
    assert params is net.params
    assert all(net.params[key] is live[key] for key in live)
    np.testing.assert_array_equal(net.flat[12:], [1, 2, 3, 1, 1, 1, 1, 1, 1, 4, 5])


def test_another_nets_parameters(net):
    other = accelnn.MLP([4, 3, 2], dtype="float32", rng=1)
    net.params.update(other.params)
    x = np.linspace(-1, 1, 8).reshape(2, 4)
    np.testing.assert_allclose(net.predict(x), other.predict(x), rtol=1e-5)
    other.params["W1"] *= 0
    assert net.params["W1"].any()


@pytest.mark.parametrize(
    "remove",
    [
        lambda p: p.__delitem__("W1"),
        lambda p: p.pop("W1"),
        lambda p: p.pop("W9", None),
        lambda p: p.popitem(),
        lambda p: p.clear(),
    ],
    ids=["del", "pop", "pop with default", "popitem", "clear"],
)
def test_nothing_can_be_removed(net, remove):
    with pytest.raises(TypeError, match="cannot be removed"):
        remove(net.params)
    assert list(net.params) == ["W1", "b1", "W2", "b2"]


def test_assigning_a_dictionary_copies_into_the_live_arrays(net):
    live = net.params["b1"]
    net.params = {"b1": np.full(live.shape, 2.0)}
    net.params |= {"b2": np.full(net.params["b2"].shape, 3.0)}
    assert net.params["b1"] is live
    assert (live == 2.0).all()
    assert (net.params["b2"] == 3.0).all()
    with pytest.raises(KeyError, match="unknown parameter 'W9'"):
        net.params = {"W9": 1.0}


def test_the_matrix_of_a_simple_net_can_be_assigned():
    net = accelnn.SimpleNet(dtype="float64", rng=0)
    live = net.W
    net.W = [[1, 2, 3], [4, 5, 6]]
    assert net.W is live
    np.testing.assert_array_equal(net.predict([1.0, 10.0]), [41, 52, 63])


def test_in_place_arithmetic_on_a_key(net):
    grads = net.gradient(np.ones((2, 4)), [0, 1])
    before = {key: value.copy() for key, value in net.params.items()}
    live = dict(net.params)
    for key in net.params:
        net.params[key] -= 0.5 * grads[key]
    for key, value in net.params.items():
        assert value is live[key]
        np.testing.assert_array_equal(value, before[key] - 0.5 * grads[key])


@pytest.mark.parametrize("backend", ["numpy", "numba", StrictBackend])
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],  # noqa: S301 - our own bytes
    ids=["deepcopy", "pickle"],
)
def test_a_copy_is_independent_and_equal(backend, duplicate):
    net = accelnn.TwoLayerNet(4, 3, 2, rng=0, backend=backend)
    twin = duplicate(net)
    assert type(twin) is accelnn.TwoLayerNet
    assert twin.backend is net.backend
    assert repr(twin) == repr(net)
    to_numpy = net.backend.to_numpy
    np.testing.assert_array_equal(to_numpy(twin.flat), to_numpy(net.flat))
    before = to_numpy(net.flat).copy()
    twin.params["W1"] += 1.0
    np.testing.assert_array_equal(to_numpy(net.flat), before)
    assert (to_numpy(twin.flat)[:12] != before[:12]).all()


def test_copied_parameters_are_a_plain_snapshot(net):
    best = copy.deepcopy(net.params)
    assert type(best) is dict
    before = net.flat.copy()
    net.flat[...] = 0.0
    net.params.update(best)
    np.testing.assert_array_equal(net.flat, before)
    assert type(copy.copy(net.params)) is dict


def test_an_assignment_of_several_is_all_or_nothing(net):
    before = net.flat.copy()
    for wrong in (np.zeros(99), np.zeros(99, complex)):
        with pytest.raises((ValueError, TypeError)):
            net.params.update({"W1": np.zeros(net.params["W1"].shape), "b1": wrong})
        np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("name", ["flat", "dtype", "size"])
def test_what_would_part_the_net_from_its_parameters_is_read_only(net, name):
    with pytest.raises(AttributeError):
        setattr(net, name, getattr(net, name))
