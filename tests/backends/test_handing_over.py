"""Arrays of other libraries: refused where nobody asked, taken where `asarray` is called."""

from types import SimpleNamespace

import numpy as np
import pytest
from stand_in_streams import Transfer

import accelnn
from accelnn.errors import BackendMismatchError
from accelnn.gradient.evaluators._values import adopt
from accelnn.testing import StrictBackend

ON_CPU = pytest.mark.cuda_on_cpu
NUMBERS = [[1.0, -2.0], [3.0, -4.0]]


class OnHost:
    """A tensor in host memory."""

    dtype = "float64"

    def __init__(self):
        self.host = np.array(NUMBERS)

    def __dlpack_device__(self):
        return self.host.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.host.__dlpack__(**options)


class Half(OnHost):
    """A tensor of numbers that others do not know."""

    dtype = "torch.bfloat16"

    def __dlpack__(self, **_):
        raise BufferError("unsupported data type")


class OnDevice:
    """A tensor on a CUDA device."""

    def __init__(self, number):
        self.host, self.device = np.array(NUMBERS), SimpleNamespace(id=number)


class SpeaksDLPack(OnDevice):
    def __dlpack_device__(self):
        return 2, self.device.id

    def __dlpack__(self, **_):
        return self.host


class SpeaksCuda(OnDevice):
    @property
    def __cuda_array_interface__(self):
        return self.host.__array_interface__


@pytest.fixture(
    params=["numpy", "numba", "strict", pytest.param("cupy:0", marks=ON_CPU)], name="backend"
)
def any_backend(request):
    if request.param == "strict":
        return StrictBackend()
    if request.param == "numba":
        return request.getfixturevalue("compiled")
    if request.param.startswith("cupy"):
        request.getfixturevalue("cupy")
    return accelnn.get_backend(request.param)


@pytest.mark.parametrize("kind", [OnHost, SpeaksDLPack, SpeaksCuda])
def test_nothing_is_taken_implicitly_and_the_way_is_named(backend, kind):
    x = kind() if kind is OnHost else kind(0)
    message = (
        rf"x is a \w+.{kind.__name__}, but the backend is '{backend.name}' .* "
        rf"Move it with accelnn.get_backend\('{backend.address}'\).asarray\(...\), which takes "
        r"NumPy arrays and, through DLPack or __cuda_array_interface__, those of other libraries"
    )
    with accelnn.use_backend(backend):
        for use in (
            accelnn.relu,
            accelnn.MLP([2, 3]).predict,
            lambda x: accelnn.prepare(x, [0, 1]),
            lambda x: accelnn.numerical_gradient(lambda _: 0.0, x),
        ):
            with pytest.raises(BackendMismatchError, match=message):
                use(x)


def test_what_is_in_host_memory_is_taken_by_name(backend):
    x = OnHost()
    taken = backend.asarray(x)
    assert backend.owns(taken)
    np.testing.assert_array_equal(backend.to_numpy(taken), NUMBERS)
    assert backend.dtype("float32") == backend.asarray(x, "float32").dtype
    np.testing.assert_array_equal(backend.to_numpy(accelnn.relu(taken, backend=backend)).min(), 0)
    if isinstance(taken, np.ndarray):
        assert np.shares_memory(taken, x.host)


def test_what_its_library_cannot_hand_over_is_refused_by_name(backend):
    message = (
        r"the \w+.Half, of dtype torch.bfloat16, cannot be handed over to numpy: "
        r"unsupported data type. Let its own library move it, or cast it to float32, first$"
    )
    with pytest.raises(TypeError, match=message):
        backend.asarray(Half())


@ON_CPU
@pytest.mark.parametrize("kind", [SpeaksDLPack, SpeaksCuda])
@pytest.mark.parametrize("number", [0, 1])
def test_what_is_on_a_cuda_device_is_taken_without_a_copy_through_the_host(cupy, kind, number):
    here, elsewhere = (accelnn.get_backend(f"cupy:{i}") for i in (number, 1 - number))
    x = kind(number)
    taken, moved = here.asarray(x), elsewhere.asarray(x)
    assert not any(isinstance(event, Transfer) for event in cupy.events)
    assert (taken.device.id, moved.device.id) == (number, 1 - number)
    assert np.shares_memory(taken.host, x.host)
    assert not np.shares_memory(moved.host, x.host)
    assert here.asarray(x, "float32").dtype == np.float32
    for backend, array in ((here, taken), (elsewhere, moved)):
        np.testing.assert_array_equal(backend.to_numpy(accelnn.relu(array)), [[1, 0], [3, 0]])


@ON_CPU
def test_what_is_on_a_cuda_device_is_no_array_of_the_host(cupy):
    x = accelnn.get_backend("cupy").asarray(NUMBERS)
    for array in (x, SpeaksDLPack(0)):
        with pytest.raises(TypeError, match="cannot be handed over to numpy"):
            accelnn.get_backend("numpy").asarray(array)
    with pytest.raises(BackendMismatchError, match="the backend is 'numpy'"):
        accelnn.relu(x, backend="numpy")
    assert Transfer("host", x.nbytes) not in cupy.events


def test_tensors_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    backend, x = accelnn.get_backend("numpy"), torch.tensor(NUMBERS)
    taken = backend.asarray(x)
    taken[0, 0] = 7.0
    assert x[0, 0] == 7.0
    assert torch.from_dlpack(taken).data_ptr() == x.data_ptr()
    with pytest.raises(TypeError, match=r"the torch.Tensor, of dtype torch.bfloat16, cannot be"):
        backend.asarray(x.bfloat16())


def test_what_a_value_of_f_records_is_left_behind():
    class Recording(np.ndarray):
        def detach(self):
            return self.view(np.ndarray)

    value = np.ones(2).view(Recording)
    adopted = adopt(accelnn.get_backend("numpy"), value)
    assert type(adopted) is np.ndarray
    assert np.shares_memory(adopted, value)
