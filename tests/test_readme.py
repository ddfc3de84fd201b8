"""What the README shows works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
PNG = b"\x89PNG\r\n\x1a\n"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def run_example(tmp_path):
    """Run the example, and what is to follow it, in an empty folder."""

    def run(follow_up=""):
        done = subprocess.run(
            [sys.executable, "-c", blocks("python")[0] + follow_up],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_example_trains_checks_and_draws(run_example, tmp_path):
    output = run_example()
    accuracy, error = re.fullmatch(
        r"test accuracy (\S+)\nbackpropagation is right to (\S+)\n", output
    ).groups()
    assert float(accuracy) > 0.9
    assert float(error) < 1e-7
    assert (tmp_path / "training.png").read_bytes().startswith(PNG)


def test_the_example_is_short():
    code = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(code) <= 15


@pytest.mark.parametrize("what", ["for key in net.params", "rule.update"])
def test_a_handwritten_loop_follows_the_example(run_example, what):
    (loop,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if what in block
    )
    lines = "\n".join(line.removeprefix("  ") for line in loop.splitlines())
    check = "\nbefore = net.loss(x, t)\n" + lines + "\nassert net.loss(x, t) < 0.9 * before\n"
    run_example(check)


def test_the_command_lines_name_options_that_exist():
    from click.testing import CliRunner

    from accelnn.cli import app

    commands = [c for block in blocks("sh") for c in re.findall(r"accelnn (.+)", block)]
    assert len(commands) >= 5
    for command in commands:
        name, *arguments = command.partition("#")[0].split()
        helped = CliRunner().invoke(app, [name, "--help"]).output
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert option in helped, command


def test_the_two_commands_are_there_and_the_picture_is_drawn():
    assert "accelnn train" in blocks("sh")[0]
    assert "pytest" in blocks("sh")[1]
    picture = re.search(r"!\[.+?\]\((.+?)\)", README.read_text())[1]
    assert (README.parent / picture).read_bytes().startswith(PNG)
