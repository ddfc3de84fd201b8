"""Children that are forked while other threads make backends, engines and nets."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import accelnn
from accelnn._compilation import compilation
from accelnn.gradient.evaluators import _pool

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    # Python 3.12 warns of every fork of a process with threads.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
X, T = np.ones((2, 4)), np.array([0, 1])
PATIENCE = 20.0


def work(i):
    for name in ("numpy", "numba:1"):
        accelnn.get_backend(name)
    net = accelnn.MLP([4, 2 + i % 97, 3], rng=0, backend="numpy")
    return net.loss(X, T), net.gradient(X, T), accelnn.list_backends()


def forked(function):
    """Run a function in a child; return whether it came to its end, and well."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(0)
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.parametrize("forks", [30, pytest.param(1_000, marks=pytest.mark.slow)])
def test_no_child_waits_for_a_lock_of_ours(forks):
    # Python's own import lock is not released in a child: what is imported is imported before.
    work(0)
    draw, is_over = np.random.default_rng(1), threading.Event()

    def busy():
        i = 0
        while not is_over.is_set():
            work(i := i + 1)

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(forks):
            time.sleep(0.003 * draw.random())
            assert forked(work), f"child {i} did not end"
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


FIRST_USE = """
    import os, sys, threading, time
    import numpy as np, accelnn

    def use():
        net = accelnn.MLP([4, 3, 2], rng=0, backend="numba")
        net.gradient(np.ones((2, 4)), [0, 1]), net.loss(np.ones((2, 4)), [0, 1])

    if sys.argv[2] == "imported":
        accelnn.MLP([4, 3, 2], rng=0, backend="numba")
    thread = threading.Thread(target=use)
    thread.start()
    time.sleep(float(sys.argv[1]))
    child = os.fork()
    if child == 0:
        use()
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    thread.join()
"""


@pytest.mark.parametrize("times", [3, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("state", ["new", "imported"])
def test_no_child_waits_for_what_a_thread_imports_or_compiles(usable, state, times):
    """A lock of a module, of Numba's compiler or of its cache is not released in a child."""
    usable("numba")
    accelnn.warmup(backend="numba", dtypes=["float32"])
    draw = np.random.default_rng(2)
    for wait in [0.0, *(0.5 * draw.random(times))]:
        command = [sys.executable, "-c", textwrap.dedent(FIRST_USE), str(wait), state]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "0\n", (wait, done.stderr)


def test_a_thread_may_fork_while_it_compiles_itself():
    with compilation():
        assert forked(work)
    assert forked(work)


def test_a_child_makes_workers_though_a_thread_was_making_some():
    is_making, is_over = threading.Event(), threading.Event()

    def make(count):
        is_making.set()
        is_over.wait()
        return ThreadPoolExecutor(count)

    thread = threading.Thread(target=_pool._pool, args=(make, 1))
    thread.start()
    try:
        assert is_making.wait(PATIENCE)
        assert forked(lambda _: _pool._pool(ThreadPoolExecutor, 1))
    finally:
        is_over.set()
        thread.join()
        _pool._forget(make, 1)


INTERRUPTED = """
    import os, signal, threading, time
    from accelnn._forks import no_forks

    signal.signal(signal.SIGINT, signal.default_int_handler)
    inside, heard = threading.Event(), []

    def hold():
        with no_forks():
            inside.set()
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    try:
        child = os.fork()
        if child == 0:
            with no_forks():
                os._exit(0)
        time.sleep(30)
    except KeyboardInterrupt:
        heard.append(1)
    thread.join()
    print(os.waitpid(child, 0)[1], heard)
"""


def test_ctrl_c_while_a_fork_waits_is_heard_and_the_child_is_whole():
    """Python ignores what is raised before a fork, and forks."""
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "0 [1]\n", done.stderr
