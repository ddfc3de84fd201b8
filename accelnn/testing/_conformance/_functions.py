"""The public functions, and their errors for wrong arguments."""

import re
from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend
from accelnn.testing._assertions import assert_close

ELEMENTWISE = (
    "sigmoid",
    "sigmoid_grad",
    "relu",
    "relu_grad",
    "step_function",
    "tanh",
    "tanh_grad",
    "identity",
    "identity_function",
)
ALONG_CLASSES = ("softmax", "log_softmax")

# function, arguments as NumPy or Python values, error, message
WRONG = [
    ("softmax", (np.float64(1.0),), ValueError, r"x has shape \(\); its last axis must hold"),
    ("softmax", (np.zeros((3, 0)),), ValueError, r"x has shape \(3, 0\)"),
    ("log_softmax", (np.zeros((3, 0)),), ValueError, r"x has shape \(3, 0\)"),
    (
        "sum_squared_error",
        (np.zeros(3), np.zeros((3, 1))),
        ValueError,
        r"y has shape \(3,\) and t has shape \(3, 1\); they must be equal",
    ),
    (
        "cross_entropy_error",
        (np.full((2, 3), 0.3), np.array([0.0, 1.0])),
        ValueError,
        r"t has shape \(2,\) and dtype .*float64, which does not fit outputs of shape \(2, 3\)",
    ),
    (
        "cross_entropy_error",
        (np.full((2, 3), 0.3), np.array([0, 1, 2])),
        ValueError,
        r"t has shape \(3,\) .* outputs of shape \(2, 3\)",
    ),
    (
        "cross_entropy_error",
        (np.full((2, 3), 0.3), np.array([0, 3])),
        ValueError,
        r"t of shape \(2,\) holds the label 3, but outputs of shape \(2, 3\)",
    ),
    (
        "cross_entropy_error",
        (np.full((2, 3), 0.3), np.array([-1, 0])),
        ValueError,
        "holds the label -1",
    ),
    (
        "cross_entropy_error",
        (np.zeros((0, 3)), np.zeros(0, np.int64)),
        ValueError,
        r"y has shape \(0, 3\): the mean over no samples",
    ),
]


class FunctionConformance:
    """The public functions."""

    @pytest.mark.parametrize("name", ELEMENTWISE + ALONG_CLASSES)
    def test_integers_and_lists_become_float64(self, b: Backend, name: str) -> None:
        function = getattr(accelnn, name)
        expected = b.to_numpy(function(b.asarray([-2.0, 0.0, 3.0]), backend=b))
        for x in ([-2, 0, 3], b.asarray(np.array([-2, 0, 3]))):
            assert_close(function(x, backend=b), expected, backend=b, dtype="float64")

    @pytest.mark.parametrize("name", ELEMENTWISE)
    def test_scalars_and_empty_arrays(self, b: Backend, name: str) -> None:
        function = getattr(accelnn, name)
        assert_close(
            function(b.zeros((0, 3), "float32"), backend=b), np.zeros((0, 3), np.float32), backend=b
        )
        assert function(0.0, backend=b).shape == ()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_cross_entropy_of_labels_one_hot_and_one_sample(self, b: Backend, dtype: str) -> None:
        y = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]], dtype)
        expected = -(np.log(0.7 + 1e-7) + np.log(0.25 + 1e-7)) / 2
        tolerance: Any = {"rtol": 1e-6, "dtype": dtype}
        for t in (
            np.array([2, 1]),
            np.array([2, 1], np.uint8),
            np.eye(3)[[2, 1]],
            np.eye(3, dtype=int)[[2, 1]],
        ):
            error = accelnn.cross_entropy_error(b.asarray(y), b.asarray(t), backend=b)
            assert_close(error, expected, backend=b, **tolerance)
        one = accelnn.cross_entropy_error(b.asarray(y[0]), b.asarray(np.array(2)), backend=b)
        assert_close(one, -np.log(0.7 + 1e-7), backend=b, **tolerance)

    def test_cross_entropy_of_one_class_and_of_soft_targets(self, b: Backend) -> None:
        certain = accelnn.cross_entropy_error([[1.0], [1.0]], [0, 0], backend=b)
        assert abs(float(b.to_numpy(certain))) < 2e-7
        soft = accelnn.cross_entropy_error([[0.5, 0.5]], [[2.0, 1.0]], eps=0.0, backend=b)
        assert_close(soft, 3.0 * np.log(2.0), backend=b, dtype="float64")

    @pytest.mark.parametrize("name", ["sum_squared_error", "mean_squared_error"])
    def test_half_the_sum_of_squares_by_hand(self, b: Backend, name: str) -> None:
        error = getattr(accelnn, name)([[1.0, 2.0], [3.0, 4.0]], [[1, 0], [0, 4]], backend=b)
        assert_close(error, 6.5, backend=b, dtype="float64")

    @pytest.mark.parametrize(("name", "arguments", "error", "message"), WRONG)
    def test_wrong_arguments(
        self,
        b: Backend,
        name: str,
        arguments: tuple[Any, ...],
        error: type[Exception],
        message: str,
    ) -> None:
        on_device = [b.asarray(a) for a in arguments]
        with pytest.raises(error) as raised:
            getattr(accelnn, name)(*on_device, backend=b)
        assert re.search(message, str(raised.value)), str(raised.value)
