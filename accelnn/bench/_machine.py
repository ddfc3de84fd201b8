"""What a table of times must have above it."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

from accelnn._processors import usable_processors
from accelnn._version import __version__

__all__ = ["describe_machine"]

PACKAGES = ("numpy", "numba", "torch", "jax", "scikit-learn", "scipy", "numdifftools")


def describe_machine(data: Sequence[str]) -> dict[str, str]:
    """Return machine, versions, threads and data, each in words."""
    from accelnn.bench.jobs.data import DESCRIPTIONS

    return {
        "processor": f"{_processor()}, {usable_processors()} usable cores",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "accelnn": __version__,
        **{name: _version(name) for name in PACKAGES},
        "BLAS of NumPy": _blas(),
        "threads": "accelnn's Numba engine has threads of its own; no threading layer of Numba's",
        "data": "; ".join(DESCRIPTIONS[name] for name in dict.fromkeys(data)),
    }


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
    import numpy as np  # noqa: F401 - its BLAS is asked about
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
