"""Whether a function computes with complex numbers as if it knew only real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from accelnn.gradient._lines import Lines
from accelnn.gradient._steps import Bounds, sizes_beside

__all__ = ["require_complex_safe"]

# Far above what rounding and bends do, far below what a lost imaginary part does.
AGREEMENT = 1e-4
NOISE_ULPS = 16.0
# Measured noise, in standard deviations.
NOISE = 8.0
# Steps in relation to x, as powers of machine epsilon.
STEPS = (1 / 3, 4 / 9, 5 / 9, 2 / 3)
# A lost slope is the same at any step, to this factor, and so it must be twice in a row. What a
# bend adds shrinks with the square of the step, as at a minimum, where complex steps rightly
# predict nothing; noise grows.
STEADY = 2.0


def require_complex_safe(
    lines: Lines,
    bounds: Bounds | None,
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    unmoved: np.ndarray,
    epsilon: float,
    direction: np.ndarray | None = None,
) -> None:
    """Refuse complex steps through a function that loses imaginary parts, as abs does.

    Changes along two random moves are compared with those of f: of all coordinates, and of those
    that seem to move nothing, which is what a lost imaginary part looks like.

    Parameters
    ----------
    lines : Lines
        f at complex points.
    bounds : Bounds or None
        Which moves keep to.
    predict : callable
        What complex steps say of a move of x: by how much each value changes, and the size of what
        that is a sum of.
    unmoved : numpy.ndarray of bool of shape (n,)
        Which coordinates seem to move nothing.
    epsilon : float
        Machine epsilon of f.
    direction : numpy.ndarray of shape (n,), optional
        The only move, where complex steps were taken along no other.

    Raises
    ------
    ValueError
        If they disagree.
    """
    x, evaluator = lines.x, lines.evaluator
    if not x.size or not lines.all_values.size:
        return
    if direction is None:
        draw = np.random.default_rng(0)
        direction = draw.uniform(0.5, 1.0, x.size) * draw.choice([-1.0, 1.0], x.size)
        direction = direction * sizes_beside(x)
    for chosen in (np.ones(x.size, bool), unmoved):
        if not chosen.any():
            continue
        lost = []
        for power in STEPS:
            step = epsilon**power * np.where(chosen, direction, 0.0)
            points = np.stack([x + step, x - step])
            if bounds is not None:
                points = np.clip(points, *bounds)
            # All coordinates move together, and have no imaginary part.
            points = points.astype(lines.dtype).astype(x.dtype)
            values = evaluator(np.arange(x.size)[None], points[None])[0]
            # What is not real at a real point is beyond the domain of f.
            values = np.where(np.imag(values) == 0.0, np.real(values), np.nan)
            predicted, size = predict(points[0] - points[1])
            lost.append(_Lost(values, lines.all_values, predicted, size, epsilon, epsilon**power))
            if not lost[-1].is_seen.any():
                break
        else:
            steady = [after.is_steady(before) for before, after in itertools.pairwise(lost)]
            twice = (steady[0] & steady[1]) | (steady[1] & steady[2])
            # Of a wave that is shorter than the other moves, the last may see that all is well.
            twice &= STEADY * lost[-1].most > np.abs(lost[-2].slope)
            if twice.any():
                # Terms that cancel inside f leave their rounding: it shows on a line through x.
                noise = NOISE * lines.noise(bounds).max()
                twice &= np.abs(lost[0].change - lost[0].predicted) > noise
            if twice.any():
                raise ValueError(lost[1].text(int(np.argmax(twice))))


class _Lost:
    """By how much f changed otherwise than complex steps predict, along one move."""

    def __init__(
        self,
        values: np.ndarray,
        base: np.ndarray,
        predicted: np.ndarray,
        size: np.ndarray,
        epsilon: float,
        step: float,
    ) -> None:
        self.predicted = predicted
        with np.errstate(all="ignore"):
            self.change = values[0] - values[1]
            noise = NOISE_ULPS * epsilon * np.abs(values).sum(axis=0)
            # Where f curves, a unit in the last place of x moves its slope.
            bend = np.abs(values.sum(axis=0) - 2.0 * base)
            noise += NOISE_ULPS * epsilon * bend / step
            limit = AGREEMENT * (size + np.abs(self.change) + np.abs(predicted)) + noise
            error = self.change - predicted
            # Where f does not move at all, its values are too coarse to say anything.
            self.is_seen = (np.abs(error) > limit) & (self.change != 0.0)
            # At a minimum, rounding within what is squared makes slopes that curvature hides.
            self.is_straight = np.abs(error) > bend
            self.slope, self.most = error / step, (np.abs(error) + noise) / step

    def is_steady(self, before: _Lost) -> np.ndarray:
        """Return where a slope is missing that was missing at a larger step too."""
        with np.errstate(all="ignore"):
            ratio = self.slope / before.slope
        seen = self.is_seen & before.is_seen & self.is_straight
        return np.asarray(seen & (ratio < STEADY) & (ratio > 1.0 / STEADY))

    def text(self, place: int) -> str:
        """Return what to say of one value."""
        return (
            f"f does not compute with complex numbers as method='complex' needs it: complex steps "
            f"predict a change of {self.predicted[place]:.6g} along a small move, and f changes by "
            f"{self.change[place]:.6g}. abs, conj, real, max, comparisons and casts to float lose "
            f"the imaginary part; use method='richardson' for such an f"
        )
