#!/usr/bin/env python3
"""List the registers and the spills of every CUDA kernel, for every kind of device.

    PYTHONPATH=. python scripts/cuda_kernels.py [ACTIVATION LOSS]

No device is needed, but ``pip install cupy-cuda13x nvidia-cuda-nvrtc``. The formulas are by default
``sigmoid cross_entropy``.
"""

import sys
from pathlib import Path

from accelnn.backends.cupy.source import Variant, kernel_source

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/backends/cupy"))

from nvrtc import ARCHITECTURES, compile_kernels  # type: ignore[import-not-found]


def main() -> None:
    """Print one line for each kernel and variant."""
    row = "{:<16}{:<10}{:<8}{:<8}" + "{:>12}" * len(ARCHITECTURES)
    print(row.format("kernel", "dtype", "inputs", "targets", *(f"sm_{a}" for a in ARCHITECTURES)))
    activation, loss = sys.argv[1:] or ("sigmoid", "cross_entropy")
    for data in Variant.all():
        variant = data._replace(activation=activation, loss=loss, decays=False, optimizer="SGD")
        found = [compile_kernels(kernel_source(), variant.options, a) for a in ARCHITECTURES]
        for kernels in zip(*found, strict=True):
            inputs = "bytes" if variant.has_pixels else "numbers"
            targets = "labels" if variant.has_labels else "numbers"
            taken = (f"{k.registers} + {k.spilled}" for k in kernels)
            print(row.format(kernels[0].name, variant.dtype, inputs, targets, *taken))


if __name__ == "__main__":
    main()
