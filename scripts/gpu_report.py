#!/usr/bin/env python3
"""Test, check and measure accelnn on a CUDA device in under 8 minutes, and print one table.

    PYTHONPATH=. python scripts/gpu_report.py --folder report --data mnist --wheels wheels

Nothing need be installed of accelnn, and no network be there: ``--wheels`` names a folder with
wheels of what the machine lacks, ``--data`` one with the four files of MNIST. The stages follow one
another, what is worth most first, and those of one line below at the same time:

- what is compiled: our kernels, and those of the peers that compile;
- the breakdown: where a step's time goes (``scripts/gpu_breakdown.py``);
- the headline, and the gradient of 79,510 parameters, against the peers;
- the tests of the cupy backend in several processes, and all kernels under compute-sanitizer;
- the other cases.

Each has a limit of its own, after which it is interrupted and then ended, and one that fails hides
none of the others. What they print goes to ``log.txt`` line by line, every number to a file at
once, and the table to ``report.txt`` after each stage; all files are in the one folder.
``scripts/performance.py --merge`` takes its ``times.json``. The exit code is 1 if something has
failed or an aim was missed. ``--dry-run`` starts every stage where there is no device.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, NamedTuple, Self

from rich.console import Console
from rich.table import Table

from accelnn.bench import Measurement, Report
from accelnn.bench._machine import describe_gpu
from accelnn.bench._plan import GPU_HEADLINE, ours_in
from accelnn.bench._tables import duration, number
from accelnn.bench.contestants.data import digits
from accelnn.errors import BackendUnavailableError, DatasetError

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "gpu_report"
OURS = ours_in("gpu-training")
SANITIZERS = ("memcheck", "racecheck", "synccheck")
# Stages whose verdict is a line of the table; what the others find is in lines of its own.
JUDGED = ("kernels", "tests", *SANITIZERS)
QUERIED = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit"
# Seconds between an interruption and the end, in which a stage tells what it has.
GRACE = 12.0
# Lines of a failed stage that are shown.
LAST_LINES = 12

SLOWEST_STEP = 5e-6
SLOWEST_GRADIENT = 1e-4
LEAST_RATIO = 3.0


@dataclass(frozen=True)
class Stage:
    """A command, and the seconds that it may take.

    Attributes
    ----------
    name : str
        What the log calls it.
    command : list of str
        What is run.
    limit : float
        Seconds, and those that the stages before it have saved.
    under : list of str
        A program that runs the command, and its options.
    """

    name: str
    command: list[str]
    limit: float
    under: list[str] = field(default_factory=list)


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


class Log:
    """What all stages print, line by line with the time and the stage, in one file.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8", buffering=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._file.close()

    def write(self, name: str, line: str) -> None:
        """Write a line of a stage."""
        with self._lock, suppress(ValueError):
            # A stage that was ended may have left somebody behind who still prints.
            self._file.write(f"{self.seconds():6.1f} s  {name:<10} {line.rstrip()}\n")

    def seconds(self) -> float:
        """Return how long ago the log was begun."""
        return time.monotonic() - self.began


def stages(folder: Path, *, is_short: bool = False) -> list[list[Stage]]:
    """Return what is done, in order; those of one list are done at the same time.

    In short, the times of a card that has been measured come first, and then what may be cut off.
    """
    own = [sys.executable, str(ROOT / "scripts" / "gpu_stage.py")]
    breakdown = [sys.executable, str(ROOT / "scripts" / "gpu_breakdown.py")]

    def bench(part: str, limit: float) -> Stage:
        command = [*own, "bench", part, "--json", str(folder / f"{part}.json")]
        return Stage(part, command + ["--best"] * is_short, limit)

    def sanitized(tool: str) -> Stage:
        under = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1"]
        return Stage(tool, [*own, "check"], 115.0, under)

    compiled = [
        Stage("card", ["nvidia-smi", f"--query-gpu={QUERIED}", "--format=csv"], 55.0),
        Stage("kernels", [*own, "compile"], 55.0),
        *(
            Stage(f"peer {i}", [*own, "peer", name], 55.0)
            for i, name in enumerate(("torch compiled", "JAX scan"), 1)
        ),
    ]
    where = Stage("breakdown", [*breakdown, "--json", str(folder / "breakdown.json")], 60.0)
    checks = [Stage("tests", [*own, "tests"], 115.0), *map(sanitized, SANITIZERS)]
    if is_short:
        # Peers that compile for long take the time of what has changed.
        own_stages = [replace(stage, limit=45.0) for stage in compiled if "peer" not in stage.name]
        checks = [replace(stage, limit=80.0) for stage in checks]
        timed = [replace(where, limit=50.0)], [bench("headline", 60.0)]
        return [own_stages, *timed, checks, [bench("rest", 95.0)]]
    return [compiled, [where], [bench("headline", 130.0)], checks, [bench("rest", 95.0)]]


def environment(
    scratch: Path, wheels: Path | None, data: Path | None, given: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of all stages: where they find packages and data, and keep code."""
    folders = [ROOT, *([_unpacked(wheels, scratch / "site")] if wheels else [])]
    paths = [*map(str, folders), *([given["PYTHONPATH"]] if given.get("PYTHONPATH") else [])]
    caches = {
        "CUPY_CACHE_DIR": "cupy",
        "NUMBA_CACHE_DIR": "numba",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "JAX_COMPILATION_CACHE_DIR": "jax",
        "MPLCONFIGDIR": "matplotlib",
    }
    return {
        **given,
        **{name: str(scratch / folder) for name, folder in caches.items()},
        **({"ACCELNN_DATA_DIR": str(data)} if data else {}),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        # Otherwise JAX takes most of the device's memory, and keeps no code that compiled quickly.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def _unpacked(wheels: Path, folder: Path) -> Path:
    """Return a folder in which the packages of wheels are; nothing else is needed of them."""
    folder.mkdir(parents=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
    return folder


def carry_out(stage: Stage, log: Log, given: Mapping[str, str], seconds: float) -> Outcome:
    """Run a stage for at most so many seconds, and end it with all that it has started."""
    command = [*stage.under, *stage.command]
    reason = "" if shutil.which(command[0]) else f"{command[0]} is not on PATH: not run"
    if seconds < 1.0:
        reason = "no time was left: not run"
    if reason:
        log.write(stage.name, reason)
        return Outcome(None, reason)
    process = subprocess.Popen(  # noqa: S603 - our own command line
        command,
        cwd=ROOT,
        env=dict(given),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        # A group of its own, which ends as a whole.
        start_new_session=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_pass_on, args=(process, stage.name, log, lines), daemon=True)
    reader.start()
    code = _wait(process, seconds)
    # What has left the group may keep the pipe open.
    reader.join(2.0)
    if not reader.is_alive() and process.stdout is not None:
        process.stdout.close()
    if code is None:
        lines.append(f"ended after {seconds:.0f} s\n")
        log.write(stage.name, lines[-1])
    else:
        log.write(stage.name, f"exit code {code}")
    return Outcome(code, "".join(lines))


def _pass_on(process: "subprocess.Popen[str]", name: str, log: Log, lines: list[str]) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    for line in process.stdout:
        lines.append(line)
        log.write(name, line)


def _wait(process: "subprocess.Popen[str]", seconds: float) -> int | None:
    """Return the exit code, or None after an interruption, and in the end a kill."""
    try:
        return process.wait(max(seconds - GRACE, seconds / 2))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(GRACE, seconds / 2))
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def rows(outcomes: dict[str, Outcome], report: Report | None) -> list[Row]:
    """Return the lines of the table."""
    lines = [_verdict(name, outcomes[name]) for name in JUDGED if name in outcomes]
    if report is None:
        why = _last(outcomes["headline"].output) if "headline" in outcomes else "not yet"
        return [*lines, Row("times", why, "measured", met=False)]
    for case in dict.fromkeys([GPU_HEADLINE, *(m.case.name for m in report.of("gpu-training"))]):
        lines += _training(report, case)
    gradient = _ours(report, "gpu-gradient")
    lines.append(_time("gradient of 79,510 parameters", gradient, SLOWEST_GRADIENT))
    # What was interrupted has times, and no facts.
    if gradient is not None and "deviation" in gradient.facts:
        deviation = gradient.facts["deviation"]
        lines.append(Row("its largest deviation from the analytic one", f"{deviation:.1e}"))
    lines.append(_time("whole run of 10,000 iterations", _ours(report, "gpu-whole-run")))
    return lines


def _verdict(name: str, outcome: Outcome) -> Row:
    counted = r"\d+ (?:passed|failed|error).*|(?:ERROR|RACECHECK) SUMMARY: .*|ended after .*"
    found = [line.strip("= ") for line in re.findall(counted, outcome.output)]
    if outcome.code is None and len(found) == 1:
        # The tests that ended before the time was up, of which no summary was made.
        ended = re.findall(r"\] (PASSED|FAILED|ERROR|SKIPPED|XFAIL) ", outcome.output)
        found[:0] = [f"{n} {word.lower()}" for word, n in sorted(Counter(ended).items())]
    value = ", ".join(found[-4:] if outcome.code is None else found[-1:])
    return Row(name, value or _last(outcome.output), "no failures", met=outcome.code == 0)


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


def table(title: str, lines: Sequence[Row]) -> Table:
    """Return lines as a table."""
    drawn = Table("", "measured", "aim", "met", title=title, title_justify="left")
    for what, value, aim, met in lines:
        drawn.add_row(what, value, aim, "" if met is None else ("yes" if met else "NO"))
    return drawn


def merged(folder: Path) -> Report | None:
    """Return one report of the parts that have been measured, or None; keep it as a file too."""
    parts = [path for part in ("headline", "rest") if (path := folder / f"{part}.json").exists()]
    if not parts:
        return None
    report = Report.merged([Report.read(path) for path in parts])
    report.write(folder / "times.json")
    return report


def breakdown_rows(folder: Path) -> list[Row]:
    """Return what the breakdown has found, and how far our numbers are from NumPy's."""
    path = folder / "breakdown.json"
    if not path.exists():
        return [Row("breakdown", "not measured", "measured", met=False)]
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        Row(f"{entry['case']}: {entry['what']}", f"{entry['value']:.4g} {entry['unit']}".strip())
        for entry in content["found"]
    ]
    return lines + [Row(failed, "failed", "no failures", met=False) for failed in content["failed"]]


def say(folder: Path, title: str, outcomes: dict[str, Outcome]) -> list[Row]:
    """Write the table as far as it goes, and return its lines."""
    lines = rows(outcomes, merged(folder))
    with (folder / "report.txt").open("w", encoding="utf-8") as file:
        draw(title, [*lines, *breakdown_rows(folder)], file)
    return lines


def draw(title: str, lines: Sequence[Row], file: IO[str] | None = None) -> None:
    """Print a table."""
    console = Console(markup=False, highlight=False, file=file, width=130)
    console.print(table(title, lines))


def usable_data(folder: Path | None) -> Path | None:
    """Return the folder if MNIST can be read from it; say so if not, and go on with less."""
    if folder is None:
        return None
    before = os.environ.get("ACCELNN_DATA_DIR")
    os.environ["ACCELNN_DATA_DIR"] = str(folder)
    try:
        digits()
    except DatasetError as error:
        print(f"--data: {error}\ngoing on with the 5,000 images that come with accelnn", flush=True)
        return None
    finally:
        del os.environ["ACCELNN_DATA_DIR"]
        if before is not None:
            os.environ["ACCELNN_DATA_DIR"] = before
    return folder


def usable_wheels(folder: Path | None) -> Path | None:
    """Return the folder if it holds wheels; say so if not, and go on without."""
    if folder is None or any(folder.glob("*.whl")):
        return folder
    print(f"--wheels: no wheel in {folder}: name a folder with *.whl files; going on", flush=True)
    return None


def card_title(*, is_dry: bool) -> str:
    """Return what the device is called.

    Raises
    ------
    SystemExit
        If there is none, except in a dry run.
    """
    try:
        card = describe_gpu()
    except BackendUnavailableError as error:
        if is_dry:
            return str(error).splitlines()[0]
        sys.exit(f"nothing to report: {error}")
    return f"{card['GPU']}, {card['size of the GPU']}, CUDA {card['CUDA']}"


def main() -> None:
    """Read the command line, carry out the stages, print the table."""
    parser = argparse.ArgumentParser(description="Test and measure accelnn on a CUDA device.")
    parser.add_argument("--folder", type=Path, default=KEPT, help="of what is kept")
    parser.add_argument("--data", type=Path, help="a folder with the four files of MNIST")
    parser.add_argument("--wheels", type=Path, help="a folder with wheels of what is missing here")
    parser.add_argument(
        "--short", action="store_true", help="in under 6 minutes: the best peers alone"
    )
    parser.add_argument("--dry-run", action="store_true", help="start all stages without a device")
    options = parser.parse_args()
    # What a shell starts in the background ignores interrupts, and so would every stage.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = options.folder.resolve()
    title = card_title(is_dry=options.dry_run)
    data, wheels = (path.resolve() if path else None for path in (options.data, options.wheels))
    data, wheels = usable_data(data), usable_wheels(wheels)
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("headline.json", "rest.json", "times.json", "breakdown.json"):
        (folder / old).unlink(missing_ok=True)
    print(title, flush=True)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        given = environment(Path(scratch), wheels, data, os.environ)
        with Log(folder / "log.txt") as log:
            log.write("card", title)
            planned = 0.0
            for together in stages(folder, is_short=options.short):
                saved = planned - log.seconds()
                planned += max(stage.limit for stage in together)
                outcomes |= carry_out_together(together, log, given, saved, is_dry=options.dry_run)
                try:
                    lines = say(folder, title, outcomes)
                except Exception as error:  # noqa: BLE001 - the stages that follow go on
                    lines = [
                        Row("report", f"{type(error).__name__}: {error}", "written", met=False)
                    ]
    print(f"{log.seconds():.0f} s; what they printed, and the times: {folder}")
    draw(title, lines)
    sys.exit(any(line.met is False for line in lines))


def carry_out_together(
    together: Sequence[Stage], log: Log, given: Mapping[str, str], saved: float, *, is_dry: bool
) -> dict[str, Outcome]:
    """Run stages at the same time, and show the last lines of those that fail.

    Each may take what was saved until now besides its own limit.
    """
    outcomes = {}
    with ThreadPoolExecutor(len(together)) as pool:
        for stage in together:
            seconds = stage.limit + saved
            print(f"{log.seconds():.0f} s: {stage.name}, at most {seconds:.0f} s", flush=True)
            log.write(stage.name, f"at most {seconds:.0f} s")
            if is_dry and stage.under and shutil.which(stage.under[0]) is None:
                log.write(stage.name, f"{stage.under[0]} is not on PATH: started without")
                stage = replace(stage, under=[])  # noqa: PLW2901 - the same stage
            outcomes[stage.name] = pool.submit(carry_out, stage, log, given, seconds)
    found = {name: outcome.result() for name, outcome in outcomes.items()}
    for name, outcome in found.items():
        shown = outcome.output.splitlines()[-LAST_LINES if outcome.code else -1 :]
        print(*(f"{name}: {line}" for line in shown), sep="\n", flush=True)
    return found


if __name__ == "__main__":
    main()
