"""Functions that other processes import."""

import os
import signal
import time
from pathlib import Path

import numpy as np

X = np.linspace(1.0, 2.0, 16)
# The coordinate at which a worker dies.
MIDDLE = 8


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def neighbours(x):
    return np.exp(-x[1:]) * np.sin(x[:-1])


def fails(x):
    if x[MIDDLE] > X[MIDDLE] and x[0] == X[0]:
        msg = "too far"
        raise ArithmeticError(msg)
    return rosenbrock(x)


class Deadly:
    """Kills the worker that is in the middle of the differences, so many times.

    It leaves a file in a folder for each time, and for each evaluation.
    """

    def __init__(self, folder, times=1):
        self.folder, self.times, self.home = str(folder), times, os.getpid()
        for name in ("deaths", "calls"):
            Path(folder, name).mkdir(parents=True)

    def __call__(self, x):
        # The first calls move all coordinates at once, and are at an end by then.
        if os.getpid() != self.home and x[MIDDLE] != X[MIDDLE] and x[0] == X[0]:
            self.die()
        time.sleep(0.02)
        Path(self.folder, "calls", f"{time.time_ns()}-{os.getpid()}").touch()
        return rosenbrock(x)

    def die(self):
        for i in range(self.times):
            try:
                mark = os.open(Path(self.folder, "deaths", str(i)), os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue
            os.close(mark)
            # Until what was finished has been told.
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)

    def found(self, name):
        return len(list(Path(self.folder, name).iterdir()))
