"""Vectors in compiled code, lane by lane."""

from decimal import Decimal, localcontext
from types import SimpleNamespace

import numpy as np
import pytest

# Where exp and expm1 are normal numbers: beyond, they stay at the ends.
LIMIT = {np.float32: 87.0, np.float64: 708.0}
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e-30)


def _njit(function):
    import numba

    from accelnn.backends.numba._jit import OPTIONS

    return numba.njit(**OPTIONS)(function)


def _of_one(operation):
    """Return a kernel that applies an operation to each stretch of lanes of an array."""
    from accelnn.backends.numba.vectors import load, store, width

    @_njit
    def kernel(x, out):
        for i in range(0, x.size, width(x)):
            store(out, i, operation(load(x, i)))

    return kernel


def _of_two(operation):
    from accelnn.backends.numba.vectors import load, store, width

    @_njit
    def kernel(x, y, out):
        for i in range(0, x.size, width(x)):
            store(out, i, operation(load(x, i), load(y, i)))

    return kernel


def _reduction(operation):
    from accelnn.backends.numba.vectors import load, width

    @_njit
    def kernel(x, out):
        for i in range(out.size):
            out[i] = operation(load(x, i * width(x)))

    return kernel


@pytest.fixture(scope="module")
def elementwise(compiled):
    assert compiled.name == "numba"
    from accelnn.backends.numba import vectors as v

    return SimpleNamespace(
        add=_of_two(_njit(lambda a, b: a + b)),
        subtract=_of_two(_njit(lambda a, b: a - b)),
        multiply=_of_two(_njit(lambda a, b: a * b)),
        divide=_of_two(_njit(lambda a, b: a / b)),
        maximum=_of_two(v.maximum),
        where_positive=_of_two(_njit(lambda a, b: v.where_positive(a, b, 10.0 * b))),
        scalar_left=_of_one(_njit(lambda a: 2.0 - a)),
        scalar_right=_of_one(_njit(lambda a: a / 3)),
        filled=_of_one(_njit(lambda a: v.filled(a, 7.0))),
        absolute=_of_one(v.absolute),
        root=_of_one(v.root),
    )


@pytest.fixture(scope="module")
def reductions(compiled):
    assert compiled.name == "numba"
    from accelnn.backends.numba import vectors as v

    return SimpleNamespace(total=_reduction(v.total), largest=_reduction(v.largest))


@pytest.fixture(scope="module")
def kernels(compiled):
    assert compiled.name == "numba"
    from accelnn.backends.numba import vectors as v

    @_njit
    def exponentials(x, exp, expm1):
        for i in range(0, x.size, v.width(x)):
            e, m = v.exp_and_expm1(v.load(x, i))
            v.store(exp, i, e)
            v.store(expm1, i, m)

    @_njit
    def multiply_add(a, i, x, y, out):
        v.store(out, 0, v.multiply_add(a, i, v.load(x, 0), v.load(y, 0)))

    @_njit
    def add_products(a, i, stride, x, out):
        rows = v.rows_of(v.zeros(out), 4)
        rows = v.add_products(rows, a, i, stride, v.load(x, 0))
        rows = v.add_products(rows, a, i + 1, stride, v.load(x, v.width(x)))
        v.store_rows(out, 0, 2 * v.width(x), rows)

    @_njit
    def shifted(x, i, out, j):
        v.store(out, j, v.load(x, i))

    @_njit
    def width(x):
        return v.width(x)

    @_njit
    def at(x, i):
        return v.at(x, i)

    return SimpleNamespace(
        exponentials=exponentials,
        multiply_add=multiply_add,
        add_products=add_products,
        shifted=shifted,
        width=width,
        at=at,
    )


@pytest.fixture(scope="module")
def some_lanes(compiled):
    assert compiled.name == "numba"
    from accelnn.backends.numba import vectors as v

    @_njit
    def first_lanes(x, count, otherwise, out):
        v.store(out, 0, v.first_lanes(v.load(x, 0), count, x.dtype.type(otherwise)))

    @_njit
    def one_hot(lane, out):
        v.store(out, 0, v.one_hot(out, lane))

    @_njit
    def partly(x, count, out):
        v.store(out, 0, v.load_first(x, 0, count))
        v.store_first(out, v.width(x), v.load(x, 0), count)

    return SimpleNamespace(first_lanes=first_lanes, one_hot=one_hot, partly=partly)


def _padded(values, dtype, lanes):
    values = np.asarray(values, dtype)
    return np.concatenate([values, np.zeros(-values.size % lanes, dtype)])


def _pairs(dtype, lanes):
    """Return every special number with every other, and ordinary ones."""
    draw = np.random.default_rng(0).normal(size=(2, 200))
    x, y = (a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL))
    return (
        _padded(np.concatenate([a, b]), dtype, lanes) for a, b in zip((x, y), draw, strict=True)
    )


def _apply(kernel, *arguments):
    out = np.full_like(arguments[0], 99.0)
    kernel(*arguments, out)
    return out


def test_a_width_is_a_power_of_two_of_whole_registers(kernels, dtype, lanes):
    assert kernels.width(np.zeros(1, dtype)) == lanes
    assert lanes * np.dtype(dtype).itemsize in (32, 64, 128)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("add", np.add),
        ("subtract", np.subtract),
        ("multiply", np.multiply),
        ("divide", np.divide),
        # Of NaN and a number, the number where NaN comes second.
        ("maximum", lambda x, y: np.where(np.isnan(y), x, np.maximum(x, y))),
        ("where_positive", lambda x, y: np.where(x > 0, y, 10 * y)),
    ],
)
def test_of_two_vectors(elementwise, dtype, lanes, name, reference):
    x, y = _pairs(dtype, lanes)
    with np.errstate(all="ignore"):
        expected = reference(x, y)
    assert expected.dtype == dtype
    np.testing.assert_array_equal(_apply(getattr(elementwise, name), x, y), expected)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("scalar_left", lambda x: 2 - x),
        ("scalar_right", lambda x: x / 3),
        ("absolute", np.abs),
        ("root", np.sqrt),
        ("filled", lambda x: np.full_like(x, 7)),
    ],
)
def test_of_one_vector(elementwise, dtype, lanes, name, reference):
    x, _ = _pairs(dtype, lanes)
    with np.errstate(all="ignore"):
        expected = reference(x)
    assert expected.dtype == dtype
    np.testing.assert_array_equal(_apply(getattr(elementwise, name), x), expected)


def _exact(x, function):
    """Return a correctly rounded function of numbers, in more digits than any dtype has."""
    with localcontext() as context:
        context.prec = 60
        return [function(Decimal(float(number))) for number in x]


def _ulps(actual, exact):
    spacing = [Decimal(float(s)) for s in np.spacing(np.abs(actual))]
    numbers = [Decimal(float(number)) for number in actual]
    with localcontext() as context:
        context.prec = 60
        return max(float(abs(a - e) / s) for a, e, s in zip(numbers, exact, spacing, strict=True))


def test_exp_to_one_and_expm1_to_two_units_in_the_last_place(kernels, dtype, lanes):
    draw, limit = np.random.default_rng(0), LIMIT[dtype]
    log2 = np.log(2.0)
    x = np.concatenate(
        [
            draw.uniform(-limit, limit, 1000),
            draw.uniform(-1.0, 1.0, 1000),
            # Where the argument is halved, and either side of it.
            np.nextafter((np.arange(-40, 40) + 0.5) * log2, 0.0),
            (np.arange(-40, 40) + 0.5) * log2,
            np.arange(-40, 40) * log2,
            draw.choice([-1.0, 1.0], 500) * np.exp(draw.uniform(-60.0, 0.0, 500)),
            [0.0, limit, -limit],
        ]
    )
    x = _padded(x, dtype, lanes)
    exp, expm1 = np.empty_like(x), np.empty_like(x)
    kernels.exponentials(x, exp, expm1)
    assert _ulps(exp, _exact(x, Decimal.exp)) <= 1.5
    assert _ulps(expm1, _exact(x, lambda number: number.exp() - 1)) <= 2.5


def test_tiny_arguments_are_their_own_expm1(kernels, dtype, lanes):
    smallest = np.finfo(dtype).smallest_normal
    x = np.array([0.0, -0.0, smallest, -smallest, 1e-30, -1e-30, 1e-20, -1e-20], dtype)
    x = np.resize(x, lanes)
    exp, expm1 = np.empty_like(x), np.empty_like(x)
    kernels.exponentials(x, exp, expm1)
    np.testing.assert_array_equal(exp, 1.0)
    np.testing.assert_array_equal(expm1, x)


def test_exp_and_expm1_beyond_the_ends(kernels, dtype, lanes):
    limit = dtype(LIMIT[dtype])
    x = _padded([np.nan, np.inf, -np.inf, 1e30, -1e30, 2 * limit, -2 * limit], dtype, 8)
    x = np.resize(x, lanes * -(-8 // lanes))
    ends = np.clip(x, -limit, limit)
    results = []
    for arguments in (x, ends):
        exp, expm1 = np.empty_like(x), np.empty_like(x)
        kernels.exponentials(arguments, exp, expm1)
        results.append((exp, expm1))
    (exp, expm1), (exp_of_ends, expm1_of_ends) = results
    np.testing.assert_array_equal(expm1, expm1_of_ends)
    # Below the lower end, whose exp is the smallest normal number, it is 0 as an underflow is.
    np.testing.assert_array_equal(exp, np.where(x < -limit, 0.0, exp_of_ends))
    np.testing.assert_array_equal(np.isnan(exp), np.isnan(x))
    assert np.isfinite(exp[~np.isnan(x)]).all()
    assert (exp_of_ends[~np.isnan(x)] >= np.finfo(dtype).smallest_normal).all()


def test_first_lanes(some_lanes, dtype, lanes):
    x, out = np.arange(1.0, 1.0 + lanes, dtype=dtype), np.empty(lanes, dtype)
    x[-1] = np.nan
    for count in range(-2, lanes + 3):
        some_lanes.first_lanes(x, count, -7.0, out)
        kept = max(0, min(count, lanes))
        np.testing.assert_array_equal(out, [*x[:kept], *[-7.0] * (lanes - kept)])


def test_one_hot(some_lanes, dtype, lanes):
    for lane in range(-2, lanes + 3):
        out = np.empty(lanes, dtype)
        some_lanes.one_hot(lane, out)
        np.testing.assert_array_equal(out, np.arange(lanes) == lane)


def test_the_first_lanes_alone_are_read_and_written(some_lanes, dtype, lanes):
    x = np.arange(1.0, 1.0 + lanes, dtype=dtype)
    for count in range(-1, lanes + 2):
        kept, out = max(0, min(count, lanes)), np.full(2 * lanes, -7.0, dtype)
        some_lanes.partly(x, count, out)
        np.testing.assert_array_equal(out[:lanes], [*x[:kept], *[0.0] * (lanes - kept)])
        np.testing.assert_array_equal(out[lanes:], [*x[:kept], *[-7.0] * (lanes - kept)])


def test_total_and_largest(reductions, dtype, lanes):
    draw = np.random.default_rng(0)
    x = draw.integers(-1000, 1000, (50, lanes)).astype(dtype)
    for row, lane in enumerate(range(lanes)):
        # The largest in every lane once.
        x[row % 50, lane] = 2000.0
    out = np.empty(50, dtype)
    reductions.total(x.ravel(), out)
    np.testing.assert_array_equal(out, x.sum(axis=1))
    reductions.largest(x.ravel(), out)
    np.testing.assert_array_equal(out, x.max(axis=1))
    x[:, 0] = np.nan
    reductions.total(x.ravel(), out)
    assert np.isnan(out).all()
    reductions.largest(x.ravel(), out)
    np.testing.assert_array_equal(out, np.nanmax(x, axis=1))


def test_load_and_store_anywhere_and_nowhere_else(kernels, dtype, lanes):
    x = np.arange(3 * lanes, dtype=dtype)
    for i in range(lanes + 2):
        out = np.full(3 * lanes, -1.0, dtype)
        kernels.shifted(x, i, out, lanes + 2 - i)
        expected = np.full(3 * lanes, -1.0, dtype)
        expected[lanes + 2 - i : 2 * lanes + 2 - i] = x[i : i + lanes]
        np.testing.assert_array_equal(out, expected)


def test_products(kernels, dtype, lanes):
    draw = np.random.default_rng(0)
    # Products and sums of such numbers are exact, however they are composed.
    a, x, y = (draw.integers(-100, 100, size).astype(dtype) for size in (30, lanes, lanes))
    out = np.empty(lanes, dtype)
    kernels.multiply_add(a, 3, x, y, out)
    np.testing.assert_array_equal(out, a[3] * x + y)
    xs, out = np.concatenate([x, y]), np.full(8 * lanes, -1.0, dtype)
    kernels.add_products(a, 2, 7, xs, out)
    rows = out.reshape(4, 2, lanes)
    for row in range(4):
        np.testing.assert_array_equal(rows[row, 0], a[2 + 7 * row] * x + a[3 + 7 * row] * y)
    # A stride of two vectors: every other one is left alone.
    np.testing.assert_array_equal(rows[:, 1], -1.0)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.int64])
def test_integers_index_by_their_value(kernels, kind):
    largest = np.iinfo(kind).max
    numbers = np.array([0, 1, largest], kind)
    assert [kernels.at(numbers, i) for i in range(3)] == [0, 1, largest]


def test_a_number_of_an_array(kernels, dtype):
    x = np.array([0.5, np.nan, -3.0], dtype)
    assert kernels.at(x, 0) == 0.5
    assert np.isnan(kernels.at(x, 1))
    assert kernels.at(x, 2) == -3.0


def test_training_leaves_denormal_numbers_to_others(compiled):
    """Its kernel lets them be zero, in the caller's thread, and sets that back."""
    import accelnn

    net = accelnn.MLP([5, 4, 3], rng=0, backend=type(compiled)(1))
    accelnn.fit(net, np.eye(5), np.arange(5) % 3, iters=3, rng=0)
    denormal = np.full(64, 1e-40, np.float32)
    assert (denormal * np.float32(0.5) > 0.0).all()
    assert (denormal + denormal == 2 * denormal).all()
    assert float(denormal[0]) > 0.0


def test_which_lanes_and_quads_are_not_zero(dtype, lanes):
    from accelnn.backends.numba.vectors import (
        QUAD,
        count_of,
        first_of,
        lanes_of_nonzeros,
        load,
        quads_of,
    )

    @_njit
    def bits_of(x):
        bits = lanes_of_nonzeros(load(x, 0))
        return bits, count_of(bits), first_of(bits), quads_of(bits)

    draw = np.random.default_rng(0)
    for density in np.linspace(0.0, 1.0, 41):
        x = draw.normal(size=lanes).astype(dtype)
        x[draw.random(lanes) > density] = (0.0, -0.0)[round(40 * density) % 2]
        x[draw.random(lanes) > 0.9] *= np.nan
        places = np.flatnonzero(x)
        bits, count, first, quads = bits_of(x)
        assert bits == sum(1 << int(place) for place in places)
        assert count == len(places)
        assert len(places) == 0 or first == places[0]
        assert quads == sum(1 << quad for quad in {int(place) // QUAD for place in places})


def test_quads_are_copied(dtype):
    from accelnn.backends.numba.vectors import QUAD, copy_quad

    @_njit
    def copy(source, i, target, j):
        copy_quad(source, i, target, j)

    source, target = np.arange(1, 40).astype(dtype), np.zeros(40, dtype)
    copy(source, 7, target, 13)
    expected = np.zeros(40, dtype)
    expected[13 : 13 + QUAD] = source[7 : 7 + QUAD]
    np.testing.assert_array_equal(target, expected)


def test_bytes_are_divided_as_by_division(dtype):
    """All bytes by all divisors that fit in one: also those that no data set has."""
    from accelnn.backends.numba.vectors import QUAD, decode_quad

    @_njit
    def decode(codes, divisor, single, target):
        for i in range(codes.size):
            decode_quad(codes, i, divisor, single, target, QUAD * i)

    numbers, target = np.arange(256, dtype=np.uint8), np.empty(256, dtype)
    for divisor in range(1, 257):
        for single, kind in ((False, dtype), (True, np.float32)):
            decode(numbers.view(np.uint32), dtype(divisor), single, target)
            np.testing.assert_array_equal(target, np.divide(numbers, divisor, dtype=kind))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_masks_of_any_counter_and_probability(compiled, dtype):
    """Words beyond 32 bits, probabilities of one word in 2**32 and of all but one."""
    assert compiled.name == "numba"
    from accelnn.backends.numba.vectors import LANES, dropout_factors, store
    from accelnn.formulas._dropout import philox

    @_njit
    def draw(out, counter, seed, threshold, scale):
        update, layer, row, unit = counter
        store(out, 0, dropout_factors(out, update, layer, row, unit, seed, threshold, scale))

    lanes, rng = LANES[dtype], np.random.default_rng(5)
    ends = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40]
    for threshold in [1, 2, 2**31, 2**32 - 1, 2**32, *rng.integers(1, 2**32, 100).tolist()]:
        update, row = (int(rng.choice([*ends, rng.integers(2**32)])) for _ in range(2))
        counter = update, int(rng.integers(5)), row, lanes * int(rng.integers(100))
        seed = int(rng.integers(-(2**63), 2**63))
        out = np.zeros(lanes, dtype)
        draw(out, counter, seed, threshold, dtype(1.5))
        key = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
        words = philox((*counter[:3], counter[3] + np.arange(lanes)), key)[0]
        np.testing.assert_array_equal(out, np.where(words >= np.uint64(threshold), 1.5, 0.0))
