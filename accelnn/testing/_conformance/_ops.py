"""Every op of the table, over odd shapes and layouts, in both dtypes."""

import functools
import warnings

import numpy as np
import pytest

import accelnn
from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.formulas._table import ACTIVATIONS
from accelnn.testing._assertions import assert_close
from accelnn.testing._formulas import ACTIVATION_ROWS, far_changes, far_moves
from accelnn.testing._ops import OP_CASES, OpCase

SPECIAL = np.array([-np.inf, -1e30, -1e-30, -0.0, 0.0, 1e-30, 1e30, np.inf, np.nan])

# The absolute tolerance in multiples of the smallest denormal, which has few digits.
DENORMALS = 16.0

_all_cases = pytest.mark.parametrize("case", OP_CASES, ids=str)
_both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def _arguments(case: OpCase, shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    draw = np.random.default_rng([len(shape), *shape])
    return [np.asarray(a, dtype=dtype) for a in case.arguments(draw, shape)]


def _smallest(b: Backend, dtype: str) -> float:
    """Return the least positive number of a backend: some devices flush subnormal ones to zero."""
    finfo = np.finfo(dtype)
    half = b.to_numpy(b.asarray([finfo.tiny], dtype) * 0.5)
    return float(finfo.smallest_subnormal if half[0] else finfo.tiny)


def _check(b: Backend, case: OpCase, arguments: list[np.ndarray], on_device: list[Array]) -> None:
    dtype = arguments[0].dtype
    actual = getattr(b, case.op)(*on_device, *case.options)
    wide = [a.astype(np.longdouble) for a in arguments]
    expected = np.asarray(case.reference(*wide))
    eps = float(np.finfo(dtype).eps)
    if case.size is not None:
        # Relative to the scale of the rounding error.
        size = np.asarray(case.size(*wide), np.float64)
        off = np.abs(b.to_numpy(actual) - expected)
        allowed = case.ulps * eps * (np.abs(expected) + size)
        allowed += DENORMALS * _smallest(b, str(dtype))
        wrong = ~(off <= allowed)
        assert not wrong.any(), [a[wrong] for a in (*arguments, off, allowed)]
        return
    assert_close(
        actual,
        expected.astype(np.float64),
        backend=b,
        dtype=dtype,
        rtol=case.ulps * eps,
        atol=case.floor * eps + DENORMALS * _smallest(b, str(dtype)),
    )


class OpConformance:
    """The ops of a backend."""

    @_both_dtypes
    @pytest.mark.parametrize("name", ACTIVATION_ROWS)
    def test_changes_of_any_size(self, b: Backend, name: str, dtype: str) -> None:
        x, d = far_moves(dtype)
        found = b.to_numpy(getattr(b, f"{name}_delta")(b.asarray(x), b.asarray(d)))
        expected, allowed = far_changes(ACTIVATION_ROWS[name], x, d, _smallest(b, dtype))
        wrong = ~(np.abs(found - expected) <= allowed)
        assert not wrong.any(), [a[wrong][:3] for a in (x, d, found, expected)]

    @_all_cases
    @_both_dtypes
    def test_op_matches_its_reference(self, b: Backend, case: OpCase, dtype: str) -> None:
        for shape in case.shapes:
            arguments = _arguments(case, shape, dtype)
            kept = [a.copy() for a in arguments]
            on_device = [b.asarray(a) for a in arguments]
            _check(b, case, arguments, on_device)
            for array, before in zip(on_device, kept, strict=True):
                np.testing.assert_array_equal(b.to_numpy(array), before)

    @_all_cases
    @_both_dtypes
    def test_op_takes_any_layout(self, b: Backend, case: OpCase, dtype: str) -> None:
        wide = _arguments(case, (12, 31), dtype)
        strided = [b.asarray(a)[::2, ::3] for a in wide]
        _check(b, case, [np.ascontiguousarray(a[::2, ::3]) for a in wide], strided)
        tall = [np.ascontiguousarray(a.T) for a in _arguments(case, (5, 7), dtype)]
        _check(b, case, [a.T for a in tall], [b.asarray(a).T for a in tall])

    @pytest.mark.parametrize("name", ACTIVATION_ROWS)
    @_both_dtypes
    def test_activations_at_the_ends_of_the_number_line(
        self, b: Backend, name: str, dtype: str
    ) -> None:
        row = ACTIVATION_ROWS[name]
        x = b.asarray(SPECIAL, dtype)
        near_0 = np.asarray(SPECIAL[2:6], dtype).astype(np.longdouble)
        # A limit is exact but for the rounding of a constant and a product by it; next to 0, an
        # elementary function and three operations are off by half a unit to two units in all.
        rtol = 4.0 * float(np.finfo(dtype).eps)
        for part, (op, reference) in enumerate(((name, row.value), (f"{name}_grad", row.slope))):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                actual = b.to_numpy(getattr(b, op)(x))
            low, high = row.at_ends[0][part], row.at_ends[1][part]
            on_host = accelnn.get_backend("numpy")
            close = functools.partial(assert_close, backend=on_host, dtype=dtype, rtol=rtol)
            close(actual[[0, 7]], [low, high])
            is_linear = [np.isinf(end) for end in (low, high)]
            expected = [-1e30 * row.slope(SPECIAL[:1])[0] if is_linear[0] else low]
            expected += [1e30 if is_linear[1] else high]
            close(actual[[1, 6]], expected)
            close(actual[2:6], reference(near_0))
            assert np.isnan(actual[8]) or name == "identity"

    @_both_dtypes
    def test_differences_far_from_the_middle(self, b: Backend, dtype: str) -> None:
        x = b.asarray([1000.0, -1000.0, 1000.0, 0.0], dtype)
        d = b.asarray([-1000.0, 1000.0, -2000.0, 2000.0], dtype)
        expected = np.asarray([-0.5, 0.5, -1.0, 0.5], dtype)
        sigmoid, tanh = (b.activation_ops(ACTIVATIONS[name]) for name in ("sigmoid", "tanh"))
        assert_close(sigmoid.change(x, d), expected, backend=b)
        assert_close(tanh.change(x, d), 2.0 * expected, backend=b)

    @pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
    @_both_dtypes
    def test_shifts_so_as_not_to_overflow(self, b: Backend, op: str, dtype: str) -> None:
        x = b.asarray([[1000.0, 1000.0], [-1000.0, 0.0], [0.0, -np.inf]], dtype)
        half = np.log(0.5)
        expected = {
            "softmax": [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]],
            "log_softmax": [[half, half], [-1000.0, 0.0], [0.0, -np.inf]],
            "logsumexp": [1000.0 - half, 0.0, 0.0],
        }[op]
        assert_close(getattr(b, op)(x), np.asarray(expected, dtype), backend=b, rtol=1e-6)

    @pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
    def test_a_nan_makes_its_own_row_nan_and_no_other(self, b: Backend, op: str) -> None:
        x = b.asarray([[0.0, np.nan, 1.0], [0.0, 0.0, 0.0]])
        result = b.to_numpy(getattr(b, op)(x))
        assert np.isnan(result[0]).all()
        assert np.isfinite(result[1]).all()

    @_both_dtypes
    @pytest.mark.parametrize("labels", [np.int64, np.uint8, np.int32])
    def test_one_hot(self, b: Backend, labels: type, dtype: str) -> None:
        n = 300  # more classes than uint8 can count
        rows = b.one_hot(b.asarray(np.array([0, 3, 255 % n], labels)), n, dtype)
        expected = np.zeros((3, n), dtype)
        expected[[0, 1, 2], [0, 3, 255]] = 1.0
        assert_close(rows, expected, backend=b)
