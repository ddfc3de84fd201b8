"""The pytest plug-in: the conformance suite from the command line.

``pytest --pyargs accelnn.testing --backend NAME`` runs it on an installed backend. With
``--require-backend NAME`` a backend that cannot be used is a failure, not a skip. Tests that
subclass `accelnn.testing.BackendConformance` get the options with
``-p accelnn.testing.pytest_plugin``.
"""

from pathlib import Path

import pytest

from accelnn.backends._registry import known_names

SUITE = Path(__file__).with_name("_suite.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("accelnn", "backends of accelnn")
    group.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="Run the conformance suite of accelnn.testing on this backend; may be repeated.",
    )
    group.addoption(
        "--require-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="Fail, instead of skipping, if this backend cannot be used; may be repeated.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse names of unknown backends."""
    for option in ("--backend", "--require-backend"):
        for name in config.getoption(option):
            known = known_names()
            if name.partition(":")[0] not in known:
                msg = f"{option} {name}: known backends are {', '.join(known)}"
                raise pytest.UsageError(msg)
    if config.option.pyargs and "accelnn.testing" in config.args and not backends_named(config):
        msg = "say which backend the suite of accelnn.testing runs on: --backend NAME"
        raise pytest.UsageError(msg)


def backends_named(config: pytest.Config) -> list[str]:
    """Return the backends that the suite runs on, including required ones."""
    # Without --pyargs this is the test run of a project, whose tests may subclass the suite.
    required = config.getoption("--require-backend") if config.option.pyargs else []
    return list(dict.fromkeys([*config.getoption("--backend"), *required]))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect the suite if a backend is named, although its file matches no test pattern."""
    if file_path == SUITE and backends_named(parent.config):
        return pytest.Module.from_parent(parent, path=file_path)
    return None
