"""Functions that a worker process can import."""

import multiprocessing
import os

import numpy as np


def rosenbrock(x):
    x = np.ravel(x)
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


SCALE = 1.0


def is_far(x):
    """Far off, and in a worker."""
    return np.max(x) > 2.0 and multiprocessing.parent_process() is not None


def scaled(x):
    return SCALE * np.sum(x**2)


def process_number(_):
    return os.getpid()


def threads_of_blas(_):
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def scramble(x):
    x[...] = np.sort(x.ravel()).reshape(x.shape)
    return np.sum(x)


def double(x):
    x *= 2.0
    return np.sum(x)


def sort(x):
    x.sort()
    return x[0] + 10.0 * x[1] + 100.0 * x[2]


class AwkwardError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def fail_awkwardly(x):
    if is_far(x):
        raise AwkwardError("too", "far")
    return np.sum(x)


def fail_above_two(x):
    if is_far(x):
        msg = "too far"
        raise ArithmeticError(msg)
    return np.sum(x)


def end_the_process(x):
    if is_far(x):
        os._exit(3)
    return np.sum(x)


def end_the_process_once(x, mark):
    """Leave a mark, which tells those that come after."""
    if multiprocessing.parent_process() is not None and x[4] > 0.5:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os._exit(3)
    return np.sum(x**2)


def zero_at_one(x):
    return SCALE * np.sum((x - 1.0) * np.arange(1.0, x.size + 1.0))


def squares(x):
    return np.stack([x[0] * x[1], x[1] ** 2, x[2] * x[0]])


def powers(x, weight, power=2):
    return weight * np.sum(x**power, axis=-1)
