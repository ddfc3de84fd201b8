"""``accelnn backends``: what a bug report needs."""

import importlib.metadata
import platform
from typing import Any

import click
from rich.table import Table
from threadpoolctl import threadpool_info

from accelnn._version import __version__
from accelnn.backends import Backend, get_backend, list_backends
from accelnn.backends.numba import NumbaBackend
from accelnn.cli._options import as_json, console, friendly_errors

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
@click.option("--json", is_flag=True, help="Print all of it as JSON, and nothing else.")
def backends(*, json: bool) -> None:
    """Show which backends can be used, why not, and the versions around them."""
    found = _found()
    if json:
        with friendly_errors():
            try:
                found["active"] = get_backend().address
            finally:
                click.echo(as_json(found))
        return
    usable = Table("backend", "usable", "device", "remarks")
    for name, about in found["backends"].items():
        usable.add_row(name, "yes" if about["usable"] else "no", about["device"], about["remarks"])
    versions = Table("package", "version")
    for package, version in found["versions"].items():
        versions.add_row(package, version or "not installed")
    console().print(usable)
    console().print(versions)
    for line in found["threads"]:
        click.echo(line)
    click.echo(f"\n'auto' chooses: {found['auto']}")
    # What is active comes last: a wrong choice of it must not hide what there is.
    with friendly_errors():
        click.echo(f"active: {get_backend().address}")


def _found() -> dict[str, Any]:
    return {
        "backends": {
            info.name: {
                "usable": info.available,
                "device": info.device,
                "remarks": _remarks(get_backend(info.name)) if info.available else info.reason,
            }
            for info in list_backends(load=True)
        },
        "versions": _versions(),
        "threads": _threads(),
        "auto": get_backend("auto").address,
        "active": None,
    }


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


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {
        "accelnn": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
    }
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _threads() -> list[str]:
    return [
        f"{pool['internal_api']} {pool['version']}: {pool['num_threads']} threads"
        + (f", {pool['architecture']} kernels" if "architecture" in pool else "")
        for pool in threadpool_info()
    ]
