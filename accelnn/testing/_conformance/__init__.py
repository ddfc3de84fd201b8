"""The suite that every backend must pass, ours or a third party's."""

from typing import ClassVar

import pytest

from accelnn.backends import Backend, BackendLike, get_backend
from accelnn.errors import BackendUnavailableError
from accelnn.testing._conformance._contract import ContractConformance
from accelnn.testing._conformance._formulas import FormulaConformance
from accelnn.testing._conformance._functions import FunctionConformance
from accelnn.testing._conformance._gradients import GradientConformance
from accelnn.testing._conformance._identity import IdentityConformance
from accelnn.testing._conformance._nets import NetConformance
from accelnn.testing._conformance._ops import OpConformance
from accelnn.testing._conformance._training import TrainingConformance

__all__ = ["BackendConformance"]


class BackendConformance(
    IdentityConformance,
    ContractConformance,
    OpConformance,
    FunctionConformance,
    FormulaConformance,
    GradientConformance,
    NetConformance,
    TrainingConformance,
):
    """Subclass this in a test module and set `backend`; pytest does the rest.

    A backend that cannot be used here is skipped, unless pytest was given an option
    ``--require-backend`` with its name (of the plug-in `accelnn.testing.pytest_plugin`).

    Attributes
    ----------
    backend : str, Backend or subclass of Backend
        What is tested.
    """

    backend: ClassVar[BackendLike]

    @pytest.fixture
    def b(self, request: pytest.FixtureRequest) -> Backend:
        """Return the backend under test."""
        backend = getattr(request, "param", None) or self.backend
        try:
            return get_backend(backend)
        except BackendUnavailableError as error:
            name = backend if isinstance(backend, str) else backend.name
            if name in request.config.getoption("--require-backend", default=[]):
                pytest.fail(f"--require-backend {name}: {error}", pytrace=False)
            pytest.skip(f"{name}: {error.reason}")
