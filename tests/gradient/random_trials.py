"""Derivatives of random functions by every method, and checks of their gradients, judged.

A difference is a sum of values of f. The same sum of exact values tells what it has to be, and the
rounding of those values how far from it float64 may be. What is farther off is wrong, unless it is
flagged or its own estimate says so.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from function_trees import EPS, EXTENDED
from random_functions import RandomFunction

from accelnn import check_gradient, numerical_gradient
from accelnn.errors import InconclusiveCheckWarning
from accelnn.gradient import Flag

__all__ = ["METHODS", "MODES", "Trial", "check_trial", "method_trial", "table", "wrong_trial"]

# Which points enter a difference, in steps from x.
POINTS = {
    "central": (1, -1),
    "central4": (1, -1, 2, -2),
    "forward": (1, 0),
    "backward": (-1, 0),
}
METHODS = (*POINTS, "complex", "richardson")
MODES = ("directional", "sampled", "full")
# Values of f and their sum may be off by so many times what was found as their rounding.
SLACK = 2.0
# An estimate that is so many times too small says nothing.
FAR_OFF = 10.0
# An error that is a larger part of the gradient is not rounding or truncation that one lives with.
LARGE = 0.01
# From the usual step down to one that rounding drowns, and x of 1e-12 is large beside.
HALVINGS = 40


class Trial(NamedTuple):
    """What came out, by name, and the stories of what should not have.

    `hidden` are truncations that the estimate does not cover, as that of a wave between the points
    of a difference.
    """

    counts: Counter[str]
    faults: list[str]
    hidden: list[str]

    @staticmethod
    def empty() -> Trial:
        return Trial(Counter(), [], [])

    def __add__(self, other: Trial) -> Trial:
        return Trial(*(mine + its for mine, its in zip(self, other, strict=True)))


def weights(taken: np.ndarray) -> np.ndarray:
    """Return the factors of values at points (n, p), for a first derivative at 0."""
    n, p = taken.shape
    unit = np.abs(taken).max(axis=1, keepdims=True)
    nodes = (taken / unit).astype(EXTENDED)
    # The derivative of Lagrange's polynomials, whose values at the points are 0 and 1.
    found = np.zeros((n, p), EXTENDED)
    for i in range(p):
        others = [j for j in range(p) if j != i]
        for left_out in others:
            term = 1.0 / (nodes[:, i] - nodes[:, left_out])
            for j in others:
                if j != left_out:
                    term = term * -nodes[:, j] / (nodes[:, i] - nodes[:, j])
            found[:, i] += term
    return found / unit


def right_difference(
    function: RandomFunction, method: str, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a difference of exact values is, and what float64 may make of it."""
    x = function.x
    if method == "complex":
        size = step * np.eye(len(x))
        values = function.batched(x.astype(np.clongdouble) + 1j * size)
        return values.imag / step, function.exact.slope_rounding[:, 0]
    # An extrapolation is as good as a difference at its smallest step at least.
    points = np.array(POINTS.get(method, (1, -1)))
    moved = x[:, None] + step[:, None] * points
    everywhere = np.repeat(x[:, None], moved.size, axis=1)
    everywhere[np.repeat(np.arange(len(x)), len(points)), np.arange(moved.size)] = moved.ravel()
    values = function.tree.values(everywhere.T)
    factors = weights(moved - x[:, None])
    with np.errstate(all="ignore"):
        difference = (factors * values.value.reshape(moved.shape)).sum(axis=1)
        rounding = (np.abs(factors) * values.rounding.reshape(moved.shape)).sum(axis=1)
    return difference, rounding


def method_trial(function: RandomFunction, method: str, *, batched: bool = False) -> Trial:
    """Differentiate a function."""
    counts: Counter[str] = Counter(functions=1)
    f = function.batched if batched else function
    right = function.gradient
    try:
        found = numerical_gradient(f, function.x, method=method, batched=batched, full_output=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, there was an answer
        counts["raised"] += 1
        text = f"{type(error).__name__}: {error}"
        return Trial(counts, [_story(function, method, text)], [])
    gradient, estimate = found.gradient, np.abs(found.error)
    difference, rounding = right_difference(function, method, found.step)
    with np.errstate(all="ignore"):
        off = np.abs(gradient - right)
        noise = SLACK * rounding + 8.0 * EPS * np.abs(gradient)
        allowed = noise if method == "richardson" else 1.0001 * np.abs(difference - right) + noise
        # What rounding inside f does to its slopes, a gradient by hand in float64 has too.
        held = off <= estimate + function.exact.slope_rounding[:, 0]
        covered = (off <= FAR_OFF * estimate) | (off <= noise)
        is_wrong = ~(off <= allowed) & ~covered
        # Truncation that nobody would guess from the estimate.
        is_hidden = ~covered & ~(off <= LARGE * function.scale)
        # An estimate as large as the derivative says at least that nothing is known of it.
        is_hidden &= ~(estimate >= 0.1 * np.abs(gradient))
    flagged = found.flags != Flag.OK
    counts["derivatives"] += len(right)
    counts["flagged"] += int(flagged.sum())
    counts["estimate held"] += int((held & ~flagged).sum())
    counts["did not hold"] += int((~held & ~flagged).sum())
    stories: dict[str, list[str]] = {"WRONG": [], "HIDDEN": []}
    for kind, which in (("WRONG", is_wrong), ("HIDDEN", is_hidden & ~is_wrong)):
        for i in np.flatnonzero(which & ~flagged)[:1]:
            counts[kind] += 1
            text = (
                f"{kind} in coordinate {i}: found {float(gradient[i])!r}, right "
                f"{float(right[i])!r}, off {float(off[i]):.3g}, estimate {estimate[i]:.3g}, "
                f"allowed {float(allowed[i]):.3g}, step {found.step[i]:.3g}, norm "
                f"{function.norm:.3g}"
            )
            stories[kind].append(_story(function, method, text))
    return Trial(counts, stories["WRONG"], stories["HIDDEN"])


def _check(function: RandomFunction, gradient: np.ndarray, mode: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconclusiveCheckWarning)
        return check_gradient(function, gradient, function.x, mode=mode, raises=False)


def check_trial(function: RandomFunction, mode: str) -> Trial:
    """Check the gradient of a function."""
    counts: Counter[str] = Counter(functions=1)
    try:
        report = _check(function, _right(function), mode)
    except Exception as error:  # noqa: BLE001 - whatever it is, there was an answer
        counts["right: raised"] += 1
        text = f"{type(error).__name__}: {error}"
        return Trial(counts, [_story(function, mode, text)], [])
    counts[f"right: {report.verdict}"] += 1
    faults = []
    if report.verdict == "WRONG":
        faults.append(_story(function, mode, f"right one refused: {report}"))
    return Trial(counts, faults, [])


def wrong_trial(function: RandomFunction, mode: str) -> Trial:
    """Check gradients of a function that are wrong."""
    counts: Counter[str] = Counter()
    faults = []
    right = _right(function)
    for name, wrong in _wrong(function, right, mode).items():
        try:
            report = _check(function, wrong, mode)
        except Exception as error:  # noqa: BLE001 - whatever it is, there was an answer
            counts[f"{name}: raised"] += 1
            faults.append(_story(function, mode, f"{type(error).__name__}: {error}"))
            continue
        counts[f"{name}: {report.verdict}"] += 1
        if report.verdict == "right":
            text = f"{name} missed: {right.tolist()} became {wrong.tolist()}: {report}"
            faults.append(_story(function, mode, text))
    return Trial(counts, faults, [])


def _draw(function: RandomFunction) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(function.text.encode()))


def _right(function: RandomFunction) -> np.ndarray:
    """Return the gradient as one gets it by the chain rule in float64."""
    found = function.tree.values(function.x[None], np.float64).slope[:, 0]
    return np.where(np.isfinite(found), found, function.gradient.astype(float))


def _wrong(function: RandomFunction, right: np.ndarray, mode: str) -> dict[str, np.ndarray]:
    """Return wrong gradients, by what is wrong."""
    n, draw = right.size, _draw(function)
    found = {}
    direction = draw.standard_normal(n)
    direction /= np.linalg.norm(direction)
    rounding = np.linalg.norm(function.exact.slope_rounding[:, 0].astype(float))
    if function.norm > 100.0 * rounding:
        # What is so little beside slopes nearby is lost in them: a stationary point, or nearly.
        is_little = function.norm <= EPS**0.5 * function.scale
        found["1 % of little" if is_little else "1 %"] = right + LARGE * function.norm * direction
    elif function.scale > 100.0 * rounding:
        # At a stationary point 1 % of nothing but rounding is nothing.
        found["1 % of near"] = right + LARGE * function.scale * direction
    if mode == "full":
        i = int(draw.integers(n))
        # No slope of nearly 0 is known better than those nearby, nor than the check's tolerance.
        floor = max(_noise_floor(function, i), _stated_floor(function, right, i))
        error = 10.0 * (floor + 10.0 * EPS**0.5 * function.slopes[i])
        if np.isfinite(error) and error > 0.0:
            wrong = right.copy()
            wrong[i] += error
            found["one coordinate"] = wrong
    return found


def _noise_floor(function: RandomFunction, i: int) -> float:
    """Return what a central difference in coordinate i may be off by, at the best of its steps.

    Rounding grows as steps become shorter, and truncation as they become longer.
    """
    x, least = function.x, np.inf
    step = EPS ** (1 / 3) * np.maximum(1.0, np.abs(x))
    for _ in range(HALVINGS):
        with np.errstate(all="ignore"):
            difference, rounding = right_difference(function, "central", step)
            beside = [function(x + k * step[i] * (np.arange(len(x)) == i)) for k in (-1, 1)]
            noise = 8.0 * EPS * np.max(np.abs(beside)) / (2.0 * step[i]) + rounding[i]
            off = float(noise + abs(difference[i] - function.gradient[i]))
        least = min(least, off) if np.isfinite(off) else least
        step = step / 2.0
    return least


def _stated_floor(function: RandomFunction, right: np.ndarray, i: int) -> float:
    """Return the noise floor that a check states for coordinate i, where that is far off.

    It is at most a hundredth of the gradient, or the check is inconclusive.
    """
    far_off = right.copy()
    far_off[i] += max(function.scale, np.abs(right[i]))
    report = _check(function, far_off, "full")
    stated = [failure.noise_floor for failure in report.failures if failure.index == (i,)]
    return min(stated[0], LARGE * function.scale) if stated else 0.0


def _story(function: RandomFunction, what: str, text: str) -> str:
    return f"{function.kind}, {what}: {text}\n    {function}"


def table(columns: dict[str, Counter[str]]) -> str:
    """Return counts as a table, a row for each name."""
    names = sorted({name for counts in columns.values() for name in counts})
    lines = ["".join([" " * 28, *(f"{what:>12}" for what in columns)])]
    for name in names:
        cells = (f"{counts[name]:>12}" for counts in columns.values())
        lines.append("".join([f"{name:>28}", *cells]))
    return "\n".join(lines)
