"""Learning-rate schedules: what an optimiser takes as `lr` in the place of a number.

A schedule maps k, the number of updates done before, to the learning rate of the next one. Any
function of k is one, too: whoever counts the updates calls it with 0, 1, 2, ... What it returns
may be 0, but not negative. The schedules here hold no state, and are equal if their arguments are.

>>> import accelnn
>>> rule = accelnn.SGD(accelnn.schedules.warm_up(10, accelnn.schedules.cosine(0.1, 1000)))
>>> rule
SGD(lr=warm_up(steps=10, then=cosine(start=0.1, total_steps=1000)))
>>> rule.rates(8, 4).round(4)
array([0.0818, 0.0909, 0.1   , 0.1   ])
"""

import math
import sys
from dataclasses import dataclass

from accelnn._typing import Schedule
from accelnn._validation import positive_int
from accelnn.formulas._checks import check_parameters, learning_rate, positive

__all__ = ["cosine", "exponential", "one_cycle", "step", "warm_up"]

# The defaults of torch's OneCycleLR: the share of updates in which the rate rises, the peak over
# the first rate, and the first over the last.
LARGEST_EXPONENT = math.log(sys.float_info.max)
RISING, PEAK_OVER_FIRST, FIRST_OVER_LAST = 0.3, 25.0, 1e4


@dataclass(frozen=True)
class step:
    """A rate that is multiplied by a factor from time to time: start · factor^⌊k / every⌋.

    Parameters
    ----------
    start : float
        The first rate.
    every : int
        Updates between two multiplications.
    factor : float
        What the rate is multiplied by.

    Notes
    -----
    It is ``torch.optim.lr_scheduler.StepLR``.

    Examples
    --------
    >>> import accelnn
    >>> schedule = accelnn.schedules.step(0.1, every=2, factor=0.5)
    >>> [schedule(k) for k in range(5)]
    [0.1, 0.1, 0.05, 0.05, 0.025]
    """

    start: float
    every: int
    factor: float

    def __post_init__(self) -> None:
        check_parameters(self, start=positive, every=positive_int, factor=positive)

    def __call__(self, k: int) -> float:
        return _multiplied(self.start, self.factor, k // self.every)


@dataclass(frozen=True)
class exponential:
    """A rate that is multiplied by the same number after every update: start · decayᵏ.

    Parameters
    ----------
    start : float
        The first rate.
    decay : float
        What the rate is multiplied by. Above 1 it grows, as in a search for the largest rate.

    Notes
    -----
    It is ``torch.optim.lr_scheduler.ExponentialLR``.

    Examples
    --------
    >>> import accelnn
    >>> schedule = accelnn.schedules.exponential(0.1, 0.5)
    >>> [schedule(k) for k in range(4)]
    [0.1, 0.05, 0.025, 0.0125]
    """

    start: float
    decay: float

    def __post_init__(self) -> None:
        check_parameters(self, start=positive, decay=positive)

    def __call__(self, k: int) -> float:
        return _multiplied(self.start, self.decay, k)


@dataclass(frozen=True)
class cosine:
    """A rate that falls to zero along half a cosine: start · (1 + cos(π k / total_steps)) / 2.

    Parameters
    ----------
    start : float
        The first rate.
    total_steps : int
        The update from which on the rate is 0.

    Notes
    -----
    It is ``torch.optim.lr_scheduler.CosineAnnealingLR``, which rises again where this stays 0.

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR (2017).

    Examples
    --------
    >>> import accelnn
    >>> schedule = accelnn.schedules.cosine(0.1, total_steps=4)
    >>> [round(schedule(k), 4) for k in range(6)]
    [0.1, 0.0854, 0.05, 0.0146, 0.0, 0.0]
    """

    start: float
    total_steps: int

    def __post_init__(self) -> None:
        check_parameters(self, start=positive, total_steps=positive_int)

    def __call__(self, k: int) -> float:
        return _along_cosine(self.start, 0.0, min(k / self.total_steps, 1.0))


@dataclass(frozen=True)
class one_cycle:
    """A rate that rises to a peak and falls far below its start, both along half a cosine.

    With n for `total_steps`, it rises from peak / 25 until k = 0.3 n - 1, and falls to peak / 25e4
    until k = n - 1, the last update; from then on it stays what it is.

    Parameters
    ----------
    peak : float
        The largest rate.
    total_steps : int
        Updates of the whole cycle.

    Notes
    -----
    It is ``torch.optim.lr_scheduler.OneCycleLR`` with its defaults and ``cycle_momentum=False``.

    References
    ----------
    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates" (2018), https://arxiv.org/abs/1708.07120.

    Examples
    --------
    >>> import accelnn
    >>> schedule = accelnn.schedules.one_cycle(0.1, total_steps=10)
    >>> [round(schedule(k), 4) for k in range(11)]
    [0.004, 0.052, 0.1, 0.095, 0.0812, 0.0611, 0.0389, 0.0188, 0.005, 0.0, 0.0]
    """

    peak: float
    total_steps: int

    def __post_init__(self) -> None:
        check_parameters(self, peak=positive, total_steps=positive_int)

    def __call__(self, k: int) -> float:
        first, last = self.peak / PEAK_OVER_FIRST, self.peak / PEAK_OVER_FIRST / FIRST_OVER_LAST
        top, end = RISING * self.total_steps - 1.0, self.total_steps - 1
        if k <= top:
            return _along_cosine(first, self.peak, k / top)
        return _along_cosine(self.peak, last, (min(k, end) - top) / (end - top))


@dataclass(frozen=True)
class warm_up:
    """A rate that rises in equal steps before another schedule begins.

    For k < `steps` it is then(0) · (k + 1) / (steps + 1), and then(k - steps) from there on.

    Parameters
    ----------
    steps : int
        Updates before the first one with the whole rate.
    then : float or schedule
        The rate, or the schedule that follows.

    Notes
    -----
    With a number it is ``torch.optim.lr_scheduler.LinearLR`` with a `start_factor` of
    1 / (steps + 1) and a `total_iters` of `steps`.

    References
    ----------
    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017),
    https://arxiv.org/abs/1706.02677.

    Examples
    --------
    >>> import accelnn
    >>> schedule = accelnn.schedules.warm_up(3, 0.1)
    >>> [round(schedule(k), 4) for k in range(5)]
    [0.025, 0.05, 0.075, 0.1, 0.1]
    """

    steps: int
    then: float | Schedule

    def __post_init__(self) -> None:
        check_parameters(self, steps=positive_int, then=learning_rate)

    def __call__(self, k: int) -> float:
        rate = self.then(max(k - self.steps, 0)) if callable(self.then) else self.then
        return rate * (k + 1) / (self.steps + 1) if k < self.steps else rate


def _multiplied(start: float, factor: float, times: int) -> float:
    """Return start · factorⁿ, which is infinite if it is too large for a float."""
    try:
        return start * factor**times
    except OverflowError:
        # The power is too large, and the product may not be.
        exponent = math.log(start) + times * math.log(factor)
        return math.exp(exponent) if exponent < LARGEST_EXPONENT else math.inf


def _along_cosine(first: float, last: float, share: float) -> float:
    """Return what lies between two rates on half a cosine."""
    return last + (first - last) * (1.0 + math.cos(math.pi * share)) / 2.0
