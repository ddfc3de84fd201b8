"""The CuPy backend: arrays and kernels on a CUDA device."""

from accelnn.backends.cupy.backend import CupyBackend

__all__ = ["CupyBackend"]
