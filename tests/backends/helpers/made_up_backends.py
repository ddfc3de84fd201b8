"""A backend for tests to register, derive from and replace."""

from accelnn.backends.numpy import NumpyBackend


class Other(NumpyBackend):
    name = "other"
    inferred = False
