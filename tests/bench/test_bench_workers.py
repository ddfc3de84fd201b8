"""Workers that do not do what they should, seen from the process that asks them."""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from accelnn.bench import Case
from accelnn.bench._machine import widest_vectors
from accelnn.bench._worker import MissingPeer, Worker, WorkerError, prepare, worker_environment

CASE = Case("training", "x")


def python(code):
    return [sys.executable, "-c", code]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A dead orphan has an entry until whoever inherits it collects it.
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def wait_until_ended(pid):
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def test_one_that_dies_is_reported_with_its_last_words():
    code = "import os, sys; print('no memory left', file=sys.stderr, flush=True); os._exit(3)"
    with Worker(1, CASE) as worker:
        with pytest.raises(WorkerError, match="ended with code 3: no memory left"):
            worker.ask(exec, code)
        # Asked again, it is still dead.
        with pytest.raises(WorkerError, match="ended with code 3"):
            worker.ask(abs, 1)


def test_no_module_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    """By the worker, or by a process that it starts."""
    monkeypatch.chdir(tmp_path)
    for name in ("random", "numpy", "secrets"):
        (tmp_path / f"{name}.py").write_text(f"open('{name} was run', 'w').close()")
    started = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import random, numpy'])"
    )
    with Worker(1, CASE) as worker:
        worker.ask(exec, f"import secrets; {started}")
    assert not [*tmp_path.glob("*was run")]


CHILD = "__import__('subprocess').Popen([__import__('sys').executable, '-c', 'input()'], stdin=-1)"


def test_one_that_hangs_is_ended_with_all_that_it_started():
    with Worker(1, CASE) as worker:
        child = worker.ask(eval, f"{CHILD}.pid")
        assert is_running(child)
        worker.timeout = 0.2
        with pytest.raises(WorkerError, match=r"no answer to 'sleep' within 0\.2 s; ended"):
            worker.ask(time.sleep, 600)
        wait_until_ended(child)
        with pytest.raises(WorkerError, match="ended with code -9"):
            worker.ask(abs, 1)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
def test_one_at_work_ends_with_who_has_asked_however_that_ended():
    code = """
import os, time
from accelnn.bench import Case
from accelnn.bench._worker import Worker
with Worker(1, Case("training", "x")) as worker:
    print(worker.ask(os.getpid), flush=True)
    worker.ask(time.sleep, 600)
"""
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(1.0)
        assert is_running(worker)
        parent.kill()
    wait_until_ended(worker)


def test_one_that_only_closes_its_pipe_is_ended():
    code = "import os, time; os.closerange(3, 100); time.sleep(600)"
    with Worker(1, CASE) as worker, pytest.raises(WorkerError, match="ended with code -9"):
        worker.ask(exec, code)


def test_what_packages_print_is_shown_nowhere(capfd):
    with Worker(1, CASE) as worker:
        assert worker.ask(print, "within") is None
        assert worker.ask(os.system, "echo within a child") == 0
    assert capfd.readouterr() == ("", "")


def test_failures_and_missing_packages_are_told_apart():
    with Worker(1, CASE) as worker:
        with pytest.raises(MissingPeer, match="No module named 'not_there'"):
            worker.ask(importlib.import_module, "not_there")
        with pytest.raises(WorkerError, match="ValueError: invalid literal"):
            worker.ask(int, "no")
        assert worker.ask(int, "1") == 1


def test_threads_and_blas_are_set_before_a_worker_starts(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    one, two = worker_environment(1, CASE), worker_environment(2, CASE)
    for environment, threads in ((one, "1"), (two, "2")):
        assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(environment)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            assert environment[name] == threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be pinned")
@pytest.mark.parametrize("group", ["training", "gradient"])
def test_jax_on_one_thread_has_one_processor(group):
    pytest.importorskip("jax")
    contestant = "JAX step" if group == "training" else "JAX analytic"
    case = Case(group, "x", do="steps", batch=20, few=1, many=2, budget=0.01)
    with Worker(1, case) as worker:
        worker.ask(prepare, case, contestant, 1)
        assert len(worker.ask(os.sched_getaffinity, 0)) == 1


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_job_may_fork():
    code = "__import__('multiprocessing').get_context('fork').Pool(2).map(abs, [-1, -2])"
    with Worker(1, CASE, timeout=30.0) as worker:
        assert worker.ask(eval, code) == [1, 2]


VECTORS = """
import json
import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from threadpoolctl import threadpool_info
import numba
np.ones((2, 2)) @ np.ones((2, 2))

@numba.njit(fastmath=True)
def dot(x, y):
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total

dot(np.ones(1), np.ones(1))
code = "".join(dot.inspect_asm().values())
blas = [pool.get("architecture") for pool in threadpool_info() if pool["user_api"] == "blas"]
# Of what NumPy chooses its loops by, whose names depend on its version.
wide = any(__cpu_features__[name] for name in __cpu_dispatch__ if "V4" in name or "512" in name)
found = {"zmm": "zmm" in code, "ymm": "ymm" in code, "blas": sorted(set(blas)), "wide": wide}
print(json.dumps(found))
"""


@pytest.mark.skipif("AVX" not in widest_vectors(), reason="no AVX2")
def test_with_avx2_alone_nothing_wider_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    environment = worker_environment(1, replace(CASE, isa="avx2"))
    done = subprocess.run(
        python(VECTORS), env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found == {"zmm": False, "ymm": True, "blas": ["Haswell"], "wide": False}
    assert environment["NUMBA_CACHE_DIR"] == str(tmp_path / "avx2")
    # What torch has compiled for wider vectors it would take for its own, and come to NaN.
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torch" / "avx2")
    # On this machine alone, the same code would be wider.
    if widest_vectors() == "AVX-512":
        wide = worker_environment(1, CASE) | {"NUMBA_CPU_NAME": "skylake-avx512"}
        done = subprocess.run(python(VECTORS), env=wide, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["wide"]
