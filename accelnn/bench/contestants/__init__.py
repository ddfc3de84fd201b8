"""Who takes part, one module a library or a kind of work.

Importing this makes the list of all contestants, in the order of the tables, and imports none of
the peers' packages, which those that need them import when they are made.
"""

from accelnn.bench.contestants import (  # noqa: F401 - they enter themselves  # isort: skip
    training,
    options,
    gradients,
    with_torch,
    with_jax,
    with_sklearn,
    digits,
    doors,
    first_call,
    estimators,
)
from accelnn.bench.contestants.base import CONTESTANTS, Contestant, make_contestant

__all__ = ["CONTESTANTS", "Contestant", "make_contestant"]
