"""The time of compilation, told apart from that of the work."""

import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from accelnn._compilation import compilation, seconds_compiled

A_MOMENT = 0.02


def _fail():
    time.sleep(A_MOMENT)
    raise ZeroDivisionError


def test_a_block_counts_and_what_is_outside_does_not():
    before = seconds_compiled()
    time.sleep(A_MOMENT)
    assert seconds_compiled() == before
    with compilation():
        time.sleep(A_MOMENT)
    assert seconds_compiled() - before >= A_MOMENT


def test_blocks_within_a_block_count_once():
    before, started = seconds_compiled(), time.perf_counter()
    with compilation():
        for _ in range(3):
            with compilation():
                time.sleep(A_MOMENT)
    assert 3 * A_MOMENT <= seconds_compiled() - before <= time.perf_counter() - started


def test_threads_that_compile_at_once_count_once():
    before, started = seconds_compiled(), time.perf_counter()

    def compile_something(_):
        with compilation():
            time.sleep(A_MOMENT)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compile_something, range(8)))
    assert 2 * A_MOMENT <= seconds_compiled() - before <= time.perf_counter() - started


def test_a_failed_compilation_took_its_time_too():
    before = seconds_compiled()
    with pytest.raises(ZeroDivisionError), compilation():
        _fail()
    assert seconds_compiled() - before >= A_MOMENT
    inner = seconds_compiled()
    with compilation():
        time.sleep(A_MOMENT)
    assert seconds_compiled() - inner >= A_MOMENT


@pytest.fixture
def usual_garbage():
    """Let Python look for garbage as it usually does."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield gc.get_threshold()
    gc.set_threshold(*before)


def test_garbage_is_looked_for_as_before_afterwards(usual_garbage):
    with compilation():
        assert gc.get_threshold()[0] > 700
        with compilation():
            pass
        assert gc.get_threshold()[0] > 700
    assert gc.get_threshold() == usual_garbage
    with pytest.raises(ZeroDivisionError), compilation():
        _fail()
    assert gc.get_threshold() == usual_garbage


@pytest.mark.usefixtures("usual_garbage")
def test_what_is_said_about_garbage_meanwhile_stays():
    with compilation():
        gc.set_threshold(12_345)
    assert gc.get_threshold()[0] == 12_345


@pytest.mark.usefixtures("usual_garbage")
@pytest.mark.parametrize("threshold", [0, 1_000_000])
def test_who_looks_for_garbage_less_often_is_left_alone(threshold):
    gc.set_threshold(threshold, 7, 3)
    with compilation():
        assert gc.get_threshold()[:2] == (threshold, 7)
    assert gc.get_threshold()[:2] == (threshold, 7)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_is_forked_in_a_block_counts_its_own(usual_garbage):
    with compilation():
        child = os.fork()
    if child == 0:
        began = seconds_compiled() == 0.0 and gc.get_threshold() == usual_garbage
        with compilation():
            time.sleep(A_MOMENT)
        os._exit(0 if began and A_MOMENT <= seconds_compiled() < 60.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
