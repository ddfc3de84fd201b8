"""How many processors we may use, where control groups give a process a part of their time."""

import math
import os
import subprocess
import sys

import pytest

from accelnn import _processors
from accelnn._processors import processor_quota, usable_processors


@pytest.fixture
def machine(tmp_path):
    """Return ``machine(groups, **files)``: a folder with ``/proc/self/cgroup`` and group files."""

    def make(groups, files):
        root = tmp_path / "root"
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(groups)
        for name, content in files.items():
            path = root / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return root

    return make


V1 = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def _v1(group, quota, period=100_000):
    return {f"{group}/{name}": f"{n}\n" for name, n in zip(V1, (quota, period), strict=True)}


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        # Version 2: a container with a name space of its own, or a service.
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 25000"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "900000 100000"}, 3.0),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "100000 100000"}, 1.0),
        ("0::/a/b/c\n", {"a/cpu.max": "100000 100000"}, 1.0),
        # Groups of others.
        ("0::/a\n", {"b/cpu.max": "100000 100000", "a/c/cpu.max": "100000 100000"}, math.inf),
        # Without a name space the path is the host's, and the container's group is at the top.
        ("0::/docker/0a1b\n", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/../b\n", {"cpu.max": "200000 100000"}, 2.0),
        # Version 1.
        ("4:cpu,cpuacct:/\n0::/\n", _v1("cpu,cpuacct", 250_000), 2.5),
        ("4:cpu,cpuacct:/\n", _v1("cpu", 250_000), 2.5),
        ("2:cpuacct:/\n1:cpu:/\n", _v1("cpu", -1), math.inf),
        ("2:cpuacct:/\n1:cpu:/a/b\n", _v1("cpu/a/b", -1) | _v1("cpu/a", 400_000), 4.0),
        ("1:cpu:/docker/0a1b\n", _v1("cpu", 300_000), 3.0),
        ("3:cpuset:/a\n2:cpu:/a\n", _v1("cpuset/a", 100_000), math.inf),
        # Both, and the processor's controller belongs to either.
        ("1:cpu:/a\n0::/a\n", _v1("cpu/a", 300_000), 3.0),
        ("1:memory:/a\n0::/a\n", {"unified/a/cpu.max": "200000 100000"}, 2.0),
        # A colon in a name.
        ("0::/a:b\n", {"a:b/cpu.max": "200000 100000"}, 2.0),
        # What is no quota.
        ("0::/\n", {"cpu.max": "broken\n"}, math.inf),
        ("0::/\n", {"cpu.max": "100000 0\n"}, math.inf),
        ("1:cpu:/\n", _v1("cpu", 100_000, 0), math.inf),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, math.inf),
        ("nonsense\n\n", {"cpu.max": "max 100000"}, math.inf),
    ],
)
def test_the_smallest_quota_on_the_path_counts(machine, groups, files, quota):
    assert processor_quota(machine(groups, files)) == quota


def test_elsewhere_there_is_no_quota(tmp_path):
    assert processor_quota(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "most"), [(0.3, 1), (1.0, 1), (1.9, 1), (math.inf, None)])
def test_a_part_of_a_processor_is_not_counted(monkeypatch, quota, most):
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setattr(_processors, "processor_quota", lambda: quota)
    assert usable_processors() == (most or affinity)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_counts_for_threads_and_workers():
    pytest.importorskip("numba", reason="numba is not installed")
    code = """
import os, sys
import numba, accelnn
from accelnn._processors import usable_processors
# After Numba has counted them.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(usable_processors(), accelnn.get_backend("numba").threads)
"""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]
