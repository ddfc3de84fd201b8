"""The Numba backend: NumPy arrays, and CPU kernels compiled on first use."""

from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["NumbaBackend"]
