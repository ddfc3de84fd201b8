"""The least that a third party writes passes the suite that our own backends pass."""

import array_api_strict
import numpy as np

from accelnn import Backend
from accelnn.testing import BackendConformance

ARRAY = type(array_api_strict.asarray(0))


class PlainNumpy(Backend):
    """A namespace, a name and who owns what."""

    name = "plain-numpy"
    inferred = False
    xp = np
    device = "cpu"

    @classmethod
    def owns(cls, x):
        return isinstance(x, np.ndarray)


class PlainStrict(Backend):
    """The same, in a namespace with nothing but the standard."""

    name = "plain-strict"
    inferred = False
    xp = array_api_strict
    device = array_api_strict.Device("CPU_DEVICE")

    @classmethod
    def owns(cls, x):
        return isinstance(x, ARRAY) and x.device == cls.device


class TestPlainNumpy(BackendConformance):
    backend = PlainNumpy


class TestPlainStrict(BackendConformance):
    backend = PlainStrict
