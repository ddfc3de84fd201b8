"""Files that are replaced whole: written beside the old one, and renamed when they are complete."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, which deletes no file that is open.
    fcntl = None  # type: ignore[assignment]

__all__ = ["check_replaceable", "replacing", "require_folder"]

# What a folder answers that cannot be synchronised: one without read permission, or on a file
# system that has no such thing.
UNSYNCHRONISED = (errno.EACCES, errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` if the block ends without an error.

    Until then, and after an error or a crash, the old file is what it was. The new one has its mode
    and, where permitted, its owner; without an old one the mode follows the umask. A symbolic link
    stays one. Several processes may write at once: each file is whole, and the last one stays.

    A process that is killed leaves its temporary file, which the next one removes: the kernel holds
    a lock on it for as long as its writer lives.

    Raises
    ------
    OSError
        If the folder is missing, `path` is a folder, a FIFO, a device or a socket, or the file
        cannot be written.
    """
    target, old = _target_of(os.fspath(path))
    # For files of this host alone, because a lock may not be seen from another.
    name = f"{os.uname().nodename if hasattr(os, 'uname') else ''}\0{target.name}"
    prefix = f"accelnn-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"
    _remove_leftovers(target.parent, prefix)
    try:
        temporary, file = _create(target.parent, prefix, 0o666 if old is None else 0o600)
    except OSError as error:
        # The caller's file, in the place of one that nobody has heard of.
        error.filename = os.fspath(path)
        raise
    try:
        with file:
            if old is not None:
                _make_like(file.fileno(), old)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no file that is open.
            # Before the lock is given up, so that nobody takes this for a leftover.
            temporary.replace(target)
        _synchronise(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise the `OSError` of `replacing` before the work that the file is to hold."""
    target, _ = _target_of(os.fspath(path))
    folder = os.fspath(target.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"cannot write {os.fspath(path)!r}: the folder {folder!r} is read-only"
        raise PermissionError(msg)


def require_folder(path: str, target: Path) -> None:
    """Raise FileNotFoundError unless the folder is there of the file that is meant by a path."""
    if not target.parent.is_dir():
        msg = f"cannot write {path!r}: there is no folder {os.fspath(target.parent)!r}"
        raise FileNotFoundError(msg)


def _target_of(path: str) -> tuple[Path, os.stat_result | None]:
    """Return the file that is to be replaced, and its status if it is there."""
    # Looked at as text: a Path has lost the slash at its end.
    if os.path.split(path)[1] in ("", os.curdir):
        msg = f"cannot write {path!r}: it does not end with the name of a file"
        raise IsADirectoryError(msg)
    target = Path(os.path.realpath(path))
    require_folder(path, target)
    try:
        old = target.stat()
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(old.st_mode):
        msg = f"cannot write {path!r}: it is a folder"
        raise IsADirectoryError(msg)
    if not stat.S_ISREG(old.st_mode):
        msg = f"cannot write {path!r}: it is a FIFO, a device or a socket, and no regular file"
        raise OSError(msg)
    return target, old


def _create(folder: Path, prefix: str, mode: int) -> tuple[Path, BinaryIO]:
    """Create a temporary file and lock it."""
    while True:
        temporary = folder / f"{prefix}{secrets.token_hex(8)}.tmp"
        file = open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115 - a Path has no opener, and the caller closes it
        if fcntl is not None:
            # Without a lock nobody removes it: file systems that have none answer so to all.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        # Another process may have taken it for a leftover before it was locked.
        if temporary.exists():
            return temporary, file
        file.close()


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove what killed processes have left: the files that nobody has locked."""
    if fcntl is None:
        return
    # Whatever cannot be read or removed stays.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError), Path(entry.path).open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()


def _make_like(file: int, old: os.stat_result) -> None:
    """Give an open file the mode and, where permitted, the owner of another."""
    if not hasattr(os, "fchown"):
        return
    for owner in ((-1, old.st_gid), (old.st_uid, -1)):
        with contextlib.suppress(OSError):
            os.fchown(file, *owner)
    mode, new = old.st_mode & 0o777, os.fstat(file)
    if new.st_gid != old.st_gid:
        # The members of another group may do what all others may.
        mode = (mode & 0o707) | (mode & 0o007) << 3
    # File systems without modes refuse to set any.
    if mode != new.st_mode & 0o777:
        os.fchmod(file, mode)


def _synchronise(folder: Path) -> None:
    """Wait until the renaming, too, has reached the disk."""
    if os.name != "posix":
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in UNSYNCHRONISED:
            raise
