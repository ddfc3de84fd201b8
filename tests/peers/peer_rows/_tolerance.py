"""How far off a difference may be, from nothing but f's size, its radius and machine epsilon.

Where f is analytic within a radius L of x and |f| <= F there, Cauchy's inequality bounds all its
derivatives, |f^(k)| / k! <= F / L^k, and with them what a formula cuts off. What rounding adds
follows from the error of a value, a few units in the last place of F and of the argument, and from
the step. No number here is fitted to a result; those that are free say how careful an f is.
"""

import functools

import numpy as np

# Units in the last place that the value of an honest f may be off.
ULPS = 8.0
# Rounding of an extrapolation, in units of the noise of one value over the radius: differences with
# steps of an eighth of it have 8, and its columns add about as much again and again.
EXTRAPOLATION = 125.0
# An imaginary step has no difference: f's own rounding, and once more for the derivative.
IMAGINARY = 2.0

POWERS = {"central": 1 / 3, "central4": 1 / 5, "forward": 1 / 2, "backward": 1 / 2}
WEIGHTS = {"central": 1.0, "central4": 1.5, "forward": 2.0, "backward": 2.0}
# Fractions of the radius that are tried: each gives a bound, and so does the best of them.
FRACTIONS = (1.0, 0.25, 1 / 16, 1 / 64, 1 / 256)
# Where a step is no longer small beside the radius, no bound holds.
FARTHEST = 0.5
# The step that is taken differs from the one that was chosen by the rounding of x + h.
ROUNDED_STEP = 1.01
CIRCLE = np.exp(2j * np.pi * np.arange(16) / 16)


def epsilon_of(row):
    """Return machine epsilon of the less precise of x and f(x)."""
    dtype = np.asarray(row.x).dtype
    own = float(np.finfo(dtype).eps) if dtype.kind == "f" else 2.0**-52
    return max(own, row.epsilon)


def cut_off(method, q):
    """Return what a formula for f' cuts off, in units of F / L, at a step of q L."""
    q = ROUNDED_STEP * q
    share = {
        "central": q**2 / (1.0 - q**2),
        "central4": (2.0 * q) ** 4 / (1.0 - (2.0 * q) ** 2) / 3.0,
        "forward": q / (1.0 - q),
        "backward": q / (1.0 - q),
    }[method]
    return np.where(q < FARTHEST, share, np.inf)


def bound(method, h, radius, size, noise):
    """Return the largest error of f' at a step of h; `noise` is that of one value."""
    if method == "richardson":
        return np.where(np.isnan(noise), np.inf, EXTRAPOLATION * noise / radius)
    if method == "complex":
        # The default step is so short that its square vanishes.
        found = size / radius * cut_off("central", h / radius) + IMAGINARY * noise / radius
        return np.where(np.isnan(found), np.inf, found)
    found = size / radius * cut_off(method, h / radius) + WEIGHTS[method] * noise / h
    # Where f has a pole within the radius, nothing is known.
    return np.where(np.isnan(found), np.inf, found)


def steps(method, x, epsilon, options):
    """Return the steps of the contract."""
    size = np.abs(x)
    default = epsilon ** POWERS[method] * np.maximum(1.0, size) if method in POWERS else 0.0 * size
    if options.get("step") is not None:
        return np.broadcast_to(np.asarray(options["step"], float), x.shape)
    if options.get("rel_step") is not None:
        return np.where(size > 0.0, options["rel_step"] * size, default)
    return default


@functools.cache
def sizes(row):
    """Return pairs of a fraction and max |f| that far from x, coordinate by coordinate."""
    x = np.asarray(row.x, np.float64)
    if row.size is not None:
        return [(1.0, np.broadcast_to(np.asarray(row.size, float), x.shape))]
    radius = np.broadcast_to(np.asarray(row.radius, float), x.shape)
    found = []
    for fraction in FRACTIONS:
        around = []
        for index in np.ndindex(x.shape):
            points = [x.astype(complex) for _ in CIRCLE]
            for point, turn in zip(points, CIRCLE, strict=True):
                point[index] += fraction * radius[index] * turn
            around.append(_largest(row, points))
        found.append((fraction, np.array(around).reshape(x.shape + np.shape(around[0]))))
    return found


def _largest(row, points):
    with np.errstate(all="ignore"):
        values = [np.squeeze((row.smooth or row.f)(p)) for p in points]
        return np.abs(np.array(values, complex)).max(axis=0)


@functools.cache
def _elementwise_sizes(row):
    x = np.asarray(row.x, np.float64)
    if row.size is not None:
        return [(1.0, np.broadcast_to(np.asarray(row.size, float), x.shape))]
    radius = np.broadcast_to(np.asarray(row.radius, float), x.shape)
    return [(fraction, _largest_of_all(row, x, fraction * radius)) for fraction in FRACTIONS]


def _largest_of_all(row, x, radius):
    with np.errstate(all="ignore"):
        values = [np.asarray((row.smooth or row.f)(x + radius * turn)) for turn in CIRCLE]
    return np.abs(np.array(values)).max(axis=0)


@np.errstate(all="ignore")
def first_order(row, method, options, *, elementwise=False):
    """Return the tolerance of first derivatives, of shape ``(*x.shape, *f(x).shape)``."""
    x = np.asarray(row.x, np.float64)
    epsilon = epsilon_of(row)
    h = steps(method, x, epsilon, options)
    best = np.inf
    for fraction, size in (_elementwise_sizes if elementwise else sizes)(row):
        radius = fraction * np.broadcast_to(np.asarray(row.radius, float), x.shape)
        at = np.abs(x)
        columns = x.shape + (1,) * (np.ndim(size) - x.ndim)
        near, far, step = (a.reshape(columns) for a in (radius, at, h))
        noise = ULPS * epsilon * (np.maximum(size, row.noise) + far * size / near)
        best = np.minimum(best, bound(method, step, near, size, noise))
    return np.broadcast_to(best, np.shape(best) or x.shape)


@np.errstate(all="ignore")
def higher_order(row, order, method):
    """Return the tolerance of the derivative of an order from 2 on, elementwise.

    The step is said by nobody: at half of it rounding counts, at twice of it what is cut off, which
    no formula of second order up to the fourth derivative makes more than 8 times that of f'.
    """
    x = np.asarray(row.x, np.float64)
    epsilon = epsilon_of(row)
    factorial = float(np.prod(np.arange(1.0, order + 1)))
    best = np.inf
    for fraction, size in _elementwise_sizes(row):
        radius = fraction * np.broadcast_to(np.asarray(row.radius, float), x.shape)
        noise = ULPS * epsilon * (np.maximum(size, row.noise) + np.abs(x) * size / radius)
        if method == "richardson":
            # Columns of the table add as much for each order again.
            found = 2.0 ** (order - 1) * EXTRAPOLATION * noise
            found = found * factorial * 8.0 ** (order - 1) / radius**order
        else:
            h = epsilon ** (1 / (order + 2)) * np.maximum(1.0, np.abs(x))
            share = 8.0 * cut_off("central", np.minimum(2.0 * h / radius, 1.0))
            share = np.where(4.0 * h / radius < FARTHEST, share, np.inf)
            found = factorial * size / radius**order * share + 16.0 * noise / (h / 2) ** order
        best = np.minimum(best, np.where(np.isnan(found), np.inf, found))
    return best


@functools.cache
@np.errstate(all="ignore")
def second_order(row, method):
    """Return the tolerance of a Hessian, of shape ``(*x.shape, *x.shape)``; steps as above."""
    x = np.asarray(row.x, np.float64)
    epsilon = epsilon_of(row)
    flat, n = x.reshape(-1), x.size
    radius = np.broadcast_to(np.asarray(row.radius, float), x.shape).reshape(-1)
    h = epsilon ** {"central": 1 / 4}.get(method, 1 / 3) * np.maximum(1.0, np.abs(flat))
    result = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            options = [
                _second(
                    method,
                    epsilon,
                    row.noise,
                    size,
                    h[[i, j]],
                    fraction * radius[[i, j]],
                    np.abs(flat[[i, j]]),
                )
                for fraction, size in _polydisks(row, i, j)
            ]
            result[i, j] = result[j, i] = np.nanmin([*options, np.inf])
    return result.reshape(x.shape + x.shape)


def _second(method, epsilon, inner, size, h, radius, at):
    noise = ULPS * epsilon * (max(size, inner) + size * float(np.sum(at / radius)))
    area = float(np.prod(radius))
    if method == "richardson":
        return EXTRAPOLATION * noise * 8.0 / area
    q = 2.0 * float(np.max(h / radius))
    if 2.0 * q >= FARTHEST:
        return np.inf
    cut = 8.0 * size / area * float(cut_off("forward" if "ward" in method else "central", q))
    if method == "complex":
        return cut + 4.0 * noise / float(np.min(radius) * np.min(h))
    return cut + 16.0 * noise / float(np.prod(h))


@functools.cache
def _polydisks(row, i, j):
    x = np.asarray(row.x, np.float64)
    radius = np.broadcast_to(np.asarray(row.radius, float), x.shape).reshape(-1)
    found = []
    for fraction in FRACTIONS[:4]:
        points = []
        for one in CIRCLE[::4]:
            for other in CIRCLE[::4] if i != j else CIRCLE[:4]:
                moved = x.reshape(-1).astype(complex)
                moved[i] += fraction * radius[i] * one * (1.0 if i != j else other)
                if i != j:
                    moved[j] += fraction * radius[j] * other * CIRCLE[2]
                points.append(moved.reshape(x.shape))
        # Sixteen points of a torus see less than all of it.
        found.append((fraction, 2.0 * float(_largest(row, points))))
    return found


@np.errstate(all="ignore")
def along(row, v, method):
    """Return the tolerance of a derivative along v, whose step is between two sizes of x."""
    x, v = np.asarray(row.x, np.float64), np.asarray(v, float)
    if method not in POWERS:
        return None
    epsilon = epsilon_of(row)
    radius = float(np.min(np.asarray(row.radius, float) / np.maximum(np.abs(v), 1e-3)))
    widest = max(1.0, float(np.linalg.norm(x))) / max(float(np.abs(v).max()), 1e-3)
    narrowest = 1.0 / max(float(np.linalg.norm(v)), 1.0)
    best = np.inf
    for fraction in FRACTIONS:
        near = fraction * radius
        size = (
            _largest(row, [x + near * turn * v for turn in CIRCLE])
            if row.size is None
            else np.asarray(row.size, float)
        )
        noise = ULPS * epsilon * (np.maximum(size, row.noise) + widest * size / near)
        ends = [epsilon ** POWERS[method] * end for end in (narrowest, widest)]
        worst = np.maximum(*(bound(method, end, near, size, noise) for end in ends))
        best = np.minimum(best, worst)
        if row.size is not None:
            break
    return best
