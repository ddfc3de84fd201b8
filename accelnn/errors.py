"""Every exception and warning that accelnn raises on purpose.

Wrong values are plain ``ValueError`` and wrong types plain ``TypeError``; the classes here exist
where a caller may want to catch one case and not the others.
"""

from typing import Literal

__all__ = [
    "AmbiguousFunctionError",
    "BackendMismatchError",
    "BackendUnavailableError",
    "DatasetError",
    "DivergenceWarning",
    "GradientCheckError",
    "ImpureFunctionError",
    "InconclusiveCheckWarning",
    "MissingDependencyError",
    "OutOfMemoryError",
    "StagnationWarning",
]

UnavailableReason = Literal["not installed", "import failed", "no device"]


class BackendUnavailableError(ImportError):
    """A known backend cannot be used here.

    Attributes
    ----------
    reason : {"not installed", "import failed", "no device"}
        What stands in the way: the package is absent, it is present but broken, or it works but
        finds no device.
    """

    def __init__(self, message: str, *, reason: UnavailableReason) -> None:
        super().__init__(message)
        self.reason = reason


class BackendMismatchError(TypeError):
    """An array belongs to another backend than the one asked to compute on it."""


class MissingDependencyError(ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class DatasetError(ValueError):
    """A data file is missing, truncated, corrupted, or not what its name says."""


class OutOfMemoryError(MemoryError):
    """A computation needs more memory than is free, in the smallest pieces that were allowed."""


class ImpureFunctionError(ValueError):
    """A function that must depend on its argument alone does not."""


class AmbiguousFunctionError(ImpureFunctionError):
    """A function reads both its argument and the array it was given: it has two derivatives."""


class GradientCheckError(AssertionError):
    """A gradient disagrees with finite differences.

    Attributes
    ----------
    report : accelnn.gradient.GradientReport
        Everything that was measured.
    """

    def __init__(self, message: str, *, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class DivergenceWarning(RuntimeWarning):
    """An iteration ran away from the minimum; the step is too large."""


class StagnationWarning(RuntimeWarning):
    """An iteration did not move although the gradient is not small; the step is too small."""


class InconclusiveCheckWarning(RuntimeWarning):
    """A gradient was checked against a function whose noise is larger than its slopes."""
