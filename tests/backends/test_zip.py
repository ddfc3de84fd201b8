"""The package in a zip: data, sources of kernels, and machine code that was made from others."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import accelnn

PACKAGE = Path(accelnn.__file__).parent
MEETING = "accelnn/backends/numba/kernels/meeting.py"
USE = """
import hashlib, json
import accelnn
from accelnn.backends.cupy.source import kernel_source

(x, t), (x_test, t_test) = accelnn.load_mnist(subset="5k")
curves = {}
for backend in ("numpy", "numba"):
    net = accelnn.MLP([784, 20, 10], rng=0, backend=backend)
    curves[backend] = accelnn.fit(net, x[:500], t[:500], iters=20, rng=0).loss
found = {
    "from": accelnn.__file__,
    "pixels": [hashlib.sha256(a.tobytes()).hexdigest() for a in (x, t, x_test, t_test)],
    "curves": curves,
    "cuda": kernel_source(),
}
"""
PACK = """
import json
import numpy as np, accelnn
from accelnn.backends.numba.kernels import nonzeros

data = accelnn.prepare(np.eye(9, 20), np.zeros(9, int), backend="numba")
kernels = (nonzeros.count_nonzeros, nonzeros.copy_nonzeros)
print(json.dumps([sum(len(kernel.stats.cache_misses) for kernel in kernels), data.x.tolist()]))
"""
X = np.eye(9, 20).tolist()
NOTHING = np.zeros((9, 20)).tolist()


def _write(path, changed=None):
    """Write the package to an archive, with other sources of some files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PACKAGE.rglob("*")):
            name = file.relative_to(PACKAGE.parent).as_posix()
            if file.is_file() and file.suffix != ".pyc":
                archive.writestr(name, (changed or {}).get(name, file.read_bytes()))
    return path


@pytest.fixture
def answer(python, tmp_path, compiled):
    """Return ``answer(code, archive)``: what code prints that finds the package there."""
    assert compiled.name == "numba"
    # Where Numba keeps the code of functions in zips.
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    return lambda code, archive: json.loads(python(code, archive, **cache))


def test_data_and_training_are_those_of_the_package_in_a_folder(answer, tmp_path):
    archive = _write(tmp_path / "accelnn.zip")
    zipped = answer(f"{USE}\nprint(json.dumps(found))", archive)
    assert zipped.pop("from") == str(archive / "accelnn" / "__init__.py")
    here = {}
    exec(USE, here)  # noqa: S102 - the same code, in this process
    assert here["found"].pop("from") == accelnn.__file__
    assert len(zipped["curves"]["numpy"]) == 20
    assert zipped == here["found"]


def test_machine_code_of_a_zip_that_was_replaced_is_not_used(answer, tmp_path):
    archive = tmp_path / "accelnn.zip"
    original = (PACKAGE.parent / MEETING).read_text()
    # Nobody gets a part of the work.
    changed = original.replace("return min(first, count), min(last, count)", "return 0, 0")
    assert changed != original
    for source, x in ((original, X), (changed, NOTHING), (original, X)):
        _write(archive, {MEETING: source})
        # Numba compares times of archives, which a copy may keep: that must not be what helps.
        os.utime(archive, (1_000_000_000, 1_000_000_000))
        assert answer(PACK, archive) == [2, x]
        assert answer(PACK, archive) == [0, x]


@pytest.mark.parametrize("folder", [".", "unzipped", "un.zipped"])
def test_an_archive_that_numba_has_no_cache_for(answer, tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    assert answer(PACK, _write(tmp_path / folder / "accelnn.egg"))[1] == X
