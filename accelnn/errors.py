"""The exceptions and warnings of accelnn.

Invalid values raise plain ``ValueError`` and wrong types plain ``TypeError``; the classes here are
for cases that a caller may want to catch separately.
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
    "ScalingWarning",
    "StagnationWarning",
]

UnavailableReason = Literal["not installed", "import failed", "no device", "no compiler"]


class BackendUnavailableError(ImportError):
    """A known backend cannot be used on this machine.

    Attributes
    ----------
    reason : {"not installed", "import failed", "no device", "no compiler"}
        The package is missing, it cannot be imported, it finds no device, or what compiles its
        kernels is missing or does not know the device.
    """

    def __init__(self, message: str, *, reason: UnavailableReason) -> None:
        super().__init__(message)
        self.reason = reason


class BackendMismatchError(TypeError):
    """An array belongs to a backend other than the one asked to compute with it."""


class MissingDependencyError(ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class DatasetError(ValueError):
    """A data file is missing, truncated, corrupted, or not what its name says."""


class OutOfMemoryError(MemoryError):
    """A computation needs more memory than is free, even in the smallest possible pieces."""


class ImpureFunctionError(ValueError):
    """A function depends on something other than its argument."""


class AmbiguousFunctionError(ImpureFunctionError):
    """A function depends both on its argument and on the array x itself."""


class GradientCheckError(AssertionError):
    """A gradient disagrees with finite differences.

    Attributes
    ----------
    report : accelnn.gradient.GradientReport
        The result of the check.
    """

    def __init__(self, message: str, *, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class ScalingWarning(UserWarning):
    """A net learns nothing, and its features are large, or of very different sizes."""


class DivergenceWarning(RuntimeWarning):
    """Gradient descent or training diverged; the learning rate is too large."""


class StagnationWarning(RuntimeWarning):
    """Gradient descent hardly moved although the gradient is not small; lr is too small."""


class InconclusiveCheckWarning(RuntimeWarning):
    """A gradient check proved nothing, because the function is too noisy or not smooth."""
