"""Kernels of the CuPy engine, compiled for the processor."""

import ctypes
import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np

from accelnn.backends.cupy.source import KERNELS, shared_bytes

HEADER = Path(__file__).with_name("cuda_on_cpu.h")


def build(source, options, folder, *, kernels=KERNELS, flags=()):
    """Return the path of a library with the kernels in it, which another process may have made."""
    text = f'#include "{HEADER.name}"\n{source}\n'
    text += "".join(f"KERNEL({name})\n" for name in kernels)
    key = hashlib.sha256("\0".join([text, *options, *flags]).encode()).hexdigest()
    library = folder / f"{key}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever is first puts it there whole.
    made_by_me = folder / f"{key}-{os.getpid()}.so"
    file = made_by_me.with_suffix(".cpp")
    file.write_text(text)
    command = ["g++", "-O1", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror"]
    # Several of these libraries share a process, but no variables.
    command += [
        "-fno-gnu-unique",
        "-Wl,-Bsymbolic",
        # It takes a jump to another thread's stack for an error.
        "-U_FORTIFY_SOURCE",
        "-Wno-unknown-pragmas",
        f"-I{HEADER.parent}",
        *options,
        "-std=c++20",
        *flags,
    ]
    command += [str(file), "-o", str(made_by_me)]
    subprocess.run(command, check=True, capture_output=True)
    made_by_me.replace(library)
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
