"""What nets are made of, and what they refuse to be made of."""

import copy
import math

import numpy as np
import pytest

import accelnn
from accelnn.formulas._table import ACTIVATIONS
from accelnn.losses import CrossEntropy


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, r"at least inputs and outputs, got \[\]"),
        ([3], ValueError, r"at least inputs and outputs, got \[3\]"),
        ([3, 0, 2], ValueError, r"sizes\[1\] must be at least 1, got 0"),
        ([-4, 2], ValueError, r"sizes\[0\] must be at least 1, got -4"),
        ([3, 2.0], TypeError, r"sizes\[1\] must be an integer, got 2.0"),
        ([3, True], TypeError, r"sizes\[1\] must be an integer, got True"),
        (["3", 2], TypeError, r"sizes\[0\] must be an integer, got '3'"),
    ],
)
def test_wrong_sizes(sizes, error, message):
    with pytest.raises(error, match=message):
        accelnn.MLP(sizes)


def test_sizes_of_the_other_nets():
    with pytest.raises(ValueError, match=r"sizes\[1\] must be at least 1"):
        accelnn.TwoLayerNet(3, 0, 2)
    with pytest.raises(ValueError, match="input_size must be at least 1"):
        accelnn.SimpleNet(0, 2)
    with pytest.raises(TypeError, match="output_size must be an integer"):
        accelnn.SimpleNet(2, 1.5)


def test_sizes_may_be_numpy_integers():
    assert accelnn.MLP(np.array([3, 2])).spec.sizes == (3, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "swish"}, ValueError, "'swish'; known .* 'sigmoid', 'relu', 'tanh'"),
        # An op of the backend, but no activation with a derivative.
        ({"activation": "softmax"}, ValueError, "unknown activation 'softmax'"),
        ({"loss": "hinge"}, ValueError, "'hinge'; known .* 'cross_entropy', 'sum_squared_error'"),
        ({"init": "orthogonal"}, ValueError, "init must be 'xavier', 'he', None or .*'orthogonal'"),
        ({"init": -0.1}, ValueError, "got -0.1"),
        ({"init": math.nan}, ValueError, "got nan"),
        ({"init": math.inf}, ValueError, "got inf"),
        ({"init": True}, ValueError, "got True"),
        ({"init": [0.1]}, ValueError, r"got \[0.1\]"),
        ({"dtype": "float16"}, ValueError, "float32 or float64; got dtype 'float16'"),
        ({"dtype": np.float16}, ValueError, "got dtype 'float16'"),
        ({"dtype": int}, ValueError, "got dtype 'int64'"),
        ({"dtype": "complex128"}, ValueError, "got dtype 'complex128'"),
        ({"dtype": None}, ValueError, "got dtype 'None'"),
        ({"rng": np.random.RandomState(0)}, TypeError, "got a legacy RandomState"),
        ({"backend": "nope"}, ValueError, "unknown backend 'nope'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        accelnn.MLP([3, 2], **options)


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64"), float])
def test_dtype_in_every_spelling(dtype):
    net = accelnn.MLP([3, 2], dtype=dtype)
    assert net.dtype == "float64"
    assert net.params["W1"].dtype == net.params["b1"].dtype == np.float64


XAVIER, HE = math.sqrt(2 / (400 + 600)), math.sqrt(2 / 400)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"activation": "sigmoid"}, XAVIER),
        ({"activation": "tanh"}, XAVIER),
        ({"activation": "relu"}, HE),
        ({"activation": "relu", "init": "xavier"}, XAVIER),
        ({"activation": "sigmoid", "init": "he"}, HE),
        ({"init": 0.3}, 0.3),
        ({"init": np.float32(0.25)}, 0.25),
    ],
)
def test_weights_are_normal_with_the_right_spread(options, expected):
    weights = accelnn.MLP([400, 600], dtype="float64", rng=1, **options).params["W1"] / expected
    n = weights.size
    # Five standard errors of the mean, the variance and the fourth moment of n normal numbers.
    assert abs(weights.mean()) < 5 / math.sqrt(n)
    assert abs((weights**2).mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs((weights**4).mean() - 3) < 5 * math.sqrt(96 / n)


def test_every_layer_has_its_own_spread():
    net = accelnn.MLP([900, 400, 100], activation="relu", dtype="float64", rng=2)
    for key, n_in in (("W1", 900), ("W2", 400)):
        assert net.params[key].std() == pytest.approx(math.sqrt(2 / n_in), rel=0.02)
    for key in ("b1", "b2"):
        assert not net.params[key].any()


def test_zero_spread_gives_zero_weights():
    assert not accelnn.MLP([3, 2], init=0).params["W1"].any()


def test_simple_net_is_standard_normal_without_bias():
    net = accelnn.SimpleNet(300, 300, dtype="float64", rng=0)
    assert list(net.params) == ["W"]
    assert net.W.std() == pytest.approx(1.0, rel=0.02)


def test_a_generator_moves_on_and_a_seed_does_not():
    draw = np.random.default_rng(5)
    first, second = (accelnn.MLP([3, 2], rng=draw, dtype="float64") for _ in range(2))
    again = accelnn.MLP([3, 2], rng=5, dtype="float64")
    np.testing.assert_array_equal(first.params["W1"], again.params["W1"])
    assert (first.params["W1"] != second.params["W1"]).all()
    # What is left in the generator comes after the twelve numbers of two nets.
    expected = np.random.default_rng(5)
    expected.standard_normal(12)
    assert draw.standard_normal() == expected.standard_normal()


def test_without_a_seed_nets_differ():
    first, second = (accelnn.MLP([3, 2]).params["W1"] for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_does_not_change_the_drawn_numbers(activation):
    net = accelnn.MLP([3, 2], init=1.0, activation=activation, rng=7, dtype="float64")
    expected = np.random.default_rng(7).standard_normal((3, 2))
    np.testing.assert_array_equal(net.params["W1"], expected)


def test_repr_says_what_it_is():
    assert repr(accelnn.MLP([784, 50, 10], activation="tanh")) == (
        "<MLP 784-50-10, tanh, cross_entropy, float32, 39,760 parameters on numpy>"
    )
    net = accelnn.TwoLayerNet(2, 3, 1, loss="sum_squared_error", dtype="float64", backend="numba")
    assert repr(net) == (
        "<TwoLayerNet 2-3-1, sigmoid, sum_squared_error, float64, 13 parameters on numba>"
    )
    assert repr(accelnn.SimpleNet()) == (
        "<SimpleNet 2-3, identity, cross_entropy, float32, 6 parameters on numpy>"
    )


class Tagged(accelnn.MLP):
    def __init__(self, tag):
        super().__init__([3, 2], rng=0)
        self.tag = tag


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda net: net.to("numba")])
def test_copies_keep_what_a_subclass_has_added_and_share_no_weights(copied):
    net = Tagged("mine")
    other = copied(net)
    assert (type(other), other.tag) == (Tagged, "mine")
    other.params["W1"][...] = 7.0
    assert (net.params["W1"] != 7.0).all()


def test_a_loss_that_is_none():
    for loss in (None, 5, CrossEntropy):
        with pytest.raises(TypeError, match="a loss is 'cross_entropy'"):
            accelnn.MLP([3, 2], loss=loss)


@pytest.mark.parametrize("sizes", [3, None])
def test_sizes_that_are_no_sequence(sizes):
    with pytest.raises(TypeError, match="sizes must be a sequence of integers"):
        accelnn.MLP(sizes)


@pytest.mark.parametrize("rng", ["x", -1, 1.5])
def test_seeds_that_are_none(rng):
    with pytest.raises((TypeError, ValueError), match="rng must be a non-negative int"):
        accelnn.MLP([3, 2], rng=rng)
