"""A gradient over ``mpi4py.futures``."""

import json
from pathlib import Path

import numpy as np
from functions_elsewhere import X, neighbours, rosenbrock

import accelnn

SCRIPT = Path(__file__).parent / "mpi_gradient.py"
CASES = [
    f"{method}:{function}"
    for method in ("central", "forward", "complex", "richardson")
    for function in ("rosenbrock", "of_the_script", "neighbours")
]


def test_mpi_agrees_with_serial_to_the_bit(mpi):
    run = mpi(str(SCRIPT), ",".join(CASES))
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout)
    assert len(found["processes"]) == 3
    for case in CASES:
        divided, serial = (np.frombuffer(bytes.fromhex(numbers)) for numbers in found[case])
        np.testing.assert_array_equal(divided, serial, err_msg=case)
        assert divided.size == (15 * 16 if "neighbours" in case else 16)
    # And with those of a process that knows nothing of MPI.
    here = accelnn.numerical_gradient(rosenbrock, X.copy())
    assert found["central:rosenbrock"][0] == here.tobytes().hex()
    here = accelnn.numerical_jacobian(neighbours, X.copy(), method="richardson")
    assert found["richardson:neighbours"][0] == here.tobytes().hex()
    assert found["fails"] == "ArithmeticError('too far')"
    assert "define f at the top of a module" in found["lambda"]


def test_a_process_of_mpi_that_dies_ends_the_whole_job_and_nothing_hangs(mpi, tmp_path):
    """No code of ours runs then: it is `mpiexec` that ends all processes, and says why."""
    run = mpi(str(SCRIPT), "die", str(tmp_path))
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert run.returncode != 0
    assert "signal 9" in run.stdout + run.stderr
