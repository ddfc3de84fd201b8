"""What only a device can show: that blocks wait for each other, and see what others wrote."""

import itertools

import numpy as np
import pytest

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.gpu

STEPS = 2_000


def _train(backend, sizes, dtype, move=lambda value: value, **options):
    draw = np.random.default_rng(0)
    x, t = draw.random((5_000, sizes[0])), draw.integers(0, sizes[-1], 5_000)
    net = accelnn.MLP(sizes, dtype=dtype, rng=0, backend=backend)
    net.flat[...] = backend.asarray(move(backend.to_numpy(net.flat)))
    history = accelnn.fit(net, move(x), t, iters=STEPS, rng=0, **options)
    return np.array(history.loss), backend.to_numpy(net.flat)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(784, 50, 10), (100, 64, 64, 64, 10), (20, 3)])
def test_thousands_of_barriers_give_the_same_bits_every_time(on_device, sizes, dtype):
    """A barrier that lets a block pass too early shows in some run, and then in all bits."""
    runs = [_train(on_device, sizes, dtype) for _ in range(5)]
    for (losses, params), (other_losses, other_params) in itertools.pairwise(runs):
        np.testing.assert_array_equal(losses, other_losses)
        np.testing.assert_array_equal(params, other_params)


def test_a_long_run_ends_where_numpy_ends(on_device):
    def run(backend, move=lambda value: value):
        options = {"optimizer": move(accelnn.Adam(0.001)), "batch_size": 97}
        return _train(backend, (784, 50, 10), "float64", move, **options)

    numpy = accelnn.get_backend("numpy")
    assert_equal_but_for_rounding(run(on_device), lambda move: run(numpy, move))


def test_the_callers_stream_is_the_one_that_works(on_device):
    """What the caller has queued before is there, and nothing waits for other streams."""
    import cupy

    net = accelnn.MLP([50, 20, 3], rng=0, backend=on_device)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x = cupy.ones((30, 50), np.float32)
        for _ in range(200):
            x = x * 1.0001
        gradient = net.gradient(x, cupy.zeros(30, np.int32))
        before = on_device.to_numpy(gradient["W1"])
    expected = net.gradient(x, cupy.zeros(30, np.int32))["W1"]
    np.testing.assert_array_equal(before, on_device.to_numpy(expected))
