#!/usr/bin/env python3
"""List the registers and the spills of every CUDA kernel, for every kind of device.

    PYTHONPATH=. python scripts/cuda_kernels.py [ACTIVATION LOSS]
    PYTHONPATH=. python scripts/cuda_kernels.py --record

No device is needed, but ``pip install cupy-cuda13x nvidia-cuda-nvrtc``. The formulas are by default
``sigmoid cross_entropy``. With ``--record``, and ``nvidia-cuda-nvdisasm``, the number of
instructions of every kernel is written to the file that the tests compare with, and listed beside
the multiply-adds and instructions of its densest loop.
"""

import json
import sys
import tempfile
from pathlib import Path

from accelnn.backends.cupy.source import Variant, kernel_source

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/backends/cupy"))

from machine_code import RECORD, densest, kernels_of, size  # type: ignore[import-not-found]
from nvrtc import ARCHITECTURES, compile_kernels  # type: ignore[import-not-found]


def record() -> None:
    """Write the number of instructions of every kernel."""
    from cupy_backends.cuda.libs import nvrtc

    found: dict[str, dict[str, tuple[int, int, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "float64"):
            for architecture in (80, 90, 120):
                title = f"{dtype} sm_{architecture}"
                kernels = kernels_of(dtype, architecture, Path(folder))
                found[title] = {}
                for name, lines in sorted(kernels.items()):
                    loop = densest(lines)
                    found[title][name] = size(lines), *loop
                    dense = (
                        f"{loop.multiply_adds} of {loop.instructions}" if loop.instructions else ""
                    )
                    print(f"{title:<16}{name:<20}{size(lines):>6}{dense:>12}")
    content = {"nvrtc": list(nvrtc.getVersion()), "kernels": found}
    # A line for each kernel, so that a difference shows which of them have changed.
    text = (
        json.dumps(content).replace('": {', '": {\n').replace("], ", "],\n").replace("}, ", "},\n")
    )
    RECORD.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Print one line for each kernel and variant."""
    if sys.argv[1:] == ["--record"]:
        record()
        return
    row = "{:<16}{:<10}{:<8}{:<8}" + "{:>12}" * len(ARCHITECTURES)
    print(row.format("kernel", "dtype", "inputs", "targets", *(f"sm_{a}" for a in ARCHITECTURES)))
    activation, loss = sys.argv[1:] or ("sigmoid", "cross_entropy")
    for data in Variant.all():
        variant = data.usual._replace(activation=activation, loss=loss)
        found = [compile_kernels(kernel_source(), variant.options, a) for a in ARCHITECTURES]
        for kernels in zip(*found, strict=True):
            inputs = "bytes" if variant.has_pixels else "numbers"
            targets = "labels" if variant.has_labels else "numbers"
            taken = (f"{k.registers} + {k.spilled}" for k in kernels)
            print(row.format(kernels[0].name, variant.dtype, inputs, targets, *taken))


if __name__ == "__main__":
    main()
