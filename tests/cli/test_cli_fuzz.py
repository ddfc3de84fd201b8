"""Random options and environments: an error is one line, and never a traceback.

There are 200 of them here. ``pytest tests/cli/test_cli_fuzz.py --commands 5000 -n 2`` takes as many
as one has time for.
"""

from random import Random

import click
from click.testing import CliRunner

from accelnn.cli import app

COMMANDS, BLOCK = 200, 50
JUNK = (
    "",
    " ",
    "0",
    "-1",
    "x",
    "nan",
    "inf",
    "-inf",
    "1e309",
    "1e-400",
    "1,,2",
    "[1]",
    "é",
    "..",
    "--",
)
# Some options make a run as long as one likes, up to counts that are refused.
SHORT = {"iters": "3", "images": "5", "hidden": "7", "batch_size": "50"}
LARGE = ("999999999999999999999", "1000000000", "2", "100000000000")
ENDLESS = {"epochs": LARGE[:1], "iters": LARGE[:1], "workers": LARGE, "images": ()}
ENVIRONMENTS = {
    "ACCELNN_BACKEND": ("", "nope", "numpy:3", "numba:0", "\n"),
    "ACCELNN_DATA_DIR": ("", "~nosuchuser", "/nowhere", ".", "\n"),
    "NO_COLOR": ("", "1"),
    "COLUMNS": ("", "0", "-3", "x", "20"),
}


def pytest_generate_tests(metafunc):
    count = metafunc.config.getoption("--commands", None) or COMMANDS
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    metafunc.parametrize("seeds", blocks, ids=[f"{b.start}-{b.stop - 1}" for b in blocks])


def random_command(draw):
    """Return a command with some options, a few of which have values that nobody meant."""
    name = draw.choice(["train", "train", "check-gradient", "check-gradient", "backends"])
    parameters = [p for p in app.commands[name].params if isinstance(p, click.Option)]
    given = dict.fromkeys(draw.sample(parameters, draw.randint(0, min(4, len(parameters)))))
    for p in given:
        good = list(p.type.choices) if isinstance(p.type, click.Choice) else ["1", "0.5", "3"]
        bad = (*JUNK, *ENDLESS.get(p.name, LARGE))
        given[p] = None if p.is_flag else draw.choice(good if draw.random() < 0.5 else bad)
    arguments = [part for p, v in given.items() for part in (p.opts[0], v) if part is not None]
    names = {p.name for p in parameters}
    for option, value in SHORT.items():
        if option in names and option not in {p.name for p in given}:
            arguments += [f"--{option.replace('_', '-')}", value]
    if "backend" in names and "backend" not in {p.name for p in given}:
        arguments += ["--backend", "numpy"]
    return [name, *arguments]


def test_random_commands_end_with_a_line(seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faults = []
    for seed in seeds:
        draw = Random(seed)  # noqa: S311 - a test must be repeatable
        arguments = random_command(draw)
        chosen = draw.sample(sorted(ENVIRONMENTS), draw.choice([0, 0, 1, 2]))
        environment = {variable: draw.choice(ENVIRONMENTS[variable]) for variable in chosen}
        result = CliRunner().invoke(app, arguments, env=environment)
        told = result.exit_code in {0, 1, 2} and "Traceback" not in result.output
        if not told or not isinstance(result.exception, SystemExit | None):
            faults.append(f"{seed}: {environment} {arguments}: {result.exception!r}")
    assert not faults, "\n".join(faults)
