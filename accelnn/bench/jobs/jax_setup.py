"""JAX, on so many threads and in that precision."""

import os

import jax

__all__ = ["configure"]


def configure(dtype: str, threads: int) -> None:
    """Set up JAX before it computes anything."""
    # XLA takes as many threads as the process has processors; for one, a flag in the environment
    # of the worker says so.
    if threads > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", dtype == "float64")
