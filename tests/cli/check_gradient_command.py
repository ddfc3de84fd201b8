"""``accelnn check-gradient`` as tests call it, and what it is called with."""

import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

from click.testing import CliRunner

from accelnn.cli import _check_gradient, app

PACKAGE = Path(_check_gradient.__file__).parents[1]


# What would hide that compiled files are left, or that output is held back.
UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "COLUMNS")


def run(*arguments):
    return CliRunner().invoke(app, ["check-gradient", *map(str, arguments)])


def process(*arguments):
    """Run the command as a shell does, in the folder at hand."""
    inherited = {k: v for k, v in os.environ.items() if k not in UNWANTED}
    return subprocess.run(
        [sys.executable, "-m", "accelnn", "check-gradient", *map(str, arguments)],
        env={**inherited, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows(output):
    """Return what the table says of each parameter; names may go on in the next line."""
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("┡")) + 1
    found, block = {}, []
    for line in takewhile(lambda line: line[0] in "│├└", lines[start:]):
        if line.startswith("│"):
            block.append([cell.strip() for cell in line.strip("│").split("│")])
            continue
        name, verdict, where, numbers, errors = zip(*block, strict=True)
        place, _, compared = " ".join(filter(None, where)).rpartition(" of ")
        analytic, numerical = filter(None, numbers)
        error, tolerance = filter(None, errors)
        found["".join(name)] = {
            "verdict": "".join(verdict),
            "place": place,
            "compared": compared,
            "analytic": analytic,
            "numerical": numerical,
            "error": error,
            "tolerance": tolerance,
        }
        block = []
    return found


SOURCE = """\
import multiprocessing
import os
import sys
from helper import three
import numpy as np

def cubes(x): return np.sum(x**3)
def cubes_grad(x): return three * x**2
def wrong(x): return 3.0 * x**2 + (np.arange(x.size) == 1).reshape(x.shape)
def all_wrong(x): return 2.0 * x**2
def unlike(x): return 3.0 * x**2 * (1.0 + 1e-3 / 3.0)
def nan(x): return np.nan * x
def far_off(x): return np.float32(1e9) + np.sum(x**2)
def far_off_grad(x): return 2 * x
limit = 3.0

def divides(x):
    return 1.0 / (int(x[0]) - 1)
divides_grad = cubes_grad

def inverts(x):
    return np.linalg.inv(np.zeros((2, 2)))
inverts_grad = cubes_grad

def leaves(x):
    sys.exit(0)
leaves_grad = cubes_grad

def interrupts(x):
    raise KeyboardInterrupt
interrupts_grad = cubes_grad

class Far(Exception):
    def __init__(self, how, where): super().__init__(f"{how} {where}")

def in_a_worker(x):
    if multiprocessing.parent_process() is not None:
        raise Far("far", "away")
    return np.sum(x**2)
in_a_worker_grad = cubes_grad

def leaves_a_worker(x):
    return np.sum(x**2) if multiprocessing.parent_process() is None else sys.exit(0)
leaves_a_worker_grad = cubes_grad

def talks(x):
    print("Python says")
    os.write(1, b"the system says\\n")
    return np.sum(x**3)
talks_grad = cubes_grad

def both(x): return np.sum(x**3), 3 * x**2
def half(x): return np.sum(x**3), 6 * x**2
def nothing(x): pass
nothing_grad = cubes_grad

def products(x): return np.array([x[0] * x[1], x[1] ** 2, 5.0])
def products_grad(x): return np.array([[x[1], x[0]], [0, 2 * x[1]], [0, 0]])
def products_wrong(x): return np.array([[x[1], x[0]], [1, 2 * x[1]], [0, 0]])

sines = lambda x: float(np.sum(np.sin(x)))
sines_grad = lambda x: np.cos(x)

class Layer:
    def __init__(self):
        self.norm = lambda x: np.sum(x**2)
        self.norm_grad = lambda x: 2 * x
    def loss(self, x):
        self.kept = x.copy()
        return np.sum(x**3)
    def loss_grad(self, x): return 3 * self.kept**2
    def loss_wrong(self, x): return 2 * self.kept**2
    @staticmethod
    def static(x): return np.sum(x**2)
    @staticmethod
    def static_grad(x): return 2 * x
    @classmethod
    def of_class(cls, x): return np.sum(x**2)
    @classmethod
    def of_class_grad(cls, x): return 2 * x
    class Inner:
        def f(self, x): return np.sum(x**2)
        def f_grad(self, x): return 2 * x

class Unmade:
    def __init__(self, n): self.n = n
    @classmethod
    def made(cls, x): return np.sum(x**2)
    @classmethod
    def made_grad(cls, x): return 2 * x
    def f(self, x): return np.sum(x**2)
    @staticmethod
    def static(x): return np.sum(x**2)
    @staticmethod
    def static_grad(x): return 2 * x
"""


def line_of(text):
    return SOURCE.splitlines().index(text) + 1
