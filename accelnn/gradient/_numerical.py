"""The gradient of a scalar function of many variables."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from accelnn._progress import Advance, progress_bar
from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_array, as_floating, as_scalar, check_finite, positive_int
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.gradient._purity import (
    can_be_moved,
    require_pure,
    require_response,
    require_untouched,
)
from accelnn.gradient._steps import Stencil, check_method, machine_epsilon, stencil

__all__ = ["numerical_gradient"]

# Bytes of all points of one batched call; what f allocates for them comes on top.
BATCH_BYTES = 32 << 20


def numerical_gradient(
    f: Callable[[Array], Any],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Array:
    """Return the gradient of a scalar function by finite differences.

    Parameters
    ----------
    f : callable
        Takes an array like `x` and returns a real scalar. With ``batched=True`` it takes
        ``(k, *x.shape)``, k points at once, and returns ``(k,)``.
    x : array_like
        Where to differentiate. A writable float array is moved in place, one coordinate at a
        time, and restored bit for bit even when `f` raises; so a closure over `x` that ignores its
        argument, like ``lambda W: net.loss(x, t)``, gives the right answer. Of anything else a
        float copy is moved, and `f` must depend on its argument alone.
    method : {"central", "forward", "backward"}, default "central"
        (f(x+h) - f(x-h)) / 2h, (f(x+h) - f(x)) / h or (f(x) - f(x-h)) / h per coordinate, divided
        by the distance really taken after rounding.
    step : float, optional
        h. By default eps^(1/3) (central) or eps^(1/2) (one-sided) times max(1, abs(x)), with eps
        of the less precise of the dtypes of `x` and f(x).
    batched : bool, default False
        Evaluate many points in one call of `f`.
    chunk_size : int, optional
        Coordinates per batched call. By default as many as keep the points within 32 MiB.
    progress : bool, default False
        Show a progress bar over the coordinates.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    array
        Of the shape and dtype of `x`; float64 for integers.

    Raises
    ------
    ValueError
        If `f` returns anything but a scalar (batched: one value per point), or if the step is too
        small to move x: the message names the smallest usable one.
    accelnn.errors.ImpureFunctionError
        If a copy is moved and `f` ignores its argument or is random, or if `f` writes to its
        argument.

    References
    ----------
    Press, Teukolsky, Vetterling and Flannery, "Numerical Recipes", section 5.7.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([3.0, 4.0])
    >>> accelnn.numerical_gradient(lambda x: np.sum(x**2), x).round(6)
    array([6., 8.])
    >>> accelnn.numerical_gradient(lambda p: np.sum(p**2, axis=1), x, batched=True).round(6)
    array([6., 8.])
    """
    check_method(method)
    if chunk_size is not None:
        positive_int(chunk_size, "chunk_size")
    backend = resolve(backend, x)
    given, x = x, as_array(backend, x)
    in_place = not batched and can_be_moved(backend, given)
    check_finite(backend, x, "x")
    point = x if in_place else backend.xp.asarray(as_floating(backend, x), copy=True)

    if batched:
        probe = point[None, ...]
        values = _batch(backend, f, probe)
    else:
        probe = point
        with _restored(backend, point) as original:
            values = as_scalar(backend, f(point))
            require_untouched(backend, point, original)
    proven = in_place or require_pure(backend, f, given, probe)

    epsilon = machine_epsilon(backend, point.dtype, getattr(values, "dtype", "float64"))
    points = stencil(backend, point, method=method, step=step, epsilon=epsilon)
    size = math.prod(point.shape)
    with progress_bar("Numerical gradient", size, enabled=progress, unit="coordinates") as advance:
        if batched:
            chunk = _chunk_size(chunk_size, point)
            gradient = _batched(backend, f, point, values, points, chunk, advance)
        else:
            gradient = _serial(backend, f, point, values, points, advance)
    if not proven and size and not bool(backend.to_numpy(backend.xp.any(gradient != 0))):
        require_response(backend, f, probe)
    return gradient


def _serial(
    backend: Backend,
    f: Callable[[Array], Any],
    x: Array,
    base: Any,
    points: Stencil,
    advance: Advance,
) -> Array:
    """Move `x` in place, one coordinate at a time."""
    differences = []
    with _restored(backend, x) as original:
        for index in itertools.product(*map(range, x.shape)):
            above = below = base
            if points.upper is not x:
                x[index] = points.upper[index]
                above = as_scalar(backend, f(x))
            if points.lower is not x:
                x[index] = points.lower[index]
                below = as_scalar(backend, f(x))
            x[index] = original[index]
            differences.append(above - below)
            advance(1)
    return backend.xp.reshape(_stack(backend, differences, x.dtype), x.shape) / points.width


@contextmanager
def _restored(backend: Backend, x: Array) -> Iterator[Array]:
    saved = backend.xp.asarray(x, copy=True)
    try:
        yield saved
    finally:
        x[...] = saved


def _batched(
    backend: Backend,
    f: Callable[[Array], Any],
    x: Array,
    base: Array,
    points: Stencil,
    chunk: int,
    advance: Advance,
) -> Array:
    """Evaluate the points of `chunk` coordinates in one call; `base` is f at x itself."""
    xp = backend.xp
    size = math.prod(x.shape)
    flat = xp.reshape(x, (1, size))
    sides = [xp.reshape(a, (1, size)) for a in (points.upper, points.lower) if a is not x]
    columns = backend.asarray(np.arange(size))
    differences = []
    for start in range(0, size, chunk):
        moved = columns[None, :] == columns[start : min(start + chunk, size), None]
        k = moved.shape[0]
        batch = xp.concat([xp.where(moved, side, flat) for side in sides])
        values = _batch(backend, f, xp.reshape(batch, (len(sides) * k, *x.shape)))
        above = base if points.upper is x else values[:k]
        below = base if points.lower is x else values[-k:]
        differences.append(above - below)
        advance(k)
    if not differences:
        return xp.zeros_like(x)
    difference = xp.astype(xp.concat(differences), x.dtype)
    return xp.reshape(difference, x.shape) / points.width


def _chunk_size(chunk_size: int | None, x: Array) -> int:
    if chunk_size is not None:
        return positive_int(chunk_size, "chunk_size")
    size: int = max(1, math.prod(x.shape))
    bytes_per_coordinate = 2 * size * 8
    return max(1, BATCH_BYTES // bytes_per_coordinate)


def _batch(backend: Backend, f: Callable[[Array], Any], points: Array) -> Array:
    values = as_floating(backend, f(points), "f(x)")
    if tuple(values.shape) != (points.shape[0],):
        msg = (
            f"with batched=True f must return one value per point: it was given points of shape "
            f"{tuple(points.shape)} and returned shape {tuple(values.shape)}, not "
            f"{(points.shape[0],)}"
        )
        raise ValueError(msg)
    # A copy, because they may lie in a buffer that the next call writes to.
    return backend.xp.asarray(values, copy=True)


def _stack(backend: Backend, values: list[Any], dtype: Any) -> Array:
    xp = backend.xp
    if values and all(backend.owns(value) for value in values):
        return xp.astype(xp.stack(values), dtype)
    return backend.asarray(np.array([float(value) for value in values]), dtype=dtype)
