"""Compilers for CUDA kernels, where there is no device."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from accelnn.backends.cupy.source import kernel_source

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def needed_compiler(request):
    """Skip, or with ``--require-cuda-compilers`` fail, where what a marker needs is missing."""
    missing = []
    if request.node.get_closest_marker("nvrtc"):
        modules = {"cupy": "cupy-cuda13x", "nvidia.cu13": "nvidia-cuda-nvrtc"}
        missing += [package for module, package in modules.items() if not _is_installed(module)]
    if request.node.get_closest_marker("cuda_on_cpu") and shutil.which("g++") is None:
        missing.append("g++")
    if missing:
        reason = f"{' and '.join(missing)} not installed"
        require = request.config.getoption("--require-cuda-compilers")
        (pytest.fail if require else pytest.skip)(reason)


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


def _is_installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
