"""Descriptions of the machine, for the heading of the tables."""

import importlib
import importlib.metadata
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from accelnn._processors import usable_processors
from accelnn._version import __version__
from accelnn.backends import get_backend

__all__ = ["check_vectors", "describe_gpu", "describe_machine", "limit_vectors"]

PACKAGES = ("numpy", "numba", "torch", "jax", "scikit-learn", "scipy", "numdifftools")


def describe_machine(data: Sequence[str], *, gpu: bool = False) -> dict[str, str]:
    """Return processor, versions, threads and data in words, with `gpu` those of the GPU first."""
    from accelnn.bench.contestants.data import DESCRIPTIONS

    return {
        **(describe_gpu() if gpu else {}),
        "processor": f"{_processor()}, {usable_processors()} usable cores",
        "vector instructions": f"{widest_vectors()}; AVX2 alone where a title says so",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "accelnn": __version__,
        **{name: _version(name) for name in PACKAGES},
        "BLAS of NumPy": _blas(),
        "threads": "accelnn's Numba engine has threads of its own; no threading layer of Numba's",
        "data": "; ".join(DESCRIPTIONS[name] for name in dict.fromkeys(data)),
    }


def describe_gpu() -> dict[str, str]:
    """Return the name and size of the CUDA device, and the versions of CUDA; raise if none is."""
    cupy = get_backend("cupy").xp
    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(cupy.cuda.Device().id)
    size = f"{card['multiProcessorCount']} multiprocessors, {card['totalGlobalMem'] / 1e9:.0f} GB"
    driver, used = (
        f"{version // 1000}.{version % 1000 // 10}"
        for version in (runtime.driverGetVersion(), runtime.runtimeGetVersion())
    )
    return {
        "GPU": card["name"].decode(),
        "size of the GPU": f"compute capability {card['major']}.{card['minor']}, {size}",
        "CUDA": f"{driver} in the driver, {used} in cupy",
        "cupy": cupy.__version__,
    }


NUMPY_CORE = "numpy._core._multiarray_umath"
# What a Haswell has; the name of a processor alone leaves Numba the features of this one.
HASWELL = "sse2 sse3 ssse3 sse4.1 sse4.2 popcnt avx avx2 fma bmi bmi2 lzcnt f16c movbe"
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in HASWELL.split()),
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
# Code that was compiled for wider vectors is not to be found: torch would take its loops over
# sixteen numbers for ones over eight, and leave half of the numbers out.
CACHES = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def check_vectors(isa: str) -> None:
    """Raise ValueError if this machine has not the vector instructions that are asked for."""
    if isa == "avx2" and not _features().get("AVX2"):
        msg = f"--isa avx2 needs an x86 processor with AVX2; this one has {widest_vectors()}"
        raise ValueError(msg)


def limit_vectors(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which all contestants use AVX2 and nothing wider."""
    usual = Path.home() / ".cache" / "accelnn-bench"
    caches = {name: str(Path(environment.get(name) or usual) / "avx2") for name in CACHES}
    # NumPy refuses to disable what it has not.
    found, known = _features(), importlib.import_module(NUMPY_CORE).__cpu_dispatch__
    wider = [n for n in known if n.startswith(("AVX512", "X86_V4")) and found.get(n)]
    return environment | AVX2 | caches | {"NPY_DISABLE_CPU_FEATURES": " ".join(wider)}


def _features() -> dict[str, bool]:
    """Return what NumPy has found of the processor's features."""
    return dict(importlib.import_module(NUMPY_CORE).__cpu_features__)


def widest_vectors() -> str:
    """Return the name of the widest vector instructions of this processor."""
    names = {"AVX512F": "AVX-512", "AVX2": "AVX2", "SVE": "SVE", "ASIMD": "NEON"}
    return next((name for feature, name in names.items() if _features().get(feature)), "unknown")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    text = information.read_text(encoding="utf-8") if information.exists() else ""
    named = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    import numpy as np  # noqa: F401 - loads its BLAS
    from threadpoolctl import threadpool_info

    described = [
        f"{pool['internal_api']} {pool['version']}"
        + (f" ({pool['architecture']} kernels)" if "architecture" in pool else "")
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    return ", ".join(described) or "unknown"
