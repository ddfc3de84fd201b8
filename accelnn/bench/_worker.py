"""The processes of contestants: how they are started, asked and terminated."""

import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import accelnn
from accelnn.bench._case import Case
from accelnn.bench._machine import limit_vectors
from accelnn.bench.contestants import Contestant, make_contestant
from accelnn.bench.contestants.base import amounts, seconds_per_unit

__all__ = [
    "MissingPeer",
    "Worker",
    "WorkerError",
    "facts",
    "prepare",
    "process_environment",
    "repeat",
    "start",
]

# Settings that change the kernels of OpenBLAS, and one that lets a checkout be compiled anew in
# every process, which installed packages are not.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# Seconds for a process to exit after it has closed its pipe.
GRACE = 5.0
# Characters of a dead worker's standard error that go into a report.
LAST_WORDS = 300


class WorkerError(RuntimeError):
    """A worker failed, died, or did not respond in time."""


class MissingPeer(ImportError):  # noqa: N818 - not an error: the contestant does not take part
    """A package that a contestant needs is not installed."""


def process_environment() -> dict[str, str]:
    """Return the environment of every process of a run, where all import the same modules."""
    environment = {k: v for k, v in os.environ.items() if k not in UNSET}
    # For processes that contestants start.
    here = str(Path(accelnn.__file__).parents[1])
    others = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    environment["PYTHONPATH"] = os.pathsep.join([here, *others])
    # No module of the folder that one happens to be in takes the place of another.
    environment["PYTHONSAFEPATH"] = "1"
    return environment


def worker_environment(threads: int, case: Case) -> dict[str, str]:
    """Return the environment of a worker with so many threads for a case."""
    environment = process_environment() | dict.fromkeys(THREADS, str(threads))
    # torch compiles in the worker's process, without a pool of others.
    environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if case.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        # The contestants of a case share the memory, of which JAX would preallocate most.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return limit_vectors(environment) if case.isa == "avx2" else environment


def start(process: BaseProcess, environment: dict[str, str]) -> None:
    """Start a process in an environment, which is there before it imports anything."""
    own = dict(os.environ)
    _replace_environment(environment)
    try:
        process.start()
    finally:
        _replace_environment(own)


def _replace_environment(other: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(other)


class Worker:
    """A process that calls functions, and whose libraries have so many threads.

    Leaving the ``with`` block terminates it, whatever it is doing. `timeout` is how many seconds an
    answer is waited for.
    """

    def __init__(self, threads: int, case: Case, *, timeout: float = 600.0) -> None:
        self.timeout = timeout
        self._folder = TemporaryDirectory()
        self._printed = Path(self._folder.name) / "printed"
        # No fork, as libraries read their settings when they are imported.
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._printed))
        start(self._process, worker_environment(threads, case))
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        self._folder.cleanup()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns there.

        Raises
        ------
        MissingPeer
            If it could not import a package.
        WorkerError
            If it failed, the process died, or there was no answer in time.
        """
        try:
            self._pipe.send((function, arguments))
            in_time = self._pipe.poll(self.timeout)
            problem, answer = self._pipe.recv() if in_time else (None, None)
        except (EOFError, OSError):
            raise WorkerError(self._epitaph()) from None
        if not in_time:
            self.end()
            msg = f"no answer to {function.__name__!r} within {self.timeout:g} s; ended"
            raise WorkerError(msg)
        if problem is not None:
            raise problem(answer)
        return answer

    @property
    def has_ended(self) -> bool:
        """Whether it was terminated."""
        return self._pipe.closed

    def end(self) -> None:
        """Terminate the process and its children."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        if hasattr(os, "killpg"):
            # The group outlives a dead worker, but may be empty, or not be there yet.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _epitaph(self) -> str:
        """Return how the process ended, with the end of what it has printed."""
        # Not `join`, which takes a process for ended that has closed its files, and waits for it.
        until = time.monotonic() + GRACE
        while self._process.exitcode is None and time.monotonic() < until:
            time.sleep(0.01)
        self.end()
        words = self._printed.read_text(errors="replace") if self._printed.exists() else ""
        last = f": {words.strip()[-LAST_WORDS:]}" if words.strip() else ""
        return f"the process ended with code {self._process.exitcode}{last}"


def _serve(pipe: Connection, printed: Path) -> None:
    """Call what is asked for, and send back what it returned, or why it did not."""
    if hasattr(os, "setsid"):
        # A process group, so that its children can be terminated too.
        os.setsid()
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: tuple[type[Exception] | None, Any]
    while True:
        function, arguments = pipe.recv()
        try:
            answer = None, function(*arguments)
        except ImportError as error:
            answer = MissingPeer, str(error)
        except Exception as error:  # noqa: BLE001 - reported to the caller
            answer = WorkerError, f"{type(error).__name__}: {error}"
        pipe.send(answer)


def _end_with_parent() -> None:
    """Exit with all children, even during a job, when the caller is gone."""
    caller = parent_process()
    if caller is not None:
        caller.join()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


@lru_cache(maxsize=1)
def _prepared(case: Case, contestant: str, threads: int) -> tuple[Contestant, int, int]:
    """Return a contestant that has warmed up, and its amounts of work."""
    who = make_contestant(contestant, case, threads)
    few, many = amounts(who, case.budget)
    _forget_peak()
    return who, few, many


def prepare(*who: Any) -> dict[str, Any]:
    """Make the contestant of a case with so many threads, and return its amounts of work."""
    # All contestants of two cases at once may be more than the memory holds.
    _prepared.cache_clear()
    gc.collect()
    _, few, many = _prepared(*who)
    return {"few": few, "many": many}


def repeat(*who: Any) -> float:
    """Measure once."""
    return seconds_per_unit(*_prepared(*who))


def facts(*who: Any) -> dict[str, Any]:
    """Return the facts, with the peak memory before they are computed."""
    contestant, *_ = _prepared(*who)
    peak = _peak_memory()
    # Times on a device depend on the clock.
    clock = "CUDA events" if contestant.events else "wall clock"
    told = {} if contestant.case.device == "cpu" else {"clock": clock}
    return {**contestant.facts(), **told, **({} if peak is None else {"peak_mb": peak})}


def _forget_peak() -> None:
    """Reset the peak of memory to the current use, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory() -> float | None:
    """Return the peak memory of this process in MB, or None where the system does not tell."""
    status = Path("/proc/self/status")
    text = status.read_text(encoding="utf-8") if status.exists() else ""
    peak = re.search(r"VmHWM:\s*(\d+) kB", text)
    return int(peak[1]) * 1024 / 1e6 if peak else None
