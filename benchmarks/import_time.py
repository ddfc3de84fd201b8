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

MODULES = ("numpy", "accelnn")


def measure(repeats: int) -> dict[str, list[float]]:
    """Return the wall times of interpreters that import each module, in turns."""
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as bytecode:
        environment = inherited | {"PYTHONPYCACHEPREFIX": bytecode}
        for _ in range(repeats + 1):
            for module in MODULES:
                started = time.perf_counter()
                command = [sys.executable, "-c", f"import {module}"]
                subprocess.run(command, env=environment, check=True)
                times[module].append(time.perf_counter() - started)
    # The first round has compiled.
    return {module: seconds[1:] for module, seconds in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time `import accelnn` against `import numpy`.")
    parser.add_argument("--repeats", type=int, default=25, help="runs of each (default: 25)")
    parser.add_argument("--limit", type=float, help="exit with 1 if the ratio is above this")
    options = parser.parse_args()
    if options.repeats < 2:  # noqa: PLR2004 - quartiles need two
        parser.error("--repeats must be at least 2")
    times = measure(options.repeats)
    for module, seconds in times.items():
        lower, median, upper = (1e3 * quartile for quartile in statistics.quantiles(seconds, n=4))
        print(
            f"import {module:8} median {median:6.1f} ms, quartiles {lower:.1f} to {upper:.1f}, "
            f"range {1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f}"
        )
    numpy, accelnn = (statistics.median(seconds) for seconds in times.values())
    print(f"ratio of the medians of {options.repeats} runs each: {accelnn / numpy:.3f}")
    if options.limit is not None and accelnn / numpy > options.limit:
        sys.exit(f"the ratio is above {options.limit}")


if __name__ == "__main__":
    main()
