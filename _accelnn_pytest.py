"""What pytest loads in every run: it wakes the plug-in of accelnn where its suite is asked for.

A conftest.py in the package would be read after the command line is parsed:
https://github.com/pytest-dev/pytest/issues/1596. This file is beside the package, because
importing that takes NumPy, and has no options, which other projects may give the same names.
"""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the plug-in before the command line is parsed, if that names `accelnn.testing`."""
    if any(arg.partition("::")[0] == "accelnn.testing" for arg in args):
        early_config.pluginmanager.import_plugin("accelnn.testing.pytest_plugin")
