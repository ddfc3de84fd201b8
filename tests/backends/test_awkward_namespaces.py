"""Namespaces that leave the standard where torch's does."""

import array_api_strict
import numpy as np
import pytest

import accelnn
from accelnn._validation import FEW, check_finite
from accelnn.backends import Backend

ARRAY = type(array_api_strict.asarray(0))


class Awkward:
    """array-api-strict with torch's dtypes: float32 by default, few functions of unsigned ones."""

    def asarray(self, x, *, dtype=None, **options):
        if isinstance(x, np.ndarray):
            assert x.dtype.isnative, "given numpy array has byte order different from the native"
        elif not isinstance(x, ARRAY) and np.asarray(x).dtype == np.float64:
            dtype = dtype or array_api_strict.float32
        return array_api_strict.asarray(x, dtype=dtype, **options)

    def __getattr__(self, name):
        function = getattr(array_api_strict, name)
        if name not in ("min", "max", "take"):
            return function

        def only_of_signed(x, *args, **options):
            unsigned = array_api_strict.isdtype(x.dtype, "unsigned integer")
            assert not unsigned, f"{name} not implemented for {x.dtype}"
            return function(x, *args, **options)

        return only_of_signed


class AwkwardBackend(Backend):
    name = "awkward"
    inferred = False
    xp = Awkward()

    @classmethod
    def owns(cls, x):
        return isinstance(x, ARRAY)


@pytest.fixture
def awkward():
    return accelnn.get_backend(AwkwardBackend)


@pytest.mark.parametrize("x", [1.0, [1.0, 2.0], 1, [[1, 2]], [True], np.float32(1.0), (1.0, 2)])
def test_python_numbers_have_the_dtypes_that_numpy_gives_them(awkward, x):
    assert awkward.to_numpy(awkward.asarray(x)).dtype == np.asarray(x).dtype
    assert accelnn.sigmoid([0.1], backend=awkward).dtype == array_api_strict.float64
    single = awkward.asarray(x, "float32")
    assert single.dtype == array_api_strict.float32


@pytest.mark.parametrize("dtype", [">f8", ">i4", ">u2"])
def test_numbers_of_the_other_byte_order_are_turned(awkward, dtype):
    host = np.arange(3).astype(dtype)
    assert not host.dtype.isnative
    x = awkward.to_numpy(awkward.asarray(host))
    assert x.dtype == host.dtype.newbyteorder("=")
    np.testing.assert_array_equal(x, host)


def test_what_cannot_be_written_is_copied():
    class Plain(AwkwardBackend):
        xp = np

        @classmethod
        def owns(cls, x):
            return isinstance(x, np.ndarray)

    host = np.arange(3.0)
    assert np.shares_memory(Plain().asarray(host), host)
    host.flags.writeable = False
    assert not np.shares_memory(Plain().asarray(host), host)


def test_a_check_of_its_own_is_asked_about_its_own_arrays():
    class Picky(AwkwardBackend):
        def check_owned(self, x, name="x"):
            super().check_owned(x, name)
            if self.owns(x):
                raise TypeError(f"{name} records gradients")

    picky = Picky()
    with pytest.raises(TypeError, match="x records gradients"):
        accelnn.sigmoid(picky.asarray([0.0]), backend=picky)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", ">u2"])
@pytest.mark.parametrize("samples", [10, FEW + 1])
def test_labels_without_signs(awkward, samples, dtype):
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(samples, 3)), draw.integers(0, 4, samples)
    losses = []
    for t in (labels, labels.astype(dtype)):
        net = accelnn.MLP([3, 4], rng=0, backend=awkward)
        history = accelnn.fit(net, x, t, iters=2, batch_size=5, rng=0)
        losses.append([*history.loss, net.loss(awkward.asarray(x), awkward.asarray(t))])
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="holds the label 4"):
        net.loss(awkward.asarray(x), awkward.asarray((labels + 1).astype(dtype)))


def test_what_is_not_finite_is_counted_where_size_is_a_method():
    class Tensor(np.ndarray):
        def size(self):
            raise NotImplementedError

    x = np.array([1.0, np.nan, 2.0]).view(Tensor)
    with pytest.raises(ValueError, match=r"x\[1\] is nan; 1 of 3 values are not finite"):
        check_finite(accelnn.get_backend("numpy"), x, "x")
