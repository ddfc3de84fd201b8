"""Kernels built for the processor."""

import pytest
from stand_in_arrays import PROCESSORS, Device

from accelnn.backends.cupy.source import kernel_source


@pytest.fixture(scope="session")
def kernels_for(stand_in):
    """Return the kernels of a variant, built once."""
    return lambda variant: stand_in.library(kernel_source(), variant.options)


@pytest.fixture
def log(cupy):
    """Return what is asked of a device with as many multiprocessors as an H100 has."""
    Device.attributes = Device.attributes | {"MultiProcessorCount": PROCESSORS}
    return cupy.events


@pytest.fixture
def large_memory(log):
    """Let a block have as much shared memory as on an H100."""
    assert log == []
    Device.attributes = Device.attributes | {"MaxSharedMemoryPerBlockOptin": 232_448}
