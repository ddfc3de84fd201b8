"""Numba: NumPy arrays, kernels compiled for the CPU when they are first called."""

from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["NumbaBackend"]
