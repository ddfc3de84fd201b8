"""Workers that do not do what they should, seen from the process that asks them."""

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
from accelnn.bench._workers import MissingPeer, Worker, WorkerError, worker_environment

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
    code = "import sys; input(); print('no memory left', file=sys.stderr); sys.exit(3)"
    with Worker(1, CASE, command=python(code)) as worker:
        with pytest.raises(WorkerError, match="ended with code 3: no memory left"):
            worker.ask("repeat")
        # Asked again, it is still dead.
        with pytest.raises(WorkerError, match="ended with code 3"):
            worker.ask("repeat")


def test_one_that_hangs_is_ended_with_all_that_it_started():
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print('{"child": %d}' % child.pid, flush=True)
time.sleep(600)
"""
    with Worker(1, CASE, command=python(code)) as worker:
        child = worker.ask("prepare")["child"]
        assert is_running(child)
        worker.timeout = 0.2
        with pytest.raises(WorkerError, match=r"no answer to 'repeat' within 0\.2 s; ended"):
            worker.ask("repeat")
        wait_until_ended(child)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
def test_one_at_work_ends_with_who_has_asked_however_that_ended():
    job = "import time; from accelnn.bench import worker; "
    job += "worker.Answers.repeat = lambda self: time.sleep(600); worker.main()"
    code = f"""
import sys
from accelnn.bench import Case
from accelnn.bench._workers import Worker
with Worker(1, Case("training", "x"), command=[sys.executable, "-c", {job!r}]) as worker:
    print(worker._process.pid, flush=True)
    worker.ask("repeat")
"""
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(1.0)
        assert is_running(worker)
        parent.kill()
    wait_until_ended(worker)


def test_one_that_only_closes_its_output_is_ended(monkeypatch):
    monkeypatch.setattr("accelnn.bench._workers.GRACE", 0.1)
    code = "import os, time; input(); os.close(1); time.sleep(600)"
    worker = Worker(1, CASE, command=python(code))
    with worker, pytest.raises(WorkerError, match="stopped answering; ended"):
        worker.ask("repeat")


def test_what_packages_print_is_no_answer():
    code = """
import multiprocessing
import os
from accelnn.bench import worker
asked = worker.Answers
def repeat(self):
    print("within"); os.system("echo within a child")
    return {"seconds": 1.0}
asked.repeat = repeat
answers = worker._take_stdout()
import json, sys
for line in sys.stdin:
    print(json.dumps(asked().answer(json.loads(line))), file=answers, flush=True)
"""
    with Worker(1, CASE, command=python(code)) as worker:
        assert worker.ask("repeat") == {"seconds": 1.0}


def test_failures_and_missing_packages_are_told_apart():
    code = """
import sys, json
for line in sys.stdin:
    print(json.dumps({"missing": "No module named 'x'"} if "prepare" in line
                     else {"failed": "ValueError: no"}), flush=True)
"""
    with Worker(1, CASE, command=python(code)) as worker:
        with pytest.raises(MissingPeer, match="No module named 'x'"):
            worker.ask("prepare")
        with pytest.raises(WorkerError, match="ValueError: no"):
            worker.ask("repeat")


def test_threads_and_blas_are_set_before_a_worker_starts(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    one, two = worker_environment(1, CASE), worker_environment(2, CASE)
    for environment, threads in ((one, "1"), (two, "2")):
        assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(environment)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            assert environment[name] == threads
    assert one["XLA_FLAGS"] == "--xla_dump_to=x --xla_cpu_multi_thread_eigen=false"
    assert two["XLA_FLAGS"] == "--xla_dump_to=x"


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_job_may_fork_while_the_next_request_is_waited_for():
    code = """
import multiprocessing
from accelnn.bench import worker
def repeat(self):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return {"seconds": sum(pool.map(abs, [-1.0, -2.0]))}
worker.Answers.repeat = repeat
worker.main()
"""
    with Worker(1, CASE, timeout=30.0, command=python(code)) as worker:
        assert worker.ask("repeat") == {"seconds": 3.0}


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
    environment = worker_environment(1, replace(CASE, isa="avx2"))
    done = subprocess.run(
        python(VECTORS), env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found == {"zmm": False, "ymm": True, "blas": ["Haswell"], "wide": False}
    assert environment["NUMBA_CACHE_DIR"] == str(tmp_path / "avx2")
    assert environment["XLA_FLAGS"].endswith("--xla_cpu_max_isa=AVX2")
    # On this machine alone, the same code would be wider.
    if widest_vectors() == "AVX-512":
        wide = worker_environment(1, CASE) | {"NUMBA_CPU_NAME": "skylake-avx512"}
        done = subprocess.run(python(VECTORS), env=wide, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["wide"]
