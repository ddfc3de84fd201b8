"""Whether others could plant code in a cache folder, whose files are unpickled and run."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from accelnn import backends

__all__ = ["exposure"]

PACKAGE = Path(backends.__file__).parents[1]
ROOT = 0


@functools.cache
def exposure(folder: str) -> str:
    """Return who else could write into a folder, in words, or an empty string.

    A folder within the package is not looked at: who can write there can change the package.
    """
    path = Path(folder).absolute()
    if not hasattr(os, "geteuid") or path.is_relative_to(PACKAGE):
        return ""
    # What a link stands in counts as well as what it stands for.
    for place in {path, path.resolve()}:
        for one in (place, *place.parents):
            found = _exposure(one, is_leaf=one == place)
            if found:
                return f"{str(one)!r} {found}"
    return ""


def _exposure(folder: Path, *, is_leaf: bool) -> str:
    try:
        status = folder.stat()
    except FileNotFoundError:
        # Nobody has put anything there, which those above it do not allow.
        return ""
    except OSError:
        return "cannot be looked at"
    if status.st_uid not in (ROOT, os.geteuid()):
        return "belongs to another user"
    mode, found = status.st_mode, ""
    # In a folder such as /tmp nobody can replace what is another's, but anybody can put something.
    if is_leaf or not mode & stat.S_ISVTX:
        if mode & stat.S_IWOTH:
            found = "can be written by anybody"
        elif mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
            found = "can be written by its group"
    return found


@functools.cache
def _is_own_group(group: int) -> bool:
    """Return whether a group is that of one user alone, as many systems make for each user."""
    if group == ROOT:
        return True
    # Not on every system.
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}
