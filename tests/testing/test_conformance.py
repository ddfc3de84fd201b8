"""The conformance suite on our backends and on the two stricter ones."""

from accelnn.testing import BackendConformance, ReadOnlyBackend, StrictBackend


class TestNumpy(BackendConformance):
    backend = "numpy"


class TestNumba(BackendConformance):
    backend = "numba"


class TestCupy(BackendConformance):
    backend = "cupy"


class TestStrict(BackendConformance):
    backend = StrictBackend


class TestReadOnly(BackendConformance):
    backend = ReadOnlyBackend
