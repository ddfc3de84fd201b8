"""Data sets on the device are bytes where that loses nothing, and what was given otherwise."""

import numpy as np
import pytest
import scipy.sparse as sp

import accelnn
from accelnn.backends import Dataset
from accelnn.backends.cupy import dataset as dataset_module
from accelnn.backends.cupy.dataset import PixelDataset
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.cuda_on_cpu

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 7))
LABELS = np.arange(50) % 3


def _prepared(device, x, dtype="float32", t=LABELS):
    return accelnn.prepare(x, t, backend=device, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("divisor", [1, 255])
def test_pixels_are_bytes_and_come_back_to_the_bit(device, dtype, divisor):
    x = PIXELS.astype(dtype) / np.array(divisor, dtype)
    data = _prepared(device, x, dtype)
    assert isinstance(data, PixelDataset)
    assert (data.pixels.dtype, data.divisor) == (np.uint8, divisor)
    assert (data.size, data.inputs, data.dtype) == (50, 7, dtype)
    np.testing.assert_array_equal(device.to_numpy(data.x), x)
    index = device.asarray(np.array([3, 3, 49]))
    some, labels = data.take(index)
    np.testing.assert_array_equal(device.to_numpy(some), x[[3, 3, 49]])
    np.testing.assert_array_equal(device.to_numpy(labels), LABELS[[3, 3, 49]])
    rows, _ = data.piece(slice(10, 20))
    np.testing.assert_array_equal(device.to_numpy(rows), x[10:20])
    assert repr(data) == (
        f"<PixelDataset of 50 samples with 7 inputs, bytes / {divisor}, {dtype} on cuda:0>"
    )


def _changed(place, value):
    x = PIXELS / 255.0
    x[place] = value
    return x


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(1).normal(size=(50, 7)),
        _changed((49, 6), 0.5),
        _changed((49, 6), 256 / 255),
        _changed((49, 6), -1 / 255),
        _changed((49, 6), np.nextafter(1.0, 0.0)),
        _changed((49, 6), 1e300),
        PIXELS - 1.0,
        PIXELS / 254.0,
    ],
)
def test_what_is_no_byte_is_kept_as_it_is(device, x, monkeypatch):
    # One row at a time, of which the last one alone may be what is no byte.
    monkeypatch.setattr(dataset_module, "PIECE", 7)
    data = _prepared(device, x, "float64")
    assert type(data) is Dataset
    np.testing.assert_array_equal(device.to_numpy(data.x), x)


def test_a_data_set_does_not_change_with_the_arrays_that_it_was_made_of(device):
    x, t = device.asarray(PIXELS / 254.0), device.asarray(np.eye(3)[LABELS])
    data = _prepared(device, x, "float64", t)
    before = device.to_numpy(data.x), device.to_numpy(data.t)
    x[...] = 0.0
    t[...] = 0.0
    np.testing.assert_array_equal(device.to_numpy(data.x), before[0])
    np.testing.assert_array_equal(device.to_numpy(data.t), before[1])


@pytest.mark.parametrize("kind", [np.uint8, np.int64, ">i2"])
def test_labels_are_what_kernels_read(device, kind):
    data = _prepared(device, PIXELS / 255.0, t=LABELS.astype(kind))
    assert data.t.dtype == np.int32
    np.testing.assert_array_equal(device.to_numpy(data.t), LABELS)


def test_bytes_and_numbers_train_alike(device, cupy):
    """A net cannot tell which of the two a data set is."""
    cupy.grid = 1, 1
    x = (PIXELS / 255.0).astype(np.float32)
    as_numbers = Dataset(device.asarray(x), device.asarray(LABELS), device, "float32")
    found = []
    for data in (_prepared(device, x), as_numbers):
        net = accelnn.MLP([7, 5, 3], rng=0, backend=device)
        history = accelnn.fit(net, data, validation=data, batch_size=8, epochs=2, rng=0)
        found.append((history.loss, history.test_loss, device.to_numpy(net.flat).tolist()))
    assert found[0] == found[1]


def test_sparse_samples_stay_on_the_host(device, cupy):
    """Each batch is made dense on the device, where kernels compute as they do of dense ones."""
    cupy.grid = 1, 1
    x = np.where(PIXELS > 200, PIXELS, 0.0)

    def trained(x, backend):
        net = accelnn.MLP([7, 5, 3], rng=0, backend=backend, dtype="float64")
        history = accelnn.fit(net, x, LABELS, validation=(x, LABELS), batch_size=8, epochs=2, rng=0)
        there = net.backend.asarray(LABELS)
        loss = net.loss(x, there) if sp.issparse(x) else history.test_loss[-1]
        flat = net.backend.to_numpy(net.flat)
        return [flat, np.array(history.loss), np.array(history.test_loss), np.array(loss)]

    found = trained(sp.csr_matrix(x), device)
    assert_equal_but_for_rounding(found, lambda move: trained(move(x), "numpy"))
