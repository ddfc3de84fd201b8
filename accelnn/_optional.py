"""Import packages that are not needed by everyone, and say how to get them."""

import importlib
import importlib.util
from typing import Any

from accelnn.errors import MissingDependencyError

__all__ = ["import_optional", "install_command"]


def install_command(extra: str) -> str:
    """Return the shell command that installs one of accelnn's extras."""
    return f"pip install 'accelnn[{extra}]'"


def import_optional(module: str, *, feature: str, extra: str) -> Any:
    """Import `module`, or raise an error that names the command which installs it.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    feature : str
        What the caller was about to do, as the subject of the message.
    extra : str
        The extra of accelnn that brings the package.

    Raises
    ------
    MissingDependencyError
        If the package is not installed. A package that is installed but fails to import raises
        its own error.
    """
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        msg = (
            f"{feature} needs the package {package}, which is not installed. Install it with:"
            f"\n\n    {install_command(extra)}\n"
        )
        raise MissingDependencyError(msg)
    return importlib.import_module(module)
