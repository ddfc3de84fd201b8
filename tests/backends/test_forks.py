"""Children that are forked while other threads make backends, engines and nets."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import accelnn

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
