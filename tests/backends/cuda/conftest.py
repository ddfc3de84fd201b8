"""Kernels built for the processor."""

import pytest

from accelnn.backends.cupy.source import kernel_source


@pytest.fixture(scope="session")
def kernels_for(tmp_path_factory):
    """Return the kernels of a variant, built once."""
    from on_cpu import Kernels, build

    built = {}

    def kernels(variant):
        if variant not in built:
            folder = tmp_path_factory.mktemp("kernels")
            built[variant] = Kernels(build(kernel_source(), variant.options, folder))
        return built[variant]

    return kernels
