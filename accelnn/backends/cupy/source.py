"""The source of the CUDA kernels, and their compile-time options."""

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
    "MOST_TILED_LAYERS",
    "PHASES_BYTES",
    "PURPOSES",
    "TILES",
    "TILE_BYTES",
    "TILE_DEPTH",
    "TILE_EDGE",
    "TILE_THREADS",
    "Variant",
    "kernel_source",
    "purpose_option",
    "shared_bytes",
]

# The kernels whose blocks compute tiles of a matrix product.
TILES = ("tile_values", "train_tiles")
# Kernels that are compiled together; others are compiled only when they are needed.
PURPOSES = (
    ("check_call", "check_parameters", "mean_losses"),
    ("batch_errors", "batch_gradient", "batch_update", "train"),
    ("batch_values", "differences"),
    ("evaluate",),
    (
        "gather_rows",
        "gradient_squares",
        "hidden_errors",
        "hidden_values",
        "output_errors",
        "update_parameters",
    ),
    ("tile_hits", "tile_join", "tile_values"),
    ("train_tiles",),
)
KERNELS = tuple(itertools.chain.from_iterable(PURPOSES))

# The edge of a tile, and by dtype its threads, and the terms of its sums that are in shared memory.
TILE_EDGE = 64
TILE_THREADS = {"float32": 512, "float64": 256}
TILE_DEPTH = {"float32": 32, "float64": 16}
# The shared memory of a block: two buffers of both factors, in rows padded by four.
TILE_BYTES = 2 * 2 * 32 * (TILE_EDGE + 4) * 4
# That of what the phases of an update share.
PHASES_BYTES = 8_192

# The most layers of a net, because their widths are kept in shared memory, and of one that trains
# in tiles, which keep more of each there.
MOST_LAYERS, MOST_TILED_LAYERS = 255, 16

REALS = {"float32": "float", "float64": "double"}
COMMENT = re.compile(r"^ *//.*\n| *//.*", re.MULTILINE)
INCLUDE = re.compile(r'^#include "([\w./]+)"$', re.MULTILINE)


class Variant(NamedTuple):
    """The compile-time options of the kernels; everything else is a kernel argument.

    Attributes
    ----------
    dtype : {"float32", "float64"}
        The dtype of parameters and activations.
    has_pixels : bool
        Whether inputs are bytes, else numbers of `dtype`.
    has_labels : bool
        Whether targets are class labels, else numbers of `dtype` for each output.
    activation, loss : str, optional
        The only formulas that are compiled in; by default all, chosen at run time.
    decays : bool, optional
        Whether weights decay; by default decided at run time.
    scheduled : bool, optional
        Whether every update has its own learning rate; by default decided at run time.
    weighted : bool, optional
        Whether samples have weights; by default decided at run time.
    drops : bool, optional
        Whether hidden units are dropped; by default decided at run time.
    clips : bool, optional
        Whether gradients are clipped; by default decided at run time.
    constants : tuple of str
        Compiler options for formula parameters that are not the default.
    optimizer : str, optional
        The only update rule that is compiled in; by default all, chosen at run time.
    """

    dtype: str
    has_pixels: bool
    has_labels: bool
    activation: str | None = None
    loss: str | None = None
    decays: bool | None = None
    scheduled: bool | None = None
    weighted: bool | None = None
    drops: bool | None = None
    clips: bool | None = None
    constants: tuple[str, ...] = ()
    optimizer: str | None = None

    @classmethod
    def all(cls) -> Iterator[Variant]:
        """Yield one variant per kind of data, with the rest decided at run time."""
        choices = itertools.product(REALS, (False, True), (False, True))
        return itertools.starmap(cls, choices)

    @property
    def usual(self) -> Variant:
        """The variant with the formulas that are asked for most."""
        return self._replace(
            activation="sigmoid",
            loss="cross_entropy",
            decays=False,
            scheduled=False,
            weighted=False,
            drops=False,
            clips=False,
            optimizer="SGD",
        )

    @property
    def options(self) -> tuple[str, ...]:
        """Compiler options."""
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
        """The options that replace run-time arguments."""
        named = {
            "ACTIVATION": self.activation,
            "LOSS": self.loss,
            "OPTIMIZER": self.optimizer,
        }
        options = [f"-D{name}={value.upper()}" for name, value in named.items() if value]
        answers = {
            "DECAYS": self.decays,
            "SCHEDULED": self.scheduled,
            "WEIGHTED": self.weighted,
            "DROPS": self.drops,
            "CLIPS": self.clips,
        }
        options += [f"-D{name}={is_so:d}" for name, is_so in answers.items() if is_so is not None]
        return tuple(options)


def shared_bytes(threads: int) -> int:
    """Return the shared memory per block: three doubles per thread, and widths of layers."""
    return 24 * threads + 4 * (MOST_LAYERS + 1)


def purpose_option(name: str) -> str:
    """Return the compiler option for a kernel and those that are compiled with it."""
    number = next(i for i, names in enumerate(PURPOSES) if name in names)
    return f"-DPURPOSE={number}"


@cache
def kernel_source(file: str = "training.cu") -> str:
    """Return the source with its includes expanded, because CuPy's cache does not hash them.

    Comments are stripped for their non-ASCII letters: https://github.com/cupy/cupy/issues/8278.
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
