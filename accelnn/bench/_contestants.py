"""The contestants of each group. Importing this module imports none of their code."""

import importlib
from typing import TYPE_CHECKING

from accelnn.bench._task import Task

if TYPE_CHECKING:
    from accelnn.bench.jobs.job import Job

__all__ = ["CONTESTANTS", "GPU_GROUPS", "OURS", "SLOW", "make_job", "ours_in"]

OURS = "accelnn numba"
"""The reference contestant of ratios, except in GPU groups."""

CONTESTANTS = {
    "training": {
        "accelnn numba": "training_accelnn.Numba",
        "accelnn numpy": "training_accelnn.Numpy",
        "NumPy loop": "training_numpy.Loop",
        "torch eager": "training_torch.Eager",
        "torch compiled": "training_torch.Compiled",
        "JAX step": "training_jax.Step",
        "JAX scan": "training_jax.Scan",
        "scikit-learn": "training_sklearn.Classifier",
    },
    "gradient": {
        "accelnn numba": "gradients.NumbaStructured",
        "accelnn numpy": "gradients.NumpyStructured",
        "NumPy loop": "gradients.Loop",
        "SciPy": "gradients_scipy.Scipy",
        "numdifftools": "gradients_scipy.Numdifftools",
        "JAX lax.map": "gradients_jax.Map",
        "torch gradcheck": "gradients_torch.Gradcheck",
        "NumPy analytic": "gradients.Analytic",
        "accelnn numba analytic": "gradients.NumbaAnalytic",
        "torch analytic": "gradients_torch.Analytic",
        "JAX analytic": "gradients_jax.Analytic",
    },
    "scaling": {
        "accelnn numba": "gradients.NumbaStructured",
        "accelnn numpy": "gradients.NumpyStructured",
        "NumPy loop": "gradients.Loop",
        "NumPy analytic": "gradients.Analytic",
        "accelnn numba analytic": "gradients.NumbaAnalytic",
        "torch analytic": "gradients_torch.Analytic",
        "JAX analytic": "gradients_jax.Analytic",
    },
    "black-box": {
        "accelnn numba": "black_box_numba.Compiled",
        "accelnn batched": "black_box.Batched",
        "accelnn serial": "black_box.Serial",
        "accelnn workers": "black_box.Workers",
        "SciPy": "black_box_scipy.Scipy",
        "SciPy workers": "black_box_scipy.ScipyWorkers",
        "numdifftools": "black_box_scipy.Numdifftools",
        "compiled calls alone": "black_box_numba.Calls",
        "Python calls alone": "black_box.CallsFromPython",
    },
    "digits": {
        "accelnn richardson": "digits.Richardson",
        "accelnn complex": "digits.Complex",
        "accelnn central": "digits.Central",
        "accelnn forward": "digits.Forward",
        "numdifftools": "digits.Numdifftools",
        "jacobi": "digits.Jacobi",
        "scipy.differentiate": "digits.ScipyDifferentiate",
        "SciPy 3-point": "digits.ScipyThreePoint",
        "SciPy 2-point": "digits.ScipyForward",
    },
    "numerical-training": {
        "accelnn numba": "gradients.NumbaTraining",
        "accelnn numpy": "gradients.NumpyTraining",
        "NumPy loop": "gradients.Loop",
    },
    "predict": {
        "accelnn numba": "inference.NumbaPredict",
        "accelnn numpy": "inference.NumpyPredict",
        "NumPy products": "inference.Products",
    },
    "prepare": {
        "accelnn numba": "inference.NumbaPrepare",
        "accelnn numpy": "inference.NumpyPrepare",
    },
    "whole-run": {
        "accelnn numba": "training_accelnn.WholeNumba",
        "accelnn numpy": "training_accelnn.WholeNumpy",
        "NumPy loop": "training_numpy.WholeLoop",
        "torch eager": "training_torch.WholeEager",
        "JAX scan": "training_jax.WholeScan",
    },
    "first-call": {
        "accelnn numba": "first_call.WarmNumba",
        "accelnn numba, cold": "first_call.ColdNumba",
        "accelnn numpy": "first_call.Numpy",
        "NumPy loop": "first_call.NumpyLoop",
        "torch eager": "first_call.TorchEager",
        "torch compiled": "first_call.TorchCompiled",
        "JAX step": "first_call.JaxStep",
    },
    "gpu-gradient": {
        "accelnn cupy": "gradients.CupyStructured",
        "accelnn numba": "gradients.NumbaStructured",
        "accelnn numpy": "gradients.NumpyStructured",
    },
    "gpu-whole-run": {
        "accelnn cupy": "training_accelnn.WholeCupy",
        "accelnn numba": "training_accelnn.WholeNumba",
        "torch eager": "training_torch.WholeEager",
        "torch CUDA graph": "training_torch.WholeGraph",
        "JAX scan": "training_jax.WholeScan",
    },
    "gpu-training": {
        "accelnn cupy": "training_accelnn.Cupy",
        "torch eager": "training_torch.Eager",
        "torch CUDA graph": "training_torch.Graph",
        "torch compiled": "training_torch.Compiled",
        "JAX scan": "training_jax.Scan",
    },
}
"""For each group, the contestants by name: module and class in `accelnn.bench.jobs`."""

GPU_GROUPS = ("gpu-gradient", "gpu-whole-run", "gpu-training")
"""Groups that need a CUDA device."""

SLOW = ("SciPy", "numdifftools", "JAX lax.map", "torch gradcheck")
"""Contestants that a short run leaves out."""


def ours_in(group: str) -> str:
    """Return the reference contestant of a group's ratios."""
    return "accelnn cupy" if group in GPU_GROUPS else OURS


def make_job(group: str, contestant: str, task: Task, threads: int) -> "Job":
    """Import a contestant and create its job."""
    module, _, name = CONTESTANTS[group][contestant].partition(".")
    cls = getattr(importlib.import_module(f"accelnn.bench.jobs.{module}"), name)
    job: Job = cls(task, threads)
    return job
