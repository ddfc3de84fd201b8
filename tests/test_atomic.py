"""Files that are replaced whole: after any error or kill there is the old one or the new."""

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from accelnn import _atomic
from accelnn._atomic import check_replaceable, replacing

posix = pytest.mark.skipif(os.name != "posix", reason="a feature of POSIX")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def write(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


def names(path):
    return sorted(entry.name for entry in path.parent.iterdir())


@posix
def test_all_of_it_is_on_disk_before_its_name_is(path, monkeypatch):
    """What a power failure leaves is decided by the order of these calls."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def look_fsync(file):
        kind = "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else os.fstat(file).st_size
        calls.append(kind)
        fsync(file)

    def look_replace(*args):
        calls.append("replace")
        replace(*args)

    monkeypatch.setattr(os, "fsync", look_fsync)
    monkeypatch.setattr(os, "replace", look_replace)
    write(path, b"12345")
    assert calls == [5, "replace", "folder"]


@posix
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_synchronised(path, monkeypatch, number):
    fsync = os.fsync

    def refuse(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(os, "fsync", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(number)):
            write(path)
    else:
        write(path)
    assert path.read_bytes() == b"new"
    assert names(path) == ["file"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file(path, error):
    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(error), replacing(path) as file:
        fail(file)
    assert path.read_bytes() == b"old"
    assert names(path) == ["file"]


@posix
def test_the_error_is_told_and_not_what_came_of_it(path):
    def fail():
        next(entry for entry in path.parent.iterdir() if entry != path).unlink()
        raise KeyError("cause")

    with pytest.raises(KeyError, match="cause"), replacing(path):
        fail()


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o666])
def test_the_mode_stays(path, mode, mask):
    path.chmod(mode)
    before = os.umask(mask)
    try:
        with replacing(path) as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == mode
            file.write(b"new")
        write(path.with_name("another"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE(path.with_name("another").stat().st_mode) == 0o666 & ~mask


@posix
def test_what_is_secret_is_never_readable(path, monkeypatch):
    path.chmod(0o600)
    monkeypatch.setattr(_atomic, "_make_like", lambda _file, _old: None)
    with replacing(path) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600


is_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)


@is_root
def test_the_owner_stays(path):
    os.chown(path, 12345, 54321)
    path.chmod(0o4640)
    write(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (12345, 54321)
    assert stat.S_IMODE(found.st_mode) == 0o640


@is_root
def test_another_group_gets_the_rights_of_all_others(path):
    """As in a folder that several people share: the new file belongs to the one who wrote it."""
    groups = os.getgroups()
    for mode, expected in ((0o664, 0o644), (0o660, 0o600), (0o606, 0o666)):
        path.chmod(mode)
        old = path.stat()
        new = path.with_name("new")
        with new.open("wb") as file:
            os.chown(new, 12345, 54321)
            os.setgroups([])
            os.setegid(54321)
            os.seteuid(12345)
            try:
                _atomic._make_like(file.fileno(), old)
            finally:
                os.seteuid(0)
                os.setegid(0)
                os.setgroups(groups)
        assert (new.stat().st_uid, new.stat().st_gid) == (12345, 54321)
        assert stat.S_IMODE(new.stat().st_mode) == expected


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def _link_to_device(path):
    path.symlink_to("/dev/null")


@posix
@pytest.mark.parametrize("make", [_fifo, _socket, _link_to_device])
def test_special_files_are_refused_and_stay(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    special = tmp_path / "special"
    make(special)
    before = special.stat()
    for refuse in (check_replaceable, write):
        with pytest.raises(OSError, match=r"cannot write '.*special': it is a FIFO, a device or a"):
            refuse(special)
    assert (special.stat().st_ino, special.stat().st_mode) == (before.st_ino, before.st_mode)
    assert names(special) == ["special"]


@posix
def test_loops_of_links(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(OSError, match="Too many levels of symbolic links") as raised:
            write(path)
        assert raised.value.filename is not None
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write(tmp_path / "a" / "file")
    assert names(tmp_path / "a") == ["a", "b"]


@posix
def test_links_stay_links(tmp_path):
    (tmp_path / "there").mkdir()
    first, second = tmp_path / "first", tmp_path / "second"
    first.symlink_to("second")
    second.symlink_to("there/file")
    for content in (b"one", b"two"):
        write(first, content)
        assert (first.is_symlink(), second.is_symlink()) == (True, True)
        assert (tmp_path / "there" / "file").read_bytes() == content
    assert names(first) == ["first", "second", "there"]


@pytest.mark.parametrize(
    "name", ["n" * k for k in (1, 234, 235, 254, 255)] + ["ß" * 127, "汉" * 85]
)
def test_names_as_long_as_the_system_takes(tmp_path, name):
    write(tmp_path / name, b"one")
    write(tmp_path / name, b"two")
    assert (tmp_path / name).read_bytes() == b"two"
    assert names(tmp_path / name) == [name]


@pytest.mark.parametrize("refuse", [check_replaceable, write])
def test_a_name_that_is_too_long_is_an_error_of_the_system(tmp_path, refuse):
    with pytest.raises(OSError, match="nnn"):
        refuse(tmp_path / ("n" * 256))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refuse", [check_replaceable, write])
@pytest.mark.parametrize("text", ["file/", "new/", "new/.", "folder/", "folder/.", ".", ""])
def test_text_that_names_a_folder_makes_no_file(path, monkeypatch, text, refuse):
    """Without its slash, ``new/`` would be a file, and a Path drops it."""
    monkeypatch.chdir(path.parent)
    (path.parent / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=f"'{text}': it does not end with the name of a f"):
        refuse(text)
    assert names(path) == ["file", "folder"]
    assert path.read_bytes() == b"old"


def test_what_can_be_replaced_is_not_touched_by_the_check(path):
    check_replaceable(path)
    check_replaceable(path.with_name("new"))
    assert names(path) == ["file"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_may_not_be_written_to_is_found_by_the_check(path, monkeypatch):
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"cannot write '.*file': the folder '.*' is read-o"):
        check_replaceable(path)


def test_a_folder_that_may_not_be_written_to_is_an_error_with_the_path(path, monkeypatch):
    def refuse(name, _flags, _mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as raised:
        write(path)
    monkeypatch.undo()
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"


HANG = """
import sys
from accelnn._atomic import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start(path):
    child = subprocess.Popen(
        [sys.executable, "-c", HANG, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"writing\n"
    return child


@posix
def test_the_next_writer_removes_what_a_killed_one_left(path):
    children = [start(path) for _ in range(3)]
    for child in children[:2]:
        child.kill()
        child.communicate()
    assert len(names(path)) == 4
    write(path.with_name("another"))
    assert len(names(path)) == 5, "leftovers of another file are not its business"
    write(path)
    assert path.read_bytes() == b"new"
    assert len(names(path)) == 3, "the file, another, and that of the living"
    children[2].communicate()
    assert children[2].returncode == 0
    assert path.read_bytes() == b"half"
    assert names(path) == ["another", "file"]


@posix
def test_a_leftover_that_cannot_be_removed_stays(path, monkeypatch):
    child = start(path)
    child.kill()
    child.communicate()

    def refuse(_folder):
        raise PermissionError

    monkeypatch.setattr(os, "scandir", refuse)
    write(path)
    assert path.read_bytes() == b"new"


def test_two_at_once_both_succeed(path):
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names(path) == ["file"]


@posix
def test_a_file_that_is_taken_for_a_leftover_before_it_is_locked(path, monkeypatch):
    import fcntl

    flock, taken = fcntl.flock, []

    def late(file, how):
        if not taken and how == fcntl.LOCK_EX:
            taken.append(file.name)
            Path(file.name).unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write(path)
    assert len(taken) == 1
    assert path.read_bytes() == b"new"
    assert names(path) == ["file"]


@posix
@pytest.mark.parametrize("lacks", ["the file system", "Python"])
def test_without_locks_nothing_is_removed(path, monkeypatch, lacks):
    import fcntl

    def refuse(_file, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    if lacks == "Python":
        monkeypatch.setattr(_atomic, "fcntl", None)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with replacing(path) as first:
        first.write(b"first")
        write(path)
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"first"


HAMMER = """
import sys
from accelnn._atomic import replacing
for _ in range(300):
    with replacing(sys.argv[1]) as file:
        file.write(sys.argv[2].encode() * 1000)
"""


def test_processes_that_write_one_file(path):
    children = [subprocess.Popen([sys.executable, "-c", HAMMER, path, letter]) for letter in "abc"]
    while any(child.poll() is None for child in children):
        assert path.read_bytes() in (b"old", b"a" * 1000, b"b" * 1000, b"c" * 1000)
    assert [child.returncode for child in children] == [0, 0, 0]
    assert names(path) == ["file"]
