"""What can be known of the CuPy backend without a GPU, and how it says that it has none."""

import importlib.util
import inspect
import json
import re

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend

COMMAND = r"\n\n    pip install 'accelnn\[cuda1[23]x\]'\n$"
ASK = """
import json
import numpy as np, accelnn
try:
    accelnn.get_backend("cupy")
except accelnn.errors.BackendUnavailableError as error:
    row = next(row for row in accelnn.list_backends() if row.name == "cupy")
    print(json.dumps([
        str(error), error.reason, row, accelnn.get_backend("auto").name,
        accelnn.relu(np.array([-1.0, 2.0])).tolist(),
    ]))
else:
    print("null")
"""
NO_CUPY = """
import sys
from importlib.machinery import PathFinder

class WithoutCupy(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] == "cupy"
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [WithoutCupy if finder is PathFinder else finder for finder in sys.meta_path]
"""
# As much of CuPy as moves arrays: NumPy, with two devices of which one is current.
FAKE_CUPY = """
import numpy
from numpy import exp, abs, where, ones_like, isdtype, astype

__version__ = "0"
class ndarray(numpy.ndarray):
    def __array_finalize__(self, source):
        self._made_on = cuda.Device()

    @property
    def device(self):
        return self._made_on

def asarray(x, dtype=None):
    return numpy.array(x, dtype).view(ndarray)

def zeros(shape, dtype):
    return numpy.zeros(shape, dtype).view(ndarray)

def asnumpy(x):
    return numpy.array(x)

class cuda:
    class runtime:
        class CUDARuntimeError(RuntimeError):
            pass

        @staticmethod
        def getDeviceCount():
            return 2

        @staticmethod
        def runtimeGetVersion():
            return 12090

    class nvrtc:
        @staticmethod
        def getVersion():
            return (13, 0)

        @staticmethod
        def getSupportedArchs():
            return (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)

    class Device:
        current = [0]
        waited_for = []

        def __init__(self, id=None):
            self.id = self.current[-1] if id is None else id
            self.compute_capability = "90"

        def __enter__(self):
            self.current.append(self.id)

        def __exit__(self, *error):
            self.current.pop()

        def synchronize(self):
            self.waited_for.append(self.id)
"""


class Calls:
    """What has been asked of a namespace, and of its arrays."""

    def __init__(self):
        self.functions = {}
        self.attributes = set()


class Watched(np.ndarray):
    """An array that notes which of its attributes the library reads."""

    calls = Calls()

    def __getattribute__(self, name):
        # What NumPy's arrays lack too is asked for with hasattr, and so may be missing anywhere.
        value = super().__getattribute__(name)
        # NumPy's own protocol is asked for from inside its operators.
        if not name.startswith("__") and _asked_by_the_library():
            Watched.calls.attributes.add(name)
        return value


def _asked_by_the_library():
    caller = inspect.currentframe().f_back.f_back
    return caller.f_globals.get("__name__", "").startswith("accelnn.")


def _watch(value):
    return np.asarray(value).view(Watched) if isinstance(value, np.ndarray | np.generic) else value


class RecordingNamespace:
    """NumPy, noting every name and the form of every call."""

    def __getattr__(self, name):
        attribute = getattr(np, name)
        if isinstance(attribute, type) or not callable(attribute):
            Watched.calls.functions.setdefault(name, set())
            return attribute

        def recorded(*arguments, **options):
            form = (len(arguments), tuple(sorted(options)))
            Watched.calls.functions.setdefault(name, set()).add(form)
            return _watch(attribute(*arguments, **options))

        return recorded


class RecordingBackend(Backend):
    name = "recording"
    inferred = False
    xp = RecordingNamespace()

    @classmethod
    def owns(cls, x):
        return isinstance(x, Watched)

    def asarray(self, x, dtype=None):
        return _watch(np.asarray(x, dtype))

    def zeros(self, shape, dtype):
        return _watch(np.zeros(shape, dtype))

    def to_numpy(self, x):
        return np.asarray(x).view(np.ndarray)


@pytest.fixture(scope="module")
def calls(exercise):
    """Return what everything that computes asks of its namespace."""
    Watched.calls = Calls()
    exercise(RecordingBackend())
    return Watched.calls


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="cupy is not installed")


def _some_device(cupy):
    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def test_the_recording_saw_the_library_at_work(calls):
    used = set(calls.functions)
    assert {"exp", "expm1", "log1p", "where", "take", "concat", "stack", "argmax", "astype"} <= used
    assert {"isdtype", "count_nonzero", "asarray", "float32", "int64", "finfo"} <= used
    assert (1, ("axis", "keepdims")) in calls.functions["max"]
    assert (1, ("copy",)) in calls.functions["asarray"]
    assert {"T", "shape", "dtype", "ndim"} <= calls.attributes


def test_every_name_and_form_of_call_that_is_used_exists_in_cupy(calls, cupy):
    missing = sorted(name for name in calls.functions if not hasattr(cupy, name))
    assert missing == []
    for name, forms in calls.functions.items():
        function = getattr(cupy, name)
        for count, options in forms:
            if isinstance(function, cupy.ufunc):
                assert count == function.nin, name
                assert options == (), name
            else:
                # Raises TypeError where CuPy does not take the arguments.
                inspect.signature(function).bind(*range(count), **dict.fromkeys(options))


def test_every_attribute_of_arrays_that_is_used_exists_in_cupy(calls, cupy):
    assert sorted(n for n in calls.attributes if not hasattr(cupy.ndarray, n)) == []


def test_dtypes_of_cupy_answer_as_the_checks_expect(cupy):
    for name in ("float32", "float64", "int64", "bool"):
        assert np.dtype(getattr(cupy, name)) == np.dtype(name)
    assert cupy.isdtype(np.dtype("int8"), ("bool", "integral", "real floating"))
    assert not cupy.isdtype(np.dtype("complex64"), ("bool", "integral", "real floating"))
    assert float(cupy.finfo(cupy.float32).eps) == 2.0**-23


@pytest.mark.parametrize("installed", [True, False])
def test_arrays_of_numpy_are_recognised_without_importing_cupy(python, tmp_path, installed):
    (tmp_path / "fake" / "cupy").mkdir(parents=True)
    (tmp_path / "fake" / "cupy" / "__init__.py").write_text("raise SystemExit('imported')")
    code = """
import sys
import numpy as np, accelnn
from accelnn.backends.cupy import CupyBackend

accelnn.softmax(np.ones(3))
accelnn.fit(accelnn.MLP([2, 2]), np.ones((4, 2)), np.array([0, 1, 0, 1]), epochs=1)
print("cupy" in sys.modules, CupyBackend.owns(np.ones(3)), CupyBackend.owns(None))
"""
    folders = [tmp_path / "fake"] if installed else []
    assert python(code if installed else NO_CUPY + code, *folders) == "False False False"


def test_a_cupy_that_is_not_installed(python):
    message, reason, row, auto, result = json.loads(python(NO_CUPY + ASK))
    assert reason == "not installed"
    assert message.startswith("the cupy backend needs the package cupy, which is not installed. ")
    assert re.search(COMMAND, message)
    assert row == ["cupy", False, message.strip(), ""]
    assert auto in {"numba", "numpy"}
    assert result == [0.0, 2.0]


@pytest.mark.parametrize(
    ("defect", "shown"),
    [
        ("raise ImportError('libcudart.so.12 is missing')", "ImportError: libcudart.so.12 is"),
        ("raise RuntimeError('two cupy packages')", "RuntimeError: two cupy packages"),
    ],
)
def test_a_cupy_that_does_not_import(python, tmp_path, defect, shown):
    (tmp_path / "fake" / "cupy").mkdir(parents=True)
    (tmp_path / "fake" / "cupy" / "__init__.py").write_text(defect)
    message, reason, row, auto, result = json.loads(python(ASK, tmp_path / "fake"))
    assert reason == "import failed"
    assert message.startswith(f"cupy is installed, but importing it failed with {shown}")
    assert "Exactly one cupy package may be installed" in message
    assert re.search(COMMAND, message)
    assert row == ["cupy", False, message.strip(), ""]
    assert auto in {"numba", "numpy"}
    assert result == [0.0, 2.0]


def test_a_cupy_without_a_device(python, cupy):
    if _some_device(cupy):
        pytest.skip("a CUDA device is usable")
    message, reason, row, auto, result = json.loads(python(ASK))
    assert reason == "no device"
    assert message.startswith(
        f"cupy {cupy.__version__} is installed, but no CUDA device can be used: cudaError"
    )
    assert message.endswith("\n\n    nvidia-smi\n")
    assert row == ["cupy", False, message.strip(), ""]
    assert auto in {"numba", "numpy"}
    assert result == [0.0, 2.0]


def test_a_driver_that_counts_no_device(python, tmp_path):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "cupy.py").write_text(FAKE_CUPY.replace("return 2", "return 0"))
    message, reason, *_ = json.loads(python(ASK, tmp_path / "fake"))
    assert reason == "no device"
    assert "no CUDA device can be used: the CUDA runtime counts 0 devices. Check" in message


def test_a_device_that_the_compiler_does_not_know(python, tmp_path):
    """The first one here, as a V100 under CUDA 13; the other one is of use."""
    fake = FAKE_CUPY.replace('"90"', '["70", "75"][self.id]')
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "cupy.py").write_text(fake)
    message, reason, row, auto, result = json.loads(python(ASK, tmp_path / "fake"))
    assert reason == "no compiler"
    assert message.startswith(
        "the device cuda:0 has compute capability 7.0, and NVRTC 13.0 compiles for 7.5 and later. "
        "Uninstall cupy-cuda13x, and install the build for CUDA 12"
    )
    assert message.endswith("\n\n    pip install 'accelnn[cuda12x]'\n")
    assert row == ["cupy", False, message.strip(), ""]
    assert auto in {"numba", "numpy"}
    assert result == [0.0, 2.0]
    code = "import accelnn; print(accelnn.get_backend('cupy:1').device)"
    assert python(code, tmp_path / "fake") == "cuda:1"
    (tmp_path / "fake" / "cupy.py").write_text(fake.replace("(13, 0)", "(12, 9)"))
    message, *_ = json.loads(python(ASK, tmp_path / "fake"))
    assert message.endswith("NVRTC 12.9 compiles for 7.5 and later")


def test_a_compiler_that_is_missing(python, tmp_path):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "cupy.py").write_text(
        FAKE_CUPY.replace("return (13, 0)", "raise RuntimeError('failed to load libnvrtc.so.13')")
    )
    message, reason, row, auto, result = json.loads(python(ASK, tmp_path / "fake"))
    assert reason == "no compiler"
    assert "NVRTC, cannot be used: RuntimeError: failed to load libnvrtc.so.13. Install" in message
    assert message.endswith("\n\n    pip install 'accelnn[cuda12x]'\n"), "whatever the driver is"
    assert row == ["cupy", False, message.strip(), ""]
    assert auto in {"numba", "numpy"}
    assert result == [0.0, 2.0]


def test_the_real_compiler_says_what_it_knows(cupy):
    """Which it tells without a device; not where CuPy is installed without it."""
    nvrtc = cupy.cuda.nvrtc
    try:
        version = nvrtc.getVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    oldest = min(nvrtc.getSupportedArchs())
    assert {12: 50, 13: 75}.get(version[0], oldest) == oldest


def test_movement_goes_to_the_device_that_was_current_at_first(python, tmp_path):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "cupy.py").write_text(FAKE_CUPY)
    code = """
import numpy as np, accelnn, cupy
from accelnn.backends.cupy import CupyBackend

with cupy.cuda.Device(1):
    b = accelnn.get_backend(CupyBackend)
x = b.asarray([1.0, 2.0])
arrays = [x, b.zeros(3, "float32")]
with cupy.cuda.Device(0):
    arrays += [b.asarray(np.ones(2), dtype="float32"), b.zeros((2, 2), np.float64)]
    b.synchronize()
print(b.device, [a.device.id for a in arrays], cupy.cuda.Device.waited_for, b.owns(x))
print(type(b.to_numpy(x)).__module__, accelnn.get_backend("auto") is b)
"""
    assert python(code, tmp_path / "fake").splitlines() == [
        "cuda:1 [1, 1, 1, 1] [1] True",
        "numpy True",
    ]


def test_the_install_command_is_one_of_the_extras():
    from accelnn.backends.cupy.backend import NEWEST_CUDA_MAJOR, _install_cupy

    assert re.fullmatch(r"pip install 'accelnn\[cuda1[23]x\]'", _install_cupy())
    assert NEWEST_CUDA_MAJOR == 13


def test_arrays_of_cupy_are_recognised(cupy):
    if not _some_device(cupy):
        pytest.skip("no CUDA device is usable")
    b = accelnn.get_backend("cupy")
    x = b.asarray([1.0])
    assert b.owns(x)
    assert b.owns(accelnn.sigmoid(x))
    assert b.device == f"cuda:{x.device.id}"
    with pytest.raises(accelnn.errors.BackendMismatchError, match=r"x is a cupy\.ndarray"):
        accelnn.MLP([1, 2], backend="numpy").predict(x)


def test_whether_cupy_is_installed_is_no_question_of_importing_it():
    found = importlib.util.find_spec("cupy") is not None
    row = next(row for row in accelnn.list_backends() if row.name == "cupy")
    assert ("which is not installed" not in row.reason) == found
