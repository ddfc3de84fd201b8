"""CUDA kernels compiled where there is no device, to see that they compile and what they take."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ARCHITECTURES", "Compiled", "compile_kernels"]

# Turing, Ampere (A100, RTX 30), Ada, Hopper, Blackwell (B200, RTX 50).
ARCHITECTURES = (75, 80, 86, 90, 100, 120)
ENTRY = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


class Compiled(NamedTuple):
    """What the compiler says of one kernel.

    Attributes
    ----------
    name : str
        The kernel's.
    registers : int
        Of each thread.
    spilled : int
        Bytes of each thread that found no register.
    stack : int
        Bytes of each thread's arrays that are no registers, spilled ones included.
    """

    name: str
    registers: int
    spilled: int
    stack: int


def compile_kernels(source: str, options: tuple[str, ...], architecture: int) -> list[Compiled]:
    """Compile `source` for a device of that compute capability.

    This calls NVRTC itself: `cupy.cuda.compiler` would ask for the device first.

    Raises
    ------
    ImportError
        If CuPy, or NVRTC, is not installed.
    RuntimeError
        If the source does not compile; says what the compiler says.
    """
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source, "kernels.cu", [], [])
    try:
        # The second one is CuPy's own addition.
        flags = (f"--gpu-architecture=sm_{architecture}", "-ftz=true", "--ptxas-options=-v")
        try:
            nvrtc.compileProgram(program, (*options, *flags))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program)
            msg = f"the kernels do not compile for sm_{architecture}: {log}"
            raise RuntimeError(msg) from error
        log = nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)
    return [
        Compiled(name, int(registers), int(stores) + int(loads), int(stack))
        for name, stack, stores, loads, registers in ENTRY.findall(log)
    ]
