"""The processes of contestants, as seen from the process that controls them."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import accelnn
from accelnn.bench._case import Case
from accelnn.bench._machine import limit_vectors

__all__ = ["MissingPeer", "Worker", "WorkerError", "worker_environment"]

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
# Seconds for a process to exit after it has closed its output.
GRACE = 5.0
# Characters of a dead worker's standard error that go into a report.
LAST_WORDS = 300


class WorkerError(RuntimeError):
    """A worker failed, died, or did not respond in time."""


class MissingPeer(ImportError):  # noqa: N818 - not an error: the contestant does not take part
    """A package that a contestant needs is not installed."""


def worker_environment(threads: int, case: Case) -> dict[str, str]:
    """Return the environment of a worker with so many threads for a case."""
    environment = {k: v for k, v in os.environ.items() if k not in UNSET}
    environment |= dict.fromkeys(THREADS, str(threads))
    here = str(Path(accelnn.__file__).parents[1])
    others = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    environment["PYTHONPATH"] = os.pathsep.join([here, *others])
    # torch compiles in the worker's process, without a pool of others.
    environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if case.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        # The contestants of a case share the memory, of which JAX would preallocate most.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if threads == 1:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return limit_vectors(environment) if case.isa == "avx2" else environment


class Worker:
    """A process with one contestant, whose libraries have so many threads.

    Leaving the ``with`` block terminates it, whatever it is doing. `timeout` is how many seconds an
    answer is waited for; `command` is started in the place of `accelnn.bench.worker`.
    """

    def __init__(
        self,
        threads: int,
        case: Case,
        *,
        timeout: float = 600.0,
        command: list[str] | None = None,
    ) -> None:
        self.timeout = timeout
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            command or [sys.executable, "-m", "accelnn.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=worker_environment(threads, case),
            text=True,
            encoding="utf-8",
            # A process group, so that its children can be terminated too.
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises
        ------
        MissingPeer
            If a package is not installed.
        WorkerError
            If the job failed, the process died, or there was no answer in time.
        """
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._epitaph()) from None
        try:
            line = self._answers.get(timeout=self.timeout)
        except queue.Empty:
            self.end()
            msg = f"no answer to {do!r} within {self.timeout:g} s; ended"
            raise WorkerError(msg) from None
        if not line:
            raise WorkerError(self._epitaph())
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingPeer(answer["missing"])
        if "failed" in answer:
            raise WorkerError(answer["failed"])
        return answer

    def end(self) -> None:
        """Terminate the process and its children."""
        if self._errors.closed:
            return
        if hasattr(os, "killpg"):
            # The group outlives a dead worker, but may be empty.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        # Without process groups, children may still hold the output open.
        self._reader.join(GRACE)
        pipes: list[IO[Any] | None] = [self._process.stdin, self._errors]
        if not self._reader.is_alive():
            pipes.append(self._process.stdout)
        for pipe in pipes:
            if pipe is not None:
                # Unwritten data has no reader any more.
                with suppress(OSError):
                    pipe.close()

    def _read(self) -> None:
        """Pass on every line, and an empty one at the end of the output."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _epitaph(self) -> str:
        """Return how the process ended, with the end of its standard error."""
        try:
            code = self._process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            self.end()
            return "the process stopped answering; ended"
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-LAST_WORDS:]
        return f"the process ended with code {code}" + (f": {words}" if words else "")
