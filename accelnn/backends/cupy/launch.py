"""Compilation and launch of CUDA kernels."""

from __future__ import annotations

import itertools
import math
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from accelnn._compilation import compilation
from accelnn.backends._spec import NetSpec
from accelnn.backends.cupy.resident import RESIDENT, Layout
from accelnn.backends.cupy.source import (
    PHASES_BYTES,
    TILE_BYTES,
    TILE_THREADS,
    Variant,
    kernel_source,
    purpose_option,
    shared_bytes,
)

if TYPE_CHECKING:
    from accelnn.backends.cupy.backend import CupyBackend

__all__ = [
    "FLAGS",
    "TERMS",
    "UNFIT",
    "Kernels",
    "device_attributes",
    "kernels_of",
    "resident_kernel",
]

# Words by which kernels signal each other, and that of what a call cannot take.
FLAGS, UNFIT = 4, 3
# These kernels have a grid barrier, so all of their blocks must be resident at once.
COOPERATIVE = ("train", "train_tiles")
WARP = 32
# Threads of a block that shares a multiprocessor. On an NVIDIA H200, errors of 1,000 samples of
# 784-50-10 take 38.7 µs with 256 threads and 74.7 with 1,024; of 10,000 samples 323 and 694.
SHARED_THREADS = 256
MOST_THREADS = 1_024
# A thread adds at least this many terms of a sum, which limits the useful threads of a layer.
TERMS = 8


class Kernels:
    """The kernels of one variant, compiled on first use; CuPy caches them on disk.

    Parameters
    ----------
    backend : CupyBackend
        They run on its device.
    variant : Variant
        The compile-time options.
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
        """Launch a kernel whose blocks compute tiles of a matrix product."""
        kernel, _ = self._kernel(name)
        threads = TILE_THREADS[self.variant.dtype]
        kernel((blocks,), (threads,), arguments, shared_mem=TILE_BYTES + PHASES_BYTES)

    def threads(self, name: str, spec: NetSpec, blocks: int = 1) -> int:
        """Return how many threads per block have work in the widest layer of a net.

        Fewer if several of the `blocks` share a multiprocessor.
        """
        useful = _useful_threads(spec.sizes)
        is_shared = blocks > self.processors
        return self.whole_warps(name, min(useful, SHARED_THREADS) if is_shared else useful)

    def whole_warps(self, name: str, threads: int) -> int:
        """Round a number of threads up to whole warps, limited by the kernel's registers."""
        _, most = self._kernel(name)
        return max(1, min(math.ceil(threads / WARP), most // WARP)) * WARP

    @cached_property
    def processors(self) -> int:
        """The number of multiprocessors of the device."""
        return device_attributes(self.backend)["MultiProcessorCount"]

    def _kernel(self, name: str) -> tuple[Any, int]:
        """Return a kernel and its maximum number of threads per block."""
        if name not in self._compiled:
            kernel = self.backend.xp.RawKernel(
                kernel_source(),
                name,
                options=(*self.variant.options, purpose_option(name)),
                enable_cooperative_groups=name in COOPERATIVE,
            )
            with compilation():
                most = min(MOST_THREADS, int(kernel.max_threads_per_block))
            self._compiled[name] = kernel, most
        return self._compiled[name]


@cache
def _useful_threads(sizes: tuple[int, ...]) -> int:
    return max(outputs * math.ceil(inputs / TERMS) for inputs, outputs in itertools.pairwise(sizes))


@cache
def kernels_of(backend: CupyBackend, variant: Variant) -> Kernels:
    """Return the kernels of a variant, shared by all engines of a backend."""
    return Kernels(backend, variant)


@cache
def resident_kernel(backend: CupyBackend, variant: Variant, layout: Layout) -> Any:
    """Return the resident training kernel for a layout, shared by all nets that use it."""
    kernel = backend.xp.RawKernel(
        kernel_source("resident.cu"),
        RESIDENT,
        options=(*variant.options, *layout.options),
        enable_cooperative_groups=True,
    )
    with compilation():
        # Above the default limit, a kernel must opt in.
        kernel.max_dynamic_shared_size_bytes = layout.shared_bytes
    return kernel


@cache
def device_attributes(backend: CupyBackend) -> dict[str, int]:
    """Return the attributes of a backend's device by their CUDA names."""
    return dict(backend.xp.cuda.Device(backend.number).attributes)
