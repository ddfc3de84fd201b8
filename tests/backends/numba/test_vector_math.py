"""Functions of `math` for vectors, over the whole range, against more digits."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

pytest.importorskip("numba")

from accelnn.backends.numba._jit import is_compiled, uncached_loop
from accelnn.backends.numba.kernels.training import train
from accelnn.backends.numba.vectors import load, store, width

if not is_compiled(train):
    pytest.skip("NUMBA_DISABLE_JIT leaves plain functions", allow_module_level=True)

COUNT = 4096
# What one function of `math` may be off by, in units in the last place: the last rounding is half
# a unit, and arguments, series and quotients before it round by less than two more.
UNITS = 2.5


def _exact_erf(x):
    """2/√π Σ (-1)ᵏ x²ᵏ⁺¹ / (k! (2k + 1)), whose terms reach 10³⁰ at 8, to forty digits."""
    with localcontext() as context:
        context.prec = 80
        root_pi = Decimal("1.7724538509055160272981674833411451827975494561223871282138077898529")
        x = Decimal(float(x))
        if abs(x) > 8:
            return Decimal(1).copy_sign(x)
        power, total, k = x, x, 0
        while power and abs(power) > abs(total) * Decimal("1e-40"):
            k += 1
            power *= -x * x / k
            total += power / (2 * k + 1)
        return 2 * total / root_pi


def _erf(x):
    """Of fewer numbers, which are computed one after another."""
    return np.array([np.longdouble(str(_exact_erf(number))) for number in x])


FUNCTIONS = {
    "sin": (lambda x: math.sin(x), np.sin),  # noqa: PLW0108 - a builtin has no source
    "cos": (lambda x: math.cos(x), np.cos),  # noqa: PLW0108
    "atan": (lambda x: math.atan(x), np.arctan),  # noqa: PLW0108
    "erf": (lambda x: math.erf(x), _erf),  # noqa: PLW0108
}


def _points(dtype):
    """Return numbers of all sizes, denormal ones too, and those around multiples of π/4."""
    draw, info = np.random.default_rng(0), np.finfo(dtype)
    exponents = draw.integers(info.minexp - info.nmant, info.maxexp, COUNT)
    whole = np.concatenate([np.arange(-512, 512), draw.integers(-(2**22), 2**22, COUNT)])
    found = [
        np.ldexp(draw.uniform(-1.0, 1.0, COUNT), exponents),
        draw.normal(size=COUNT) * 2.0,
        draw.uniform(-9.0, 9.0, COUNT),
        draw.uniform(-(2.0**21), 2.0**21, COUNT),
        # The next numbers to them, in this dtype.
        whole * (math.pi / 4.0),
        # Where one form ends and another begins.
        np.nextafter(
            np.repeat([1.0, math.sqrt(2.0) - 1.0, math.sqrt(2.0) + 1.0], 2), [0.0, 9.0] * 3
        ),
        [2.0**20, np.nextafter(2.0**20, 2.0**21), -(2.0**20)],
    ]
    found = np.concatenate(found).astype(dtype)
    return np.concatenate([found, np.zeros(-found.size % 64, dtype)])


def _applied(function, *arrays):
    function = uncached_loop(function)

    @uncached_loop
    def of_one(x, out):
        for i in range(0, x.size, width(x)):
            store(out, i, function(load(x, i)))

    @uncached_loop
    def of_two(x, y, out):
        for i in range(0, x.size, width(x)):
            store(out, i, function(load(x, i), load(y, i)))

    out = np.empty_like(arrays[0])
    (of_one if len(arrays) == 1 else of_two)(*arrays, out)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_size_of_number(name, dtype):
    function, reference = FUNCTIONS[name]
    x = _points(dtype)
    if name == "erf":
        x = np.resize(x[:: max(1, x.size // 3000)], 3008)
    found = _applied(function, x)
    expected = reference(x.astype(np.longdouble))
    assert np.isfinite(found).all()
    # Of denormal numbers a unit is the least there is.
    unit = np.maximum(
        np.spacing(np.abs(expected).astype(dtype)), np.finfo(dtype).smallest_subnormal
    )
    apart = np.abs(found - expected) / unit
    assert apart.max() <= UNITS, (x[apart.argmax()], apart.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite(name, dtype):
    x = np.resize(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 0.5], dtype), 192)
    with np.errstate(all="ignore"):
        if name == "erf":
            expected = np.array([1.0, -1.0, np.nan, 0.0, 0.0, math.erf(0.5)])
        else:
            expected = FUNCTIONS[name][1](x[:6].astype(np.longdouble))
    found = _applied(FUNCTIONS[name][0], x)
    np.testing.assert_allclose(
        found, np.resize(expected, 192).astype(dtype), rtol=2 * np.finfo(dtype).eps
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_far_away_leaves_its_neighbours_alone(dtype):
    """The C library is called for all of a vector, and gives what is far away alone."""
    near = np.linspace(-3.0, 3.0, 64, dtype=dtype)
    with_one = near.copy()
    with_one[5] = 1e30
    for name in ("sin", "cos"):
        found, alone = (_applied(FUNCTIONS[name][0], x) for x in (with_one, near))
        np.testing.assert_array_equal(np.delete(found, 5), np.delete(alone, 5))
        assert found[5] != alone[5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosh(dtype):
    """Half of a sum of exponentials, of which one is the other's inverse."""
    limit = 87.0 if dtype == np.float32 else 708.0
    x = np.linspace(-limit, limit, COUNT, dtype=dtype)
    found, expected = _applied(lambda x: math.cosh(x), x), np.cosh(x.astype(np.longdouble))  # noqa: PLW0108
    assert (np.abs(found - expected) <= UNITS * np.spacing(found)).all()


PAIRS = {
    "max": (lambda x, y: max(x, y), lambda x, y: max(x, y)),  # noqa: PLW0108
    "min": (lambda x, y: min(x, y), lambda x, y: min(x, y)),  # noqa: PLW0108
    "copysign": (lambda x, y: math.copysign(x, y), math.copysign),  # noqa: PLW0108
    "max of a number": (lambda x, _y: max(0.5, x), lambda x, _y: max(0.5, x)),
    "max and a number": (lambda x, _y: max(x, 0.5), lambda x, _y: max(x, 0.5)),
    "min and a whole number": (lambda _x, y: min(y, 1), lambda _x, y: min(y, 1.0)),
    "copysign of a number": (
        lambda _x, y: math.copysign(1.0, y),
        lambda _x, y: math.copysign(1, y),
    ),
}
SPECIAL = (0.0, -0.0, 1.5, -2.5, math.inf, -math.inf, math.nan, 1e-40, 0.5, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_of_two_numbers_as_python_has_them(name, dtype):
    """Of NaN and a number, the first."""
    of_vectors, of_numbers = PAIRS[name]
    x, y = (np.resize(a.ravel(), 128).astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    found = _applied(of_vectors, x, y)
    expected = [of_numbers(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_array_equal(found, np.array(expected, dtype))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(np.array(expected, dtype)))
