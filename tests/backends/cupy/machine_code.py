"""Machine code of CUDA kernels, where there is no device: what instructions they are made of."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

from accelnn.backends.cupy.resident import layout_of
from accelnn.backends.cupy.source import Variant, kernel_source

__all__ = ["RECORD", "Loop", "densest", "disassemble", "kernels_of", "nvdisasm", "size"]

PACKAGE = "nvidia-cuda-nvdisasm"
SECTION = re.compile(r"^\.text\.(\w+):")
LABEL = re.compile(r"^(\.L_x_\d+):")
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]+ )?([A-Z]\w*)(.*)")
JUMP = re.compile(r"`\((\.L_x_\d+)\)")
# Multiply-adds of floats and of doubles, and how many make a loop of products.
MULTIPLY_ADDS, SEVERAL = ("FFMA", "DFMA"), 8
# Of every kernel the instructions, and those and the multiply-adds of its densest loop.
RECORD = Path(__file__).with_name("machine_code.json")


class Loop(NamedTuple):
    """A loop without others in it.

    Attributes
    ----------
    instructions : int
        All of one round.
    multiply_adds : int
        Those that add a product of floating-point numbers.
    """

    instructions: int
    multiply_adds: int


def nvdisasm() -> Path | None:
    """Return the path of the disassembler, or None if its package is not installed."""
    try:
        found = files(PACKAGE) or []
    except PackageNotFoundError:
        return None
    return next(
        (Path(str(f.locate())) for f in found if f.name in ("nvdisasm", "nvdisasm.exe")), None
    )


def disassemble(
    source: str, options: tuple[str, ...], architecture: int, folder: Path
) -> dict[str, list[str]]:
    """Return the lines of the machine code of every kernel: instructions and labels."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source, "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(
            program, (*options, f"--gpu-architecture=sm_{architecture}", "-ftz=true")
        )
        # Without its last byte, which CuPy takes for the end of a text.
        binary = nvrtc.getCUBIN(program) + b"\0"
    finally:
        nvrtc.destroyProgram(program)
    path = folder / f"kernels-{architecture}.cubin"
    path.write_bytes(binary)
    command = [str(nvdisasm()), "-c", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if section := SECTION.match(line):
            lines = found.setdefault(section[1], [])
        elif LABEL.match(line) or INSTRUCTION.match(line):
            lines.append(line)
    return found


def kernels_of(dtype: str, architecture: int, folder: Path) -> dict[str, list[str]]:
    """Return the machine code of all kernels, with what MNIST and its usual net need."""
    variant = Variant(dtype, has_pixels=True, has_labels=True).usual
    # An H200's.
    layout = layout_of(
        variant, (784, 50, 10), 100, bias=True, slots=0, processors=132, shared=232_448
    )
    found = disassemble(kernel_source(), variant.options, architecture, folder)
    options = (*variant.options, *layout.options)
    return found | disassemble(kernel_source("resident.cu"), options, architecture, folder)


def densest(lines: list[str]) -> Loop:
    """Return the innermost loop with the largest share of multiply-adds, of those with several."""
    several = [loop for loop in _innermost(lines) if loop.multiply_adds >= SEVERAL]
    return max(several, key=lambda loop: loop.multiply_adds / loop.instructions, default=Loop(0, 0))


def size(lines: list[str]) -> int:
    """Return the number of instructions."""
    return sum(INSTRUCTION.match(line) is not None for line in lines)


def _innermost(lines: list[str]) -> list[Loop]:
    labels = {label[1]: i for i, line in enumerate(lines) if (label := LABEL.match(line))}
    spans = []
    for end, line in enumerate(lines):
        instruction = INSTRUCTION.match(line)
        if instruction and instruction[1] == "BRA" and (jump := JUMP.search(instruction[2])):
            start = labels.get(jump[1], end)
            if start < end:
                spans.append((start, end))
    inner = [
        (start, end)
        for start, end in spans
        if not any(start <= a and b <= end and (a, b) != (start, end) for a, b in spans)
    ]
    loops = []
    for start, end in inner:
        names = [found[1] for line in lines[start : end + 1] if (found := INSTRUCTION.match(line))]
        loops.append(Loop(len(names), sum(name in MULTIPLY_ADDS for name in names)))
    return loops
