"""Pictures of functions, and what all pictures share."""

import importlib.util
import subprocess
import sys

import array_api_strict
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

import accelnn
from accelnn.backends import Backend
from accelnn.errors import MissingDependencyError
from accelnn.plotting import (
    plot_descent,
    plot_gradient_field,
    plot_loss,
    plot_surface,
    plot_tangent,
)


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def tilted(x):
    """Tells its two variables apart."""
    return 3.0 * x[0] + x[0] * x[1] ** 2


def drawn(figure):
    """Draw everything, where matplotlib gives its late warnings."""
    figure.canvas.draw()
    return figure


def x_of(line):
    return np.asarray(line.get_xdata()).tolist()


def y_of(line):
    return np.asarray(line.get_ydata()).tolist()


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Tangent --------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [-2.0, 0.5, 3])
def test_the_tangent_touches_with_the_slope_by_hand(x):
    ax = plot_tangent(lambda x: x**3 - 2.0 * x, x)
    curve, tangent, touch = ax.lines
    (x0, x1), (y0, y1) = x_of(tangent), y_of(tangent)
    slope = 3.0 * x**2 - 2.0
    assert (y1 - y0) / (x1 - x0) == pytest.approx(slope, rel=1e-8)
    assert y0 + slope * (x - x0) == pytest.approx(x**3 - 2.0 * x)
    assert x_of(touch) == [x]
    assert y_of(touch) == [x**3 - 2.0 * x]
    on_curve = np.array(x_of(curve))
    np.testing.assert_allclose(y_of(curve), on_curve**3 - 2.0 * on_curve)
    assert len(on_curve) > 100
    assert f"slope {slope:.4g}" in legend_of(ax)[1]
    drawn(ax.figure)


@pytest.mark.parametrize(
    ("x", "span", "ends"),
    [(0.5, None, (-0.5, 1.5)), (-4.0, None, (-8.0, 0.0)), (5.0, 0.25, (4.75, 5.25))],
)
def test_the_tangent_spans_either_side(x, span, ends):
    ax = plot_tangent(np.sin, x, span=span)
    for line in ax.lines[:2]:
        assert (x_of(line)[0], x_of(line)[-1]) == ends


def test_a_tangent_to_a_function_of_floats():
    def relu(x):
        return x if x > 0 else 0.0 * x

    assert y_of(plot_tangent(relu, -1.0).lines[1]) == [0.0, 0.0]


def test_the_difference_behind_a_tangent_can_be_chosen():
    # (f(1 + 1/2) - f(1)) / (1/2) for a square.
    tangent = plot_tangent(lambda x: x**2, 1.0, method="forward", step=0.5).lines[1]
    assert np.diff(y_of(tangent)) / np.diff(x_of(tangent)) == pytest.approx(2.5)


def test_tangent_options_go_to_the_curve(figure):
    ax = figure.add_subplot()
    assert plot_tangent(np.sin, 0.0, ax=ax, c="green", label="sine") is ax
    assert ax.lines[0].get_color() == "green"
    assert ax.lines[1].get_color() != "green"
    assert legend_of(ax)[0] == "sine"
    assert not plt.get_fignums()


@pytest.mark.parametrize("span", [0.0, -1.0, np.inf, np.nan])
def test_the_span_must_be_positive(span):
    with pytest.raises(ValueError, match="span must be positive and finite"):
        plot_tangent(np.sin, 1.0, span=span)


@pytest.mark.parametrize(
    ("x", "match"), [([1.0, 2.0], r"single number, got shape \(2,\)"), (np.nan, "x must be finite")]
)
def test_a_tangent_needs_one_finite_point(x, match):
    with pytest.raises(ValueError, match=match):
        plot_tangent(np.sin, x)


# Surface --------------------------------------------------------------------------------------


def wires(ax):
    """Return the lines of a wireframe, of shape (lines, points, 3)."""
    return np.array(ax.collections[0]._segments3d)


def test_the_surface_passes_through_the_values():
    ax = plot_surface(tilted, x_range=(-1.0, 2.0), y_range=(0.0, 4.0), points=4)
    x, y, z = np.moveaxis(wires(ax), -1, 0)
    np.testing.assert_allclose(z, 3.0 * x + x * y**2)
    assert sorted(set(x.ravel())) == [-1.0, 0.0, 1.0, 2.0]
    np.testing.assert_allclose(sorted(set(y.ravel())), [0.0, 4.0 / 3.0, 8.0 / 3.0, 4.0])
    assert len(x) == 8
    drawn(ax.figure)


def test_the_default_surface_shows_minus_three_to_three():
    lines = wires(plot_surface(bowl))
    assert lines[..., :2].min() == -3.0
    assert lines[..., :2].max() == 3.0
    assert lines[..., 2].max() == 18.0
    assert len(lines) == 62


def test_surface_options_go_to_the_wireframe(figure):
    ax = figure.add_subplot(projection="3d")
    assert plot_surface(bowl, ax=ax, points=5, rstride=2, cstride=4, colors="red") is ax
    assert len(ax.collections[0]._segments3d) == 3 + 2
    assert ax.collections[0].get_color()[0].tolist() == list(to_rgba("red"))
    assert not plt.get_fignums()


def test_a_surface_needs_axes_in_three_dimensions(figure):
    with pytest.raises(ValueError, match="two-dimensional; a surface needs three-dimensional"):
        plot_surface(bowl, ax=figure.add_subplot())


# Gradient -------------------------------------------------------------------------------------


def test_the_arrows_are_minus_the_gradient():
    ax = plot_gradient_field(bowl, x_range=(-2.0, 2.0), y_range=(-1.0, 3.0), points=5)
    (arrows,) = ax.collections
    np.testing.assert_allclose(arrows.U, -2.0 * arrows.X, atol=1e-8)
    np.testing.assert_allclose(arrows.V, -2.0 * arrows.Y, atol=1e-8)
    places = {(float(x), float(y)) for x, y in arrows.get_offsets()}
    assert places == {(x, y) for x in (-2, -1, 0, 1, 2) for y in (-1, 0, 1, 2, 3)}
    drawn(ax.figure)


def test_the_arrows_tell_the_variables_apart():
    (arrows,) = plot_gradient_field(tilted, points=4).collections
    np.testing.assert_allclose(arrows.U, -(3.0 + arrows.Y**2), rtol=1e-7)
    np.testing.assert_allclose(arrows.V, -2.0 * arrows.X * arrows.Y, rtol=1e-7)


def test_arrows_point_along_the_data_in_stretched_axes():
    ax = plot_gradient_field(bowl, x_range=(0.0, 100.0), y_range=(0.0, 1.0), points=3)
    drawn(ax.figure)
    assert ax.collections[0].angles == "xy"


def test_a_flat_function_has_a_field_of_nothing():
    ax = plot_gradient_field(lambda _x: 1.0, points=3)
    assert not ax.collections[0].U.any()
    drawn(ax.figure)


def test_field_options_go_to_the_arrows(figure):
    ax = figure.add_subplot()
    assert plot_gradient_field(bowl, ax=ax, points=3, color="red", scale=7.0) is ax
    assert ax.collections[0].scale == 7.0
    assert ax.collections[0].get_facecolor()[0].tolist() == list(to_rgba("red"))
    assert not plt.get_fignums()


# Descent --------------------------------------------------------------------------------------

PATH = [[-2.0, 1.0], [-1.0, 0.5], [-0.5, 0.25]]


def test_the_path_is_drawn_with_its_ends():
    ax = plot_descent(bowl, PATH)
    path, start, end = ax.lines
    assert path.get_xydata().tolist() == PATH
    assert start.get_xydata().tolist() == [PATH[0]]
    assert end.get_xydata().tolist() == [PATH[-1]]
    assert legend_of(ax) == ["path", "start", "end"]
    drawn(ax.figure)


def test_a_descent_is_drawn_as_it_went():
    result = accelnn.gradient_descent(bowl, [-3.0, 4.0], 0.25, 3, full_output=True)
    path = plot_descent(bowl, result).lines[0]
    # The gradient is 2x, so every step halves x.
    halved = [[-3.0, 4.0], [-1.5, 2.0], [-0.75, 1.0], [-0.375, 0.5]]
    np.testing.assert_allclose(path.get_xydata(), halved, rtol=1e-8)


def test_contours_lie_at_their_levels():
    ax = plot_descent(bowl, PATH, levels=[1.0, 4.0], x_range=(-3, 3), y_range=(-3, 3), points=121)
    (contours,) = ax.collections
    assert contours.levels.tolist() == [1.0, 4.0]
    for level, path in zip([1.0, 4.0], contours.get_paths(), strict=True):
        np.testing.assert_allclose((path.vertices**2).sum(axis=1), level, rtol=1e-2)


def test_contours_tell_the_variables_apart():
    ax = plot_descent(lambda x: x[0], PATH, levels=[-1.0])
    np.testing.assert_allclose(ax.collections[0].get_paths()[0].vertices[:, 0], -1.0)


def test_by_default_the_contours_fill_a_square_around_the_path():
    ax = plot_descent(bowl, [[0.0, 1.0], [10.0, 1.0]])
    assert ax.get_xlim() == pytest.approx((-1.0, 11.0))
    assert ax.get_ylim() == pytest.approx((-5.0, 7.0))


def test_ranges_and_levels_can_be_chosen():
    ax = plot_descent(bowl, PATH, x_range=(-4.0, 5.0), y_range=(-6.0, 7.0), levels=3)
    assert ax.get_xlim() == (-4.0, 5.0)
    assert ax.get_ylim() == (-6.0, 7.0)
    few, many = (len(plot_descent(bowl, PATH, levels=n).collections[0].levels) for n in (3, 40))
    assert few < 8
    assert many > 20


def test_a_path_that_stands_still_and_a_flat_function_are_drawn():
    ax = plot_descent(bowl, [[1.0, 2.0]])
    assert ax.get_xlim() == (0.0, 2.0)
    assert ax.get_ylim() == (1.0, 3.0)
    flat = plot_descent(lambda _x: 1.0, PATH)
    assert not flat.collections
    assert flat.lines[0].get_xydata().tolist() == PATH


def test_contours_leave_out_where_the_function_has_no_value():
    def root(x):
        return np.sqrt(x[0]) if x[0] >= 0.0 else np.nan

    ax = plot_descent(root, [[2.0, 0.0], [1.0, 0.0]], x_range=(-2.0, 2.0))
    assert ax.collections[0].get_paths()[1].vertices[:, 0].min() >= 0.0
    drawn(ax.figure)


def test_descent_options_go_to_the_path(figure):
    ax = figure.add_subplot()
    assert plot_descent(bowl, PATH, ax=ax, c="black", ls=":", label="SGD") is ax
    assert ax.lines[0].get_color() == "black"
    assert ax.lines[0].get_linestyle() == ":"
    assert legend_of(ax)[0] == "SGD"
    assert not plt.get_fignums()


@pytest.mark.parametrize("path", [[], [1.0, 2.0], [[1.0, 2.0, 3.0]], np.zeros((0, 2))])
def test_a_path_has_two_columns(path):
    with pytest.raises(ValueError, match=r"path must have shape \(k, 2\)"):
        plot_descent(bowl, path)


def test_a_path_is_finite():
    with pytest.raises(ValueError, match=r"path\[1, 0\] is nan"):
        plot_descent(bowl, [[1.0, 2.0], [np.nan, 0.0]])


# All functions of two variables ---------------------------------------------------------------


def descent(f, **options):
    return plot_descent(f, PATH, **options)


OF_TWO = [plot_surface, plot_gradient_field, descent]


@pytest.mark.parametrize("plot", OF_TWO)
@pytest.mark.parametrize("name", ["x_range", "y_range"])
@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, -2.0), (0.0, np.inf), (np.nan, 1.0)])
def test_ranges_are_finite_and_not_empty(plot, name, limits):
    with pytest.raises(ValueError, match=f"{name} must be a finite"):
        plot(bowl, **{name: limits})
    assert not plt.get_fignums()


@pytest.mark.parametrize("plot", OF_TWO)
def test_there_are_at_least_two_points(plot):
    with pytest.raises(ValueError, match="points must be at least 2, got 1"):
        plot(bowl, points=1)


@pytest.mark.parametrize("plot", OF_TWO)
def test_the_function_returns_a_scalar(plot):
    with pytest.raises(ValueError, match=r"f must return one number, but f\(x\) has shape \(2,\)"):
        plot(lambda x: x**2)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    "plot", [plot_gradient_field, descent, lambda _f, ax: plot_tangent(np.sin, 1.0, ax=ax)]
)
def test_flat_pictures_need_flat_axes(plot, figure):
    with pytest.raises(ValueError, match="ax is three-dimensional"):
        plot(bowl, ax=figure.add_subplot(projection="3d"))


@pytest.mark.parametrize("plot", OF_TWO)
def test_axes_are_axes(plot, figure):
    with pytest.raises(TypeError, match="ax must be matplotlib axes, got Figure"):
        plot(bowl, ax=figure)


# Backends -------------------------------------------------------------------------------------


class Strict(Backend):
    """Arrays that are not NumPy's."""

    name = "strict"
    inferred = False
    xp = array_api_strict

    @classmethod
    def owns(cls, x):
        return isinstance(x, type(cls.xp.asarray(0.0)))


def test_functions_get_the_arrays_of_their_backend():
    seen = set()

    def f(x):
        seen.add(type(x))
        return Strict.xp.sum(x**2)

    with accelnn.use_backend(Strict):
        (arrows,) = plot_gradient_field(f, points=3).collections
        assert plot_surface(f, points=3).name == "3d"
    np.testing.assert_allclose(arrows.U, -2.0 * arrows.X, atol=1e-8)
    path = Strict.xp.asarray(PATH)
    assert plot_descent(f, path, backend=Strict).lines[0].get_xydata().tolist() == PATH
    assert y_of(plot_tangent(f, 3.0, backend=Strict).lines[2]) == [9.0]
    assert len(seen) == 1


# Import ---------------------------------------------------------------------------------------


def test_importing_does_not_import_matplotlib():
    code = (
        "import sys, accelnn.plotting\n"
        "assert accelnn.plotting.plot_loss\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[plot\]'"):
        plot_loss([1.0, 0.5])
