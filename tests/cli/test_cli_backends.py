"""``accelnn backends``, and the command line as a whole."""

import importlib.metadata
import json
import platform
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

import accelnn
from accelnn.backends.numpy import NumpyBackend
from accelnn.cli import app


def run(*arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def row(output, name, columns=4):
    """The row of a backend, or in two columns that of a package."""
    lines = [line for line in output.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    (found,) = [row for row in cells if row[0] == name and len(row) == columns]
    return found


def test_every_backend_has_a_row():
    output = run("backends")
    for info in accelnn.list_backends():
        name, usable, device, _ = row(output, info.name)
        assert (name, usable, device) == (
            info.name,
            "yes" if info.available else "no",
            info.device,
        )
    assert row(output, "numpy")[1:3] == ["yes", "cpu"]
    threads = accelnn.get_backend("numba").threads
    assert row(output, "numba")[3] == f"{threads} threads of its own"


def test_why_not_and_the_command_are_shown_whole():
    output = run("backends")
    missing = [info for info in accelnn.list_backends() if not info.available]
    for info in missing:
        for line in info.reason.splitlines():
            command = re.search(r"pip install .*", line)
            if command:
                assert command[0] in output
    assert "…" not in output


@pytest.fixture
def forget_registered(monkeypatch):
    from accelnn.backends import _registry

    monkeypatch.setattr(_registry, "_registered", {})
    monkeypatch.setattr(_registry, "_instances", dict(_registry._instances))


@pytest.mark.usefixtures("forget_registered")
def test_a_registered_backend_that_fails_says_why():
    @accelnn.register_backend
    class Broken(NumpyBackend):
        name = "broken"
        inferred = False

        def __init__(self):
            msg = "get it with:\n\n    pip install 'accelnn[cuda13x]' [bold]now[/bold] :smile:"
            raise accelnn.errors.BackendUnavailableError(msg, reason="not installed")

    output = run("backends")
    assert row(output, "broken")[1] == "no"
    assert "pip install 'accelnn[cuda13x]' [bold]now[/bold] :smile:" in output


def test_the_active_and_the_automatic_choice(monkeypatch):
    automatic = accelnn.get_backend("auto").name
    assert f"'auto' chooses: {automatic}\nactive: numpy\n" in run("backends")
    monkeypatch.setenv("ACCELNN_BACKEND", "numba")
    assert f"'auto' chooses: {automatic}\nactive: numba\n" in run("backends")


def test_an_unknown_choice_in_the_environment_is_a_message(monkeypatch):
    monkeypatch.setenv("ACCELNN_BACKEND", "nope")
    result = CliRunner().invoke(app, ["backends"])
    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert "ACCELNN_BACKEND names an unknown backend 'nope'" in result.stderr
    assert "numpy" in result.stdout, "the tables are what the report is for"
    assert "Traceback" not in result.output


def test_versions_are_those_installed():
    output = run("backends")
    assert row(output, "accelnn", 2)[1] == accelnn.__version__
    assert row(output, "python", 2)[1].startswith(platform.python_version())
    for package in ("numpy", "numba", "rich", "click", "matplotlib", "pooch"):
        assert row(output, package, 2)[1] == importlib.metadata.version(package)
    assert re.search(r"^\S+ \S+: [1-9]\d* threads", output, re.MULTILINE)


def test_json_is_all_of_it(monkeypatch):
    found = json.loads(run("backends", "--json"))
    usable = {info.name: info.available for info in accelnn.list_backends(load=True)}
    assert {name: about["usable"] for name, about in found["backends"].items()} == usable
    assert found["versions"]["numpy"] == importlib.metadata.version("numpy")
    assert (found["auto"], found["active"]) == (accelnn.get_backend("auto").address, "numpy")
    monkeypatch.setenv("ACCELNN_BACKEND", "nope")
    result = CliRunner().invoke(app, ["backends", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["active"]) == (1, None)
    assert "ACCELNN_BACKEND names an unknown backend 'nope'" in result.stderr


def module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "accelnn", *arguments], capture_output=True, text=True, check=False
    )


def test_as_a_module():
    done = module("backends")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert row(done.stdout, "numpy")[1] == "yes"
    assert module("--version").stdout == f"accelnn, version {accelnn.__version__}\n"


def test_help_lists_the_commands_without_cutting():
    done = module("--help")
    for command in ("train", "backends", "check-gradient"):
        assert re.search(rf"^  {command} +\S.*\.$", done.stdout, re.MULTILINE)
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_an_unknown_command():
    done = module("trian")
    assert done.returncode == 2
    assert "No such command 'trian'" in done.stderr
    assert "Traceback" not in done.stderr
