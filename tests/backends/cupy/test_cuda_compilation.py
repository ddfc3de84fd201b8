"""Every kernel compiles for every kind of device, and its source says what it must."""

import itertools
import re

import numpy as np
import pytest
from nvrtc import ARCHITECTURES, compile_kernels

from accelnn.backends.cupy.formulas import ACTIVATIONS, LOSSES, RULES
from accelnn.backends.cupy.launch import FLAGS, TERMS, UNFIT
from accelnn.backends.cupy.resident import RESIDENT, layout_of
from accelnn.backends.cupy.source import (
    KERNELS,
    MOST_LAYERS,
    MOST_TILED_LAYERS,
    PHASES_BYTES,
    PURPOSES,
    TILE_BYTES,
    TILE_DEPTH,
    TILE_EDGE,
    TILE_THREADS,
    TILES,
    Variant,
    kernel_source,
    purpose_option,
    shared_bytes,
)

# The oldest devices, and Hopper: every variant is compiled for them in each run, and each variant
# for another one of the others.
ALWAYS = (75, 90)
BLACKWELL = 100


def _with_architectures(variants):
    for i, variant in enumerate(variants):
        for j, architecture in enumerate(ARCHITECTURES):
            is_usual = architecture in ALWAYS or (i + j) % 4 == 0
            name = "-".join(map(str, (*variant, architecture)))
            yield pytest.param(
                variant, architecture, id=name, marks=() if is_usual else pytest.mark.slow
            )


@pytest.mark.nvrtc
@pytest.mark.parametrize(("variant", "architecture"), list(_with_architectures(Variant.all())))
def test_all_kernels_compile_and_spill_nothing(variant, architecture):
    """For each kind of data, with the formulas that are asked for most."""
    _assert_compiled_well(variant.usual, architecture)


def _formulas():
    """Yield every formula in both dtypes, beside others that take turns."""
    for dtype, i in itertools.product(("float32", "float64"), range(len(ACTIVATIONS))):
        options = i % 2 == 0, i % 4 < 2, i % 3 > 0, i % 5 < 3, i % 2 > 0
        loss = LOSSES[i % len(LOSSES)]
        variant = Variant(dtype, i % 3 == 0, i % 5 == 0, ACTIVATIONS[i], loss, *options)
        yield pytest.param(variant, id=f"{dtype}-{ACTIVATIONS[i]}-{loss}")


@pytest.mark.nvrtc
@pytest.mark.parametrize("variant", list(_formulas()))
def test_every_formula_compiles_and_spills_nothing(variant):
    _assert_compiled_well(variant, 90)


def _assert_compiled_well(variant, architecture):
    found = compile_kernels(kernel_source(), variant.options, architecture)
    assert sorted(kernel.name for kernel in found) == sorted(KERNELS)
    assert all(kernel.spilled == kernel.stack == 0 for kernel in found)
    # Two blocks of 256 threads share a multiprocessor's 65,536 registers, or one of tiles.
    most = dict.fromkeys(KERNELS, 128) | dict.fromkeys(
        TILES, min(255, 65_536 // TILE_THREADS[variant.dtype])
    )
    assert all(0 < kernel.registers <= most[kernel.name] for kernel in found)
    # A block of one launch is to have 1,024 threads, or 896 with dropout and of doubles, and 768 of
    # doubles from Blackwell on.
    (one,) = (kernel for kernel in found if kernel.name == "train")
    of_doubles = 80 if architecture >= BLACKWELL else 72
    of_floats = 72 if variant.drops else 64
    assert one.registers <= {"float32": of_floats, "float64": of_doubles}[variant.dtype]


@pytest.mark.nvrtc
@pytest.mark.parametrize("names", PURPOSES, ids=lambda names: names[0])
def test_kernels_of_one_purpose_are_compiled_by_themselves(names):
    variant = Variant("float32", has_pixels=True, has_labels=True)
    variant = variant._replace(activation="relu", loss="sum_squared_error", decays=False)
    options = (*variant.options, purpose_option(names[-1]))
    found = compile_kernels(kernel_source(), options, 90)
    assert sorted(kernel.name for kernel in found) == sorted(names)


# Multiprocessors of a usual card of each kind, and bytes of shared memory that a block can have.
CARDS = {
    75: (40, 65_536),
    80: (108, 166_912),
    86: (46, 101_376),
    90: (132, 232_448),
    100: (148, 232_448),
    120: (84, 101_376),
}


@pytest.mark.nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("dtype", "is_small", "slots", "sizes", "batch"),
    [
        ("float32", True, 0, (784, 50, 10), 100),
        ("float64", False, 2, (784, 50, 10), 100),
        ("float32", False, 1, (64, 30, 32), 50),
        ("float64", True, 2, (64, 30, 32), 50),
    ],
)
@pytest.mark.parametrize(
    ("activation", "loss"), [("sigmoid", "cross_entropy"), ("gelu", "binary_cross_entropy")]
)
def test_the_kernel_that_keeps_a_net_compiles(
    architecture, dtype, is_small, slots, sizes, batch, activation, loss
):
    """Without a spill, for the layout of a card of that kind."""
    processors, shared = CARDS[architecture]
    variant = Variant(dtype, is_small, is_small, activation, loss, decays=activation == "gelu")
    sizes_of_card = {"processors": processors, "shared": shared}
    layout = layout_of(variant, sizes, batch, bias=True, slots=slots, **sizes_of_card)
    if layout is None:
        # A small card keeps no large net, and least in float64.
        assert shared < 166_912
        assert sizes == (784, 50, 10)
        return
    assert layout.blocks <= processors
    options = (*variant.options, *layout.options)
    (found,) = compile_kernels(kernel_source("resident.cu"), options, architecture)
    assert found.name == RESIDENT
    assert found.spilled == found.stack == 0


@pytest.mark.nvrtc
def test_what_does_not_compile_says_why():
    with pytest.raises(RuntimeError, match=r"sm_90: .*nothing_of_that_name"):
        compile_kernels("__global__ void k() { nothing_of_that_name(); }", (), 90)


def test_the_source_is_whole():
    assert "#include" not in kernel_source()
    # CuPy writes it to a file in the encoding of the machine.
    assert kernel_source().isascii()
    for name in KERNELS:
        assert re.search(rf"__global__ void [^;{{}}]*\b{name}\(", kernel_source())


def test_the_barrier_of_the_grid_is_fenced():
    """A launch on a processor cannot tell: what is written before must be seen after."""
    body = re.search(r"void grid_barrier\(.*?\n\}", kernel_source(), re.DOTALL)[0]
    wanted = ["__syncthreads", "arrive", "while", "look", "__syncthreads"]
    places, start = [], 0
    for part in wanted:
        places.append(body.index(part, start))
        start = places[-1] + 1
    assert places == sorted(places)
    assert "atom.release.gpu" in kernel_source()
    assert "ld.acquire.gpu" in kernel_source()


def _enum(name):
    body = re.search(rf"enum {name} \{{(.*?)\}};", kernel_source())[1]
    return [member.strip().lower() for member in body.split(",")]


def test_numbers_mean_the_same_on_both_sides():
    """The engine tells kernels positions in its lists, which are those in theirs."""
    assert _enum("Activation") == list(ACTIVATIONS)
    assert _enum("Loss") == list(LOSSES)
    assert _enum("Optimizer") == [rule.lower() for rule in RULES]
    assert len(_enum("Flag")) == FLAGS
    assert _enum("Flag")[UNFIT] == "unfit"
    assert f"terms + {TERMS - 1}) / {TERMS}" in kernel_source()
    assert kernel_source().count(f"i < {TERMS}; ++i") == 3
    assert shared_bytes(1) - shared_bytes(0) == 3 * np.dtype(float).itemsize
    on_device = kernel_source().partition("#else\nconstexpr int GROUPS")[2]
    assert on_device.startswith(" = sizeof(REAL) == 4 ? 4 : 2, GROUP_THREADS = 128, LANES = 32;")
    assert TILE_THREADS == {"float32": 4 * 128, "float64": 2 * 128}
    assert "DEPTH = 128 / sizeof(REAL)" in on_device
    assert TILE_DEPTH == {"float32": 128 // 4, "float64": 128 // 8}
    assert "EDGE = LANES < 32 ? 8 : 64, STRIDE = EDGE + 4;" in on_device
    assert TILE_EDGE == 64
    assert "TILE_BYTES = 4 * 32 * 68 * 4;" in on_device
    assert TILE_BYTES == 4 * 32 * 68 * 4
    assert f"sizeof(Phases) <= {PHASES_BYTES}" in on_device
    assert f"MOST_TILED_LAYERS = {MOST_TILED_LAYERS};" in on_device
    assert shared_bytes(0) == (MOST_LAYERS + 1) * np.dtype(np.int32).itemsize
