"""The losses' `value`, `grad` and `delta` against sixty decimal digits."""

import decimal
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accelnn
from accelnn.losses import LOSSES, CrossEntropy, Huber, SumSquaredError, get_loss
from accelnn.testing import StrictBackend

ALL = pytest.mark.parametrize(
    "loss", [*LOSSES.values(), Huber(0.25), Huber(40.0)], ids=lambda x: f"{x.name}-{x!r}"[:30]
)
EPS = 2.0**-52
BACKENDS = ["numpy", "numba", StrictBackend]


def _row_cross_entropy(a, t):
    largest = max(a)
    total = sum((x - largest).exp() for x in a)
    return sum(t) * (largest + total.ln()) - sum(x * y for x, y in zip(t, a, strict=True))


def _row_squares(a, t):
    return sum((x - y) ** 2 for x, y in zip(a, t, strict=True)) / 2


def _row_bits(a, t):
    return sum(
        (1 - y) * (1 + x.exp()).ln() + y * (1 + (-x).exp()).ln() for x, y in zip(a, t, strict=True)
    )


def _row_huber(threshold):
    d = Decimal(threshold)

    def row(a, t):
        sizes = [abs(x - y) for x, y in zip(a, t, strict=True)]
        return sum(r * r / 2 if r <= d else d * (r - d / 2) for r in sizes)

    return row


def _exact(loss, a, t):
    """Return the losses of rows of Decimals."""
    row = {
        "cross_entropy": _row_cross_entropy,
        "sum_squared_error": _row_squares,
        "binary_cross_entropy": _row_bits,
        "huber": _row_huber(getattr(loss, "threshold", 1.0)),
    }[loss.name]
    return [row(x, y) for x, y in zip(a, t, strict=True)]


def _decimals(x):
    return [[Decimal(float(value)) for value in row] for row in np.atleast_2d(x)]


def _exact_value(loss, a, t):
    with decimal.localcontext(prec=60, Emin=-(10**6)):
        return np.array(list(map(float, _exact(loss, _decimals(a), _decimals(t)))))


def _assert_exact_value(loss, a, t):
    """Assert that values are right to a few units in the last place of their terms.

    Outputs are shifted by their largest, or targets taken off them; then a term takes two
    elementary functions (two units) and at most four operations (two), and so does the sum.
    """
    terms = np.abs(t) * np.ptp(a, axis=-1, keepdims=True) if loss.name == "cross_entropy" else 0.0
    expected = _exact_value(loss, a, t)
    bound = 6.0 * EPS * (np.abs(expected) + np.sum(terms, axis=-1))
    found = loss.value(a, t)
    assert found.shape == np.shape(a)[:-1]
    assert (np.abs(found - expected) <= bound).all(), (found, expected, bound)


def _exact_delta(loss, a, d, t):
    with decimal.localcontext(prec=60, Emin=-(10**6), Emax=10**6):
        a, d, t = map(_decimals, (a, d, t))
        moved = [[x + y for x, y in zip(*rows, strict=True)] for rows in zip(a, d, strict=True)]
        pairs = zip(_exact(loss, moved, t), _exact(loss, a, t), strict=True)
        return np.array([float(after - before) for after, before in pairs])


def _assert_exact_delta(loss, a, d, t, *, found=None, eps=EPS):
    """Assert that changes, by default those of the loss itself, have the digits of their terms.

    An output adds to a change with up to three elementary functions (three units) and six
    operations (three); sums of four are two operations deep, and are taken twice.
    """
    expected = _exact_delta(loss, a, d, t)
    found = np.asarray(loss.delta(a, d, t) if found is None else found, dtype=float)
    slopes = 1.0 + np.abs(t)
    if loss.name in ("sum_squared_error", "huber"):
        slopes = slopes + np.abs(a) + np.abs(d)
    terms = np.abs(expected) + np.atleast_2d(np.abs(d) * slopes).sum(axis=-1)
    off = np.abs(np.atleast_1d(found) - expected)
    assert (off <= 8.0 * eps * terms).all(), (off, expected, terms)


def _outputs(n=5, classes=4, seed=0):
    """Return outputs, soft targets whose rows do not sum to one, and directions."""
    draw = np.random.default_rng(seed)
    return (
        draw.normal(scale=3.0, size=(n, classes)),
        draw.uniform(0.0, 2.0, size=(n, classes)),
        draw.normal(size=(n, classes)),
    )


@ALL
def test_value_of_soft_targets(loss):
    a, t, _ = _outputs()
    t = t / 2.0
    _assert_exact_value(loss, a, t)
    _assert_exact_value(loss, a[0], t[0])


def test_cross_entropy_has_no_eps_and_does_not_overflow():
    one_hot = np.array([[0.0, 1.0]])
    assert CrossEntropy().value(np.array([[1000.0, 0.0]]), one_hot).tolist() == [1000.0]
    a, t, _ = _outputs()
    t /= t.sum(axis=1, keepdims=True)
    mean = CrossEntropy().value(a, t).mean()
    assert -1e-3 < float(accelnn.cross_entropy_error(accelnn.softmax(a), t)) - mean < 0.0


@ALL
def test_no_loss_overflows_before_it_must(loss):
    a, t = np.array([[1000.0, -1000.0]]), np.array([[0.0, 1.0]])
    _assert_exact_value(loss, a, t)
    assert np.isfinite(loss.grad(a, t)).all()


@ALL
def test_grad_is_the_derivative_of_value(loss):
    a, t, _ = _outputs()
    accelnn.check_gradient(
        lambda a: loss.value(a, t).sum(), lambda a: loss.grad(a, t), a, mode="full"
    )
    accelnn.check_gradient(
        lambda a: loss.value(a, t[0]), lambda a: loss.grad(a, t[0]), a[0], mode="full"
    )


@pytest.mark.parametrize("loss", [CrossEntropy(), SumSquaredError()], ids=lambda x: x.name)
def test_grad_by_hand(loss):
    a, t, _ = _outputs(n=3)
    for i, (outputs, targets) in enumerate(zip(*map(np.longdouble, (a, t)), strict=True)):
        p = np.exp(outputs) / np.exp(outputs).sum() if loss.classifies else outputs
        total = targets.sum() if loss.classifies else 1.0
        # An exponential of a difference of up to 16, which may be off by half a unit of 16; two
        # sums, a quotient and a product; and the difference.
        bound = (8.0 + 4.0) * EPS * np.abs(total * p) + 0.5 * EPS * np.abs(targets)
        assert (np.abs(loss.grad(a, t)[i] - (total * p - targets)) <= bound).all()


@ALL
@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-4, 1e-2, 0.3, 1.0, 3.0, 50.0, 800.0])
def test_delta_keeps_its_digits_at_every_size(loss, size):
    for seed in range(8):
        a, t, direction = _outputs(seed=seed)
        _assert_exact_delta(loss, a, size * direction / np.abs(direction).max(), t / 2.0)


@ALL
def test_delta_along_a_direction_is_delta(loss):
    for seed in range(4):
        a, t, direction = _outputs(seed=seed)
        for size in (1e-9, 1e-3, 0.09, 2.0):
            c = size * np.linspace(-1.0, 1.0, 15).reshape(3, 5)
            along = loss.delta_along(a, c, direction[0], t)
            plain = loss.delta(a, c[..., None] * direction[0], t)
            terms = np.abs(c[..., None] * direction[0] * (2.0 + np.abs(a) + np.abs(t))).sum(axis=-1)
            # Either is off by up to eight units of the terms, as `_assert_exact_delta` counts.
            assert (np.abs(along - plain) <= 16.0 * EPS * terms).all()


SINGLE = [800.0, -800.0, 60.0, -60.0, 11.0, 9.0, 2.0, -2.0]


@pytest.mark.parametrize("others", [0.0, 1e-9, -1e-3])
@pytest.mark.parametrize("entry", SINGLE)
@pytest.mark.parametrize("a", [[0.0, 0.0, 0.0], [0.0, 1.0, -30.0], [0.0, 1.0, 40.0]])
def test_delta_of_one_huge_entry_among_small_ones(entry, others, a):
    a, d = np.array([a]), np.full((1, 3), others)
    d[0, 2] = entry
    for t in ([[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]], [[0.5, 0.7, 0.1]]):
        for loss in LOSSES.values():
            _assert_exact_delta(loss, a, d, np.array(t))


@pytest.mark.parametrize("move", [-800.0, -1.5, -1.0, -0.5, 0.7, 800.0])
def test_delta_of_a_common_shift_is_nothing_where_targets_sum_to_one(move):
    a, t, _ = _outputs()
    t /= t.sum(axis=1, keepdims=True)
    delta = CrossEntropy().delta(a, np.full_like(a, move), t)
    # What cancels is as large as the move, and the outputs where it is far down.
    assert (np.abs(delta) <= 8.0 * EPS * (abs(move) + np.abs(a).max())).all()


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    exponents=st.lists(st.floats(-9.0, 2.9), min_size=4, max_size=4),
)
def test_delta_of_entries_of_any_sizes(seed, exponents):
    a, t, direction = _outputs(n=2, seed=seed)
    for loss in LOSSES.values():
        _assert_exact_delta(loss, a, np.sign(direction) * 10.0 ** np.array(exponents), t / 2.0)


@ALL
@pytest.mark.parametrize("backend", BACKENDS)
def test_delta_takes_many_moves_of_the_same_outputs(loss, backend):
    b = accelnn.get_backend(backend)
    a, t, _ = _outputs()
    d = np.random.default_rng(5).normal(size=(3, 2, *a.shape)) * 10.0 ** np.arange(-3, 3).reshape(
        3, 2, 1, 1
    )
    together = b.to_numpy(loss.delta(b.asarray(a), b.asarray(d), b.asarray(t)))
    assert together.shape == (3, 2, 5)
    for index in np.ndindex(3, 2):
        _assert_exact_delta(loss, a, d[index], t, found=together[index])


@ALL
def test_value_and_grad_take_leading_axes(loss):
    a, t, _ = _outputs()
    many = np.stack([a, 2.0 * a])
    np.testing.assert_array_equal(loss.value(many, t), [loss.value(a, t), loss.value(2.0 * a, t)])
    np.testing.assert_array_equal(loss.grad(many, t)[1], loss.grad(2.0 * a, t))


@ALL
def test_one_sample_without_its_axis(loss):
    a, t, d = (x[0] for x in _outputs())
    _assert_exact_delta(loss, a, d, t)
    assert loss.delta(a, np.stack([d, d]), t[None]).shape == (2,)
    assert loss.grad(a, t).shape == a.shape


@ALL
def test_single_precision_stays_single_and_does_not_overflow(loss):
    a, t, direction = (x.astype(np.float32) for x in _outputs())
    for size in (1e-5, 0.5, 20.0, 800.0):
        d = np.float32(size) * direction
        assert loss.delta(a, d, t).dtype == np.float32
        _assert_exact_delta(loss, a, d, t, eps=2.0**-23)


@ALL
def test_arguments_are_left_alone(loss):
    arrays = _outputs()
    kept = [x.copy() for x in arrays]
    for x in arrays:
        x.flags.writeable = False
    a, t, d = arrays
    loss.value(a, t), loss.grad(a, t), loss.delta(a, 100.0 * d, t)
    for x, before in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(x, before)


def test_losses_are_found_by_name_and_pass_through():
    assert get_loss("cross_entropy") is LOSSES["cross_entropy"]
    own = SumSquaredError()
    assert get_loss(own) is own
    with pytest.raises(ValueError, match="unknown loss 'mse'; known losses are 'cross_entropy', "):
        get_loss("mse")
