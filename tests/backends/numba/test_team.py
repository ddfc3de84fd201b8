"""A team of threads: every member is called, none is left waiting, nobody is kept out."""

import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest


@pytest.fixture(scope="module")
def meet(compiled):
    """Return a kernel ``meet(meeting, size, times, log)`` in which a team meets.

    Between two meetings each member adds up what all have written.
    """
    assert compiled.name == "numba"
    import numba

    from accelnn.backends.numba.kernels.launch import launch
    from accelnn.backends.numba.kernels.meeting import wait

    @numba.njit(nogil=True)
    def meet_as(member, times, log):
        log[0, member.number] = 1
        wait(member)
        for i in range(times):
            total = 0
            for number in range(member.size):
                total += log[i, number]
            log[i + 1, member.number] = total + 1
            wait(member)

    @numba.njit(nogil=True)
    def meet(meeting, size, times, log):
        launch(meet_as, meeting, size, (times, log))

    return meet


@pytest.fixture(scope="module")
def fail(compiled):
    """Return a kernel ``fail(meeting, size, number)`` in which one member raises an exception.

    All others wait for it.
    """
    assert compiled.name == "numba"
    import numba

    from accelnn.backends.numba.kernels.launch import launch
    from accelnn.backends.numba.kernels.meeting import is_abandoned, wait

    @numba.njit(nogil=True)
    def fail_as(member, number):
        if member.number == number:
            raise ValueError
        while number < member.size and not is_abandoned(member):
            wait(member)

    @numba.njit(nogil=True)
    def fail(meeting, size, number):
        launch(fail_as, meeting, size, (number,))

    return fail


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


def _sizes(log):
    """Check what a team has written in `meet`, and return how many have."""
    size = int(log[0].sum())
    np.testing.assert_array_equal(log[0], np.arange(log.shape[1]) < size)
    expected = [1]
    for _ in range(len(log) - 1):
        # Unsigned sums wrap around, the same everywhere.
        expected.append((expected[-1] * size + 1) % 2**64)
    expected = np.array(expected, np.uint64)[:, None]
    np.testing.assert_array_equal(log[:, :size], np.broadcast_to(expected, (len(log), size)))
    return size


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_members_meet(team_of, meet, size):
    team = team_of(size)
    # While this one compiles, those that it has woken fall asleep again.
    team.call(meet, (1, np.zeros((2, size), np.uint64)))
    found = set()
    for _ in range(30):
        log = np.zeros((301, size), np.uint64)
        team.call(meet, (300, log))
        found.add(_sizes(log))
        # In between they fall asleep, or do not.
        time.sleep(0.001 * (len(found) % 2))
    assert max(found) == size


def test_calls_of_any_number_of_members_in_any_order(team_of, meet):
    team, rng, most = team_of(4), np.random.default_rng(0), 0
    for pause in rng.choice([0.0, 0.0, 1e-4, 3e-4, 1e-3], 1_000):
        log = np.zeros((4, 4), np.uint64)
        asked = int(rng.integers(1, 5))
        team.call(meet, (3, log), asked)
        # One that was about to fall asleep may not take part.
        assert 1 <= _sizes(log) <= asked
        most = max(most, _sizes(log))
        time.sleep(pause)
    assert most == 4


def test_functions_and_kernels_in_turn(team_of, meet):
    team = team_of(3)
    for _ in range(50):
        log, numbers = np.zeros((4, 3), np.uint64), []
        team.call(meet, (3, log))
        _sizes(log)
        team.run(lambda member, numbers=numbers: numbers.append(member.number))
        assert sorted(numbers) == [0, 1, 2]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_kernel_that_fails_on_one_thread_ends_on_all(team_of, fail, meet, failing):
    team, errors = team_of(3), []
    for _ in range(30):
        # None if that many are not awake.
        errors.append(_run_in_time(lambda: team.call(fail, (failing,))))
        log = np.zeros((4, 3), np.uint64)
        team.call(meet, (3, log))
        _sizes(log)
    assert {type(error) for error in errors} <= {RuntimeError, type(None)}
    assert RuntimeError in map(type, errors)


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
def test_an_exception_is_raised_in_the_caller(team_of, failing):
    team = team_of(3)

    def kernel(member):
        if member.number == failing:
            msg = f"number {failing}"
            raise ZeroDivisionError(msg)

    for _ in range(3):
        error = _run_in_time(lambda: team.run(kernel))
        assert isinstance(error, ZeroDivisionError)
        assert str(error) == f"number {failing}"
    numbers = []
    assert _run_in_time(lambda: team.run(lambda member: numbers.append(member.number))) is None
    assert sorted(numbers) == [0, 1, 2]


def test_a_call_that_finds_the_team_busy_runs_alone(team_of, meet):
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
        log = np.zeros((4, 2), np.uint64)
        team.call(meet, (3, log))
    finally:
        leave.set()
        holder.join(60)
    assert sorted(map(str, sizes)) == ["(0, 1)", "2", "2"]
    assert _sizes(log) == 1
    sizes.clear()
    team.run(lambda member: sizes.append(member.size))
    assert sizes == [2, 2]


def test_a_call_inside_a_call_runs_alone(team_of):
    team, sizes = team_of(2), []

    def outer(_member):
        team.run(lambda member: sizes.append(member.size))

    assert _run_in_time(lambda: team.run(outer)) is None
    assert sizes == [1, 1]


def test_nothing_is_kept_after_a_call(team_of, meet):
    team, array = team_of(3), np.zeros(10)
    watched = weakref.ref(array)
    team.run(lambda _member, array=array: array.sum())
    del array
    gc.collect()
    assert watched() is None
    log = np.zeros((4, 3), np.uint64)
    watched = weakref.ref(log)
    team.call(meet, (3, log))
    del log
    gc.collect()
    assert watched() is None


# A team of two threads, and a handler by which Ctrl-C is heard once.
INTERRUPTIBLE = """
import os, signal, threading
import accelnn

team = type(accelnn.get_backend("numba"))(2).team
leave, interrupted = threading.Event(), threading.Event()

def interrupt_once(*_):
    if not interrupted.is_set():
        interrupted.set()
        raise KeyboardInterrupt

# What a shell starts in the background ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, interrupt_once)

def interrupt():
    # A signal that comes just before a thread begins to wait does not end its waiting.
    while not interrupted.wait(0.1):
        os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals that interrupt waiting are POSIX's")
def test_an_interrupted_call_does_not_answer_for_the_next(python, compiled):
    assert compiled.name == "numba"
    code = """
second = []

def hold(member):
    if member.number == 1:
        interrupt()
        leave.wait()

try:
    team.run(hold)
except KeyboardInterrupt:
    print("interrupted")
threading.Timer(0.2, leave.set).start()
team.run(lambda member: second.append(member.number))
print(sorted(second))
"""
    assert python(INTERRUPTIBLE + code).split("\n") == ["interrupted", "[0, 1]"]


@pytest.mark.skipif(os.name != "posix", reason="signals that interrupt waiting are POSIX's")
@pytest.mark.parametrize("to_the_end", [False, True])
def test_an_interrupted_call_waits_for_others_if_asked(python, compiled, to_the_end):
    """They may write to what its caller restores."""
    assert compiled.name == "numba"
    code = f"""
ended = threading.Event()

def hold(member):
    if member.number == 1:
        interrupt()
        leave.wait(0.5)
        ended.set()

try:
    team.run(hold, to_the_end={to_the_end})
except KeyboardInterrupt:
    print(ended.is_set())
    leave.set()
"""
    assert python(INTERRUPTIBLE + code) == str(to_the_end)


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
    train(accelnn.MLP([64, 70, 3], rng=0, backend=type(net.backend)(2)))

def train(net):
    # So many that threads share them, while they are prepared and while they are trained on.
    x, t = np.eye(10_000, 64), np.arange(10_000) % 3
    print(accelnn.fit(net, x, t, batch_size=1_000, epochs=1, rng=0).steps)

net = accelnn.MLP([64, 70, 3], rng=0, backend=type(accelnn.get_backend("numba"))(2))
train(net)
assert len(net.backend.team._tasks) == 1
"""
    assert python(code).split() == ["10", "10", "10"]


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
