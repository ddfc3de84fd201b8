"""Backends: an array library and the kernels that compute on its arrays."""

from accelnn._differences import DIFFERENCES
from accelnn.backends._arrays import dtype_name, from_dlpack, is_floating, speaks_dlpack
from accelnn.backends._base import Backend
from accelnn.backends._engine import Engine, UnfitError
from accelnn.backends._memory import Memory, MemoryFor, out_of_memory, pass_bytes
from accelnn.backends._registry import BackendInfo, list_backends, register_backend
from accelnn.backends._resolve import (
    BackendLike,
    get_backend,
    resolve,
    set_backend,
    use_backend,
)
from accelnn.backends._sparse import SparseRows, is_sparse
from accelnn.backends._spec import ActivationLike, Loss, NetSpec, get_activation
from accelnn.backends._training import Dataset, Extras, Optimizer, TrainingState

__all__ = [
    "DIFFERENCES",
    "ActivationLike",
    "Backend",
    "BackendInfo",
    "BackendLike",
    "Dataset",
    "Engine",
    "Extras",
    "Loss",
    "Memory",
    "MemoryFor",
    "NetSpec",
    "Optimizer",
    "SparseRows",
    "TrainingState",
    "UnfitError",
    "dtype_name",
    "from_dlpack",
    "get_activation",
    "get_backend",
    "is_floating",
    "is_sparse",
    "list_backends",
    "out_of_memory",
    "pass_bytes",
    "register_backend",
    "resolve",
    "set_backend",
    "speaks_dlpack",
    "use_backend",
]
