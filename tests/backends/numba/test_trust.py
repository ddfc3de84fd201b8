"""Caches that somebody else could have filled are not used."""

import os
import pickle
import subprocess
import sys

import pytest

from accelnn.backends.numba import _trust

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX's")
SOMEBODY = 12345
# Compiles one kernel that is kept, and says where.
CODE = """
import accelnn, numpy as np
print(accelnn.MLP([2, 3, 2], rng=0, backend="numba").predict(np.ones((1, 2))).shape)
"""


@pytest.fixture(autouse=True)
def forgets():
    _trust.exposure.cache_clear()
    yield
    _trust.exposure.cache_clear()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "a" / "b"
    made.mkdir(parents=True)
    for one in (made, made.parent):
        one.chmod(0o755)
    return made


def is_root():
    return os.geteuid() == 0


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o555])
def test_a_folder_of_one_s_own(folder, mode):
    folder.chmod(mode)
    assert _trust.exposure(str(folder)) == ""
    assert _trust.exposure(str(folder / "not there")) == ""


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_one_that_anybody_can_write(folder, mode):
    folder.chmod(mode)
    assert _trust.exposure(str(folder)) == f"{str(folder)!r} can be written by anybody"


def test_one_in_a_folder_that_anybody_can_write(folder):
    folder.parent.chmod(0o777)
    assert "/a' can be written by anybody" in _trust.exposure(str(folder))
    # Where nobody can replace what is another's, as in /tmp.
    folder.parent.chmod(0o1777)
    _trust.exposure.cache_clear()
    assert _trust.exposure(str(folder)) == ""


@pytest.mark.skipif("not is_root()", reason="only root gives files away")
def test_one_of_another_user(folder):
    os.chown(folder, SOMEBODY, -1)
    assert _trust.exposure(str(folder)) == f"{str(folder)!r} belongs to another user"
    os.chown(folder, 0, SOMEBODY)
    folder.chmod(0o775)
    _trust.exposure.cache_clear()
    assert _trust.exposure(str(folder)) == f"{str(folder)!r} can be written by its group"


def test_a_link_to_one(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert _trust.exposure(str(link)) == ""
    folder.chmod(0o777)
    _trust.exposure.cache_clear()
    assert "can be written by anybody" in _trust.exposure(str(link))


def test_the_package_is_trusted_as_its_code_is():
    assert _trust.exposure(str(_trust.PACKAGE / "backends" / "__pycache__")) == ""


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def run(cache):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "(1, 2)\n"
    return done.stderr


@pytest.mark.slow
def test_planted_code_is_not_run(tmp_path):
    """Where the folder is private, planted files show that the test would notice."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    run(cache)
    indices = list(cache.rglob("*.nbi"))
    assert indices
    for is_open, mode in ((False, 0o700), (True, 0o777)):
        proof = tmp_path / f"run {mode:o}"
        for index in indices:
            index.write_bytes(pickle.dumps(Planted(proof)))
        cache.chmod(mode)
        errors = run(cache)
        assert proof.exists() != is_open
        if is_open:
            assert "the cache folder is not private" in errors
            assert (
                "can be written by anybody: set NUMBA_CACHE_DIR to a folder of your own" in errors
            )
