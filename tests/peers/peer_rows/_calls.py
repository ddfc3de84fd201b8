"""What rows of calls share: points, methods and tolerances."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import accelnn

ANY_ERROR = (ValueError, TypeError)
X = np.array([3.0, 4.0])
METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")
LOOSE = {"forward": 1e-6, "backward": 1e-6}


def gradient(f, x=X, **options):
    return lambda: accelnn.numerical_gradient(
        f, x.copy() if isinstance(x, np.ndarray) else x, **options
    )


def with_threads(f, x, threads=2, **options):
    with ThreadPoolExecutor(threads) as pool:
        return accelnn.numerical_gradient(f, x, workers=pool, **options)
