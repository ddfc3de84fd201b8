"""Kernels built for the processor."""

import pytest

from accelnn.backends.cupy.source import kernel_source


@pytest.fixture(scope="session")
def kernels_for(stand_in):
    """Return the kernels of a variant, built once."""
    return lambda variant: stand_in.library(kernel_source(), variant.options)
