"""What the conformance suite says to the author of a backend that lacks something."""

import ast
import ctypes
import types
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendUnavailableError
from accelnn.testing._conformance._contract import FUNCTIONS, ContractConformance

SUITE = ContractConformance()
# Where `xp` is that of one backend, or of the suite itself.
SPECIAL = ("cupy", "numba", "testing", "bench", "cli", "plotting")


class Faulty(NumpyBackend):
    name = "faulty"
    inferred = False


class Tensor(np.ndarray):
    """An array that records gradients."""

    requires_grad = False


class Recording(Faulty):
    def asarray(self, x, dtype=None):
        return np.asarray(x, dtype).view(Tensor)

    def to_numpy(self, x):
        return np.array(x)


class LacksFunctions(Faulty):
    xp = types.SimpleNamespace(**{k: v for k, v in vars(np).items() if k != "astype"})


class OwnsOfInstance(Faulty):
    def owns(self, x):
        return isinstance(x, np.ndarray)


class OwnsEverything(Faulty):
    @classmethod
    def owns(cls, x):
        return x.dtype is not None


class OwnsAsStatic(Faulty):
    @staticmethod
    def owns(x):
        return isinstance(x, np.ndarray)


class ChecksTheInstance(Faulty):
    def check_available(self):
        pass


class SaysItIsMissing(Faulty):
    @classmethod
    def check_available(cls):
        raise BackendUnavailableError("no card", reason="no device")


class TakesAnArgument(Faulty):
    def __init__(self, card):
        self.card = card


class SinglePrecision(Faulty):
    def asarray(self, x, dtype=None):
        if not isinstance(x, np.ndarray):
            x = np.asarray(x, np.float32)
        return np.asarray(x, dtype)


class NativeOnly(Faulty):
    def asarray(self, x, dtype=None):
        assert np.asarray(x).dtype.isnative
        return np.asarray(x, dtype)


class WritesToReadOnly(Faulty):
    def asarray(self, x, dtype=None):
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            pointer, _ = x.__array_interface__["data"]
            return np.frombuffer((ctypes.c_double * len(x)).from_address(pointer))
        return np.asarray(x, dtype)


class CopiesZeros(Faulty):
    def zeros(self, shape, dtype):
        x = np.zeros(shape, dtype)
        x.flags.writeable = False
        return x


class ClipsLabels(Faulty):
    def one_hot(self, labels, n, dtype):
        if labels.dtype == np.uint16:
            raise NotImplementedError("no rows of UInt16")
        return super().one_hot(labels, n, dtype)


def owns(b):
    SUITE.test_owns_is_asked_of_the_class_about_anything(b)


def check_available(b):
    SUITE.test_check_available_is_asked_of_the_class(b)


def pickled(b):
    import pickle

    SUITE.test_survives_pickling_and_copying(b, lambda b: pickle.loads(pickle.dumps(b)))  # noqa: S301


FAULTS = [
    (LacksFunctions(), SUITE.test_xp_has_what_the_portable_ops_need, "lacks astype: set it to a"),
    (OwnsOfInstance(), owns, r"`owns` is called before the backend is made: write @classmethod"),
    (OwnsEverything(), owns, r"`owns` must return False for None: .*AttributeError"),
    (
        ChecksTheInstance(),
        check_available,
        "`check_available` is called before the backend is made",
    ),
    (SaysItIsMissing(), check_available, r"must raise nothing where .*no card"),
    (TakesAnArgument(1), pickled, r"let it be made without arguments, or write `__reduce__`"),
    (
        CopiesZeros(),
        SUITE.test_arrays_can_be_written_through_views,
        "`zeros` must return arrays that can be written, with views",
    ),
    (
        SinglePrecision(),
        lambda b: SUITE.test_python_numbers_have_the_dtypes_of_numpy(b, [1.0], "float64"),
        r"`asarray\(\[1.0\]\)` must have the dtype float64: convert Python numbers with NumPy",
    ),
    (
        NativeOnly(),
        lambda b: SUITE.test_takes_every_dtype_of_numpy(b, ">f8"),
        "`asarray` must take arrays of dtype >f8",
    ),
    (
        WritesToReadOnly(),
        SUITE.test_takes_what_cannot_be_written_and_leaves_it_alone,
        "`asarray` must copy arrays that are read-only, or return such",
    ),
    (
        ClipsLabels(),
        lambda b: SUITE.test_labels_of_any_integer_dtype(b, "uint16", 9),
        r"labels of dtype uint16 must train as those of int64 do: let `asarray` return them",
    ),
    (
        Recording(),
        SUITE.test_arrays_that_record_gradients,
        r"net.predict\(x\) must not follow an x .*in `check_owned`, refuse it with a TypeError",
    ),
]


@pytest.mark.parametrize(
    ("backend", "row", "sentence"), FAULTS, ids=[type(row[0]).__name__ for row in FAULTS]
)
def test_a_fault_is_answered_with_what_to_write(backend, row, sentence):
    with pytest.raises(AssertionError, match=sentence):
        row(backend)


def test_a_nan_that_is_not_counted_is_found(monkeypatch):
    monkeypatch.setattr("accelnn.gradient._argument.check_finite", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        SUITE.test_a_nan_is_named_wherever_it_is(accelnn.get_backend("numpy"))


def test_owns_may_be_a_static_method():
    owns(OwnsAsStatic())


def test_the_functions_that_the_suite_asks_for_are_those_that_the_package_uses():
    used = set()
    for path in Path(accelnn.__file__).parent.rglob("*.py"):
        if not set(SPECIAL) & set(path.parts):
            used |= {
                node.attr
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, ast.Attribute)
                and ast.unparse(node.value).rpartition(".")[2] == "xp"
            }
    assert used - {"__name__", "from_dlpack"} == set(FUNCTIONS)
