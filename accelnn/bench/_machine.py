"""Descriptions of the machine, for the heading of the tables."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

from accelnn._processors import usable_processors
from accelnn._version import __version__
from accelnn.backends import get_backend

__all__ = ["describe_gpu", "describe_machine"]

PACKAGES = ("numpy", "numba", "torch", "jax", "scikit-learn", "scipy", "numdifftools")


def describe_machine(data: Sequence[str], *, gpu: bool = False) -> dict[str, str]:
    """Return processor, versions, threads and data in words.

    Raises
    ------
    accelnn.errors.BackendUnavailableError
        If `gpu` is true, and none can be used.
    """
    from accelnn.bench.jobs.data import DESCRIPTIONS

    return {
        **(describe_gpu() if gpu else {}),
        "processor": f"{_processor()}, {usable_processors()} usable cores",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "accelnn": __version__,
        **{name: _version(name) for name in PACKAGES},
        "BLAS of NumPy": _blas(),
        "threads": "accelnn's Numba engine has threads of its own; no threading layer of Numba's",
        "data": "; ".join(DESCRIPTIONS[name] for name in dict.fromkeys(data)),
    }


def describe_gpu() -> dict[str, str]:
    """Return the name and size of the CUDA device, and the versions of CUDA.

    Raises
    ------
    accelnn.errors.BackendUnavailableError
        If none can be used.
    """
    cupy = get_backend("cupy").xp
    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(cupy.cuda.Device().id)
    size = f"{card['multiProcessorCount']} multiprocessors, {card['totalGlobalMem'] / 1e9:.0f} GB"
    driver, used = map(_cuda_version, (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
    return {
        "GPU": card["name"].decode(),
        "size of the GPU": f"compute capability {card['major']}.{card['minor']}, {size}",
        "CUDA": f"{driver} in the driver, {used} in cupy",
        "cupy": cupy.__version__,
    }


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    import numpy as np  # noqa: F401 - loads its BLAS
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return (
        ", ".join(
            f"{pool['internal_api']} {pool['version']}"
            + (f" ({pool['architecture']} kernels)" if "architecture" in pool else "")
            for pool in pools
        )
        or "unknown"
    )
