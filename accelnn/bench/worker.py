"""The process of one contestant: ``python -m accelnn.bench.worker``.

It reads requests from standard input and answers each on standard output, as lines of JSON::

    {"do": "prepare", "case": {...}, "contestant": "JAX scan", "threads": 1}
                                                        -> {"few": 2000, "many": 6000}
    {"do": "repeat"}                                    -> {"seconds": 0.000243}
    {"do": "facts"}                                     -> {"loss": 0.3, "peak_mb": 512.0, ...}

A failure is answered with ``{"failed": reason}``, a missing package with ``{"missing": reason}``.
At the end of standard input the process and its children exit at once; the caller keeps it open
until the last answer.
"""

import json
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from accelnn.bench._case import Case

if TYPE_CHECKING:
    from accelnn.bench.contestants import Contestant

__all__ = ["Answers", "main"]


class Answers:
    """Answers to requests about one contestant, one after the other."""

    who: "Contestant"
    few = many = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Serve a request; errors become answers too."""
        do = request.pop("do")
        try:
            answer: dict[str, Any] = getattr(self, do)(**request)
        except ImportError as error:
            return {"missing": str(error)}
        except Exception as error:  # noqa: BLE001 - reported to the caller
            return {"failed": f"{type(error).__name__}: {error}"}
        return answer

    def prepare(self, case: dict[str, Any], contestant: str, threads: int) -> dict[str, Any]:
        """Make the contestant, and warm it up."""
        from accelnn.bench.contestants import make_contestant
        from accelnn.bench.contestants.base import amounts

        asked = Case(**case)
        self.who = make_contestant(contestant, asked, threads)
        self.few, self.many = amounts(self.who, asked.budget)
        forget_peak()
        return {"few": self.few, "many": self.many}

    def repeat(self) -> dict[str, Any]:
        """Measure once."""
        from accelnn.bench.contestants.base import seconds_per_unit

        return {"seconds": seconds_per_unit(self.who, self.few, self.many)}

    def facts(self) -> dict[str, Any]:
        """Return the facts, with the peak memory before they are computed."""
        peak = peak_memory()
        # Times on a device depend on the clock.
        clock = {} if self.who.case.device == "cpu" else {"clock": self.who.clock.name}
        return {**self.who.facts(), **clock, **({} if peak is None else {"peak_mb": peak})}


def forget_peak() -> None:
    """Reset the peak of memory to the current use, if the system supports it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> float | None:
    """Return the peak memory of this process in MB, or None if it is unknown."""
    # `resource` is only the fallback, because its peak includes that of the parent process.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Serve requests until standard input ends."""
    answers, questions = _take_stdout(), _take_stdin()
    asked = Answers()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(questions, requests), daemon=True).start()
    while True:
        answer = asked.answer(json.loads(requests.get()))
        print(json.dumps(answer), file=answers, flush=True)


def _read(questions: TextIO, requests: "queue.SimpleQueue[str]") -> None:
    """Pass on requests; exit, even during a job, when the caller is gone."""
    for line in questions:
        requests.put(line)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        # With the children that a job has started.
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _take_stdout() -> TextIO:
    """Return standard output, and redirect what packages print to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _take_stdin() -> TextIO:
    """Return standard input, and replace it by an empty one.

    A forked child closes the one it inherits, which would wait for the thread that reads it here.
    """
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return questions


if __name__ == "__main__":
    main()
