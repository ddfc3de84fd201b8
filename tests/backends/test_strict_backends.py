"""The test backends refuse what they say they refuse: a suite is as strict as they are."""

import operator

import array_api_strict
import numpy as np
import pytest

import accelnn
from accelnn.errors import BackendMismatchError
from accelnn.testing import OP_CASES, ReadOnlyBackend, StrictBackend

DEVICE = array_api_strict.__array_namespace_info__().devices()[1]
ARRAY = type(array_api_strict.asarray(0))


@pytest.fixture
def strict():
    return StrictBackend()


@pytest.fixture
def read_only():
    return ReadOnlyBackend()


@pytest.fixture
def numbers_must_be_asked_for(monkeypatch):
    """Refuse ``float(x)``, ``if x:`` and their like: on a GPU each one waits for the device."""

    def refusing(method):
        original = getattr(ARRAY, method)

        def refuse(self, *arguments):
            assert self.device != DEVICE, f"implicit {method} of an array on the device"
            return original(self, *arguments)

        return refuse

    for method in ("__bool__", "__int__", "__float__", "__index__", "__complex__"):
        monkeypatch.setattr(ARRAY, method, refusing(method))


@pytest.mark.parametrize("read", [np.asarray, np.exp, np.sum, memoryview, lambda x: np.ones(3) + x])
def test_strict_arrays_cannot_be_read_by_numpy(strict, read):
    x = strict.asarray([1.0, 2.0, 3.0])
    with pytest.raises((TypeError, RuntimeError, BufferError, ValueError)):
        read(x)
    np.testing.assert_array_equal(strict.to_numpy(x), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "mix",
    [
        operator.add,
        operator.matmul,
        operator.lt,
        lambda x, y: array_api_strict.where(x > 0, x, y),
        lambda x, y: array_api_strict.concat([x, y]),
        lambda x, y: operator.setitem(x, ..., y),
        operator.iadd,
    ],
)
def test_strict_arrays_do_not_mix_with_numpy_or_another_device(strict, mix):
    x = strict.asarray([1.0, 2.0])
    for other in (np.ones(2), array_api_strict.asarray([1.0, 2.0])):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            mix(x, other)
        with pytest.raises(BackendMismatchError):
            strict.check_owned(other)
    np.testing.assert_array_equal(strict.to_numpy(x), [1.0, 2.0])


def test_strict_knows_only_the_standard_and_promotes_only_what_it_promotes(strict):
    for name in ("dot", "einsum", "errstate", "random", "ndarray", "putmask"):
        assert hasattr(np, name)
        assert not hasattr(strict.xp, name)
    x = strict.asarray([1.0, 2.0], dtype="float32")
    for name in ("sum", "astype", "reshape", "copy", "flags", "flat"):
        assert hasattr(np.ndarray, name)
        assert not hasattr(x, name)
    with pytest.raises(TypeError):
        x + strict.asarray([1, 2])
    with pytest.raises(TypeError):
        operator.iadd(x, strict.asarray([1.0, 2.0], dtype="float64"))


def test_strict_stays_on_its_device(strict):
    x = strict.asarray(np.ones((2, 3)))
    assert strict.device == x.device == DEVICE
    assert strict.owns(x)
    assert strict.owns(strict.zeros(3, "float32"))
    assert not strict.owns(array_api_strict.asarray([1.0]))
    assert not strict.owns(np.ones(3))
    assert type(strict.to_numpy(x)) is np.ndarray


def test_every_op_of_strict_stays_on_its_device(strict):
    draw = np.random.default_rng(0)
    for case in OP_CASES:
        arguments = [strict.asarray(a) for a in case.arguments(draw, (3, 4))]
        assert strict.owns(getattr(strict, case.op)(*arguments, *case.options)), case.op


@pytest.mark.usefixtures("numbers_must_be_asked_for")
def test_implicit_numbers_are_caught(strict):
    x = strict.asarray(1.0)
    for convert in (float, bool, lambda x: [0, 1][strict.xp.astype(x, strict.xp.int64)]):
        with pytest.raises(AssertionError, match="implicit __"):
            convert(x)
    assert float(strict.to_numpy(x)) == 1.0


@pytest.mark.usefixtures("numbers_must_be_asked_for")
def test_the_library_asks_for_every_number_by_name(strict, exercise):
    exercise(strict)


def test_a_function_may_return_a_number_of_its_own(strict):
    x = strict.zeros(2, "float64")
    gradient = accelnn.numerical_gradient(
        lambda x: 3.0 * float(strict.to_numpy(strict.xp.sum(x))), x, backend=strict
    )
    np.testing.assert_allclose(strict.to_numpy(gradient), [3.0, 3.0], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_fails_an_op_that_writes_to_its_input(dtype):
    class Careless(ReadOnlyBackend):
        def tanh(self, x):
            return np.tanh(x, out=x)

        def relu(self, x):
            x[x < 0] = 0
            return x

        def softmax(self, x):
            e = self.xp.exp(x)
            e /= e.sum(axis=-1, keepdims=True)
            return e

    careless = Careless()
    for op in ("tanh", "relu", "softmax"):
        x = careless.asarray([[-1.0, 2.0]], dtype)
        with pytest.raises(ValueError, match="read-only"):
            getattr(careless, op)(x)
        np.testing.assert_array_equal(x, [[-1.0, 2.0]])
    np.testing.assert_allclose(careless.sigmoid(careless.asarray([0.0], dtype)), [0.5])


def test_read_only_leaves_the_callers_array_writable_and_its_workspace_too(read_only):
    mine = np.array([1.0, 2.0])
    theirs = read_only.asarray(mine)
    assert np.shares_memory(mine, theirs)
    assert mine.flags.writeable
    assert not theirs.flags.writeable
    assert read_only.zeros(3, "float32").flags.writeable
    assert read_only.xp.asarray(theirs, copy=True).flags.writeable


def test_every_op_of_read_only_returns_what_cannot_be_written(read_only):
    draw = np.random.default_rng(0)
    for case in OP_CASES:
        arguments = [read_only.asarray(a) for a in case.arguments(draw, (3, 4))]
        result = getattr(read_only, case.op)(*arguments, *case.options)
        assert isinstance(result, np.generic) or not result.flags.writeable, case.op


def test_neither_is_known_by_name_or_chosen_by_a_type():
    assert not {"strict", "readonly"} & {row.name for row in accelnn.list_backends()}
    assert accelnn.backends.resolve(None, ReadOnlyBackend().asarray([1.0])).name == "numpy"


def test_what_read_only_is_given_stays_writable(read_only):
    x = read_only.zeros(3, "float64")
    assert read_only.xp.astype(x, np.float64, copy=False) is x
    assert x.flags.writeable
