"""The CuPy backend and its engine pass every test of a backend, their kernels on the processor."""

import pytest

from accelnn.backends.cupy import CupyBackend
from accelnn.testing import BackendConformance

pytestmark = [pytest.mark.cuda_on_cpu, pytest.mark.usefixtures("cupy")]


class TestCupyOnCpu(BackendConformance):
    backend = CupyBackend
