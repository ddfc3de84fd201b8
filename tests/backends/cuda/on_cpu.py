"""Kernels of the CuPy engine, compiled for the processor."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from accelnn.backends.cupy.source import KERNELS, shared_bytes

HEADER = Path(__file__).with_name("cuda_on_cpu.h")


def build(source, options, folder, *, kernels=KERNELS, flags=()):
    """Return the path of a library with the kernels in it."""
    text = f'#include "{HEADER.name}"\n{source}\n'
    text += "".join(f"KERNEL({name})\n" for name in kernels)
    folder.mkdir(parents=True, exist_ok=True)
    file, library = folder / "kernels.cpp", folder / "kernels.so"
    file.write_text(text)
    command = ["g++", "-O1", "-g", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror"]
    # Several of these libraries share a process, but no variables.
    command += [
        "-fno-gnu-unique",
        "-Wl,-Bsymbolic",
        "-Wno-unknown-pragmas",
        f"-I{HEADER.parent}",
        *options,
        "-std=c++20",
        *flags,
    ]
    subprocess.run([*command, str(file), "-o", str(library)], check=True, capture_output=True)
    return library


class Kernels:
    """A library that `build` made."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))

    def __call__(self, name, blocks, threads, arguments, shared=None):
        """Run a kernel; arrays are written in place, and numbers have NumPy's types."""
        boxes = [np.array([a.ctypes.data if isinstance(a, np.ndarray) else a]) for a in arguments]
        for box, a in zip(boxes, arguments, strict=True):
            assert isinstance(a, np.ndarray) or box.dtype == a.dtype
        pointers = (ctypes.c_void_p * len(boxes))(*(box.ctypes.data for box in boxes))
        size = ctypes.c_size_t(shared_bytes(threads) if shared is None else shared)
        assert self.library.launch(name.encode(), blocks, threads, size, pointers) == 0
