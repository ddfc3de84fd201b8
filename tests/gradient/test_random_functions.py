"""Random functions with known gradients: no method is wrong without a flag, and no check errs.

There are 300 of them here. ``pytest tests/gradient/test_random_functions.py --functions 10000``
takes as many as one has time for, and shows a table; ``-n 2`` shares them between processes.
"""

from random import Random

import hypothesis
import numpy as np
import pytest
from function_trees import EPS, EXTENDED
from hypothesis import strategies
from random_functions import random_function
from random_trials import METHODS, MODES, Trial, check_trial, method_trial, wrong_trial

FUNCTIONS = 300
# Part of estimates that must hold. Those that do not are mostly of waves, to a few times the error.
HOLDS = 0.99

pytestmark = pytest.mark.skipif(
    np.finfo(EXTENDED).eps > 2.0**-60, reason="longdouble is no more precise than float64 here"
)


def pytest_generate_tests(metafunc):
    if "seeds" in metafunc.fixturenames:
        count = metafunc.config.getoption("--functions", None) or FUNCTIONS
        starts = range(0, count, FUNCTIONS)
        blocks = [range(start, min(start + FUNCTIONS, count)) for start in starts]
        metafunc.parametrize("seeds", blocks, ids=[f"{b.start}-{b.stop - 1}" for b in blocks])


def function_of(seed):
    return random_function(Random(seed))  # noqa: S311 - a test must be repeatable


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_no_derivative_is_wrong_without_a_flag(method, seeds, record_property):
    total = Trial.empty()
    for seed in seeds:
        total += method_trial(function_of(seed), method, batched=bool(seed % 2))
    counts = total.counts
    record_property(("Derivatives of random functions", method), dict(counts))
    assert not total.faults, "\n".join(total.faults)
    assert not total.hidden, "\n".join(total.hidden)
    if method in {"central", "richardson"}:
        assert counts["estimate held"] >= HOLDS * (counts["derivatives"] - counts["flagged"])


# None is to be refused, and no error of 1 % missed. Left is f whose waves look like noise, and of
# 10,000 errors of one coordinate 4, where powers of x / 1e-12 look like it at x = 0. What
# cannot be known, within 1e-8 of the edge of a domain, is inconclusive.
REFUSED, MISSED, INCONCLUSIVE = 0.004, 0.004, 0.05
FIRST_ORDER = 8.0


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_no_right_gradient_is_refused(mode, seeds, record_property):
    total = sum((check_trial(function_of(seed), mode) for seed in seeds), Trial.empty())
    record_property(("Checks of right gradients", mode), dict(total.counts))
    assert len(total.faults) <= REFUSED * len(seeds), "\n".join(total.faults)
    assert total.counts["right: inconclusive"] <= INCONCLUSIVE * len(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_wrong_gradients_are_found(mode, seeds, record_property, pytestconfig):
    # It takes many evaluations to be sure: in a short run each mode takes its third of them.
    if not pytestconfig.getoption("--functions", None):
        seeds = seeds[MODES.index(mode) :: len(MODES)]
    total = sum((wrong_trial(function_of(seed), mode) for seed in seeds), Trial.empty())
    record_property(("Checks of wrong gradients", mode), dict(total.counts))
    missed = [fault for fault in total.faults if "one coordinate" not in fault]
    assert not missed, "\n".join(missed)
    assert len(total.faults) <= MISSED * len(seeds), "\n".join(total.faults)


# Beside an edge that looks like noise in all coordinates; flat along one of them, where rounding of
# f is far larger than what is wrong; at 0, with slopes that are far steeper where x might be.
@pytest.mark.parametrize("seed", [3938, 5266, 2529, 2690, 4077, 5177, 5611])
def test_noise_and_slopes_of_elsewhere_hide_no_error(seed):
    total = sum((wrong_trial(function_of(seed), mode) for mode in MODES), Trial.empty())
    assert not total.faults, "\n".join(total.faults)


@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
@hypothesis.given(strategies.randoms(use_true_random=False))
def test_what_is_known_of_a_random_function_is_true(draw):
    function = random_function(draw)
    # In float64 its value is off by no more than its rounding, which is known to first order: where
    # terms cancel, that is half of it or less.
    off = abs(function(function.x) - function.exact.value[0])
    assert off <= FIRST_ORDER * function.exact.rounding[0]
    # Its gradient is that of exact differences of tiny steps, but where it ends within them.
    if function.kind == "edge":
        return
    for i, unit in enumerate(function.unit):
        steps = EXTENDED(1e-7) * unit * np.array([1.0, -1.0, 2.0, -2.0])
        moves = np.outer(steps, np.arange(len(function.x)) == i)
        beside = function.tree.values(function.x + moves)
        above, below, far_above, far_below = beside.value
        slope, coarse = (above - below) / (2 * steps[0]), (far_above - far_below) / (2 * steps[2])
        known = 1e-6 * function.scale + abs(slope - coarse)
        # A slope of 1e-95, as that of log(1 + x²) there, is less than the rounding of both.
        rounding = np.finfo(EXTENDED).eps / EPS * beside.rounding.max()
        known += FIRST_ORDER * rounding / abs(steps[0])
        assert abs(slope - function.gradient[i]) <= known
