#!/usr/bin/env python3
"""Test, check and measure accelnn on a CUDA device in under 8 minutes, and print one table.

    pip install -e '.[test,bench,cuda12x]'    # or cuda13x; and torch and JAX with CUDA
    python scripts/gpu_report.py              # --dry-run prints the commands only

The tests of the cupy backend, a small training under compute-sanitizer, and ``accelnn bench --gpu``
follow one another. Each has a limit of its own, and one that fails hides none of the others. What
they print is kept in ``build/gpu_report``, with the times. The exit code is 1 if something has
failed or an aim was missed.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from accelnn.bench import Measurement, Report
from accelnn.bench._contestants import ours_in
from accelnn.bench._machine import describe_gpu
from accelnn.bench._plan import GPU_HEADLINE
from accelnn.bench._tables import duration, number
from accelnn.cli._bench import partial
from accelnn.errors import BackendUnavailableError

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "gpu_report"
OURS = ours_in("gpu-training")
SANITIZERS = ("memcheck", "racecheck", "synccheck")
# Lines of a failed stage that are shown.
LAST_LINES = 20

# Training in all ways of the engine, and differences. Arrays are allocations of their own, so that
# the sanitizer sees their ends.
EPOCH = """
import accelnn, cupy
from accelnn.backends.cupy import engine
cupy.cuda.set_allocator(None)
(x, t), _ = accelnn.load_mnist(subset="5k")
for way in (engine.OneLaunch, engine.Replayed, engine.Products):
    engine.CupyEngine._way = lambda self, samples: way
    net = accelnn.MLP((784, 50, 10), rng=0, backend="cupy")
    print(accelnn.fit(net, x[:660], t[:660], batch_size=20, epochs=1, rng=0).loss)
net = accelnn.MLP((784, 20, 20, 10), rng=0, dtype="float64", backend="cupy")
net.numerical_gradient(*map(net.backend.asarray, (x[:3], t[:3])))
"""

SLOWEST_STEP = 8e-6
SLOWEST_GRADIENT = 1e-4
LEAST_RATIO = 3.0


@dataclass(frozen=True)
class Stage:
    """A command, and the seconds that it may take."""

    name: str
    command: list[str]
    limit: float


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: with this code, or None if it was ended or could not be started."""

    code: int | None
    output: str


class Row(NamedTuple):
    """A line of the table; without an aim, nothing is to be met."""

    what: str
    value: str
    aim: str = ""
    met: bool | None = None


def stages(times: Path) -> list[Stage]:
    """Return what is done, in order; the times are written to a file."""
    python = [sys.executable, "-m"]
    tested = [
        "tests/test_conformance.py",
        *(f"tests/{n}" for n in ("backends", "training", "nets")),
    ]
    # The others need no device, and can be run where none is paid for.
    chosen = ["-m", "not cuda_on_cpu", "-k", "cupy or gpu"]
    options = ["-q", "--require-backend", "cupy", "-p", "no:cacheprovider"]
    bench = ["--gpu", "--repeats", "3", "--timeout", "60", "--json", str(times)]
    return [
        Stage("tests", [*python, "pytest", *tested, *options, *chosen], 120.0),
        *(Stage(tool, _sanitized(tool), 30.0) for tool in SANITIZERS),
        Stage("bench", [*python, "accelnn", "bench", *bench], 255.0),
    ]


def _sanitized(tool: str) -> list[str]:
    sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1"]
    return [*sanitizer, sys.executable, "-c", EPOCH]


def carry_out(stage: Stage, folder: Path) -> Outcome:
    """Run a stage, and end it with all that it has started when its time is up."""
    if shutil.which(stage.command[0]) is None:
        return Outcome(None, f"{stage.command[0]} is not on PATH: not run")
    log = folder / f"{stage.name}.txt"
    with log.open("w", encoding="utf-8") as output:
        code = _wait(stage, output.fileno())
    text = log.read_text(encoding="utf-8", errors="replace")
    if code is None:
        text += f"\nended after {stage.limit:g} s"
    return Outcome(code, text)


def _wait(stage: Stage, output: int) -> int | None:
    process = subprocess.Popen(  # noqa: S603 - our own command line
        stage.command,
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        # A group of its own, which ends as a whole.
        start_new_session=True,
    )
    try:
        return process.wait(stage.limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def rows(outcomes: dict[str, Outcome], report: Report | None) -> list[Row]:
    """Return the lines of the table."""
    lines = [_verdict(name, outcome) for name, outcome in outcomes.items() if name != "bench"]
    if report is None:
        return [*lines, Row("times", _last(outcomes["bench"].output), "measured", met=False)]
    for case in dict.fromkeys(m.case for m in report.of("gpu-training")):
        lines += _training(report, case)
    gradient = _ours(report, "gpu-gradient")
    lines.append(_time("gradient of 79,510 parameters", gradient, SLOWEST_GRADIENT))
    if gradient is not None:
        deviation = gradient.facts["deviation"]
        lines.append(Row("its largest deviation from the analytic one", f"{deviation:.1e}"))
    lines.append(_time("whole run of 10,000 iterations", _ours(report, "gpu-whole-run")))
    return lines


def _verdict(name: str, outcome: Outcome) -> Row:
    counted = r"\d+ (?:passed|failed|error).*|(?:ERROR|RACECHECK) SUMMARY: .*|ended after .*"
    found = re.findall(counted, outcome.output)
    return Row(
        name,
        found[-1].strip("= ") if found else _last(outcome.output),
        "no failures",
        met=outcome.code == 0,
    )


def _last(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _training(report: Report, case: str) -> list[Row]:
    """Return our time for a step, and how much longer the fastest peer takes."""
    ours = _ours(report, "gpu-training", case)
    aims = case == GPU_HEADLINE
    step = _time(f"step, {case}", ours, SLOWEST_STEP if aims else None)
    peers = [m for m in report.of("gpu-training", case) if m.contestant != OURS]
    aim = f"at least {LEAST_RATIO:g}" if aims else ""
    what = f"best peer ÷ {OURS}, {case}"
    if ours is None or not peers:
        return [step, Row(what, "not measured", aim, met=False if aims else None)]
    best = min(peers, key=lambda m: m.median)
    ratio = best.median / ours.median
    met = ratio >= LEAST_RATIO if aims else None
    return [step, Row(what, f"{number(ratio)} ({best.contestant})", aim, met)]


def _ours(report: Report, group: str, case: str | None = None) -> Measurement | None:
    return next((m for m in report.of(group, case) if m.contestant == OURS), None)


def _time(what: str, measured: Measurement | None, most: float | None = None) -> Row:
    value = "not measured" if measured is None else duration(measured.median)
    if most is None:
        return Row(what, value)
    met = measured is not None and measured.median <= most
    return Row(what, value, f"at most {duration(most)}", met)


def table(title: str, lines: list[Row]) -> Table:
    """Return lines as a table."""
    drawn = Table("", "measured", "aim", "met", title=title, title_justify="left")
    for what, value, aim, met in lines:
        drawn.add_row(what, value, aim, "" if met is None else ("yes" if met else "NO"))
    return drawn


def read(times: Path) -> Report | None:
    """Return the times, of the finished cases only if not all are there, or None."""
    found = next((path for path in (times, partial(times)) if path.exists()), None)
    return None if found is None else Report.read(found)


def main() -> None:
    """Read the command line, carry out the stages, print the table."""
    parser = argparse.ArgumentParser(description="Test and measure accelnn on a CUDA device.")
    parser.add_argument("--folder", type=Path, default=KEPT, help="of what is kept")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    options = parser.parse_args()
    folder = options.folder.resolve()
    times = folder / "times.json"
    if options.dry_run:
        for stage in stages(times):
            print(f"# {stage.name}, at most {stage.limit:g} s\n{shlex.join(stage.command)}\n")
        return
    try:
        card = describe_gpu()
    except BackendUnavailableError as error:
        sys.exit(f"nothing to report: {error}")
    folder.mkdir(parents=True, exist_ok=True)
    for old in (times, partial(times)):
        old.unlink(missing_ok=True)
    outcomes = {}
    for stage in stages(times):
        print(f"{stage.name}, at most {stage.limit:g} s ...", flush=True)
        outcomes[stage.name] = outcome = carry_out(stage, folder)
        if outcome.code != 0:
            print(*outcome.output.splitlines()[-LAST_LINES:], sep="\n")
    lines = rows(outcomes, read(times))
    print(f"what they printed, and the times: {folder}")
    console = Console(markup=False, highlight=False)
    console.print(table(f"{card['GPU']}, {card['size of the GPU']}, CUDA {card['CUDA']}", lines))
    sys.exit(any(line.met is False for line in lines))


if __name__ == "__main__":
    main()
