"""The second derivatives of a scalar function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn._progress import progress_bar
from accelnn._typing import Array, ArrayLike
from accelnn._validation import on_host
from accelnn.backends import DIFFERENCES, BackendLike, dtype_name
from accelnn.gradient._complex import Slopes, require_complex_safe
from accelnn.gradient._diagnosis import SAFETY, flag_not_finite
from accelnn.gradient._differentiate import Derivatives
from accelnn.gradient._extrapolation import Estimate, extrapolate
from accelnn.gradient._noise import measure_noise
from accelnn.gradient._numerical import Problem, flat_steps, pose
from accelnn.gradient._result import Flag
from accelnn.gradient._steps import IMAGINARY_STEP, machine_epsilon, stencil, step_sizes
from accelnn.gradient.evaluators import Advance, HasMap, Mapper, no_progress

__all__ = ["numerical_hessian"]

# Rounding of a second difference, in units of the last place of the largest value.
NOISE_ULPS = 8.0
# Below this part of the first steps, rounding of a second difference outweighs everything.
LEAST_SCALE = 1e-6
# Powers of machine epsilon that balance truncation and rounding of second differences.
BALANCE = {"central": 1 / 4, "forward": 1 / 3, "backward": 1 / 3, "complex": 1 / 3}


def numerical_hessian(
    f: Callable[[Array], Any],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | ArrayLike | None = None,
    bounds: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    full_output: bool = False,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Return the Hessian of a scalar function by second differences; it is symmetric.

    Parameters
    ----------
    f : callable
        As in `numerical_gradient`.
    x : array_like
        As in `numerical_gradient`; its n coordinates take n² + n evaluations (central, complex),
        (n² + 3n) / 2 (one-sided), or 2n² for each step (richardson).
    method : {"central", "forward", "backward", "complex", "richardson"}, default "central"
        Which differences. ``"complex"`` is the central difference of the complex-step derivative,
        good to about ten digits; ``"richardson"`` extrapolates central second differences.
    step : float or array_like, optional
        One for all coordinates or one for each. By default eps^(1/4) (central) or eps^(1/3) times
        max(1, abs(x)); where the extrapolation begins, one half of that.
    bounds : (low, high), optional
        As in `numerical_gradient`; not with the methods ``"complex"`` and ``"richardson"``.
    workers, batched, chunk_size, full_output, progress, backend
        As in `numerical_gradient`.

    Returns
    -------
    array or DerivativeResult
        Of shape ``(*x.shape, *x.shape)`` and x's dtype.

    Raises
    ------
    ValueError
        As in `numerical_gradient`.
    accelnn.errors.ImpureFunctionError
        As in `numerical_gradient`.

    References
    ----------
    M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 25.3.23 to 25.3.27.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([1.0, 2.0])
    >>> accelnn.numerical_hessian(lambda x: x[0] ** 2 * x[1], x).round(5)
    array([[4., 2.],
           [2., 0.]])
    """
    if bounds is not None and method in ("complex", "richardson"):
        msg = f"a Hessian with method={method!r} knows no bounds; use 'central'"
        raise ValueError(msg)
    with pose(
        f,
        x,
        method=method,
        bounds=bounds,
        backend=backend,
        workers=workers,
        batched=batched,
        chunk_size=chunk_size,
    ) as problem:
        second = SecondDifferences(problem, step)
        with progress_bar(
            "Numerical Hessian", second.rows, enabled=progress, unit="entries"
        ) as advance:
            found = second.solve(advance, diagnose=full_output)
        xp = problem.backend.xp
        hessian = xp.reshape(found.value, (*problem.shape, *problem.shape))
        problem.start.require_response(hessian)
        return problem.result(hessian, found) if full_output else hessian


class SecondDifferences:
    """Second differences of f around x, on the host.

    Attributes
    ----------
    rows : int
        How many entries of the Hessian are computed: those of one triangle.
    """

    def __init__(self, problem: Problem, step: float | ArrayLike | None) -> None:
        self.problem = problem
        backend, start, x = problem.backend, problem.start, problem.x
        self.evaluator = start.evaluator
        self.epsilon = machine_epsilon(backend, x.dtype, getattr(start.base, "dtype", "float64"))
        kind = "central" if problem.method == "complex" else problem.method
        h = step_sizes(
            backend,
            x,
            method=kind,
            step=flat_steps(backend, step, problem.shape),
            epsilon=self.epsilon,
            balance=BALANCE.get(problem.method),
        )
        self.x, self.h = on_host(backend, x), on_host(backend, h)
        self.base = np.real(
            backend.to_numpy(start.base) if backend.owns(start.base) else start.base
        )
        n = len(self.x)
        self.i, self.j = np.triu_indices(n)
        self.rows = len(self.i)
        self.imaginary = IMAGINARY_STEP[dtype_name(problem.x.dtype)]
        self.largest = float(np.abs(self.base)) if np.ndim(self.base) == 0 else 0.0
        self.sides = self._sides()
        if kind in DIFFERENCES:
            # Refuses steps that do not move x.
            stencil(backend, x, backend.asarray(self.h, x.dtype), kind, step)

    def solve(self, advance: Advance, *, diagnose: bool) -> Derivatives:
        """Return the Hessian of shape (n, n), and what is known of it."""
        backend, method = self.problem.backend, self.problem.method
        step = backend.asarray(self.h, self.problem.x.dtype)
        if self.rows == 0:
            nothing = np.zeros((0, 0))
            return Derivatives(step[:, None], step, nothing, np.zeros(0, int))
        error = None
        if method == "richardson":
            scale = np.full(self.rows, 1.0)
            found = extrapolate(
                self._at_scale,
                scale,
                power=2,
                position=np.zeros(self.rows),
                least=np.full(self.rows, LEAST_SCALE),
                advance=advance,
            )
            entries, error = found.value[:, 0], found.error[:, 0]
        else:
            take = self._complex_steps if method == "complex" else self._differences
            entries = take(self.h, advance)
            if diagnose:
                fine = take(0.5 * self.h, no_progress)
                # A smaller step always fits; it shows three quarters of the error, or a half.
                order = 2.0 if method in ("central", "complex") else 1.0
                truncation = np.abs(fine - entries) / (1.0 - 0.5**order)
                noise, area = NOISE_ULPS * self.epsilon * self.largest, self.h[self.j]
                if method != "complex":
                    scatter = measure_noise(self.problem.start, self.problem.x, self.problem.bounds)
                    noise = max(noise, NOISE_ULPS * float(scatter[0]))
                    area = self.h[self.i] * area
                error = SAFETY * truncation + noise / area
        value = self._square(entries)
        flags = flag_not_finite(value)
        flags |= np.where((self.sides != 0) & (self.problem.bounds is not None), Flag.ONE_SIDED, 0)
        return Derivatives(
            backend.asarray(value, self.problem.x.dtype),
            step,
            None if error is None else self._square(error),
            flags,
        )

    def _sides(self) -> np.ndarray:
        """Return 0 where a coordinate moves both ways, else the sign of its moves."""
        n, method = len(self.x), self.problem.method
        up = -1 if method == "backward" else 1
        sides = np.full(n, up if method in ("forward", "backward") else 0)
        if self.problem.bounds is None:
            return sides
        below, above = (
            on_host(self.problem.backend, room) for room in self.problem.bounds.room(self.problem.x)
        )
        wider = np.where(above >= below, 1, -1)
        if method == "central":
            sides = np.where(np.minimum(below, above) < self.h, wider, 0)
        else:
            sides = np.where(np.where(sides > 0, above, below) < 2.0 * self.h, wider, sides)
        room = np.where(sides == 0, np.inf, 0.5 * np.maximum(below, above))
        self.h = np.minimum(self.h, room)
        return sides

    def _differences(self, h: np.ndarray, advance: Advance) -> np.ndarray:
        """Return the upper triangle by differences of values."""
        n, base, both = len(self.x), self.base, self.sides == 0
        near = self._rounded(self.x + np.where(both, h, self.sides * h))
        far = self._rounded(self.x + np.where(both, -h, 2.0 * self.sides * h))
        alone = self._values(np.arange(n)[:, None], np.stack([near, far], axis=1)[..., None])
        advance(n)
        d0, d1 = near - self.x, far - self.x
        entries = np.empty(self.rows)
        on_diagonal = self.i == self.j
        entries[on_diagonal] = 2.0 * (
            (alone[:, 0] - base) / (d0 * (d0 - d1)) + (alone[:, 1] - base) / (d1 * (d1 - d0))
        )
        central = ~on_diagonal & both[self.i] & both[self.j]
        i, j = self.i[central], self.j[central]
        moved = np.stack([np.stack([a[i], a[j]], axis=1) for a in (near, far)], axis=1)
        pairs = self._values(np.stack([i, j], axis=1), moved, advance)
        rises = pairs.sum(axis=1) - alone[i].sum(axis=1) - alone[j].sum(axis=1) + 2.0 * base
        entries[central] = rises / (0.5 * (d0 - d1)[i] * (d0 - d1)[j])
        corner = ~on_diagonal & ~central
        i, j = self.i[corner], self.j[corner]
        moved = np.stack([near[i], near[j]], axis=1)[:, None]
        pairs = self._values(np.stack([i, j], axis=1), moved, advance)
        entries[corner] = (pairs[:, 0] - alone[i, 0] - alone[j, 0] + base) / (d0[i] * d0[j])
        return entries

    def _complex_steps(self, h: np.ndarray, advance: Advance) -> np.ndarray:
        """Return the upper triangle by central differences of complex-step derivatives."""
        i, j = self.i, self.j
        imaginary = self.imaginary
        sides = []
        for sign in (1.0, -1.0):
            moved = self.x + sign * h
            first = np.where(i == j, moved[i], self.x[i]) + 1j * imaginary
            # On the diagonal both columns are one coordinate and must say the same.
            second = np.where(i == j, first, moved[j])
            sides.append(np.stack([first, second], axis=1))
        values = self._values(np.stack([i, j], axis=1), np.stack(sides, axis=1), advance)
        slopes = np.imag(values) / imaginary
        width = self._rounded(self.x + h) - self._rounded(self.x - h)
        # Their means, on the diagonal, are the slopes at x.
        on_diagonal = i == j
        means = slopes[on_diagonal].mean(axis=1)[:, None]
        problem = self.problem
        require_complex_safe(problem.start, problem.x, Slopes.dense(means), problem.bounds)
        entries: np.ndarray = (slopes[:, 0] - slopes[:, 1]) / width[j]
        return entries

    def _at_scale(self, rows: np.ndarray, scale: np.ndarray) -> Estimate:
        """Return second differences of some entries with all steps times `scale`."""
        i, j = self.i[rows], self.j[rows]
        hi, hj = scale * self.h[i], scale * self.h[j]
        xi, xj = self.x[i], self.x[j]
        values = np.empty((len(rows), 4))
        same, other = np.flatnonzero(i == j), np.flatnonzero(i != j)
        pairs = np.stack([i, j], axis=1)
        moved = np.stack([xi + hi, xi - hi], axis=1)[same][..., None]
        values[same, :2] = self._values(pairs[same, :1], moved)
        signs = ((1, 1), (-1, -1), (1, -1), (-1, 1))
        moved = np.stack([np.stack([xi + a * hi, xj + b * hj], axis=1) for a, b in signs], axis=1)
        values[other] = self._values(pairs[other], moved[other])
        values[same, 2:] = self.base
        with np.errstate(all="ignore"):
            size = np.where(i == j, 1.0, 4.0) * hi * hj
            second = (values[:, :2].sum(axis=1) - values[:, 2:].sum(axis=1)) / size
            noise = 2.0 * self.epsilon * np.abs(values).max(axis=1) / size
        return Estimate(second[:, None], noise[:, None])

    def _values(
        self, columns: np.ndarray, moved: np.ndarray, advance: Advance = no_progress
    ) -> np.ndarray:
        backend = self.problem.backend
        points = backend.asarray(moved, self.evaluator.x.dtype)
        found = backend.to_numpy(self.evaluator(columns, points, advance))
        dtype = complex if found.dtype.kind == "c" else float
        values: np.ndarray = found.reshape(moved.shape[:2]).astype(dtype)
        seen = np.imag(values) / self.imaginary if dtype is complex else values
        self.largest = max(self.largest, float(np.max(np.abs(seen), initial=0.0)))
        return values

    def _rounded(self, a: np.ndarray) -> np.ndarray:
        """Return numbers as x's dtype has them."""
        return a.astype(self.problem.backend.to_numpy(self.problem.x).dtype).astype(np.float64)

    def _square(self, entries: np.ndarray) -> np.ndarray:
        n = len(self.x)
        full = np.empty((n, n))
        full[self.i, self.j] = full[self.j, self.i] = entries
        return full
