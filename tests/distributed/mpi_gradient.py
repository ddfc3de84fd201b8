"""A script for ``mpiexec -n 3 python -m mpi4py.futures``; prints what it found as JSON."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import accelnn

sys.path.insert(0, str(Path(__file__).parent))
from functions_elsewhere import Deadly, X, fails, neighbours, rosenbrock


def of_the_script(x):
    return np.sum(np.sin(x) * x[::-1])


FUNCTIONS = {"rosenbrock": rosenbrock, "of_the_script": of_the_script, "neighbours": neighbours}
DOORS = {
    "rosenbrock": accelnn.numerical_gradient,
    "of_the_script": accelnn.numerical_gradient,
    "neighbours": accelnn.numerical_jacobian,
}


def process(_):
    # Long enough for the other worker to get some.
    time.sleep(0.005)
    return os.getpid()


def main(executor):
    found = {"processes": sorted({os.getpid(), *executor.map(process, range(100))})}
    for name in sys.argv[1].split(","):
        method, _, function = name.partition(":")
        door = DOORS[function]
        # Twice, because the pool must be as good as new.
        for _ in range(2):
            divided = door(FUNCTIONS[function], X.copy(), method=method, workers=executor)
        serial = door(FUNCTIONS[function], X.copy(), method=method)
        # Bytes, because no digit may be lost on the way to who compares.
        found[name] = [np.asarray(a).tobytes().hex() for a in (divided, serial)]
    for name, f in {"fails": fails, "lambda": lambda x: np.sum(x**2)}.items():
        try:
            accelnn.numerical_gradient(f, X.copy(), workers=executor)
        except (ArithmeticError, TypeError) as error:
            found[name] = repr(error)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as executor:
        if sys.argv[1] == "die":
            f = Deadly(sys.argv[2])
            accelnn.numerical_gradient(f, X.copy(), chunk_size=1, workers=executor)
        else:
            main(executor)
