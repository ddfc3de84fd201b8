"""Runs that are interrupted or killed at any moment, and go on from a file."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from kept_runs import assert_same, go_on, whole

POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@POSIX
@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_ctrl_c_at_any_moment(path, sampling):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    call = {"epochs": 60, "sampling": sampling, "checkpoint_every": 7}
    draw, times = np.random.default_rng(5), 0
    try:
        while True:
            wait = 0.02 * draw.random()
            timer = threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                found = go_on(path, **call)
                timer.cancel()
                timer.join()
                break
            except KeyboardInterrupt:
                times += 1
    finally:
        signal.signal(signal.SIGINT, before)
    del call["checkpoint_every"]
    assert_same(found, whole(**call))


def killed_runs(path, kills, seed, **call):
    """Kill runs at random moments, and return how many were, and the last one, which was not."""
    draw, killed = np.random.default_rng(seed), 0
    while killed < kills:
        process = os.fork()
        if process == 0:
            try:
                go_on(path, **call)
            finally:
                os._exit(0)
        time.sleep(0.06 * draw.random())
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif path.exists():
            # Done before: begin another one.
            assert_same(go_on(path, **call), whole(**without_file(call)))
            path.unlink()
    return go_on(path, **call)


def without_file(call):
    return {name: value for name, value in call.items() if name != "checkpoint_every"}


@POSIX
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_ends_as_one_that_is_not(path, kills):
    call = {"epochs": 12, "checkpoint_every": 4, "net": {"dropout": 0.2}}
    found = killed_runs(path, kills, 7, **call)
    assert_same(found, whole(**without_file(call)))
