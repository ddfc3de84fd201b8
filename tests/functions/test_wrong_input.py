"""What is no array of real numbers is refused, in the same words on every backend."""

import numpy as np
import pytest

import accelnn
from accelnn.backends import get_backend
from accelnn.errors import BackendMismatchError
from accelnn.testing import StrictBackend

BACKENDS = ["numpy", "numba", StrictBackend]
UNARY = (
    "sigmoid",
    "sigmoid_grad",
    "relu",
    "relu_grad",
    "tanh",
    "tanh_grad",
    "identity",
    "softmax",
    "log_softmax",
)
NOT_REAL = {
    "None": None,
    "a string": "abc",
    "strings": ["a", "b"],
    "a list with None": [1.0, None],
    "a dict": {"a": 1.0},
    "a complex number": 1j,
    "complex numbers": [1.0, 2j],
    "an integer beyond every dtype": 10**400,
    "a date": np.datetime64("2020-01-01"),
    "an object": object(),
}
RAGGED = [[1.0, 2.0], [3.0]]


def _message(error, function, *args, backend):
    with pytest.raises(error) as raised:
        function(*args, backend=backend)
    assert raised.type is error
    return str(raised.value)


@pytest.mark.parametrize("kind", NOT_REAL)
@pytest.mark.parametrize("name", UNARY)
def test_what_is_not_real_is_a_type_error_with_one_message(name, kind):
    function = getattr(accelnn, name)
    messages = {_message(TypeError, function, NOT_REAL[kind], backend=b) for b in BACKENDS}
    assert len(messages) == 1
    assert messages.pop().startswith("x must hold real numbers, got dtype ")


@pytest.mark.parametrize("name", UNARY)
def test_ragged_lists_are_a_value_error_with_one_message(name):
    function = getattr(accelnn, name)
    messages = {_message(ValueError, function, RAGGED, backend=b) for b in BACKENDS}
    assert len(messages) == 1
    assert "x is not an array of numbers" in messages.pop()


@pytest.mark.parametrize("name", ["sum_squared_error", "cross_entropy_error"])
@pytest.mark.parametrize("position", [0, 1])
def test_losses_name_the_argument_that_is_wrong(name, position):
    function = getattr(accelnn, name)
    for bad, error in ((None, TypeError), (1j, TypeError), (RAGGED, ValueError)):
        arguments = [[[0.5, 0.5]], [[1.0, 0.0]]]
        arguments[position] = bad
        messages = {_message(error, function, *arguments, backend=b) for b in BACKENDS}
        assert len(messages) == 1
        assert messages.pop().startswith(
            "yt"[position] + (" must" if error is TypeError else " is")
        )


WRONG_SHAPES = [
    ("softmax", (1.0,)),
    ("log_softmax", ([[], []],)),
    ("sum_squared_error", ([1.0, 2.0], [[1.0, 2.0]])),
    ("cross_entropy_error", ([[0.5, 0.5]], [0, 1])),
    ("cross_entropy_error", ([[0.5, 0.5]], [0.0])),
    ("cross_entropy_error", ([[0.5, 0.5]], [True])),
    ("cross_entropy_error", ([[0.5, 0.5]], [2])),
    ("cross_entropy_error", ([[0.5, 0.5]], [-1])),
    ("cross_entropy_error", (0.5, 0)),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG_SHAPES)
def test_wrong_shapes_and_labels_get_one_message_everywhere(name, arguments):
    function = getattr(accelnn, name)
    messages = {_message(ValueError, function, *arguments, backend=b) for b in BACKENDS}
    assert len(messages) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("eps", [-1e-300, -1, np.float32(-1e-7), np.nan, np.inf, 10**400])
def test_an_eps_must_not_be_negative(eps, backend):
    with pytest.raises(ValueError, match="eps must be non-negative and finite, got"):
        accelnn.cross_entropy_error([[0.5, 0.5]], [0], eps=eps, backend=backend)


@pytest.mark.parametrize("eps", ["1e-7", None, True, 1j, np.array([1e-7, 1e-7])])
def test_an_eps_must_be_a_number(eps):
    with pytest.raises(TypeError, match="eps must be a number, got"):
        accelnn.cross_entropy_error([[0.5, 0.5]], [0], eps=eps)


def test_object_arrays_are_refused_even_when_they_hold_numbers():
    for x in (np.array([1.0, 2.0], object), np.array([None])):
        with pytest.raises(TypeError, match="x must hold real numbers, got dtype object"):
            accelnn.sigmoid(x)


def test_arrays_of_two_backends_do_not_mix():
    strict = get_backend(StrictBackend)
    with pytest.raises(BackendMismatchError, match=r"different backends .*'numpy'.*'strict'"):
        accelnn.sum_squared_error(np.ones(2), strict.asarray([1.0, 2.0]))
    with pytest.raises(BackendMismatchError, match=r"t is a numpy\.ndarray, but the backend is"):
        accelnn.sum_squared_error(strict.asarray([1.0, 2.0]), np.ones(2), backend=strict)
