"""The number of CPUs that this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["most_threads", "processor_quota", "usable_processors"]

# More threads than so many, or for each processor, take longer to start than they compute.
FEW_PROCESSORS, EACH = 1024, 8


def usable_processors() -> int:
    """Return how many CPUs this process may use, given its affinity and its cgroup quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, int(min(count, processor_quota())))


def most_threads() -> int:
    """Return the largest number of threads that one may ask for.

    It is far more than are of any use. On few processors it is 1,024, because a net may come from a
    process that has more of them.
    """
    return max(FEW_PROCESSORS, EACH * usable_processors())


def processor_quota(root: Path = Path("/")) -> float:
    """Return the CPU quota that Linux control groups (v1 and v2) set for this process, in CPUs.

    The effective quota is the smallest one of its group and all parent groups. A container may have
    mounted only part of the hierarchy: groups that it does not see are skipped.

    Parameters
    ----------
    root : path, default "/"
        The directory that contains ``proc`` and ``sys``.

    Returns
    -------
    float
        Infinity without a quota.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        # Not Linux.
        return math.inf
    mounted = root / "sys/fs/cgroup"
    quotas = [math.inf]
    for line in lines:
        # "0::/a/b" in v2, "4:cpu,cpuacct:/a/b" in v1.
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
    """Yield the directories of a group and of its parents."""
    group = PurePosixPath(path.lstrip("/"))
    # The path of a group outside the container's cgroup namespace begins with "..".
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
        # No such directory, or "max".
        return math.inf


def _quota_v1(group: Path) -> float:
    try:
        quota, period = (
            int((group / f"cpu.cfs_{name}_us").read_text("ascii")) for name in ("quota", "period")
        )
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
