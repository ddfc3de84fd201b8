"""Numerical gradients by the kernel of structured differences, some samples at a time."""

from __future__ import annotations

import itertools

import numpy as np

from accelnn._differences import DIFFERENCES
from accelnn.backends._spec import NetSpec
from accelnn.backends.numba.arrays import kernel_array
from accelnn.backends.numba.kernels.arguments import Net
from accelnn.backends.numba.kernels.changes import Codes
from accelnn.backends.numba.kernels.differences import Difference, Inputs, Scratch, differences
from accelnn.backends.numba.kernels.interpolation import TABLES, Fits, coefficients_per_sample
from accelnn.backends.numba.kernels.observation import Point
from accelnn.backends.numba.own import (
    activation_change_code,
    bend_of_activation,
    bend_of_loss,
    loss_change_code,
)
from accelnn.backends.numba.team import Team
from accelnn.backends.numba.vectors import LANES

__all__ = ["Differences"]

# Samples times parameters per call of the kernel, where each move is propagated through all later
# layers: some tenths of a second, so that Ctrl-C is handled promptly.
WORK = 100_000_000
# As much as a call has from which it listens to Ctrl-C, because a single sample may take minutes.
LONG = WORK // 10
# The inputs of all layers and samples per call, and the coefficients of all units and samples,
# which bound its memory.
INPUTS = 300_000
COEFFICIENTS = 3_000_000


class Differences:
    """The numerical gradients of nets of one architecture, in float64.

    Parameters
    ----------
    spec : NetSpec
        The architecture.
    team : Team
        The threads that compute.

    Raises
    ------
    NoCodeError
        If there is no code for the changes of a formula.
    """

    def __init__(self, spec: NetSpec, team: Team) -> None:
        self._codes = _change_codes(spec)
        self._spec, self._team, self._lanes = spec, team, LANES[np.float64]
        bends = [bend_of_activation(formula) for formula in spec.activations]
        # How smooth the activations and the loss are, see `Fits`.
        self._bends = np.array([*bends, [bend_of_loss(spec.loss), *[0.0] * 4]])

    def gradient(
        self, net: Net, x: np.ndarray, t: np.ndarray, method: str, step: float
    ) -> np.ndarray:
        """Return the flat gradient of a net whose parameters are as `NetSpec` lays them out.

        The targets `t` are of shape (n, outputs).
        """
        samples, most = len(x), _samples_of_call(self._spec.sizes, self._lanes)
        if samples <= most:
            return self._gradient(net, x, t, method, step)
        out = np.zeros(self._spec.size)
        for start in range(0, samples, most):
            piece = slice(start, min(start + most, samples))
            gradient = self._gradient(net, x[piece], t[piece], method, step)
            out += gradient * ((piece.stop - piece.start) / samples)
        return out

    def _gradient(
        self, net: Net, x: np.ndarray, t: np.ndarray, method: str, step: float
    ) -> np.ndarray:
        difference = Difference.of(DIFFERENCES[method], step)
        sizes, samples, threads = self._spec.sizes, len(x), self._team.size
        out = np.empty(self._spec.size)
        fits = Fits.of(self._bends, sizes, samples, difference.terms, self._lanes)
        scratch, listed = Scratch.of(sizes, self._lanes, threads), Inputs.of(samples, threads)
        self._team.call(
            differences,
            (self._point(net, x, t), fits, difference, TABLES, scratch, listed, out),
            kind=(("differences", sizes), samples * self._spec.size),
            is_long=samples * _work_of_sample(sizes, self._lanes) > LONG,
        )
        return out

    def _point(self, net: Net, x: np.ndarray, t: np.ndarray) -> Point:
        """Return the net and buffers for the activations of the samples."""
        samples, sizes = len(x), self._spec.sizes
        inputs = samples * sum(size + self._lanes for size in sizes[:-1]) + self._lanes
        count = samples * sum(sizes[1:]) + self._lanes
        pre, after, s, rest = (np.zeros(count) for _ in range(4))
        return Point(
            net.table,
            net.params,
            net.parameters,
            net.loss,
            self._codes,
            kernel_array(x).reshape(-1),
            kernel_array(t).reshape(-1),
            pre,
            after,
            s,
            rest,
            np.empty((len(sizes) - 1, samples), np.int64),
            np.empty(inputs, np.int64),
            np.empty(inputs),
            np.empty((len(sizes) - 1, samples)),
            np.empty(samples * sizes[-1]),
            t.sum(axis=1),
        )


def _change_codes(spec: NetSpec) -> Codes | None:
    """Return the code of the changes of all formulas, or None if the kernel itself has it."""
    activations = [activation_change_code(formula) for formula in spec.activations]
    loss = loss_change_code(spec.loss)
    if loss == 0 and not any(changes for _, changes in activations):
        return None
    units, changes = np.array([*activations, (0, 0)], np.int64).T.copy()
    return Codes(units, changes, loss)


def _work_of_sample(sizes: tuple[int, ...], lanes: int) -> int:
    """Return how many products a sample takes at most, vectors of them where moves propagate."""
    products = [a * b for a, b in itertools.pairwise(sizes)]
    # A move of a weight is propagated through every layer after the next, a vector at a time.
    return sum(n * (1 + sum(products[i + 2 :]) // lanes) for i, n in enumerate(products))


def _samples_of_call(sizes: tuple[int, ...], lanes: int) -> int:
    """Return how many samples one call of the kernel processes."""
    work = _work_of_sample(sizes, lanes)
    inputs, coefficients = sum(sizes[:-1]), coefficients_per_sample(sizes, lanes)
    return max(1, min(WORK // work, INPUTS // inputs, COEFFICIENTS // coefficients))
