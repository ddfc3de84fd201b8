"""Whether calls gain from a team of threads, learned from how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

__all__ = ["Pace", "Paces"]

# Seconds that calls of a team may lose against one thread before they are left to one thread, and
# the most that they can save up for that; of longer calls, what one takes.
LOSS, SAVED = 0.002, 0.01
# The share of the time on one thread that is spent on trying the team again; and that of the first
# trial of a team that has saved PROVEN times what it may save up, because most of what disturbs one
# is over soon, as OpenBLAS's threads that look for more work are, see `team`.
TRIAL, FIRST_TRIAL, PROVEN = 0.03, 0.25, 10
# Short calls that a team which has rested makes at least, because it must wake up for the first.
TRIALS = 8
# How long what one thread takes is believed, in calls of that length; and seconds above which a
# call is not made on one thread just to know; but once, after so many calls, it is.
FRESH, LONG, UNKNOWN = 100, 0.005, 30
# The weight of the newest call in the average of one thread's.
NEWEST = 0.3
# Kinds of calls that are remembered.
KINDS = 256


class Pace:
    """How calls of one kind have gone.

    A team whose threads share CPUs with other programs may take many times longer than one thread,
    because each of its threads waits for the slowest. So one thread's time is measured now and
    then, and the team is credited with what it saves and charged with what it loses. Without credit
    it rests: whatever the machine does, calls take little longer than on one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.credit = LOSS
        self._clock = clock
        self._alone: float | None = None
        self._measured_at = 0.0
        self._calls = 0
        self._together = 0.0
        self._rests = False
        self._saved, self._trial = 0.0, TRIAL

    def wants_team(self, work: float) -> bool:
        """Return whether the next call, of so much work, is one for the team."""
        self._calls += 1
        if self._alone is None:
            # Of the first call nothing is known, and it may compile.
            return self._calls <= (UNKNOWN if self._together * work > LONG else 2)
        expected = self._alone * work
        # What it has to lose before it is tried again would be enough if calls took twice as long.
        trials = TRIALS if expected < LONG else 1
        rested = self._rests
        self._rests = self.credit <= (trials * expected if rested else 0.0)
        if rested and not self._rests:
            self._saved, self._trial = 0.0, TRIAL
        if self._rests:
            return False
        return expected > LONG or self._clock() - self._measured_at < FRESH * expected

    def record(self, work: float, seconds: float, *, team: bool) -> None:
        """Take in how long a call took."""
        if self._calls <= 1:
            return
        if team:
            self._together = seconds / work
            if self._alone is not None:
                expected = self._alone * work
                most = max(SAVED, expected)
                self.credit = min(self.credit + expected - seconds, most)
                self._saved += expected - seconds
                if self._saved > PROVEN * most:
                    self._trial = FIRST_TRIAL
            return
        rate = seconds / work
        self._alone = rate if self._alone is None else self._alone + NEWEST * (rate - self._alone)
        self._measured_at = self._clock()
        if self._rests:
            self.credit += self._trial * seconds


class Paces:
    """The pace of each kind of call, and of work of the same order."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, int], Pace] = {}

    def of(self, call: Hashable, work: float) -> Pace:
        """Return the pace of calls of about so much work."""
        kind = (call, int(work).bit_length())
        found = self._known.get(kind)
        if found is None:
            if len(self._known) >= KINDS:
                self._known.clear()
            found = self._known[kind] = Pace()
        return found
