"""What only a device can show: that blocks wait for each other, and see what others wrote."""

import itertools

import numpy as np
import pytest

import accelnn

pytestmark = pytest.mark.gpu

STEPS = 2_000


def _train(backend, sizes, dtype, **options):
    draw = np.random.default_rng(0)
    x, t = draw.random((5_000, sizes[0])), draw.integers(0, sizes[-1], 5_000)
    net = accelnn.MLP(sizes, dtype=dtype, rng=0, backend=backend)
    history = accelnn.fit(net, x, t, iters=STEPS, rng=0, **options)
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
    options = {"optimizer": accelnn.Adam(0.001), "batch_size": 97}
    found = _train(on_device, (784, 50, 10), "float64", **options)
    wanted = _train(accelnn.get_backend("numpy"), (784, 50, 10), "float64", **options)
    for ours, numpys in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=1e-6, atol=1e-8)


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
