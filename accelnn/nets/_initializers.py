"""Initial weights, drawn on the host in float64 so that they are the same on every backend."""

import math
import numbers
from typing import TypeAlias

import numpy as np

from accelnn._shown import shown
from accelnn._typing import Rng
from accelnn._validation import generator
from accelnn.backends import MemoryFor, NetSpec, get_backend
from accelnn.formulas._activation import Initializer
from accelnn.formulas._checks import nearest

__all__ = ["draw_parameters", "standard_deviation"]

Init: TypeAlias = Initializer | float | None


def standard_deviation(init: Init, default: Initializer, n_in: int, n_out: int) -> float:
    """Return the standard deviation of a layer's weights.

    Parameters
    ----------
    init : {"xavier", "he"}, float or None
        Glorot and Bengio's √(2 / (n_in + n_out)), He et al.'s √(2 / n_in), or the number itself.
        None takes the default.
    default : {"xavier", "he"}
        What suits the activation after the layer.
    n_in, n_out : int
        The layer's widths.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS (2010). He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV (2015).
    """
    if init is None:
        init = default
    if isinstance(init, str) and init == "xavier":
        return math.sqrt(2.0 / (n_in + n_out))
    if isinstance(init, str) and init == "he":
        return math.sqrt(2.0 / n_in)
    is_number = isinstance(init, numbers.Real) and not isinstance(init, bool)
    if not is_number or not 0.0 <= nearest(init) < math.inf:
        known = "'xavier', 'he', None or a non-negative standard deviation"
        msg = f"init must be {known}, got {shown(init)}"
        raise ValueError(msg)
    return float(init)


def draw_parameters(spec: NetSpec, init: Init, rng: Rng) -> np.ndarray:
    """Return a flat float64 buffer of normal weights and zero biases, drawn layer by layer."""
    with MemoryFor(get_backend("numpy"), lambda: _needs(spec), "Make the net smaller"):
        return _drawn(spec, init, generator(rng))


def _needs(spec: NetSpec) -> str:
    return f"to draw {spec.size:,} parameters takes {8 * spec.size:,} bytes"


def _drawn(spec: NetSpec, init: Init, draw: np.random.Generator) -> np.ndarray:
    flat, layers = np.zeros(spec.size), 0
    for parameter in spec.parameters:
        if parameter.name.startswith("W"):
            # The output layer is initialised like the last hidden layer.
            layer = min(layers, max(0, len(spec.activations) - 1))
            follows = spec.activations[layer].initializer if spec.activations else "xavier"
            std = standard_deviation(init, follows, *parameter.shape)
            layers += 1
            weights = std * draw.standard_normal(parameter.shape)
            flat[parameter.start : parameter.stop] = weights.ravel()
    return flat
