"""Set-up of JAX: device, threads and precision."""

import os

import jax

__all__ = ["configure"]


def configure(dtype: str, threads: int, device: str = "cpu") -> None:
    """Set up JAX before it computes anything.

    Raises
    ------
    ImportError
        If what is installed of JAX cannot use the device.
    """
    jax.config.update("jax_enable_x64", dtype == "float64")
    if device == "cpu":
        _configure_cpu(threads)
    else:
        _configure_gpu()


def _configure_cpu(threads: int) -> None:
    # XLA takes as many threads as the process has processors; one thread is selected by a flag in
    # the environment of the worker.
    if threads > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    jax.config.update("jax_platforms", "cpu")


def _configure_gpu() -> None:
    # Otherwise products of float32 are computed in TF32, with ten bits, unlike those of others.
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        jax.config.update("jax_default_device", jax.devices("cuda")[0])
    except RuntimeError as error:
        msg = f"JAX {jax.__version__} cannot use a CUDA device: {error}"
        raise ImportError(msg) from error
