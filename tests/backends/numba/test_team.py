"""A team of threads: every member is called, none is left waiting, nobody is kept out."""

import gc
import os
import threading
import weakref

import numpy as np
import pytest


@pytest.fixture(scope="module")
def meet(compiled):
    """Return ``meet(member, times, log)``: compiled code in which a team meets.

    Between two meetings each member adds up what all have written.
    """
    assert compiled.name == "numba"
    import numba

    from accelnn.backends.numba.kernels.meeting import wait

    @numba.njit(nogil=True)
    def meet(member, times, log):
        for time in range(times):
            log[time + 1, member.number] = log[time].sum() + 1
            wait(member)

    return meet


@pytest.fixture
def team_of(compiled):
    """Return ``team_of(size)``."""
    return lambda size: type(compiled)(size).team


def _run_in_time(function):
    """Call a function; fail if it does not return."""
    outcome = []

    def call():
        try:
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001 - looked at below
            outcome.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert outcome, "the team hangs"
    return outcome[0]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_members_meet(team_of, meet, size):
    team, times = team_of(size), 300
    for _ in range(3):
        log = np.zeros((times + 1, size), np.uint64)
        team.run(lambda member, log=log: meet(member, times, log))
        # Unsigned sums wrap around, the same everywhere.
        expected, total = [], np.zeros(1, np.uint64)
        for _ in range(times):
            expected.append(total[0] + np.ones(1, np.uint64))
            total = expected[-1] * np.uint64(size)
        np.testing.assert_array_equal(log[1:], np.broadcast_to(expected, (times, size)))


def test_each_member_is_another_thread_and_the_first_is_the_callers(team_of):
    for size, asked in ((4, None), (4, 3), (4, 9), (1, None)):
        seen = {}
        team_of(size).run(
            lambda member, seen=seen: seen.update(
                {member.number: (member.size, threading.get_ident())}
            ),
            asked,
        )
        count = min(size, asked or size)
        assert sorted(seen) == list(range(count))
        assert {size for size, _ in seen.values()} == {count}
        assert seen[0][1] == threading.get_ident()
        assert len({thread for _, thread in seen.values()}) == count


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_exception_is_raised_in_the_caller_and_nobody_waits_for_ever(team_of, meet, failing):
    team, log = team_of(3), np.zeros((1001, 3), np.uint64)

    def kernel(member):
        if member.number == failing:
            msg = f"number {failing}"
            raise ZeroDivisionError(msg)
        meet(member, 1000, log)

    for _ in range(3):
        error = _run_in_time(lambda: team.run(kernel))
        assert isinstance(error, ZeroDivisionError)
        assert str(error) == f"number {failing}"
    numbers = []
    assert _run_in_time(lambda: team.run(lambda member: numbers.append(member.number))) is None
    assert sorted(numbers) == [0, 1, 2]


def test_a_call_that_finds_the_team_busy_runs_alone(team_of):
    team, sizes, inside, leave = team_of(2), [], threading.Event(), threading.Event()

    def hold(member):
        sizes.append(member.size)
        inside.set()
        leave.wait(60)

    holder = threading.Thread(target=team.run, args=(hold,))
    holder.start()
    assert inside.wait(60)
    try:
        team.run(lambda member: sizes.append((member.number, member.size)))
    finally:
        leave.set()
        holder.join(60)
    assert sorted(map(str, sizes)) == ["(0, 1)", "2", "2"]
    sizes.clear()
    team.run(lambda member: sizes.append(member.size))
    assert sizes == [2, 2]


def test_a_call_inside_a_call_runs_alone(team_of):
    team, sizes = team_of(2), []

    def outer(_member):
        team.run(lambda member: sizes.append(member.size))

    assert _run_in_time(lambda: team.run(outer)) is None
    assert sizes == [1, 1]


def test_nothing_is_kept_after_a_call(team_of):
    team, array = team_of(3), np.zeros(10)
    watched = weakref.ref(array)
    team.run(lambda _member, array=array: array.sum())
    del array
    gc.collect()
    assert watched() is None


@pytest.mark.skipif(os.name != "posix", reason="signals that interrupt waiting are POSIX's")
def test_an_interrupted_call_does_not_answer_for_the_next(python, compiled):
    assert compiled.name == "numba"
    code = """
import os, signal, threading
import accelnn

team = type(accelnn.get_backend("numba"))(2).team
leave, interrupted, second = threading.Event(), threading.Event(), []

def interrupt_once(*_):
    if not interrupted.is_set():
        interrupted.set()
        raise KeyboardInterrupt

# What a shell starts in the background ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, interrupt_once)

def hold(member):
    if member.number == 1:
        # A signal that comes just before a thread begins to wait does not end its waiting.
        while not interrupted.wait(0.1):
            os.kill(os.getpid(), signal.SIGINT)
        leave.wait()

try:
    team.run(hold)
except KeyboardInterrupt:
    print("interrupted")
threading.Timer(0.2, leave.set).start()
team.run(lambda member: second.append(member.number))
print(sorted(second))
"""
    assert python(code).split("\n") == ["interrupted", "[0, 1]"]


def test_without_more_threads_the_caller_works_alone(python, compiled):
    assert compiled.name == "numba"
    code = """
import threading
import accelnn

team = type(accelnn.get_backend("numba"))(3).team
sizes = []
# No system gives a thread a stack of that size.
threading.stack_size(1 << 46)
team.run(lambda member: sizes.append(member.size))
threading.stack_size(0)
team.run(lambda member: sizes.append(member.size))
print(sizes)
"""
    assert python(code) == "[1, 3, 3, 3]"


def test_at_the_end_of_the_interpreter(python, compiled):
    assert compiled.name == "numba"
    code = """
import atexit
import numpy as np, accelnn

@atexit.register
def train_once_more():
    train(net)
    train(accelnn.MLP([5, 70, 3], rng=0, backend=type(net.backend)(2)))

def train(net):
    print(accelnn.fit(net, np.eye(12, 5), np.arange(12) % 3, epochs=3, rng=0).steps)

net = accelnn.MLP([5, 70, 3], rng=0, backend=type(accelnn.get_backend("numba"))(2))
train(net)
assert len(net.backend.team._tasks) == 1
"""
    assert python(code).split() == ["3", "3", "3"]


def test_threads_end_with_their_team(team_of):
    before, team, inside = threading.active_count(), team_of(4), []
    team.run(lambda _member: inside.append(threading.current_thread()))
    assert threading.active_count() == before + 3
    del team
    gc.collect()
    for thread in inside:
        if thread is not threading.current_thread():
            thread.join(60)
            assert not thread.is_alive()
