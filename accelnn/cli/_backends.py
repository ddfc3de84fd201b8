"""``accelnn backends``: what a bug report needs."""

import importlib.metadata
import platform
import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from threadpoolctl import threadpool_info

from accelnn._version import __version__
from accelnn.backends import Backend, get_backend, list_backends
from accelnn.cli._options import friendly_errors

__all__ = ["backends"]

PACKAGES = (
    "numpy",
    "numba",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "safetensors",
    "pooch",
    "matplotlib",
    "rich",
    "click",
)


@click.command()
def backends() -> None:
    """Show which backends can be used, why not, and the versions around them."""
    console = Console(width=None if sys.stdout.isatty() else 100)
    with friendly_errors():
        active = get_backend().name
        fastest = get_backend("auto").name
        console.print(_availability())
        console.print(f"active: {active}; 'auto' chooses: {fastest}\n", highlight=False)
        console.print(_versions())
        for line in _threads():
            console.print(line, highlight=False)


def _availability() -> Table:
    table = Table("backend", "usable", "device", "remarks")
    for info in list_backends():
        remarks = _remarks(get_backend(info.name)) if info.available else info.reason
        # Escaped, because rich would take the extra in `accelnn[numba]` for markup.
        table.add_row(info.name, "yes" if info.available else "no", info.device, escape(remarks))
    return table


def _remarks(backend: Backend) -> str:
    """Say what a backend knows about its device."""
    if backend.name == "numba":
        import numba

        layer = getattr(numba.config, "THREADING_LAYER", "unknown")
        return f"{numba.get_num_threads()} threads, threading layer {layer!r}"
    if backend.name == "cupy":
        properties = backend.xp.cuda.runtime.getDeviceProperties(backend.xp.cuda.Device().id)
        runtime = backend.xp.cuda.runtime.runtimeGetVersion()
        driver = backend.xp.cuda.runtime.driverGetVersion()
        return f"{properties['name'].decode()}, CUDA runtime {runtime}, driver {driver}"
    return ""


def _versions() -> Table:
    table = Table("package", "version")
    table.add_row("accelnn", __version__)
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        table.add_row(package, version)
    return table


def _threads() -> list[str]:
    return [
        f"{pool['internal_api']} {pool['version']}: {pool['num_threads']} threads"
        + (f", {pool['architecture']} kernels" if "architecture" in pool else "")
        for pool in threadpool_info()
    ]
