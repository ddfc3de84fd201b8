"""The time from the start of a process to the end of its first update."""

import os
import subprocess
import sys
import tempfile

from accelnn.bench._case import Case
from accelnn.bench.contestants.base import CONTESTANTS, Contestant, contestant, require

__all__ = ["FirstCall"]

# It exits without cleaning up, which is not measured.
CODE = """
import os
from accelnn.bench import Case
from accelnn.bench.contestants import make_contestant
make_contestant({who!r}, {case!r}, {threads}, "training").run(1)
os._exit(0)
"""


@contestant("JAX step", "first-call", who="JAX step")
@contestant("torch compiled", "first-call", who="torch compiled")
@contestant("torch eager", "first-call", who="torch eager")
@contestant("NumPy loop", "first-call", who="NumPy loop")
@contestant("accelnn numpy", "first-call", who="accelnn numpy")
@contestant("accelnn numba, cold", "first-call", who="accelnn numba", cold=True)
@contestant("accelnn numba", "first-call", who="accelnn numba")
class FirstCall(Contestant):
    """A new process that loads the images and does one update; a unit is one process.

    Of NumPy it is mostly the time to start Python, import NumPy and load the data. When it is cold,
    nothing is compiled: each process has a cache folder of its own.
    """

    def __init__(self, case: Case, threads: int, who: str, *, cold: bool = False) -> None:
        super().__init__(case, threads)
        require(CONTESTANTS["training"][who].needs)
        self.code = CODE.format(who=who, case=case, threads=threads)
        self.cold = cold

    def run(self, amount: int) -> None:
        for _ in range(amount):
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(  # noqa: S603 - our own command line
                    [sys.executable, "-c", self.code],
                    env=os.environ | ({"NUMBA_CACHE_DIR": folder} if self.cold else {}),
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
