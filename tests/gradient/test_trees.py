"""Dicts, lists of arrays and what nests them: every door takes them, and gives their form back."""

from collections import namedtuple

import numpy as np
import pytest

import accelnn
from accelnn.errors import AmbiguousFunctionError, GradientCheckError, ImpureFunctionError

Pair = namedtuple("Pair", "scale shift")  # noqa: PYI024 - one without types is a tree as well
METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")
# Values near 50, third derivatives near 10, at a step near 1e-5, or one of 1e-8 to one side.
TOLERANCE = {"forward": 3e-6, "backward": 3e-6}


def make(form):
    """Return a tree, and the same numbers as (a, b, c)."""
    a, b, c = np.array([1.0, -2.0]), np.array([[0.5], [3.0]]), np.array(2.0)
    return {
        "dict": {"a": a, "b": b, "c": c},
        "list": [a, b, c],
        "tuple": (a, b, c),
        "nested": {"layers": [a, {"b": b}], "c": (c,)},
        "named": [Pair(a, b), c],
    }[form]


def parts(form, tree):
    """Return (a, b, c) of a tree."""
    if form == "dict":
        return tree["a"], tree["b"], tree["c"]
    if form == "nested":
        return tree["layers"][0], tree["layers"][1]["b"], tree["c"][0]
    if form == "named":
        return tree[0].scale, tree[0].shift, tree[1]
    return tree


FORMS = ("dict", "list", "tuple", "nested", "named")
_every_form = pytest.mark.parametrize("form", FORMS)


def value(a, b, c):
    return c * np.sum(a**2) + np.sum(b**3) * a[0]


def slopes(a, b, c):
    first = 2.0 * c * a
    first[0] += np.sum(b**3)
    return first, 3.0 * b**2 * a[0], np.sum(a**2)


def _same_form(found, tree):
    assert type(found) is type(tree)
    if isinstance(tree, dict):
        assert list(found) == list(tree)
        for key in tree:
            _same_form(found[key], tree[key])
    elif isinstance(tree, list | tuple):
        assert len(found) == len(tree)
        for a, b in zip(found, tree, strict=True):
            _same_form(a, b)
    else:
        assert found.shape == tree.shape
        assert found.dtype == tree.dtype


def _close(form, found, expected, tolerance=1e-7):
    for a, b in zip(parts(form, found), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@_every_form
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [None, map])
def test_gradients(form, method, workers):
    tree = make(form)

    def f(p):
        if method != "complex":
            _same_form(p, tree)
        return value(*parts(form, p))

    found = accelnn.numerical_gradient(f, tree, method=method, workers=workers)
    _same_form(found, tree)
    _close(form, found, slopes(*parts(form, tree)), TOLERANCE.get(method, 1e-7))


@_every_form
def test_what_is_known_of_a_gradient_has_its_form(form):
    tree = make(form)
    found = accelnn.numerical_gradient(
        lambda p: value(*parts(form, p)), tree, method="richardson", full_output=True
    )
    for part in (found.gradient, found.error, found.step):
        _same_form(part, tree)
    assert found.flags.shape == (5,)
    off = [
        np.abs(a - b) <= error
        for a, b, error in zip(
            parts(form, found.gradient),
            slopes(*parts(form, tree)),
            parts(form, found.error),
            strict=True,
        )
    ]
    assert all(part.all() for part in off)


@_every_form
@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward", "richardson"])
def test_a_closure_over_a_tree_is_moved_in_place(form, method):
    tree = make(form)
    before = [part.copy() for part in parts(form, tree)]
    found = accelnn.numerical_gradient(lambda _: value(*parts(form, tree)), tree, method=method)
    _close(form, found, slopes(*before), TOLERANCE.get(method, 1e-7))
    for part, kept in zip(parts(form, tree), before, strict=True):
        assert part.tobytes() == kept.tobytes()


def test_a_closure_over_one_array_of_a_tree_is_found():
    tree = make("dict")
    with pytest.raises(AmbiguousFunctionError):
        accelnn.numerical_gradient(lambda p: p["c"] * np.sum(tree["a"]), tree)
    total = accelnn.numerical_gradient(lambda p: p["c"] * np.sum(tree["a"]), tree, in_place=True)
    np.testing.assert_allclose(total["a"], [2.0, 2.0], rtol=1e-8)
    partial = accelnn.numerical_gradient(lambda p: p["c"] * np.sum(tree["a"]), tree, in_place=False)
    np.testing.assert_array_equal(partial["a"], [0.0, 0.0])
    np.testing.assert_allclose(partial["c"], -1.0, rtol=1e-8)
    with pytest.raises(ImpureFunctionError):
        accelnn.numerical_gradient(lambda _: np.sum(tree["a"]), tree, workers=map)


@_every_form
def test_jacobians_have_an_array_for_each_of_a_tree(form):
    tree = make(form)

    def f(p):
        a, b, c = parts(form, p)
        return np.array([[value(a, b, c)], [np.sum(a) * c]])

    found = parts(form, accelnn.numerical_jacobian(f, tree))
    a, b, c = parts(form, tree)
    first = slopes(a, b, c)
    second = (np.full(2, c), np.zeros((2, 1)), np.sum(a))
    for part, upper, lower in zip(found, first, second, strict=True):
        assert part.shape == (2, 1, *np.shape(upper))
        np.testing.assert_allclose(part[:, 0], np.stack([upper, lower]), rtol=1e-7, atol=1e-7)


@_every_form
def test_products(form):
    tree = make(form)
    a, b, c = parts(form, tree)
    along = make(form)

    def f(p):
        return value(*parts(form, p))

    first = slopes(a, b, c)
    expected = sum(np.sum(g * v) for g, v in zip(first, (a, b, c), strict=True))
    np.testing.assert_allclose(accelnn.numerical_jvp(f, tree, along), expected, rtol=1e-8)

    # H v, v = x: of a, 2 c a + 2 c a, and b's; of b, 6 b a0 b + 3 b² a0; of c, 2 a·a.
    of_a = 4.0 * c * a
    of_a[0] += 3.0 * np.sum(b**3)
    second = (of_a, 9.0 * b**2 * a[0], 2.0 * np.sum(a**2))
    found = accelnn.numerical_hvp(f, tree, along)
    _same_form(found, tree)
    # Second differences at 1e-4 of a value near 30.
    _close(form, found, second, 1e-4)

    def gradient(p):
        g = slopes(*parts(form, p))
        return {
            "dict": lambda a, b, c: {"a": a, "b": b, "c": c},
            "list": lambda a, b, c: [a, b, c],
            "tuple": lambda a, b, c: (a, b, c),
            "nested": lambda a, b, c: {"layers": [a, {"b": b}], "c": (c,)},
            "named": lambda a, b, c: [Pair(a, b), c],
        }[form](*g)

    found = accelnn.numerical_hvp(None, tree, along, grad=gradient)
    _same_form(found, tree)
    _close(form, found, second, 1e-7)
    assert accelnn.check_gradient(f, gradient, tree).passed


@_every_form
def test_a_wrong_gradient_of_a_tree_is_named(form):
    tree = make(form)
    name = {
        "dict": "b", "list": "x[1]", "tuple": "x[1]", "nested": "layers[1].b", "named": "x[0][1]",
    }[form]  # fmt: skip

    def gradient():
        found = accelnn.numerical_gradient(lambda p: value(*parts(form, p)), tree)
        parts(form, found)[1][1, 0] += 1.0
        return found

    for mode in ("directional", "sampled", "full"):
        with pytest.raises(GradientCheckError) as raised:
            accelnn.check_gradient(lambda p: value(*parts(form, p)), gradient(), tree, mode=mode)
        worst = raised.value.report.worst
        assert worst.index == (1, 0)
        assert worst.name == name
        assert worst.error == pytest.approx(1.0, rel=1e-6)


def test_a_hessian_is_of_one_array_and_its_diagonal_of_a_tree():
    tree = make("dict")
    with pytest.raises(ValueError, match="a Hessian needs a single array"):
        accelnn.numerical_hessian(lambda p: value(**p), tree)
    found = accelnn.numerical_hessian(lambda p: value(**p), tree, diagonal=True)
    np.testing.assert_allclose(found["a"], [4.0, 4.0], atol=1e-5)
    np.testing.assert_allclose(found["b"], 6.0 * tree["b"], atol=1e-5)
    np.testing.assert_allclose(found["c"], 0.0, atol=1e-5)


def test_numbers_beside_arrays_and_numbers_in_lists():
    found = accelnn.numerical_gradient(lambda p: p["a"] * p["b"], {"a": 2, "b": 5.0})
    assert (float(found["a"]), float(found["b"])) == pytest.approx((5.0, 2.0))
    # Numbers alone in lists are one array, and nothing else.
    found = accelnn.numerical_gradient(lambda x: np.sum(x**2), [[1.0], [2.0]])
    np.testing.assert_allclose(found, [[2.0], [4.0]])
    first, second = accelnn.numerical_gradient(lambda p: p[0] @ p[0] * p[1], [np.ones(2), 3.0])
    np.testing.assert_allclose(first, [6.0, 6.0])
    np.testing.assert_allclose(second, 2.0)


def test_integers_of_a_tree_become_floats_and_stay():
    tree = {"a": np.array([1, 2]), "b": np.array([0.5])}
    found = accelnn.numerical_gradient(lambda p: np.sum(p["a"] ** 2) * p["b"][0], tree)
    np.testing.assert_allclose(found["a"], [1.0, 2.0], rtol=1e-8)
    assert found["a"].dtype == np.float64
    np.testing.assert_array_equal(tree["a"], [1, 2])


@pytest.mark.parametrize("closure", [False, True])
def test_a_tree_of_two_precisions(closure):
    """Each array moves by what it can represent."""
    tree = {"a": np.array([1.0, 2.0], np.float32), "b": np.array([1.0, 2.0])}

    def f(p):
        p = tree if closure else p
        return float(np.sum(p["a"].astype(float) ** 2) + np.sum(p["b"] ** 2))

    found = accelnn.numerical_gradient(f, tree)
    assert found["a"].dtype == np.float32
    # A step of eps**(1/3) of single precision, squared, and rounding of x that is taken for a move.
    np.testing.assert_allclose(found["a"], [2.0, 4.0], rtol=1e-4)
    np.testing.assert_allclose(found["b"], [2.0, 4.0], rtol=1e-4)
    assert accelnn.check_gradient(f, {"a": 2 * tree["a"], "b": 2 * tree["b"]}, tree).passed


def test_bounds_and_steps_of_a_tree():
    tree = make("dict")
    seen = []

    def f(p):
        seen.append(max(float(np.max(p[key])) for key in p))
        return value(**p)

    found = accelnn.numerical_gradient(f, tree, bounds=(-2.0, 3.0), step=1e-4)
    assert max(seen) <= 3.0
    _close("dict", found, slopes(**tree), 1e-5)
    steps = np.array([0.5, 0.25, 0.125, 0.125, 0.5])
    found = accelnn.numerical_gradient(
        lambda p: sum(np.sum(part**3) for part in p.values()), tree, step=steps
    )
    np.testing.assert_allclose(found["a"], 3.0 * tree["a"] ** 2 + steps[:2] ** 2, rtol=1e-12)
    np.testing.assert_allclose(found["c"], 3.0 * tree["c"] ** 2 + 0.25, rtol=1e-12)


def test_an_empty_tree():
    assert accelnn.numerical_gradient(lambda _: 1.0, {}) == {}
    found = accelnn.numerical_gradient(lambda p: np.sum(p["a"]), {"a": np.zeros((0, 2))})
    assert found["a"].shape == (0, 2)


def test_nan_in_a_tree_is_refused():
    with pytest.raises(ValueError, match="x must be finite"):
        accelnn.numerical_gradient(lambda p: np.sum(p["a"]), {"a": np.array([1.0, np.nan])})


def test_trees_in_a_batch_are_trees_or_refused():
    """A flat array of all numbers is not what f takes."""
    tree = {"a": np.array([1.0, 2.0]), "b": np.array(3.0)}

    def f(points):
        assert isinstance(points, dict)
        return np.sum(points["a"] ** 2, axis=1) * points["b"]

    try:
        found = accelnn.numerical_gradient(f, tree, batched=True)
    except (TypeError, ValueError) as error:
        assert "batched" in str(error)  # noqa: PT017 - either will do
    else:
        np.testing.assert_allclose(found["a"], [6.0, 12.0], rtol=1e-8)
        np.testing.assert_allclose(found["b"], 5.0, rtol=1e-8)
