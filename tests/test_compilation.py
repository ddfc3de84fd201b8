"""The time of compilation, told apart from that of the work."""

import time

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


def test_a_failed_compilation_took_its_time_too():
    before = seconds_compiled()
    with pytest.raises(ZeroDivisionError), compilation():
        _fail()
    assert seconds_compiled() - before >= A_MOMENT
    inner = seconds_compiled()
    with compilation():
        time.sleep(A_MOMENT)
    assert seconds_compiled() - inner >= A_MOMENT
