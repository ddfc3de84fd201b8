"""How much of the machine is ours."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["processor_quota", "usable_processors"]


def usable_processors() -> int:
    """Return how many processors this process may use: its affinity, and its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, int(min(count, processor_quota())))


def processor_quota(root: Path = Path("/")) -> float:
    """Return how many processors' time Linux's control groups let this process have.

    The smallest quota counts of its group and of all groups around it, of both versions of control
    groups. A container may see but a part of the path of its group; then the groups that it does
    see are at the end of that.

    Parameters
    ----------
    root : path, default "/"
        The folder in which ``proc`` and ``sys`` are.

    Returns
    -------
    float
        Infinite without a quota.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        # Not Linux.
        return math.inf
    mounted = root / "sys/fs/cgroup"
    quotas = [math.inf]
    for line in lines:
        # Such as "0::/a/b", or "4:cpu,cpuacct:/a/b" of version 1.
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for folder in (mounted, mounted / "unified"):
                quotas += [_quota_v2(group) for group in _groups(folder, path)]
        elif "cpu" in controllers.split(","):
            for name in {"cpu", controllers}:
                quotas += [_quota_v1(group) for group in _groups(mounted / name, path)]
    return min(quotas)


def _groups(mounted: Path, path: str) -> Iterator[Path]:
    """Yield the folders of a group and of all around it."""
    group = PurePosixPath(path.lstrip("/"))
    # A group outside of what a container sees begins with "..".
    if ".." not in group.parts:
        yield mounted / group
        yield from (mounted / around for around in group.parents)
    else:
        yield mounted


def _quota_v2(group: Path) -> float:
    try:
        quota, period = (group / "cpu.max").read_text("ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        # No such folder, or "max".
        return math.inf


def _quota_v1(group: Path) -> float:
    try:
        quota, period = (
            int((group / f"cpu.cfs_{name}_us").read_text("ascii")) for name in ("quota", "period")
        )
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
