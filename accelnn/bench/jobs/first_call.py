"""The time from the start of a process to the end of its first update."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict

from accelnn.bench._contestants import make_job
from accelnn.bench._task import Task
from accelnn.bench.jobs.job import Job

__all__ = [
    "ColdNumba",
    "FirstCall",
    "JaxStep",
    "Numpy",
    "NumpyLoop",
    "TorchCompiled",
    "TorchEager",
    "WarmNumba",
]


class FirstCall(Job):
    """A new process that loads the images and does one update; a unit is one process."""

    contestant = ""

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            self.start({})

    def start(self, changes: dict[str, str]) -> None:
        """Run a process in a changed environment until its first update is done."""
        request = json.dumps([self.contestant, asdict(self.task), self.threads])
        subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "accelnn.bench.jobs.first_call", request],
            env=os.environ | changes,
            check=True,
            stdout=subprocess.DEVNULL,
        )


class ColdNumba(FirstCall):
    """Nothing compiled: a new cache folder each time."""

    contestant = "accelnn numba"

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            with tempfile.TemporaryDirectory() as folder:
                self.start({"NUMBA_CACHE_DIR": folder})


class WarmNumba(FirstCall):
    """Everything compiled by an earlier process."""

    contestant = "accelnn numba"


class Numpy(FirstCall):
    """See `FirstCall`."""

    contestant = "accelnn numpy"


class NumpyLoop(FirstCall):
    """See `FirstCall`; mostly the time to start Python, import NumPy and load the data."""

    contestant = "NumPy loop"


class TorchEager(FirstCall):
    """See `FirstCall`."""

    contestant = "torch eager"


class TorchCompiled(FirstCall):
    """See `FirstCall`."""

    contestant = "torch compiled"


class JaxStep(FirstCall):
    """See `FirstCall`."""

    contestant = "JAX step"


def main() -> None:
    """Do one update, and exit without cleaning up, which is not measured."""
    contestant, task, threads = json.loads(sys.argv[1])
    job = make_job("training", contestant, Task(**task), threads)
    job.run(1)
    os._exit(0)


if __name__ == "__main__":
    main()
