"""Targets of shape (n,), one number for a single output."""

import numpy as np
import pytest

import accelnn

N = 30
LOSSES = ["sum_squared_error", "huber", accelnn.Huber(0.5)]


def data(kind=float):
    draw = np.random.default_rng(4)
    x = draw.normal(size=(N, 3))
    return x, np.round(4 * x @ [1.0, -2.0, 0.5]).astype(kind)


def new_net(backend="numpy", loss="sum_squared_error", dtype="float64"):
    return accelnn.MLP([3, 4, 1], loss=loss, dtype=dtype, rng=2, backend=backend)


@pytest.mark.parametrize("kind", [float, np.float32, int, np.uint8])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_they_are_as_a_column_of_targets(backend, loss, kind):
    x, t = data(kind)
    flat, column = new_net(backend, loss), new_net(backend, loss)
    given = {"epochs": 2, "batch_size": 7, "rng": 1, "optimizer": accelnn.SGD(0.01)}
    histories = [
        accelnn.fit(net, x, y, validation=(x, y), **given)
        for net, y in ((flat, t), (column, t[:, None].astype(float)))
    ]
    assert histories[0] == histories[1]
    np.testing.assert_array_equal(backend.to_numpy(flat.flat), backend.to_numpy(column.flat))
    here = backend.asarray(x), backend.asarray(t)
    there = here[0], backend.asarray(t[:, None].astype(float))
    assert flat.loss(*here) == flat.loss(*there)
    for method in ("gradient", "numerical_gradient"):
        expected = getattr(flat, method)(*there)
        for key, value in getattr(flat, method)(*here).items():
            np.testing.assert_array_equal(*map(backend.to_numpy, (value, expected[key])))
    assert flat.loss(here[0][0, ...], t[0]) == flat.loss(here[0][0, ...], [float(t[0])])


def test_a_prepared_data_set_has_them_as_a_column():
    x, t = data()
    ready = accelnn.prepare(x, t[:, None], dtype="float64")
    nets = [new_net(), new_net()]
    accelnn.fit(nets[0], ready, epochs=1, rng=1)
    accelnn.fit(nets[1], x, t, epochs=1, rng=1)
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes()


class Series:
    """As of pandas: one axis, and no indexing with another."""

    ndim, shape = 1, (N,)

    def __init__(self, values):
        self.values, self.dtype = values, values.dtype

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=True if copy is None else copy)


@pytest.mark.parametrize("kind", [Series, memoryview, list, np.ndarray.tolist])
def test_other_sequences_of_numbers(kind):
    x, t = data()
    nets = [new_net(), new_net()]
    accelnn.fit(nets[0], x, kind(t), epochs=1, rng=1)
    accelnn.fit(nets[1], x, t, epochs=1, rng=1)
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes()


def test_numbers_are_no_labels_and_labels_no_numbers():
    x, t = data()
    with pytest.raises(ValueError, match=r"for a single output t\[:, None\], for labels t.astype"):
        accelnn.prepare(x, t)
    ready = accelnn.prepare(x, data(int)[1] - data(int)[1].min(), dtype="float64")
    with pytest.raises(ValueError, match=r"prepared as class labels, .*prepare\(x, t\[:, None\]\)"):
        accelnn.fit(new_net(), ready, epochs=1)


def test_several_outputs_take_no_flat_targets():
    x, t = data()
    net = accelnn.MLP([3, 2], loss="sum_squared_error", dtype="float64")
    with pytest.raises(ValueError, match=r"t has shape \(30,\)"):
        net.loss(x, t)
    with pytest.raises(ValueError, match=r"t has shape \(30,\)"):
        accelnn.fit(net, x, t, epochs=1)


def test_a_call_in_another_order_shows_no_array():
    x, t = data()
    with pytest.raises(TypeError, match=r"got ndarray: the call is fit\(net, x, t\)") as caught:
        accelnn.fit(x, t, new_net(), epochs=1)
    assert len(str(caught.value)) < 200
