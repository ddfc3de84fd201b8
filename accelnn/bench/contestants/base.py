"""What contestants have in common, the list of them, and the loop that times them."""

import importlib
import importlib.util
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from accelnn.bench._case import Case

__all__ = [
    "CONTESTANTS",
    "Calls",
    "Contestant",
    "Lazy",
    "amounts",
    "contestant",
    "make_contestant",
    "require",
    "seconds_per_unit",
]

# How often a slope is taken that a disturbance has turned around.
ATTEMPTS = 3


class Lazy:
    """A package that is imported when something of it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # Who looks at a module, as doctest does, needs no package.
            raise AttributeError(name)
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)
        return value


class Contestant:
    """Who does what a case asks for. Making one loads and places whatever it needs.

    Attributes
    ----------
    granule : int
        Amounts of work are whole multiples of this.
    scale : float
        How many times longer a whole unit takes than the part of it that is done.
    besides : float
        Seconds of a unit that were measured apart, because it is done once and not in every run.
    events : str
        The library whose CUDA events time its runs; without one, the wall clock does.
    few, many : int
        Amounts of work, those of the case unless it sets others.
    """

    granule = 1
    scale = 1.0
    besides = 0.0
    events = ""

    def __init__(self, case: Case, threads: int) -> None:
        self.case = case
        self.threads = threads
        self.few, self.many = case.few, case.many

    def ready(self, amount: int) -> None:
        """Get ready for runs of up to `amount`; this is not timed."""

    def run(self, amount: int) -> None:
        """Do `amount` units of work, and return when the last is done."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return results other than the time, such as the accuracy."""
        return {}

    def seconds(self, amount: int) -> float:
        """Return how long a run takes."""
        if not self.events:
            return seconds_of(lambda: self.run(amount))
        cuda = importlib.import_module(self.events).cuda
        options = {"enable_timing": True} if self.events == "torch" else {}
        start, end = cuda.Event(**options), cuda.Event(**options)
        start.record()
        self.run(amount)
        end.record()
        end.synchronize()
        elapsed = start.elapsed_time(end) if options else cuda.get_elapsed_time(start, end)
        return float(elapsed) / 1e3


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long a function takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Calls(Contestant):
    """Calls of one function, of which each is a unit.

    A subclass poses the problem, with the `exact` result, in relation to whose `unit` what was
    `found` deviates; a contestant is a function that takes it, and returns what is called.
    """

    found: Any = None
    unit = 1.0
    to_numpy: Callable[[Any], np.ndarray] = staticmethod(np.asarray)

    def __init__(
        self, case: Case, threads: int, setup: Callable[..., Callable[[], Any]], **options: Any
    ) -> None:
        super().__init__(case, threads)
        self.exact: Any = None
        self.notes: dict[str, Any] = {}
        self.pose()
        self.call = setup(self, **options)

    def pose(self) -> None:
        """Make the problem."""

    def run(self, amount: int) -> None:
        for _ in range(amount):
            self.found = self.call()

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation, and notes."""
        if self.found is None:
            return self.notes
        deviation = np.abs(_flat(self.found, self.to_numpy) - _flat(self.exact)).max()
        return {"deviation": float(deviation / self.unit), **self.notes}


def _flat(found: Any, to_numpy: Callable[[Any], np.ndarray] = np.asarray) -> np.ndarray:
    """Return a number, an array, or arrays by name or in a list, as one array."""
    parts = list(found.values()) if isinstance(found, dict) else found
    parts = parts if isinstance(parts, list) else [parts]
    return np.concatenate([np.ravel(to_numpy(part)) for part in parts])


class Entry(NamedTuple):
    """A contestant on the list: what makes it, and the package without which it is absent."""

    make: Callable[[Case, int], Contestant]
    needs: str


CONTESTANTS: dict[str, dict[str, Entry]] = {}
"""For each group, the contestants by name."""

Code = TypeVar("Code", bound=Callable[..., Any])


def contestant(
    name: str, *groups: str, kind: type[Calls] | None = None, needs: str = "", **options: Any
) -> Callable[[Code], Code]:
    """Return a decorator that enters a class, or a function for a `kind` of calls, for groups."""

    def enter(code: Code) -> Code:
        make = partial(kind, setup=code, **options) if kind else partial(code, **options)
        for group in groups:
            CONTESTANTS.setdefault(group, {})[name] = Entry(make, needs)
        return code

    return enter


def make_contestant(name: str, case: Case, threads: int, group: str = "") -> Contestant:
    """Make a contestant for a case, as in its group or in another one.

    Raises
    ------
    ImportError
        If the package that it needs is not installed.
    """
    make, needs = CONTESTANTS[group or case.group][name]
    require(needs)
    return make(case, threads)


def require(package: str) -> None:
    """Raise ModuleNotFoundError if a package is not installed; do not import it."""
    if package and importlib.util.find_spec(package) is None:
        msg = f"No module named {package!r}"
        raise ModuleNotFoundError(msg)


def seconds_per_unit(who: Contestant, few: int, many: int) -> float:
    """Return the slope between a run of `few` units and one of `many`.

    What a run costs once, however long it is, is not in it. With ``few = 0`` this is the mean over
    `many`.
    """
    for _ in range(ATTEMPTS):
        short = who.seconds(few) if few else 0.0
        long = who.seconds(many)
        if long > short:
            return who.besides + who.scale * (long - short) / (many - few)
    # At most that long, where nothing is known of what a run costs once.
    return who.besides + who.scale * long / many


def amounts(who: Contestant, budget: float) -> tuple[int, int]:
    """Warm up, and return amounts such that a repeat takes about `budget` seconds at most.

    Proportions are kept; `few` and `many` become whole multiples of the granule.
    """
    few, many = who.few, who.many
    first = max(who.granule, few // 10)
    who.ready(first)
    who.run(first)
    share = 1.0
    if many > first:
        # The faster of two, so that a disturbance does not shorten all repeats.
        seconds = max(min(who.seconds(first) for _ in range(2)), 1e-9)
        share = min(1.0, budget / seconds * first / (few + many))
    low, high = (who.granule * math.ceil(n * share / who.granule) for n in (few, many))
    high = max(high, low + who.granule)
    who.ready(high)
    return low, high
