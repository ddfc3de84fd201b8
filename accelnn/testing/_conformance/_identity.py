"""The identity of a backend, and the conversion of arrays."""

import inspect

import numpy as np
import pytest

from accelnn.backends import Backend, get_backend
from accelnn.errors import BackendMismatchError
from accelnn.testing._assertions import assert_close


class _Foreign:
    """An array of some other library."""

    __array_namespace__ = None


class IdentityConformance:
    """Identity and conversion."""

    def test_names_itself_and_resolves_to_itself(self, b: Backend) -> None:
        assert isinstance(b.name, str)
        assert get_backend(b) is b
        assert b.name in repr(b)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
    @pytest.mark.parametrize("shape", [(), (0,), (3, 5), (2, 3, 4)])
    def test_round_trip(self, b: Backend, shape: tuple[int, ...], dtype: str) -> None:
        host = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
        assert_close(b.asarray(host), host, backend=b)
        back = b.to_numpy(b.asarray(host))
        assert type(back) is np.ndarray
        assert back.dtype == host.dtype
        np.testing.assert_array_equal(back, host)

    def test_asarray_casts_and_takes_python_numbers(self, b: Backend) -> None:
        assert_close(
            b.asarray([[1, 2], [3, 4]], dtype="float32"),
            np.array([[1, 2], [3, 4]], np.float32),
            backend=b,
        )
        assert_close(b.asarray(np.arange(3), dtype=np.float64), np.arange(3.0), backend=b)

    def test_zeros_are_new_and_writable(self, b: Backend) -> None:
        x = b.zeros((2, 3), "float32")
        assert_close(x, np.zeros((2, 3), np.float32), backend=b)
        x[...] = b.asarray(np.ones((2, 3), np.float32))
        assert_close(b.zeros((2, 3), "float32"), np.zeros((2, 3), np.float32), backend=b)

    def test_refuses_arrays_of_other_libraries(self, b: Backend) -> None:
        b.check_owned(b.asarray([1.0]))
        b.check_owned([1.0])
        b.check_owned(np.float64(1.0))
        with pytest.raises(BackendMismatchError, match=rf"t is a .*_Foreign.*{b.name!r}"):
            b.check_owned(_Foreign(), "t")

    def test_synchronize_returns(self, b: Backend) -> None:
        b.synchronize()

    def test_overrides_keep_the_signatures_of_the_base(self, b: Backend) -> None:
        for name, base in inspect.getmembers(Backend, inspect.isfunction):
            if name.startswith("__"):
                continue
            own = getattr(type(b), name)
            assert list(inspect.signature(own).parameters) == list(
                inspect.signature(base).parameters
            ), name

    def test_adds_no_public_method_that_the_base_lacks(self, b: Backend) -> None:
        own = {name for name, _ in inspect.getmembers(type(b), inspect.isroutine)}
        assert {name for name in own if not name.startswith("_")} <= set(dir(Backend))
