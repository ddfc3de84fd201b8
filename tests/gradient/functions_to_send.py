"""Functions that a worker process can import."""

import os

import numpy as np


def rosenbrock(x):
    x = np.ravel(x)
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


SCALE = 1.0


def scaled(x):
    return SCALE * np.sum(x**2)


def process_number(_):
    return os.getpid()


class AwkwardError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def fail_awkwardly(x):
    if np.max(x) > 2.0:
        raise AwkwardError("too", "far")
    return np.sum(x)


def fail_above_two(x):
    if np.max(x) > 2.0:
        msg = "too far"
        raise ArithmeticError(msg)
    return np.sum(x)


def end_the_process(x):
    if np.max(x) > 2.0:
        os._exit(3)
    return np.sum(x)


def squares(x):
    return np.stack([x[0] * x[1], x[1] ** 2, x[2] * x[0]])
