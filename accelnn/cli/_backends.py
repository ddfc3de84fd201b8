"""``accelnn backends``: what a bug report needs."""

import importlib.metadata
import platform

import click
from rich.table import Table
from threadpoolctl import threadpool_info

from accelnn._version import __version__
from accelnn.backends import Backend, get_backend, list_backends
from accelnn.backends.numba import NumbaBackend
from accelnn.cli._options import console, friendly_errors

__all__ = ["backends"]

PACKAGES = (
    "numpy",
    "numba",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "pooch",
    "matplotlib",
    "rich",
    "click",
)


@click.command(short_help="Show which backends can be used, and the versions.")
def backends() -> None:
    """Show which backends can be used, why not, and the versions around them."""
    # What is active comes last: a wrong choice of it must not hide what there is.
    console().print(_availability())
    console().print(_versions())
    for line in _threads():
        click.echo(line)
    click.echo(f"\n'auto' chooses: {get_backend('auto').address}")
    with friendly_errors():
        click.echo(f"active: {get_backend().address}")


def _availability() -> Table:
    table = Table("backend", "usable", "device", "remarks")
    for info in list_backends(load=True):
        remarks = _remarks(get_backend(info.name)) if info.available else info.reason
        table.add_row(info.name, "yes" if info.available else "no", info.device, remarks)
    return table


def _remarks(backend: Backend) -> str:
    """Say what a backend knows about its device."""
    if isinstance(backend, NumbaBackend):
        return f"{backend.threads} threads of its own"
    if backend.name == "cupy":
        properties = backend.xp.cuda.runtime.getDeviceProperties(backend.number)
        runtime = backend.xp.cuda.runtime.runtimeGetVersion()
        driver = backend.xp.cuda.runtime.driverGetVersion()
        return (
            f"{properties['name'].decode()}, one of {backend.device_count()}, CUDA runtime "
            f"{runtime}, driver {driver}"
        )
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
