"""Entry points of installed packages, and which package they are of."""

import functools
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # importlib.metadata takes milliseconds to import; only unknown names need it.
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["ambiguity_of", "entry_points_of", "package_of", "warn_once"]

logger = logging.getLogger("accelnn")


def entry_points_of(group: str) -> "dict[str, list[EntryPoint]]":
    """Return the entry points of a group by name; several packages may use one name."""
    from importlib.metadata import entry_points

    points: dict[str, list[EntryPoint]] = {}
    try:
        found = list(entry_points(group=group))
    except Exception:  # noqa: BLE001 - damaged metadata raise whatever their parser does
        found = list(_legible(group))
    for point in found:
        points.setdefault(point.name, []).append(point)
    return points


def _legible(group: str) -> "Iterator[EntryPoint]":
    """Yield the entry points of a group, package by package, and name those that are damaged."""
    from importlib.metadata import distributions

    seen = set()
    for distribution in distributions():
        name = _name_of(distribution)
        # The first on the path hides others of its name.
        key = re.sub(r"[-_.]+", "-", name or "").lower()
        if key and key in seen:
            continue
        seen.add(key)
        try:
            yield from distribution.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001 - see `entry_points_of`
            folder = distribution.locate_file("")
            warn_once(
                f"the entry points of the package {name or 'without a name'} in {folder} cannot be "
                f"read, so that no backend of it is known: {type(error).__name__}: {error}. "
                f"Reinstall or remove the package"
            )


def _name_of(distribution: "Distribution | None") -> str | None:
    """Return the name of a package; a broken installation may have metadata without one."""
    try:
        metadata = distribution.metadata if distribution else None
        return metadata["Name"] if metadata and "Name" in metadata else None
    except Exception:  # noqa: BLE001 - see `entry_points_of`
        return None


def package_of(point: "EntryPoint") -> str:
    """Return the name of the package that announces something, or else of the module."""
    # Not `point.module`, which raises where the value is no name.
    return _name_of(point.dist) or point.value.partition(":")[0].strip()


def ambiguity_of(name: str, points: "list[EntryPoint]") -> str:
    """Return what to do about a backend that several packages announce."""
    announced = " and ".join(f"{package_of(point)} ({point.value})" for point in points)
    return (
        f"the backend {name!r} is announced by several packages: {announced}. Uninstall all but "
        f"one of them with:\n\n    pip uninstall {package_of(points[-1])}\n"
    )


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, unless it was logged before."""
    logger.warning(message)
