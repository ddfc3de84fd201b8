"""Measurements of accelnn and its peers, side by side in one run.

Every contestant runs in its own process, in the fastest form that its library offers, and all take
turns. `accelnn bench` runs them; nothing here is imported by the rest of accelnn.
"""

from accelnn.bench._case import Case
from accelnn.bench._plan import GPU_GROUPS, GROUPS, plan
from accelnn.bench._results import Measurement, Problem, Report
from accelnn.bench._run import run, turns
from accelnn.bench._tables import TABLES, Table

__all__ = [
    "GPU_GROUPS",
    "GROUPS",
    "TABLES",
    "Case",
    "Measurement",
    "Problem",
    "Report",
    "Table",
    "plan",
    "run",
    "turns",
]
