"""Long calls of kernels end soon after Ctrl-C, and leave threads as they were."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import accelnn
from accelnn.backends import TrainingState

pytestmark = [
    pytest.mark.usefixtures("listens_to_ctrl_c"),
    pytest.mark.skipif(os.name != "posix", reason="no process can send Ctrl-C to itself"),
]


@pytest.fixture(scope="module")
def kernels(compiled):
    """Return kernels: one that ends only when it is told to, and one that counts its members."""
    assert compiled.name == "numba"
    import numba

    from accelnn.backends.numba.kernels.launch import launch
    from accelnn.backends.numba.kernels.meeting import add, is_abandoned, wait

    @numba.njit(nogil=True)
    def spin_as(member, log):
        while not is_abandoned(member):
            add(log, member.number, 1)

    @numba.njit(nogil=True)
    def spin(meeting, size, log):
        launch(spin_as, meeting, size, (log,))

    @numba.njit(nogil=True)
    def count_as(member, log):
        log[member.number] = member.size
        wait(member)

    @numba.njit(nogil=True)
    def count(meeting, size, log):
        launch(count_as, meeting, size, (log,))

    # Compiled before any time is measured out.
    count(np.zeros(200, np.int64), 1, np.zeros(4, np.int64))
    spin.compile(tuple(map(numba.typeof, (np.zeros(1, np.int64), 1, np.zeros(1, np.int64)))))
    return spin, count


@pytest.fixture
def team(compiled, monkeypatch):
    """Return a team whose second member stays awake for long, however busy the machine is."""
    assert compiled.name == "numba"
    from accelnn.backends.numba import team

    monkeypatch.setattr(team, "AWAKE", 1_000_000_000)
    return team.Team(2)


def press(log):
    """Press Ctrl-C a moment after all of `log` is more than 0; return the thread that does."""

    def wait():
        # On a busy machine the members of a call begin long after each other.
        while not (log > 0).all():
            time.sleep(0.001)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [1, 2])
def test_a_long_call_is_interrupted(kernels, team, size):
    spin, count = kernels
    log = np.zeros(4, np.int64)
    thread = press(log[:size])
    with pytest.raises(KeyboardInterrupt):
        team.call(spin, (log,), size, is_long=True)
    thread.join()
    assert (log[size:] == 0).all()
    after = log.copy()
    # The next call has the team for itself, and nobody writes to what the last one had.
    found = np.zeros(4, np.int64)
    team.call(count, (found,), 2)
    np.testing.assert_array_equal(found[:2], 2)
    np.testing.assert_array_equal(log, after)


def test_members_wait_for_a_long_call_that_begins_late(kernels, compiled, monkeypatch):
    """Its thread may begin long after it was started, when members would be asleep again."""
    assert compiled.name == "numba"
    from accelnn.backends.numba.team import Team

    class Late(threading.Thread):
        def run(self):
            time.sleep(0.02)
            super().run()

    monkeypatch.setattr(threading, "Thread", Late)
    (_, count), team = kernels, Team(2)
    sizes = set()
    for _ in range(5):
        log = np.zeros(4, np.int64)
        team.call(count, (log,), 2, is_long=True)
        sizes.add(int(log[0]))
    assert max(sizes) == 2


@pytest.mark.parametrize("is_late", [False, True])
def test_ctrl_c_while_the_thread_of_a_long_call_starts(kernels, team, monkeypatch, is_late):
    """One that has begun is ended, and one that has not does nothing when it does."""
    spin, count = kernels
    log, go_on = np.zeros(4, np.int64), threading.Event()
    started = []

    class Interrupted(threading.Thread):
        def start(self):
            started.append(self)
            super().start()
            while not is_late and not log.any():
                time.sleep(0.001)
            raise KeyboardInterrupt

        def run(self):
            if is_late:
                go_on.wait()
            super().run()

    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            team.call(spin, (log,), 1, is_long=True)
    after = log.copy()
    go_on.set()
    started[0].join(10.0)
    assert not started[0].is_alive()
    assert log.any() == (not is_late)
    np.testing.assert_array_equal(log, after)
    team.call(count, (log,), 2, is_long=True)
    np.testing.assert_array_equal(log[:2], 2)


def test_ctrl_c_pressed_again_waits_for_the_end_as_well(kernels, team):
    from accelnn.backends.numba.team import ABANDONED

    _, count = kernels
    log, pressed = np.zeros(4, np.int64), []

    def hear(*_):
        pressed.append(1)
        raise KeyboardInterrupt

    def stubborn(meeting, _size, log):
        log[0] = 1
        while not meeting[ABANDONED]:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        while len(pressed) < 2:
            time.sleep(0.001)
        time.sleep(0.05)
        log[3] = 1

    signal.signal(signal.SIGINT, hear)
    thread = press(log[:1])
    with pytest.raises(KeyboardInterrupt):
        team.call(stubborn, (log,), 2, is_long=True)
    assert log[3] == 1
    thread.join()
    team.call(count, (log,), 2)
    np.testing.assert_array_equal(log[:2], 2)


def test_a_signal_that_interrupts_nothing_ends_nothing(kernels, team):
    _, count = kernels
    heard, log = [], np.zeros(4, np.int64)
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))

    def slow(meeting, size, log):
        os.kill(os.getpid(), signal.SIGINT)
        while not heard:
            pass
        count(meeting, size, log)

    team.call(slow, (log,), 1, is_long=True)
    assert heard == [1]
    assert log[0] == 1


def test_a_long_call_beside_another(kernels, team):
    """It is not ended with it, nor it with this one."""
    from accelnn.backends.numba.team import ABANDONED

    spin, count = kernels
    log, begun, stop = np.zeros(4, np.int64), threading.Event(), threading.Event()

    def hold(meeting, _size, _log):
        begun.set()
        stop.wait()
        # What the other call was told is not said to this one.
        log[3] = meeting[ABANDONED]

    other = threading.Thread(target=team.call, args=(hold, (log,), 2), kwargs={"is_long": True})
    other.start()
    begun.wait()
    # One member, because the other call has the team.
    thread = press(log[:1])
    with pytest.raises(KeyboardInterrupt):
        team.call(spin, (log,), 2, is_long=True)
    thread.join()
    stop.set()
    other.join()
    assert log[3] == 0
    team.call(count, (log,), 2)
    np.testing.assert_array_equal(log[:2], 2)


def test_a_failure_of_a_long_call_is_the_callers(team):
    def fail(_meeting, _size):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        team.call(fail, (), is_long=True)


@pytest.mark.parametrize("what", ["train", "evaluate", "predict", "differences"])
def test_kernels_end_when_they_are_told_to(compiled, monkeypatch, what):
    assert compiled.name == "numba"
    from accelnn.backends.numba.team import ABANDONED, Team, own_of

    told = np.zeros(own_of(1), np.int64)
    told[ABANDONED] = 1
    net = accelnn.MLP([5, 8, 6, 3], dtype="float64", rng=0, backend="numba:1")
    x = np.random.default_rng(0).normal(size=(40, 5))
    t = net.predict(x).argmax(1)
    assert net.accuracy(x, t) == 1.0
    before = net.flat.copy()
    # What is not written is zero.
    monkeypatch.setattr(np, "empty", np.zeros)
    monkeypatch.setattr(Team, "_meeting_of_one", lambda *_, **__: told)
    if what == "train":
        state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", net.backend)
        data = accelnn.prepare(x, t, backend=net.backend, dtype="float64")
        losses = net.engine.train(state, data, np.arange(40), 10)
        assert np.isnan(losses).all()
        np.testing.assert_array_equal(net.flat, before)
    elif what == "evaluate":
        assert net.accuracy(x, t) == 0.0
    elif what == "predict":
        np.testing.assert_array_equal(net.predict(x), 0.0)
    else:
        for array in net.numerical_gradient(x, t).values():
            np.testing.assert_array_equal(array, 0.0)
