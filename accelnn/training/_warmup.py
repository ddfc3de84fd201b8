"""Compilation ahead of time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from accelnn._typing import DTypeLike
from accelnn._validation import check_dtype
from accelnn.backends import BackendLike, get_backend
from accelnn.nets import MLP
from accelnn.training._fit import fit

__all__ = ["warmup"]

# Enough samples that no backend leaves them to NumPy; of two groups of pixels one is zero, so that
# kernels for images are compiled too.
SAMPLES, GROUP = 2_000, 4


def warmup(
    *, backend: BackendLike | None = None, dtypes: Iterable[DTypeLike] = ("float32", "float64")
) -> None:
    """Compile all that training, evaluation and numerical gradients of nets need.

    A backend that compiles does so when something is first called, which then takes some seconds.
    What is compiled once is kept on disk where that is possible, and serves every width, depth,
    activation, loss, optimiser and batch size: a later process, and a later net, does not wait.
    Compiled when it comes is what few need: code for sparse data whose non-zeros have no
    neighbours, for numerical gradients with other activations than sigmoid, ReLU and tanh or other
    losses than cross entropy and squared errors, and on a CUDA device for another activation or
    loss.

    Parameters
    ----------
    backend : str, Backend or subclass, optional
        Whose code; see `accelnn.get_backend`. One that compiles nothing has nothing to do.
    dtypes : iterable of str, default ("float32", "float64")
        The dtypes of the nets to come.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.warmup(backend="numpy")
    """
    backend = get_backend(backend)
    for dtype in dtypes:
        net = MLP([2 * GROUP, 2, 2], dtype=check_dtype(dtype), rng=0, backend=backend)
        labels = np.arange(SAMPLES) % 2
        pixels = np.kron(np.eye(2)[labels], np.arange(1, GROUP + 1) / 255)
        x, t = backend.asarray(pixels, net.dtype), backend.asarray(labels)
        fit(net, x, t, validation=(x, t), iters=1, rng=0)
        for some in (slice(0, 2), slice(0, SAMPLES)):
            net.predict(x[some, :])
            net.gradient(x[some, :], t[some])
        net.numerical_gradient(x[:2, :], t[:2])
