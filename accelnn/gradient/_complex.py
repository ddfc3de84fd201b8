"""Detection of functions that lose the imaginary part of a complex step."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from accelnn.gradient._lines import Lines
from accelnn.gradient._steps import Bounds, sizes_beside

__all__ = ["require_complex_safe"]

# Far above the effect of rounding and curvature, far below that of a lost imaginary part.
AGREEMENT = 1e-4
NOISE_ULPS = 16.0
# Bound on measured noise, in standard deviations.
NOISE = 8.0
# Steps relative to x, as powers of machine epsilon.
STEPS = (1 / 3, 4 / 9, 5 / 9, 2 / 3)
# A lost slope is the same at any step, to this factor, and must be so twice in a row. The effect of
# curvature shrinks with the step, as at a minimum, where complex steps rightly predict no change;
# that of noise grows.
STEADY = 2.0


def require_complex_safe(
    lines: Lines,
    bounds: Bounds | None,
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    unmoved: np.ndarray,
    epsilon: float,
    direction: np.ndarray | None = None,
) -> None:
    """Raise ValueError if f loses the imaginary part of complex steps, as abs does.

    The changes that complex steps predict along two random real moves are compared with those of
    f: one move of all coordinates, and one of those with derivatives of 0, which is what a lost
    imaginary part looks like.

    Parameters
    ----------
    lines : Lines
        The lines along which complex steps were taken.
    bounds : Bounds or None
        Bounds of the moves.
    predict : callable
        Returns the change of each value that complex steps predict for a move of x, and the sum of
        the magnitudes of its terms.
    unmoved : numpy.ndarray of bool of shape (n,)
        Which coordinates have derivatives of 0.
    epsilon : float
        Machine epsilon of f.
    direction : numpy.ndarray of shape (n,), optional
        The direction of the move, if complex steps were taken along that one only.

    Raises
    ------
    ValueError
        If f changes otherwise than predicted.
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
            # One real move of all chosen coordinates.
            points = points.astype(lines.dtype).astype(x.dtype)
            values = evaluator(np.arange(x.size)[None], points[None])[0]
            # A value that is not real at a real point is outside the domain of f.
            values = np.where(np.imag(values) == 0.0, np.real(values), np.nan)
            predicted, size = predict(points[0] - points[1])
            lost.append(_Lost(values, lines.all_values, predicted, size, epsilon, epsilon**power))
            if not lost[-1].is_seen.any():
                break
        else:
            steady = [after.is_steady(before) for before, after in itertools.pairwise(lost)]
            twice = (steady[0] & steady[1]) | (steady[1] & steady[2])
            # The shortest move may resolve an oscillation that the others miss.
            twice &= STEADY * lost[-1].most > np.abs(lost[-2].slope)
            if twice.any():
                # Cancellation inside f shows as noise on a line through x.
                noise = NOISE * lines.noise(bounds).max()
                twice &= np.abs(lost[0].change - lost[0].predicted) > noise
            if twice.any():
                raise ValueError(lost[1].text(int(np.argmax(twice))))


class _Lost:
    """The change of f along one move that complex steps do not predict."""

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
            # Where f is curved, rounding of x changes its slope.
            bend = np.abs(values.sum(axis=0) - 2.0 * base)
            noise += NOISE_ULPS * epsilon * bend / step
            limit = AGREEMENT * (size + np.abs(self.change) + np.abs(predicted)) + noise
            error = self.change - predicted
            # A value that does not change at all is too coarse to say anything.
            self.is_seen = (np.abs(error) > limit) & (self.change != 0.0)
            # At a minimum, rounding makes slopes that are small beside the curvature.
            self.is_straight = np.abs(error) > bend
            self.slope, self.most = error / step, (np.abs(error) + noise) / step

    def is_steady(self, before: _Lost) -> np.ndarray:
        """Return where the same slope was missing at a larger step too."""
        with np.errstate(all="ignore"):
            ratio = self.slope / before.slope
        seen = self.is_seen & before.is_seen & self.is_straight
        return np.asarray(seen & (ratio < STEADY) & (ratio > 1.0 / STEADY))

    def text(self, place: int) -> str:
        """Return the error message for one value."""
        return (
            f"f does not compute with complex numbers as method='complex' requires: along a small "
            f"move complex steps predict a change of {self.predicted[place]:.6g}, but f changes by "
            f"{self.change[place]:.6g}. abs, conj, real, max, comparisons and casts to float lose "
            f"the imaginary part; use method='richardson' for such an f"
        )
