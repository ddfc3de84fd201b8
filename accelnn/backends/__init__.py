"""Backends: whose arrays and whose kernels compute."""

from accelnn.backends._base import Backend
from accelnn.backends._engine import Dataset, Engine, TrainingState
from accelnn.backends._registry import BackendInfo, list_backends, register_backend
from accelnn.backends._resolve import get_backend, resolve, set_backend, use_backend
from accelnn.backends._spec import NetSpec

__all__ = [
    "Backend",
    "BackendInfo",
    "Dataset",
    "Engine",
    "NetSpec",
    "TrainingState",
    "get_backend",
    "list_backends",
    "register_backend",
    "resolve",
    "set_backend",
    "use_backend",
]
