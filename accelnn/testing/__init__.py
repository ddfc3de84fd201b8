"""Tools to test a backend: assertions, op cases, test backends, and the conformance suite.

Run the suite that tests the built-in backends on your own, from the command line ::

    pytest --pyargs accelnn.testing --backend mine

or as part of your tests::

    from accelnn.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        backend = MyBackend

This module needs pytest; `StrictBackend` needs array-api-strict.
"""

from accelnn._optional import import_optional

import_optional("pytest", feature="accelnn.testing", extra="test")

# ruff: noqa: E402 - only after the check for pytest
from accelnn.testing._assertions import assert_close
from accelnn.testing._backends import ReadOnlyBackend, StrictBackend
from accelnn.testing._conformance import BackendConformance
from accelnn.testing._derivatives import DERIVATIVE_CASES, DerivativeCase
from accelnn.testing._ops import OP_CASES, OpCase
from accelnn.testing._rounding import assert_equal_but_for_rounding

__all__ = [
    "DERIVATIVE_CASES",
    "OP_CASES",
    "BackendConformance",
    "DerivativeCase",
    "OpCase",
    "ReadOnlyBackend",
    "StrictBackend",
    "assert_close",
    "assert_equal_but_for_rounding",
]
