"""Warnings that point at the line of the caller, however deep in the package they arise."""

import sys
import warnings

__all__ = ["warn"]

# A warning is of no line in these: those of scikit-learn call our estimators, click our commands.
PACKAGES = ("accelnn", "sklearn", "joblib", "click", "contextlib")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the innermost line outside these packages.

    From Python 3.12 on, ``warnings.warn(skip_file_prefixes=...)`` does it.
    """
    depth, frame = 2, sys._getframe(1)  # noqa: SLF001 - what else tells it
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES
