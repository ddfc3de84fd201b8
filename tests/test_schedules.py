"""Learning-rate schedules: their formulas, torch's schedulers, and what they accept."""

import dataclasses
import inspect
import math
import pickle
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest

import accelnn
from accelnn import schedules

EPS = np.finfo(float).eps
TOTAL = 23
# Of one of each; the others are those of the formulas below.
ALL = {
    "step": schedules.step(0.3, 5, 0.7),
    "exponential": schedules.exponential(0.3, 0.9),
    "cosine": schedules.cosine(0.3, TOTAL),
    "one_cycle": schedules.one_cycle(0.3, TOTAL),
    "warm_up": schedules.warm_up(6, 0.3),
}


def rates(schedule, count=TOTAL + 4):
    """Return the rates for k = 0 to total + 3."""
    found = [schedule(k) for k in range(count)]
    assert {type(rate) for rate in found} == {float}
    return np.array(found)


def test_these_are_all():
    assert sorted(schedules.__all__) == sorted(ALL)


@pytest.mark.parametrize(("every", "factor"), [(1, 0.5), (5, 0.7), (30, 0.1), (4, 1.5)])
def test_step(every, factor):
    exact, rate = [], Fraction(0.3)
    for k in range(TOTAL + 4):
        rate *= Fraction(factor) if k > 0 and k % every == 0 else 1
        exact.append(float(rate))
    # The power, the product, and the number that it is compared with are rounded.
    np.testing.assert_allclose(rates(schedules.step(0.3, every, factor)), exact, rtol=2 * EPS)


@pytest.mark.parametrize("decay", [0.9, 0.25, 1.0, 1.1])
def test_exponential(decay):
    exact = accumulate([Fraction(decay)] * (TOTAL + 3), lambda a, b: a * b, initial=Fraction(0.3))
    found = rates(schedules.exponential(0.3, decay))
    np.testing.assert_allclose(found, list(map(float, exact)), rtol=2 * EPS)


def test_they_do_not_drift():
    """A million roundings of repeated products would."""
    exact = float(Fraction(0.3) * Fraction(1 - 2**-20) ** 10_000)
    assert schedules.exponential(0.3, 1 - 2**-20)(10_000) == pytest.approx(exact, rel=2 * EPS)
    assert schedules.step(0.3, 7, 1 - 2**-20)(70_006) == pytest.approx(exact, rel=2 * EPS)


def half_cosine(first, last, share):
    """Return what lies between two numbers on half a cosine, by the half angle."""
    return first * np.cos(np.pi / 2 * share) ** 2 + last * np.sin(np.pi / 2 * share) ** 2


@pytest.mark.parametrize("total", [1, 2, 3, 7, TOTAL])
def test_cosine(total):
    found = rates(schedules.cosine(0.3, total), total + 4)
    # The angle, of up to π, is rounded three times, and its cosine once, on either side.
    exact = half_cosine(0.3, 0.0, np.arange(total + 1) / total)
    np.testing.assert_allclose(found[: total + 1], exact, rtol=0, atol=0.3 * 8 * EPS)
    assert (found[total:] == 0.0).all()
    assert (np.diff(found[: total + 1]) < 0.0).all()


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, TOTAL, 100])
def test_one_cycle(total):
    found = rates(schedules.one_cycle(0.3, total), total + 4)
    k, top = np.arange(total), 0.3 * total - 1.0
    rising = half_cosine(0.3 / 25.0, 0.3, k / top)
    falling = half_cosine(0.3, 0.3 / 25.0 / 1e4, (k - top) / (total - 1 - top))
    exact = np.where(k <= top, rising, falling)
    np.testing.assert_allclose(found[:total], exact, rtol=0, atol=0.3 * 8 * EPS)
    assert (found[total - 1 :] == 0.3 / 25.0 / 1e4).all()


@pytest.mark.parametrize("steps", [1, 6, 40])
def test_warm_up_to_a_number(steps):
    k = np.arange(TOTAL + 4)
    found = rates(schedules.warm_up(steps, 0.3))
    # A product and a quotient, on either side.
    exact = 0.3 * np.minimum((k + 1) / (steps + 1), 1.0)
    np.testing.assert_allclose(found, exact, rtol=2 * EPS)
    assert (found[steps:] == 0.3).all()


@pytest.mark.parametrize("then", ["step", "exponential", "cosine", "one_cycle", "warm_up"])
def test_warm_up_to_a_schedule(then):
    found = rates(schedules.warm_up(4, ALL[then]))
    first, *_ = expected = rates(ALL[then])
    np.testing.assert_allclose(found[:4], first * np.array([0.2, 0.4, 0.6, 0.8]), rtol=2 * EPS)
    np.testing.assert_array_equal(found[4:], expected[:-4])


def test_warm_up_to_a_function():
    assert rates(schedules.warm_up(1, lambda k: 1.0 / (k + 1)), 4).tolist() == [0.5, 1, 0.5, 1 / 3]


def by_torch(make, start, count):
    """Return the rates of the first updates with a scheduler of torch's."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=start)
    scheduler, found = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


def test_step_as_torch_has_it():
    theirs = by_torch(lambda s, o: s.StepLR(o, 5, 0.7), 0.3, TOTAL + 4)
    # It multiplies once for every k that 5 divides.
    rounded = np.arange(TOTAL + 4) // 5 + 2
    assert (np.abs(rates(ALL["step"]) - theirs) <= rounded * EPS * theirs).all()


def test_exponential_as_torch_has_it():
    theirs = by_torch(lambda s, o: s.ExponentialLR(o, 0.9), 0.3, TOTAL + 4)
    rounded = np.arange(TOTAL + 4) + 2
    assert (np.abs(rates(ALL["exponential"]) - theirs) <= rounded * EPS * theirs).all()


def test_cosine_as_torch_has_it():
    theirs = by_torch(lambda s, o: s.CosineAnnealingLR(o, TOTAL), 0.3, TOTAL + 1)
    found = rates(ALL["cosine"], TOTAL + 1)
    # Its rates are products of quotients of 1 + cos, each off by four times EPS in its angle and
    # by one of its own, which is relative to what is left of it.
    left = 2.0 * found[:-1] / 0.3
    rounded = 2.0 * 5.0 * np.cumsum(1.0 / left) + 2.0 * np.arange(TOTAL)
    assert (np.abs(found - theirs)[:-1] <= rounded * EPS * found[:-1]).all()
    assert found[-1] == theirs[-1] == 0.0


@pytest.mark.parametrize("total", [1, 2, 3, 10, TOTAL])
def test_one_cycle_as_torch_has_it(total):
    def make(s, optimizer):
        return s.OneCycleLR(optimizer, 0.3, total_steps=total, cycle_momentum=False)

    theirs = by_torch(make, 0.3, total)
    found = rates(schedules.one_cycle(0.3, total), total)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=0.3 * 8 * EPS)


@pytest.mark.parametrize("steps", [1, 6, 40])
def test_warm_up_as_torch_has_it(steps):
    def make(s, optimizer):
        return s.LinearLR(optimizer, start_factor=1.0 / (steps + 1), total_iters=steps)

    theirs = by_torch(make, 0.3, TOTAL + 4)
    found = rates(schedules.warm_up(steps, 0.3))
    # Each of its factors is rounded six times.
    rounded = 6 * np.arange(TOTAL + 4) + 4
    assert (np.abs(found - theirs) <= rounded * EPS * theirs).all()


@pytest.mark.parametrize("name", ALL)
def test_value_objects(name):
    schedule = ALL[name]
    twin = eval(repr(schedule), vars(schedules))  # noqa: S307
    assert twin == schedule
    assert hash(twin) == hash(schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301
    names = [field.name for field in dataclasses.fields(schedule)]
    assert names == list(inspect.signature(type(schedule)).parameters)
    other = dataclasses.replace(schedule, **{names[0]: getattr(schedule, names[0]) * 2})
    assert len({schedule, twin, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, names[0], 0.5)


def test_a_rule_with_a_schedule_is_one_too():
    rule = accelnn.Momentum(schedules.warm_up(2, ALL["cosine"]), momentum=0.8)
    assert repr(rule) == (
        "Momentum(lr=warm_up(steps=2, then=cosine(start=0.3, total_steps=23)), momentum=0.8)"
    )
    twin = eval(repr(rule), {**vars(schedules), **vars(accelnn)})  # noqa: S307
    assert twin == rule == pickle.loads(pickle.dumps(rule))  # noqa: S301
    assert hash(twin) == hash(rule)
    assert rule != accelnn.Momentum(0.3, momentum=0.8)


def test_numbers_of_numpy_are_pythons():
    assert schedules.step(np.float32(0.5), np.int64(3), 1) == schedules.step(0.5, 3, 1.0)
    assert repr(schedules.cosine(np.float64(0.1), np.int32(7))) == (
        "cosine(start=0.1, total_steps=7)"
    )


WRONG = [
    (lambda: schedules.step(0.0, 5, 0.5), ValueError, "start must be positive and finite, got 0.0"),
    (lambda: schedules.step("0.1", 5, 0.5), TypeError, "start must be a number, got '0.1'"),
    (lambda: schedules.step(0.1, 0, 0.5), ValueError, "every must be at least 1, got 0"),
    (lambda: schedules.step(0.1, 2.0, 0.5), TypeError, "every must be an integer, got 2.0"),
    (lambda: schedules.step(0.1, 5, -0.5), ValueError, "factor must be positive and finite"),
    (lambda: schedules.exponential(math.inf, 0.5), ValueError, "start must be positive and finite"),
    (lambda: schedules.exponential(0.1, 0.0), ValueError, "decay must be positive and finite"),
    (lambda: schedules.cosine(math.nan, 10), ValueError, "start must be positive and finite"),
    (
        lambda: schedules.cosine(0.1, total_steps=True),
        TypeError,
        "total_steps must be an integer, got True",
    ),
    (lambda: schedules.one_cycle(0.1, -1), ValueError, "total_steps must be at least 1, got -1"),
    (lambda: schedules.one_cycle(None, 10), TypeError, "peak must be a number, got None"),
    (lambda: schedules.warm_up(0, 0.1), ValueError, "steps must be at least 1, got 0"),
    (lambda: schedules.warm_up(5, -0.1), ValueError, "then must be positive and finite, got -0.1"),
    (
        lambda: schedules.warm_up(5, schedules.cosine),
        TypeError,
        r"then must be a number or a schedule, such as accelnn.schedules.cosine.*, got <class '",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_what_is_wrong_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("schedule", "k", "expected"),
    [
        (schedules.exponential(1e-300, 2.0), 1100, 1e-300 * 2.0**550 * 2.0**550),
        (schedules.step(1e-300, 1, 2.0), 1100, 1e-300 * 2.0**550 * 2.0**550),
        (schedules.exponential(0.1, 2.0), 5000, math.inf),
        (schedules.step(0.1, 1, 1e200), 2, math.inf),
    ],
)
def test_a_power_beyond_the_range_of_floats(schedule, k, expected):
    """An exponent of order 700 has an error of 700 units in the last place, as the result has."""
    assert schedule(k) == pytest.approx(expected, rel=2_000 * np.finfo(float).eps)


@pytest.mark.parametrize("rate", [schedules.exponential(0.1, 1e200), lambda k: 10 ** (400 * k)])
def test_a_rate_that_grows_too_large_is_refused_in_words(rate):
    with pytest.raises(
        ValueError, match=r"lr\([1-3]\) must be non-negative and finite, got (inf|10)"
    ):
        accelnn.SGD(rate).rates(0, 4)
    assert accelnn.SGD(schedules.exponential(1e-300, 2.0)).rates(1099, 2).all()
