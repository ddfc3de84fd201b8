"""The command line in a narrow terminal, in one without colours, and as a shell completes it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import accelnn
from accelnn.cli import app

TRAIN = ("train", "--hidden", "8", "--epochs", "2", "--backend", "numpy")


@pytest.fixture
def terminal():
    """Return ``run(*arguments, columns=...)``: what a terminal of so many columns is sent."""
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

    def run(*arguments, columns=80, **environment):
        ours, theirs = pty.openpty()
        kept = {key: value for key, value in os.environ.items() if key not in COLOURS}
        process = subprocess.Popen(
            [sys.executable, "-m", "accelnn", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**kept, "TERM": "xterm-256color", "COLUMNS": str(columns)} | environment,
        )
        os.close(theirs)
        sent = b""
        try:
            while part := os.read(ours, 65_536):
                sent += part
        except OSError:
            # Linux says so that the other end is closed.
            pass
        os.close(ours)
        assert process.wait(60) == 0, sent
        return sent.decode().replace("\r\n", "\n")

    return run


# Variables by which rich decides.
COLOURS = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def without_bar(sent):
    """Remove how a progress bar moves the cursor and clears its line."""
    return re.sub(r"\x1b\[(\?25[hl]|\d*[AK]|2K)", "", sent)


@pytest.mark.parametrize("arguments", [TRAIN, ("backends",), ("check-gradient",)], ids=" ".join)
def test_under_no_color_nothing_is_styled(terminal, arguments):
    assert "\x1b[" in without_bar(terminal(*arguments))
    assert "\x1b" not in without_bar(terminal(*arguments, NO_COLOR="1"))


@pytest.mark.parametrize("columns", [80, 40])
def test_no_number_of_a_table_is_cut(terminal, columns):
    sent = terminal(*TRAIN, columns=columns, NO_COLOR="1")
    table = [re.findall(r"[\d.,]+", line) for line in sent.splitlines() if line.startswith("│")]
    assert [row[:2] for row in table] == [["0", "0"], ["1", "40"], ["2", "80"]]
    assert all(re.fullmatch(r"\d\.\d{4}", number) for row in table for number in row[2:])


@pytest.mark.parametrize("command", ["check-gradient", "train", "backends"])
def test_ctrl_c_ends_a_command_with_a_status_of_its_own(monkeypatch, command):
    """A status of 1 would be the verdict that a gradient is wrong."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("accelnn.cli._check_gradient.load_data", interrupted)
    monkeypatch.setattr("accelnn.cli._train.load_data", interrupted)
    monkeypatch.setattr("accelnn.cli._backends.list_backends", interrupted)
    result = CliRunner().invoke(app, [command])
    assert (result.exit_code, result.stdout) == (130, "")
    assert "interrupted" in result.stderr


FULL = Path("/dev/full")
# How commands end that cannot say what they have to.
SAY = {
    "--help": 1,
    "--version": 1,
    "train --help": 1,
    "backends": 1,
    "backends --json": 1,
    "train --hidden 8 --iters 1 --backend numpy": 1,
    # A status of 1 would be a verdict.
    "check-gradient --backend numpy": 2,
    "check-gradient --backend numpy --json": 2,
}


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize("command", SAY)
def test_a_full_disk_is_told_in_a_line(command):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "accelnn", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == SAY[command]
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("<MLP")]
    assert re.fullmatch("Error: .*No space left on device", error)


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX closes streams")
@pytest.mark.parametrize("command", SAY)
def test_without_a_stream_a_command_does_its_work(command):
    for closed in (">&-", ">&- 2>&-"):
        line = f"{shlex.quote(sys.executable)} -m accelnn {command} {closed}"
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def completions(arguments, incomplete):
    found = ShellComplete(app, {}, "accelnn", "_ACCELNN_COMPLETE").get_completions(
        arguments, incomplete
    )
    return {(item.value, item.type) for item in found}


def test_a_shell_completes_commands_and_choices():
    assert completions([], "check") == {("check-gradient", "plain")}
    assert completions(["train", "--optimizer"], "ada") == {
        *[(name, "plain") for name in ("adagrad", "adam", "adamw")]
    }


def test_a_shell_completes_backends():
    names = {"auto", *(info.name for info in accelnn.list_backends())}
    assert completions(["train", "--backend"], "") == {(name, "plain") for name in names}
    assert completions(["check-gradient", "--backend"], "num") == {
        *[(name, "plain") for name in names if name.startswith("num")]
    }


def test_a_shell_completes_data_sets_and_folders():
    assert completions(["train", "--data"], "5") == {("5k", "plain"), ("5", "dir")}
    assert completions(["train", "--data"], "../da") == {("../da", "dir")}
