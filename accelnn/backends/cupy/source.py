"""The kernels' source, and what they are compiled for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from accelnn.backends.cupy.formulas import dispatch

__all__ = [
    "KERNELS",
    "MOST_LAYERS",
    "PURPOSES",
    "TILES",
    "TILE_DEPTH",
    "TILE_EDGE",
    "TILE_THREADS",
    "Variant",
    "kernel_source",
    "purpose_option",
    "shared_bytes",
    "tile_bytes",
]

# Of which a block has a tile of a product.
TILES = ("tile_errors", "tile_gradient", "tile_values")
# Kernels that are compiled together, so that nobody waits for those of another purpose.
PURPOSES = (
    ("check_parameters", "mean_losses"),
    ("batch_errors", "batch_gradient", "batch_update", "train"),
    ("batch_values", "differences"),
    ("evaluate",),
    ("gather_rows", "hidden_errors", "hidden_values", "output_errors", "update_parameters"),
    ("tile_advance", "tile_hits", "tile_join", "tile_losses", "tile_update", *TILES),
)
KERNELS = tuple(itertools.chain.from_iterable(PURPOSES))

# Sums of an edge of a tile, terms that are in shared memory at once, and threads of its block.
TILE_EDGE, TILE_DEPTH, TILE_THREADS = 64, 32, 256

# Layers of the deepest net, whose widths lie in shared memory.
MOST_LAYERS = 255

REALS = {"float32": "float", "float64": "double"}
COMMENT = re.compile(r"^ *//.*\n| *//.*", re.MULTILINE)
INCLUDE = re.compile(r'^#include "([\w./]+)"$', re.MULTILINE)


class Variant(NamedTuple):
    """What one compilation of the kernels is for; all else they are told when they run.

    Attributes
    ----------
    dtype : {"float32", "float64"}
        Of parameters and activations.
    has_pixels : bool
        Whether inputs are bytes, or else numbers of `dtype`.
    has_labels : bool
        Whether targets are class labels, or else numbers of `dtype` for each output.
    activation, loss : str, optional
        The only formulas that they can compute with; by default all, as they are told.
    decays : bool, optional
        Whether weights decay; by default they do or not, as they are told.
    constants : tuple of str
        The compiler's options for parameters of formulas that are not the default.
    """

    dtype: str
    has_pixels: bool
    has_labels: bool
    activation: str | None = None
    loss: str | None = None
    decays: bool | None = None
    constants: tuple[str, ...] = ()

    @classmethod
    def all(cls) -> Iterator[Variant]:
        """Yield one of every kind of data, which is told the rest."""
        choices = itertools.product(REALS, (False, True), (False, True))
        return itertools.starmap(cls, choices)

    @property
    def options(self) -> tuple[str, ...]:
        """The compiler's."""
        real = REALS[self.dtype]
        return (
            "-std=c++17",
            f"-DREAL={real}",
            f"-DINPUT={'unsigned char' if self.has_pixels else real}",
            f"-DTARGET={'Labels' if self.has_labels else 'Targets'}",
            f"-DTARGET_ELEMENT={'int' if self.has_labels else real}",
            *self.told_beforehand,
            *self.constants,
        )

    @property
    def told_beforehand(self) -> tuple[str, ...]:
        """Those that leave kernels less to be told."""
        named = {"ACTIVATION": self.activation, "LOSS": self.loss}
        options = [f"-D{name}={value.upper()}" for name, value in named.items() if value]
        return (*options, *([] if self.decays is None else [f"-DDECAYS={self.decays:d}"]))


def shared_bytes(threads: int) -> int:
    """Return what a block needs of shared memory: three doubles a thread, and widths of layers."""
    return 24 * threads + 4 * (MOST_LAYERS + 1)


def purpose_option(name: str) -> str:
    """Return the compiler's option for a kernel, and those that are compiled with it."""
    number = next(i for i, names in enumerate(PURPOSES) if name in names)
    return f"-DPURPOSE={number}"


def tile_bytes(itemsize: int) -> int:
    """Return what a tile needs of shared memory: some terms of both sides, in rows of four more."""
    return 2 * TILE_DEPTH * (TILE_EDGE + 4) * itemsize


@cache
def kernel_source(file: str = "training.cu") -> str:
    """Return one text: the cache of compiled kernels sees no change of a file that it includes.

    It is without comments, which have letters that CuPy cannot write to a file everywhere.
    """
    folder = files("accelnn.backends.cupy")
    included: set[str] = set()

    def text(name: str) -> str:
        if name in included:
            return ""
        included.add(name)
        path = folder / (name if "/" in name else f"kernels/{name}")
        own = dispatch() if name == "formulas.cuh" else path.read_text("utf-8")
        return INCLUDE.sub(lambda match: text(match[1]), own)

    return COMMENT.sub("", text(file).replace("#pragma once\n", ""))
