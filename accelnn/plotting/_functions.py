"""Plots of functions: tangents, surfaces, gradient fields and paths of gradient descent."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._shown import shown
from accelnn._typing import ArrayLike, MethodName
from accelnn._validation import as_array, as_floating, check_finite
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.descent import DescentResult
from accelnn.gradient import numerical_diff
from accelnn.plotting._axes import BLUE, ORANGE, flat_axes, solid_axes, style
from accelnn.plotting._sampling import Function, Range, gradient_at, grid, on_grid, value_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_descent", "plot_gradient_field", "plot_surface", "plot_tangent"]

SQUARE = 5.0  # inches

# Line segments of a curve.
PIECES = 200
# Half the side of the square around a path, relative to the extent of the path.
AROUND = 0.6


def plot_tangent(
    f: Function,
    x: float,
    *,
    ax: "Axes | None" = None,
    span: float | None = None,
    method: MethodName = "central",
    step: float | None = None,
    backend: BackendLike | None = None,
    **kwargs: Any,
) -> "Axes":
    r"""Draw a function of one variable and its tangent at a point.

    Parameters
    ----------
    f : callable
        A function of one variable, which takes and returns a scalar.
    x : float
        The point of the tangent.
    ax : Axes, optional
        By default those of a new figure.
    span : float, optional
        How far to draw on either side of `x`; by default max(1, \|x\|).
    method, step
        Passed to `accelnn.numerical_diff`, which computes the slope.
    backend : str, Backend or subclass, optional
        The backend whose arrays `f` takes; see `accelnn.get_backend`.
    **kwargs
        Passed to ``Axes.plot``, for the function's line.

    Returns
    -------
    Axes
        Its new lines are the function, the tangent, and the point of contact.

    Raises
    ------
    ValueError
        If `x` is not a single finite number, `span` is not positive and finite, or `f` does not
        return a scalar.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from accelnn.plotting import plot_tangent
    >>> ax = plot_tangent(lambda x: 0.01 * x**2 + 0.1 * x, 5.0)
    >>> ax.get_legend().get_texts()[1].get_text()
    'tangent, slope 0.2'
    >>> plt.close(ax.figure)
    """
    backend = resolve(backend, x)
    at = _point(backend, x)
    if span is None:
        span = max(1.0, abs(at))
    if not 0.0 < span < math.inf:
        msg = f"span must be positive and finite, got {shown(span)}"
        raise ValueError(msg)
    curve = np.linspace(at - span, at + span, PIECES + 1)
    values = [value_at(backend, f, p) for p in curve]
    height = value_at(backend, f, at)
    touch = backend.asarray(at, "float64")
    slope = float(
        backend.to_numpy(numerical_diff(f, touch, method=method, step=step, backend=backend))
    )
    ends = np.array([at - span, at + span])

    ax = flat_axes(ax, 1.2 * SQUARE, 0.8 * SQUARE)
    line = style("lines.Line2D", kwargs, color=BLUE, linewidth=2.0, label="f")
    ax.plot(curve, values, **line)
    tangent = f"tangent, slope {slope:.4g}"
    ax.plot(ends, height + slope * (ends - at), color=ORANGE, linestyle="--", label=tangent)
    ax.plot([at], [height], color=ORANGE, marker="o", linestyle="", zorder=3)
    ax.set(title=f"Tangent at x = {at:.4g}", xlabel="x", ylabel="f(x)")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def plot_surface(
    f: Function,
    *,
    x_range: Range = (-3, 3),
    y_range: Range = (-3, 3),
    points: int = 31,
    ax: "Axes | None" = None,
    backend: BackendLike | None = None,
    **kwargs: Any,
) -> Any:
    """Draw a function of two variables as a wireframe.

    Parameters
    ----------
    f : callable
        Takes an array of shape (2,) and returns a scalar.
    x_range, y_range : tuple of float, default (-3, 3)
        Lower and upper end of the first and of the second variable.
    points : int, default 31
        Grid points along each variable.
    ax : Axes3D, optional
        Three-dimensional axes; by default those of a new figure.
    backend : str, Backend or subclass, optional
        The backend whose arrays `f` takes; see `accelnn.get_backend`.
    **kwargs
        Passed to ``Axes3D.plot_wireframe``.

    Returns
    -------
    Axes3D

    Raises
    ------
    ValueError
        If `ax` is two-dimensional, a range is empty, there are fewer than two points, or `f`
        returns anything but a scalar.

    Examples
    --------
    >>> import numpy as np
    >>> import matplotlib.pyplot as plt
    >>> from accelnn.plotting import plot_surface
    >>> ax = plot_surface(lambda x: np.sum(x**2), points=7)
    >>> ax.name
    '3d'
    >>> plt.close(ax.figure)
    """
    backend = resolve(backend)
    x, y = grid(x_range, y_range, points)
    # f first, so that no empty figure is left behind if it raises.
    values = on_grid(backend, f, x, y)
    axes = solid_axes(ax, 1.2 * SQUARE, SQUARE)
    line = style("collections.LineCollection", kwargs, color=BLUE, linewidth=0.8)
    # matplotlib refuses counts together with strides.
    if not line.keys() & {"rcount", "ccount", "rstride", "cstride"}:
        line.update(rcount=points, ccount=points)
    axes.plot_wireframe(*np.meshgrid(x, y), values, **line)
    axes.set(xlabel="$x_0$", ylabel="$x_1$", zlabel="$f(x)$")
    return axes


def plot_gradient_field(
    f: Function,
    *,
    x_range: Range = (-3, 3),
    y_range: Range = (-3, 3),
    points: int = 15,
    ax: "Axes | None" = None,
    backend: BackendLike | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw the negative gradient of a function of two variables as arrows.

    Parameters
    ----------
    f : callable
        Takes an array of shape (2,) and returns a scalar, as in `accelnn.numerical_gradient`.
    x_range, y_range : tuple of float, default (-3, 3)
        Lower and upper end of the first and of the second variable.
    points : int, default 15
        Arrows along each variable.
    ax : Axes, optional
        By default those of a new figure.
    backend : str, Backend or subclass, optional
        The backend whose arrays `f` takes; see `accelnn.get_backend`.
    **kwargs
        Passed to ``Axes.quiver``.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If `ax` is three-dimensional, a range is empty, there are fewer than two points, or `f`
        returns anything but a scalar.

    Examples
    --------
    >>> import numpy as np
    >>> import matplotlib.pyplot as plt
    >>> from accelnn.plotting import plot_gradient_field
    >>> ax = plot_gradient_field(lambda x: np.sum(x**2), points=3)
    >>> ax.collections[0].U.round(6).reshape(3, 3)[0]
    array([ 6., -0., -6.])
    >>> plt.close(ax.figure)
    """
    backend = resolve(backend)
    x, y = grid(x_range, y_range, points)
    downhill = np.array([[-gradient_at(backend, f, a, b) for a in x] for b in y])
    ax = flat_axes(ax, SQUARE, SQUARE, box_aspect=1)
    # Angles in data coordinates, so that arrows point downhill however the axes are scaled.
    arrows = style("collections.PolyCollection", kwargs, color=BLUE, angles="xy")
    if not downhill.any():
        # matplotlib scales by the mean length, which is 0 for a constant function.
        arrows.setdefault("scale", 1.0)
    ax.quiver(*np.meshgrid(x, y), downhill[..., 0], downhill[..., 1], **arrows)
    ax.set(title="Minus the gradient of f", xlabel="$x_0$", ylabel="$x_1$")
    ax.grid(alpha=0.3)
    return ax


def plot_descent(
    f: Function,
    path: DescentResult | ArrayLike,
    *,
    ax: "Axes | None" = None,
    levels: int | Sequence[float] = 15,
    x_range: Range | None = None,
    y_range: Range | None = None,
    points: int = 61,
    backend: BackendLike | None = None,
    **kwargs: Any,
) -> "Axes":
    """Draw the path of a gradient descent over the contours of its function.

    Parameters
    ----------
    f : callable
        Takes an array of shape (2,) and returns a scalar.
    path : DescentResult or array of shape (k, 2)
        The result of `accelnn.gradient_descent` with ``full_output=True``, or the iterates.
    ax : Axes, optional
        By default those of a new figure.
    levels : int or sequence of float, default 15
        The approximate number of contours, or their values.
    x_range, y_range : tuple of float, optional
        Lower and upper end of the first and of the second variable for the contours; by default
        those of a square around the path.
    points : int, default 61
        Grid points along each variable for the contours.
    backend : str, Backend or subclass, optional
        The backend whose arrays `f` takes; by default that of `path`. See `accelnn.get_backend`.
    **kwargs
        Passed to ``Axes.plot``, for the path.

    Returns
    -------
    Axes
        Its new lines are the path, its start and its end.

    Raises
    ------
    ValueError
        If `path` is not of shape (k, 2) or not finite, `ax` is three-dimensional, a range is
        empty, there are fewer than two points, or `f` does not return a scalar.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> import matplotlib.pyplot as plt
    >>> from accelnn.plotting import plot_descent
    >>> def f(x):
    ...     return x[0] ** 2 / 20 + x[1] ** 2
    >>> path = accelnn.gradient_descent(f, [-7.0, 2.0], 0.9, 30, full_output=True)
    >>> ax = plot_descent(f, path)
    >>> ax.lines[0].get_xydata()[0]
    array([-7.,  2.])
    >>> plt.close(ax.figure)
    """
    trajectory = path.trajectory if isinstance(path, DescentResult) else path
    backend = resolve(backend, trajectory)
    steps = _path(backend, trajectory)
    x_around, y_around = _square_around(steps)
    x, y = grid(x_range or x_around, y_range or y_around, points)
    values = on_grid(backend, f, x, y)
    ax = flat_axes(ax, SQUARE, SQUARE, box_aspect=1)
    # matplotlib warns about a constant function, which has no contours.
    if np.unique(values[np.isfinite(values)]).size > 1:
        ax.contour(x, y, values, levels=levels, cmap="viridis", linewidths=0.9, alpha=0.8)
    line = style(
        "lines.Line2D", kwargs, color=ORANGE, marker=".", markersize=5, linewidth=1.5, label="path"
    )
    ax.plot(*steps.T, **line)
    ends: dict[str, Any] = {"linestyle": "", "markeredgecolor": "black", "zorder": 3}
    ax.plot(*steps[:1].T, marker="o", markersize=8, color="white", label="start", **ends)
    ax.plot(*steps[-1:].T, marker="*", markersize=13, color=ORANGE, label="end", **ends)
    ax.set(title="Gradient descent", xlabel="$x_0$", ylabel="$x_1$")
    ax.legend()
    return ax


def _point(backend: Backend, x: ArrayLike) -> float:
    array = as_array(backend, x)
    if array.ndim:
        msg = f"x must be a single number, got shape {tuple(array.shape)}"
        raise ValueError(msg)
    with backend.current():
        check_finite(backend, as_floating(backend, array), "x")
    return float(backend.to_numpy(array))


def _path(backend: Backend, path: ArrayLike) -> np.ndarray:
    array = as_floating(backend, path, "path")
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != 2:  # noqa: PLR2004 - (k, 2)
        msg = f"path must have shape (k, 2), points of two variables, got {tuple(array.shape)}"
        raise ValueError(msg)
    with backend.current():
        check_finite(backend, array, "path")
    return backend.to_numpy(array)


def _square_around(path: np.ndarray) -> tuple[Range, Range]:
    """Return the ranges of a square, in which angles are not distorted."""
    low, high = path.min(axis=0), path.max(axis=0)
    middle = (low + high) / 2
    half = AROUND * float((high - low).max())
    if half <= 1e-9 * float(np.abs(middle).max()):
        half = 1.0  # all points are the same
    (x, y) = ((float(m) - half, float(m) + half) for m in middle)
    return x, y
