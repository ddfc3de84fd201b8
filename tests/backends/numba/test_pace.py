"""Which calls are left to one thread; time is simulated."""

import itertools

import numpy as np
import pytest

import accelnn

WORK = 1000.0


@pytest.fixture
def pace(compiled):
    """Return a new `Pace` and the clock it reads."""
    assert compiled.name == "numba"
    from accelnn.backends.numba.pace import Pace

    now = [0.0]
    return Pace(lambda: now[0]), now


def _spend(pace, alone, together, calls):
    """Make calls that take so long, and return the time they took and how many the team made."""
    pace, now = pace
    start, team_calls = now[0], 0
    for _ in range(calls):
        team = pace.wants_team(WORK)
        seconds = next(together) if team else alone
        now[0] += seconds
        pace.record(WORK, seconds, team=team)
        team_calls += team
    return now[0] - start, team_calls


@pytest.mark.parametrize("slower", [1.05, 1.5, 10.0, 100.0])
@pytest.mark.parametrize("alone", [1e-5, 1e-4, 1e-3])
def test_a_slow_team_costs_little(pace, alone, slower):
    from accelnn.backends.numba.pace import LONG, LOSS, TRIAL, UNKNOWN

    together = slower * alone
    spent, _ = _spend(pace, alone, itertools.repeat(together), 20_000)
    # Beside the trials: what may be lost at first, and the calls before one thread was measured.
    first = 2 + (UNKNOWN if together > LONG else 2)
    assert spent <= 20_000 * alone * (1 + TRIAL) + LOSS + first * together


@pytest.mark.parametrize("alone", [1e-5, 1e-4, 1e-3])
def test_a_team_that_is_seldom_held_up_for_long_is_a_slow_one(pace, alone):
    """It gains 40 % in nine calls of ten, and loses a time slice in the tenth."""
    from accelnn.backends.numba.pace import SAVED, TRIAL

    hiccup = 0.006
    together = itertools.cycle([0.6 * alone] * 9 + [hiccup])
    spent, _ = _spend(pace, alone, together, 20_000)
    assert spent <= 20_000 * alone * (1 + TRIAL) + SAVED + 4 * hiccup


@pytest.mark.parametrize("alone", [1e-5, 1e-4, 1e-3, 1e-2])
def test_a_fast_team_makes_nearly_all_calls(pace, alone):
    spent, team_calls = _spend(pace, alone, itertools.repeat(0.6 * alone), 20_000)
    assert team_calls > 0.97 * 20_000
    assert spent < 0.62 * 20_000 * alone


@pytest.mark.parametrize("alone", [6e-5, 1e-4, 1e-3])
def test_a_team_that_must_wake_up_after_a_rest_comes_back(pace, alone):
    """Its calls gain 30 %, but those that follow one on one thread lose as much."""
    pace, now = pace
    before, teams = False, []
    for i in range(20_000):
        team = pace.wants_team(WORK)
        seconds = alone if not team else 0.7 * alone if before else 1.3 * alone
        # A time slice is lost at first.
        seconds += 0.02 if i == 10 else 0.0
        now[0] += seconds
        pace.record(WORK, seconds, team=team)
        teams.append(before := team)
    assert sum(teams[10_000:]) > 0.9 * 10_000


def test_load_that_comes_and_goes(pace):
    alone, quiet = 1e-4, itertools.repeat(6e-5)
    _spend(pace, alone, quiet, 5_000)
    _, team_calls = _spend(pace, 2 * alone, itertools.repeat(5e-3), 5_000)
    assert team_calls < 50
    _spend(pace, alone, quiet, 5_000)
    _, team_calls = _spend(pace, alone, quiet, 5_000)
    assert team_calls > 0.97 * 5_000


@pytest.mark.parametrize("alone", [1e-4, 4e-3, 4e-2])
def test_a_team_that_was_fast_is_tried_again_soon_after_a_disturbance(pace, alone):
    """Other programs hold it up for a tenth of a second; half a second later it works again."""
    _spend(pace, alone, itertools.repeat(0.6 * alone), 1_000)
    disturbed = 0.0
    while disturbed < 0.1:
        disturbed += _spend(pace, alone, itertools.repeat(4 * alone), 1)[0]
    _spend(pace, alone, itertools.repeat(0.6 * alone), round(0.5 / alone))
    _, team_calls = _spend(pace, alone, itertools.repeat(0.6 * alone), 100)
    assert team_calls >= 97


def test_a_long_call_is_not_made_on_one_thread_just_to_know(pace):
    _, team_calls = _spend(pace, 1.0, itertools.repeat(0.9), 1_000)
    assert team_calls == 999


def test_a_team_comes_back_to_long_calls(pace):
    """One took twice as long as on one thread, all others half as long."""
    alone = 0.1
    _spend(pace, alone, itertools.repeat(0.5 * alone), 100)
    _spend(pace, alone, itertools.repeat(2 * alone), 1)
    _spend(pace, alone, itertools.repeat(0.5 * alone), 100)
    _, team_calls = _spend(pace, alone, itertools.repeat(0.5 * alone), 1_000)
    assert team_calls > 0.97 * 1_000


def test_what_compiling_takes_is_not_counted(pace):
    spent, team_calls = _spend(pace, 1e-4, itertools.chain([8.0], itertools.repeat(6e-5)), 1_000)
    assert team_calls > 900
    assert spent < 8.1


def test_kinds_of_calls_are_told_apart_and_forgotten(compiled):
    assert compiled.name == "numba"
    from accelnn.backends.numba.pace import KINDS, Paces

    paces = Paces()
    assert paces.of("train", 1000) is paces.of("train", 1023)
    assert paces.of("train", 1000) is not paces.of("train", 1025)
    assert paces.of("train", 1000) is not paces.of("evaluate", 1000)
    for i in range(3 * KINDS):
        paces.of(f"kernel {i}", 1)
    assert len(paces._known) <= KINDS


@pytest.mark.usefixtures("always_fused")
def test_nets_and_batches_have_a_pace_of_their_own(compiled, monkeypatch):
    from accelnn.backends.numba import team

    # However often other programs hold it up, the team is asked for again at once.
    monkeypatch.setattr(team, "ALONE_SECONDS", 0.0)
    backend = type(compiled)(2)
    x, t = np.ones((64, 30)), np.zeros(64, np.int64)
    for hidden, batch in itertools.product((31, 30), (8, 16)):
        net = accelnn.MLP([30, hidden, 2], dtype="float64", backend=backend)
        accelnn.fit(net, x, t, batch_size=batch, epochs=1, validation=None)
    known = [call for call, _ in backend.team._paces._known if call[0] == "train"]
    assert len(set(known)) == 4
