"""How much longer ``import accelnn`` takes than ``import numpy``: whole processes, interleaved.

    python benchmarks/import_time.py

The two commands take turns, so that a machine which slows down slows both. Both load bytecode that
a first, uncounted round has compiled, as they do once they are installed. The number that counts is
the ratio of the medians; the library's own bound for it is 1.5.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

FEWEST_REPEATS = 3


def seconds_to_run(code: str, environment: dict[str, str]) -> float:
    """Return the wall time of a new interpreter that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return time.perf_counter() - started


def measure(modules: list[str], repeats: int) -> dict[str, list[float]]:
    """Return the times of importing each module, taken in turns after one round to warm up."""
    times: dict[str, list[float]] = {module: [] for module in modules}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as bytecode:
        environment = inherited | {"PYTHONPYCACHEPREFIX": bytecode}
        for turn in range(repeats + 1):
            for module in modules:
                seconds = seconds_to_run(f"import {module}", environment)
                if turn > 0:
                    times[module].append(seconds)
    return times


def describe(module: str, times: list[float]) -> str:
    """Return the median and the spread of one module's times."""
    lower, median, upper = statistics.quantiles(times, n=4)
    return (
        f"import {module:8} median {1e3 * median:6.1f} ms, quartiles {1e3 * lower:.1f} to "
        f"{1e3 * upper:.1f}, range {1e3 * min(times):.1f} to {1e3 * max(times):.1f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time `import accelnn` against `import numpy`.")
    parser.add_argument("--repeats", type=int, default=25, help="runs of each (default: 25)")
    parser.add_argument("--limit", type=float, help="exit with 1 if the ratio is above this")
    options = parser.parse_args()
    if options.repeats < FEWEST_REPEATS:
        parser.error(f"--repeats must be at least {FEWEST_REPEATS}")
    times = measure(["numpy", "accelnn"], options.repeats)
    for module, seconds in times.items():
        print(describe(module, seconds))
    numpy, accelnn = (statistics.median(seconds) for seconds in times.values())
    print(f"ratio of the medians of {options.repeats} runs each: {accelnn / numpy:.3f}")
    if options.limit is not None and accelnn / numpy > options.limit:
        sys.exit(f"the ratio is above {options.limit}")


if __name__ == "__main__":
    main()
