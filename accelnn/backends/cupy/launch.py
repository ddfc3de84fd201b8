"""Compiled kernels, and how many blocks and threads they are launched with."""

from __future__ import annotations

import itertools
import math
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.backends._spec import NetSpec
from accelnn.backends.cupy.resident import RESIDENT, Layout
from accelnn.backends.cupy.source import (
    TILE_THREADS,
    Variant,
    kernel_source,
    purpose_option,
    shared_bytes,
    tile_bytes,
)

if TYPE_CHECKING:
    from accelnn.backends.cupy.backend import CupyBackend

__all__ = ["FLAGS", "TERMS", "Kernels", "device_attributes", "kernels_of", "resident_kernel"]

# Words in which kernels tell each other what has happened.
FLAGS = 3
# The kernel with a barrier of the grid, whose blocks must all be on the device at once.
COOPERATIVE = "train"
WARP = 32
MOST_THREADS = 1_024
# Terms of a sum that a thread adds up at least, and so how many threads have work in a layer.
TERMS = 8


class Kernels:
    """The kernels of one variant, compiled when they are first used; CuPy keeps them on disk.

    Parameters
    ----------
    backend : CupyBackend
        On whose device they run.
    variant : Variant
        What they are compiled for.
    """

    def __init__(self, backend: CupyBackend, variant: Variant) -> None:
        self.backend = backend
        self.variant = variant
        self._compiled: dict[str, tuple[Any, int]] = {}

    def launch(self, name: str, blocks: int, threads: int, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel on the current stream."""
        kernel, _ = self._kernel(name)
        kernel((blocks,), (threads,), arguments, shared_mem=shared_bytes(threads))

    def launch_tiles(self, name: str, blocks: int, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel whose blocks have tiles of a product."""
        kernel, _ = self._kernel(name)
        shared = tile_bytes(np.dtype(self.variant.dtype).itemsize)
        kernel((blocks,), (TILE_THREADS,), arguments, shared_mem=shared)

    def load(self, *names: str) -> None:
        """Compile kernels, which is not to happen while something is captured."""
        for name in names:
            self._kernel(name)

    def threads(self, name: str, spec: NetSpec) -> int:
        """Return how many threads of a block have work in the widest layer of a net."""
        useful = max(
            outputs * math.ceil(inputs / TERMS)
            for inputs, outputs in itertools.pairwise(spec.sizes)
        )
        return self.whole_warps(name, useful)

    def whole_warps(self, name: str, threads: int) -> int:
        """Return a number of threads as whole warps, as many as the kernel's registers allow."""
        _, most = self._kernel(name)
        return max(1, min(math.ceil(threads / WARP), most // WARP)) * WARP

    @cached_property
    def processors(self) -> int:
        """How many blocks, one to a multiprocessor, are on the device at once."""
        return device_attributes(self.backend)["MultiProcessorCount"]

    def _kernel(self, name: str) -> tuple[Any, int]:
        """Return a kernel, and how many threads of a block it can have at most."""
        if name not in self._compiled:
            kernel = self.backend.xp.RawKernel(
                kernel_source(),
                name,
                options=(*self.variant.options, purpose_option(name)),
                enable_cooperative_groups=name == COOPERATIVE,
            )
            most = min(MOST_THREADS, int(kernel.max_threads_per_block))
            self._compiled[name] = kernel, most
        return self._compiled[name]


@cache
def kernels_of(backend: CupyBackend, variant: Variant) -> Kernels:
    """Return the kernels of a variant, which all engines of a backend share."""
    return Kernels(backend, variant)


@cache
def resident_kernel(backend: CupyBackend, variant: Variant, layout: Layout) -> Any:
    """Return the kernel that keeps a net laid out in this way, which all nets like it share."""
    kernel = backend.xp.RawKernel(
        kernel_source("resident.cu"),
        RESIDENT,
        options=(*variant.options, *layout.options),
        enable_cooperative_groups=True,
    )
    # More than a block has unless it asks.
    kernel.max_dynamic_shared_size_bytes = layout.shared_bytes
    return kernel


@cache
def device_attributes(backend: CupyBackend) -> dict[str, int]:
    """Return properties of a backend's device, by CUDA's names for them."""
    return dict(backend.xp.cuda.Device(backend.number).attributes)
