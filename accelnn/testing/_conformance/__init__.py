"""The conformance suite, which every backend must pass."""

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
from accelnn.testing._conformance._regularization import RegularizationConformance
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
    RegularizationConformance,
):
    """Tests of a backend: subclass this in a test module and set `backend`.

    A backend that is not available is skipped, unless the option ``--require-backend`` of the
    plug-in `accelnn.testing.pytest_plugin` names it.

    Attributes
    ----------
    backend : str, Backend or subclass of Backend
        The backend under test.
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
