"""What the caller owns is left as it was, and a function that ignores its argument is found out."""

import functions_to_send
import numpy as np
import pytest

import accelnn
from accelnn.backends import get_backend
from accelnn.errors import AmbiguousFunctionError, ImpureFunctionError
from accelnn.gradient import Flag
from accelnn.testing import StrictBackend

METHODS = ("central", "forward", "backward")
ORIGINAL = np.array([[1.5, -0.0, 1e-300], [3.0, np.pi, -7.0]])


def _same_bits(x):
    return x.tobytes() == ORIGINAL.tobytes()


def _frozen(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batched", [False, True])
def test_x_comes_back_bit_for_bit(method, batched):
    x = ORIGINAL.copy()
    accelnn.numerical_gradient(
        lambda x: np.sum(x**2, axis=(-2, -1)), x, method=method, batched=batched
    )
    assert _same_bits(x)


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", range(1, 14))
def test_x_comes_back_when_f_raises_in_any_call(call, error):
    x = ORIGINAL.copy()
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return np.sum(x)

    with pytest.raises(error):
        accelnn.numerical_gradient(f, x)
    assert _same_bits(x)


def test_x_comes_back_when_f_raises_while_x_is_shifted():
    x = ORIGINAL.copy()

    def f(p):
        if not _same_bits(x):
            raise ArithmeticError
        return p.sum(axis=(1, 2))

    with pytest.raises(ArithmeticError):
        accelnn.numerical_gradient(f, x, batched=True)
    assert _same_bits(x)


@pytest.mark.parametrize("view", ["step", "Fortran", "reversed"])
def test_a_view_is_moved_through_and_restored(view):
    base = np.zeros((4, 6))
    x = {"step": base[::2, ::2], "Fortran": base.T[:3, :2].T, "reversed": base[1::-1, 2::-1]}[view]
    x[...] = ORIGINAL
    before = base.copy()
    np.testing.assert_allclose(
        accelnn.numerical_gradient(lambda _: np.sum(base**2), x),
        2.0 * ORIGINAL,
        rtol=1e-8,
        atol=1e-8,
    )
    assert base.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("f", "slope"), [(functions_to_send.scramble, 1.0), (functions_to_send.double, 2.0)]
)
@pytest.mark.parametrize("kind", ["array", "list", "read-only"])
def test_a_function_may_write_to_its_argument_call_by_call(f, slope, kind):
    """Each call has an array of its own."""
    x = {"array": ORIGINAL.copy(), "list": ORIGINAL.tolist(), "read-only": _frozen(ORIGINAL)}[kind]
    # Sums near 10 are rounded by 2**-50, and the step is near 6e-6.
    np.testing.assert_allclose(accelnn.numerical_gradient(f, x), np.full((2, 3), slope), atol=1e-9)
    assert _same_bits(np.array(x))


@pytest.mark.parametrize("f", [functions_to_send.scramble, functions_to_send.double])
@pytest.mark.parametrize("workers", [map, 2])
def test_a_function_that_writes_to_its_argument_is_refused_with_workers(f, workers):
    x = ORIGINAL.copy()
    for point in (x, ORIGINAL.tolist(), _frozen(ORIGINAL)):
        with pytest.raises(ImpureFunctionError, match="f changes its argument in place"):
            accelnn.numerical_gradient(f, point, workers=workers)
    assert _same_bits(x)


def test_a_function_that_writes_to_its_argument_only_when_it_moves():
    """At a tie, where a sort does nothing, it has a derivative to each side."""
    x = np.array([1.0, 1.0, 2.0])
    for options in ({}, {"method": "richardson"}):
        found = accelnn.numerical_gradient(functions_to_send.sort, x, **options)
        np.testing.assert_allclose(found, [5.5, 5.5, 100.0], rtol=1e-8)
    found = accelnn.numerical_gradient(
        lambda p: [functions_to_send.sort(row) for row in p], x, batched=True, chunk_size=1
    )
    np.testing.assert_allclose(found, [5.5, 5.5, 100.0], rtol=1e-8)
    for workers in (map, 2):
        with pytest.raises(ImpureFunctionError, match="f changes its argument in place"):
            accelnn.numerical_gradient(functions_to_send.sort, x, workers=workers)
    np.testing.assert_array_equal(x, [1.0, 1.0, 2.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda p: (p**2).sum(axis=1) * len(p),
        lambda p: ((p - p.mean(axis=0)) ** 2).sum(axis=1) + 1.0,
        lambda p: (p**2).sum(axis=1) / np.max(np.abs(p)),
        lambda p: np.cumsum((p**2).sum(axis=1)),
        lambda p: (p**2).sum(axis=1) / np.maximum.accumulate((p**2).sum(axis=1)),
    ],
    ids=["their number", "their mean", "the largest", "those before", "the largest before"],
)
def test_points_of_a_batch_may_not_meet(f):
    with pytest.raises(ImpureFunctionError, match="when other points are in its batch"):
        accelnn.numerical_gradient(f, np.array([1.0, 2.0, 3.0]), batched=True)


def test_other_derivatives_find_closures_too():
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(accelnn.numerical_diff(lambda _: x**2, x), [2.0, 4.0], atol=1e-9)
    np.testing.assert_array_equal(x, [1.0, 2.0])
    frozen = _frozen(x)
    for derivative in (
        lambda: accelnn.numerical_diff(lambda _: frozen**2, frozen),
        lambda: accelnn.numerical_jacobian(lambda _: frozen**2, frozen, sparsity=np.eye(2)),
        lambda: accelnn.numerical_hessian(lambda _: np.sum(frozen**2), frozen),
        lambda: accelnn.numerical_jvp(lambda _: np.sum(frozen**2), frozen, frozen),
        lambda: accelnn.numerical_hvp(lambda _: np.sum(frozen**2), frozen, frozen),
        lambda: accelnn.check_gradient(lambda _: np.sum(frozen**2), np.zeros(2), frozen),
    ):
        with pytest.raises(ImpureFunctionError, match="f never responded"):
            derivative()
    assert accelnn.check_gradient(lambda _: 5.0, np.zeros(2), [1.0, 2.0]).passed


def test_a_random_function_is_refused_by_a_check():
    draw = np.random.default_rng(0)
    with pytest.raises(ImpureFunctionError, match="not deterministic"):
        accelnn.check_gradient(lambda x: np.sum(x) + draw.normal(), np.ones(2), np.ones(2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_closure_that_ignores_its_argument_is_right_where_x_is_moved(method, dtype):
    x = np.array([3.0, -4.0], dtype)
    gradient = accelnn.numerical_gradient(lambda _: np.sum(x**2), x, method=method)
    np.testing.assert_allclose(gradient, [6.0, -8.0], rtol=1e-6 if dtype == np.float64 else 2e-3)


IMPURE = {
    "ignores its argument": lambda _, x: np.sum(x**2),
    "uses both": lambda p, x: np.sum(p * x),
    "reads one coordinate": lambda p, x: np.sum(p) + x[1],
    "reads it through a reduction": lambda p, x: np.sum(p) * np.std(x),
}


# Where x cannot be moved itself, the one is refused, and of the other the argument may be meant.
REFUSED = {
    kind: (ImpureFunctionError, "changed when x was shifted in place")
    if kind == "ignores its argument"
    else (AmbiguousFunctionError, r"in_place=True .* total .* in_place=False .* partial")
    for kind in IMPURE
}


@pytest.mark.parametrize("kind", IMPURE)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int8])
def test_a_closure_over_integers_is_refused(kind, dtype):
    x = np.array([1, 0, 1], dtype)
    before = x.copy()
    error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        accelnn.numerical_gradient(lambda p: IMPURE[kind](p, x.astype(float)), x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("kind", IMPURE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_closure_is_refused_in_batches(kind, dtype):
    x = np.array([1, 0, 5], dtype)
    before = x.copy()
    error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        accelnn.numerical_gradient(
            lambda p: np.array([IMPURE[kind](row, x.astype(float)) for row in p]), x, batched=True
        )
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("x", [np.ones(2), np.ones(2, np.float32), np.array([1, 2])], ids=str)
@pytest.mark.parametrize("batched", [False, True])
def test_a_constant_has_gradient_zero_where_x_can_be_moved(x, batched):
    gradient = accelnn.numerical_gradient(
        lambda p: np.full(len(p), 7.0) if batched else 7.0, x, batched=batched
    )
    np.testing.assert_array_equal(gradient, [0.0, 0.0])


@pytest.mark.parametrize(
    "x", [np.array([1.0, 2.0]), np.array([1, 2]), [1.0, 2.0], _frozen([1.0, 2.0])], ids=repr
)
def test_a_random_function_is_flagged_call_by_call(x):
    draw = np.random.default_rng(0)
    found = accelnn.numerical_gradient(
        lambda x: np.sum(x) + 1e-12 * draw.normal(), x, full_output=True
    )
    assert (found.flags & Flag.RANDOM).all()
    np.testing.assert_allclose(found.gradient, [1.0, 1.0], atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"batched": True}, {"workers": 2}, {"workers": map}], ids=["batched", "2", "map"]
)
def test_a_random_function_is_refused_where_purity_is_needed(options):
    draw = np.random.default_rng(0)

    def f(x):
        return x.sum(axis=-1) + draw.normal(size=x.shape[:-1])

    with pytest.raises(ImpureFunctionError, match="two calls at the same x gave"):
        accelnn.numerical_gradient(f, np.ones(2), **options)


def test_a_random_function_is_refused_in_descent():
    draw = np.random.default_rng(0)
    with pytest.raises(ImpureFunctionError, match="not deterministic"):
        accelnn.gradient_descent(lambda x: np.sum(x) + draw.normal(), np.ones(2))


def test_impurity_is_a_value_error():
    assert issubclass(ImpureFunctionError, ValueError)


def test_the_strict_backend_finds_closures_too():
    b = get_backend(StrictBackend)
    x = b.asarray([1, 2, 3])
    with pytest.raises(ImpureFunctionError, match="does not depend on its argument alone"):
        accelnn.numerical_gradient(lambda _: float(b.to_numpy(b.xp.sum(x))), x)
    with pytest.raises(ImpureFunctionError, match="f never responded"):
        accelnn.numerical_gradient(lambda _: float(b.to_numpy(b.xp.sum(x))), [1.0], backend=b)
    constant = accelnn.numerical_gradient(lambda _: 1.0, [1.0, 2.0], backend=b)
    np.testing.assert_array_equal(b.to_numpy(constant), [0.0, 0.0])
    doubled = accelnn.numerical_gradient(_strict_double, b.asarray([1.0, 2.0]))
    np.testing.assert_allclose(b.to_numpy(doubled), [2.0, 2.0], atol=1e-9)
    np.testing.assert_array_equal(b.to_numpy(x), [1, 2, 3])


def _strict_double(x):
    x *= 2.0
    return get_backend(StrictBackend).xp.sum(x)


def test_elements_that_share_memory_with_gaps_between():
    x = np.lib.stride_tricks.as_strided(np.arange(7.0), (2, 2), (16, 16))
    found = accelnn.numerical_gradient(lambda x: np.sum(x**2), x)
    np.testing.assert_allclose(found, [[0.0, 4.0], [4.0, 8.0]], atol=1e-7)


@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[::-1, ::2], lambda a: a[:, None, 1:], lambda a: a[2:3]]
)
def test_other_views_are_moved_in_place(view):
    base = np.arange(12.0).reshape(3, 4)
    x = view(base)
    found = accelnn.numerical_gradient(lambda _: np.sum(base**2), x)
    np.testing.assert_allclose(found, 2.0 * x, atol=1e-7)


def test_elements_that_share_memory_are_moved_one_by_one():
    """Of sliding windows over 1, 2, 3; in place, one move would be two."""
    base = np.array([1.0, 2.0, 3.0])
    x = np.lib.stride_tricks.as_strided(base, (2, 2), (8, 8))
    found = accelnn.numerical_gradient(lambda x: np.sum(x**2), x)
    np.testing.assert_allclose(found, [[2.0, 4.0], [4.0, 6.0]], atol=1e-8)
    np.testing.assert_array_equal(base, [1.0, 2.0, 3.0])
    with pytest.raises(ImpureFunctionError, match="does not depend on its argument alone"):
        accelnn.numerical_gradient(lambda _: np.sum(base**2), x)


@pytest.mark.parametrize(
    "call",
    [
        accelnn.numerical_gradient,
        accelnn.numerical_jacobian,
        accelnn.numerical_hessian,
        accelnn.numerical_diff,
        accelnn.gradient_descent,
        lambda f, x: accelnn.check_gradient(f, x, x),
    ],
)
def test_what_is_no_function_is_refused(call):
    with pytest.raises(TypeError, match=r"f must be a function of x, got 3\.0"):
        call(3.0, np.ones(2))


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("method", ["central", "forward", "complex"])
@pytest.mark.parametrize("row", [0, -1], ids=["first", "last"])
def test_values_of_a_batch_may_not_depend_on_one_of_its_rows(n, method, row):
    x = np.arange(1.0, 1.0 + n)
    with pytest.raises(ImpureFunctionError, match="when other points are in its batch"):
        accelnn.numerical_gradient(
            lambda p: (p * p[row]).sum(axis=1), x, batched=True, method=method
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_what_a_batched_function_reads_from_x_once_is_read_from_x(dtype):
    """However it is found out what it reads, its first call sees x as it is."""
    x = np.array([1, 2, 3], dtype)
    kept = {}

    def f(p):
        largest = kept.setdefault("largest", float(np.abs(x).max()))
        return (p**2).sum(axis=1) / largest

    found = accelnn.numerical_gradient(f, x, batched=True)
    # x² has no truncation: values of up to 14/3 are rounded, and divided by twice the step.
    epsilon = np.finfo(np.result_type(dtype, np.float32)).eps
    np.testing.assert_allclose(found, x * (2.0 / 3.0), atol=16.0 * epsilon ** (2 / 3))
    np.testing.assert_array_equal(x, [1, 2, 3])


def test_rows_that_round_each_other_are_not_random():
    """As those of a softmax do that subtracts the largest number of all rows."""

    def f(p):
        exponents = np.exp(p - p.max())
        return (exponents / exponents.sum(axis=1, keepdims=True))[:, 0]

    for seed in range(8):
        x = np.random.default_rng(seed).normal(size=5)
        found = accelnn.numerical_gradient(f, x, batched=True, full_output=True)
        assert not (found.flags & Flag.RANDOM).any()


def test_a_wrong_value_at_x_is_refused_where_it_costs_nothing():
    x = np.array([1.0, 2.0])
    options = {"batched": True, "method": "forward"}
    f = lambda p: (p**2).sum(axis=1)  # noqa: E731 - short
    found = accelnn.numerical_gradient(f, x, f0=5.0 * (1.0 + 1e-12), **options)
    # Half the step times f'' is 2**-26 max(1, x); 1e-12 too much in f0 is not used.
    np.testing.assert_allclose(found, [2.0, 4.0], atol=4.0 * 2.0**-26)
    with pytest.raises(ValueError, match=r"f0 is 4\.0, but f\(x\) is 5\.0"):
        accelnn.numerical_gradient(f, x, f0=4.0, **options)
