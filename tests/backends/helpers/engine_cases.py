"""Nets and data for engines, and what they are compared with."""

from typing import NamedTuple

import numpy as np

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

__all__ = [
    "CASES",
    "DENSE",
    "DTYPES",
    "SPARSE",
    "Case",
    "assert_agree",
    "biases_of",
    "cases_for",
    "data_of",
    "host",
    "net_of",
    "on",
    "set_to",
]

DTYPES = ("float32", "float64")
# Non-zero inputs: fewer and more than the data set is stored apart for.
SPARSE, DENSE = 0.1, 0.7


class Case(NamedTuple):
    """A net, and data for it: the last batch is a short one unless the batch is one sample."""

    sizes: tuple[int, ...]
    samples: int
    batch: int
    kind: str
    density: float


CASES = (
    Case((33, 3), 37, 7, "labels", SPARSE),
    Case((1, 2), 33, 1, "one-hot", DENSE),
    Case((31, 33, 2), 37, 7, "soft", SPARSE),
    Case((65, 1, 31, 3), 130, 100, "labels", SPARSE),
    Case((2, 65, 33, 31, 5), 37, 7, "soft", DENSE),
    Case((33, 31, 2, 65, 1), 130, 100, "soft", DENSE),
    Case((65, 33, 3), 130, 100, "one-hot", DENSE),
)


def cases_for(loss):
    """Return the cases for a loss; of one output there is no softmax."""
    if loss != "cross_entropy":
        return CASES
    return [case._replace(sizes=(*case.sizes[:-1], max(2, case.sizes[-1]))) for case in CASES]


def data_of(case, dtype):
    """Return the samples and targets of a case."""
    draw = np.random.default_rng(1)
    inputs, outputs = case.sizes[0], case.sizes[-1]
    x = draw.normal(size=(case.samples, inputs))
    x[draw.random(x.shape) > case.density] = 0.0
    labels = draw.integers(0, outputs, case.samples)
    t = {
        "labels": labels,
        "one-hot": np.eye(outputs, dtype=dtype)[labels],
        # Rows that sum to anything.
        "soft": draw.uniform(size=(case.samples, outputs)).astype(dtype),
    }[case.kind]
    return x.astype(dtype), t


def biases_of(net):
    """Return the biases of a net."""
    return [net.params[name] for name in net.params if name.startswith("b")]


def net_of(backend, case, activation, loss, dtype, move=None):
    """Return the same net on any backend, its biases not zero; its parameters may be moved."""
    options = {"activation": activation, "loss": loss, "dtype": dtype, "rng": 3}
    net = accelnn.MLP(case.sizes, **options, backend=backend)
    draw = np.random.default_rng(2)
    for bias in biases_of(net):
        set_to(net, bias, draw.normal(scale=0.3, size=bias.shape))
    if move is not None:
        set_to(net, net.flat, move(host(net.flat)))
    return net


def set_to(net, array, values):
    """Change an array of a net."""
    array[...] = net.backend.asarray(values, net.dtype)


def on(net, *arrays):
    """Return arrays where the net is."""
    return [net.backend.asarray(a) for a in arrays]


def host(x):
    """Return an array in host memory."""
    return x if isinstance(x, np.ndarray) else accelnn.get_backend("cupy").to_numpy(x)


def assert_agree(backend, run, **options):
    """Assert that ``run(backend, move)`` gives on a backend what it gives on NumPy."""
    assert_equal_but_for_rounding(
        [host(array) for array in run(backend, lambda value: value)],
        lambda move: run("numpy", move),
        **options,
    )
