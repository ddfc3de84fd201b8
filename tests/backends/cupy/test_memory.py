"""What the CuPy backend does where a device has little memory, on the processor."""

import gc
import re

import numpy as np
import pytest

import accelnn
from accelnn.backends import Memory
from accelnn.errors import OutOfMemoryError

pytestmark = pytest.mark.cuda_on_cpu

N = 200


@pytest.fixture
def pool(cupy):
    """Return the memory of the device, which nothing leaves meanwhile that nobody holds."""
    gc.collect()
    yield cupy.get_default_memory_pool()
    cupy.get_default_memory_pool().forget()


@pytest.fixture
def room(pool):
    """Return ``room(n)``, which leaves n bytes of the device free."""

    def leave(size):
        gc.collect()
        pool.total, pool.kept = pool.used + size, 0

    return leave


@pytest.fixture
def x(device):
    return device.asarray(np.linspace(-1.0, 2.0, N))


@pytest.fixture
def cubes(device):
    """Return a batched function that notes how many points it is called with."""

    def f(points):
        f.sizes.append(len(points))
        return device.xp.sum(points * points * points, axis=1)

    f.sizes = []
    return f


@pytest.mark.parametrize("chunk_size", [None, N])
def test_chunks_are_halved_until_they_fit(device, room, x, cubes, chunk_size):
    room(1 << 17)
    found = accelnn.numerical_gradient(cubes, x, batched=True, chunk_size=chunk_size)
    np.testing.assert_allclose(device.to_numpy(found), 3.0 * device.to_numpy(x) ** 2, atol=1e-7)
    assert max(cubes.sizes) * N * 8 < 1 << 17
    if chunk_size is None:
        # A sixteenth of what is free, and x with the first of them, so that nothing had to fail.
        assert max(cubes.sizes) == 2 * ((1 << 17) // 16 // (8 * N * 2)) + 1


def test_memory_that_is_kept_is_given_back_before_the_next_try(
    device, pool, room, x, cubes, monkeypatch
):
    kept, used, release = [], [], type(device).release_memory

    def noted(backend):
        release(backend)
        kept.append(pool.kept)
        used.append(pool.used)

    monkeypatch.setattr(type(device), "release_memory", noted)
    room(1 << 17)
    at_first = pool.used
    accelnn.numerical_gradient(cubes, x, batched=True, chunk_size=N)
    # After chunks of 200, 100, 50 and 25 coordinates.
    assert kept == [0] * 4
    assert max(used) - at_first < 25 * x.nbytes


def test_a_device_with_memory_gets_all_points_at_once(x, cubes):
    accelnn.numerical_gradient(cubes, x, batched=True)
    assert cubes.sizes == [3, 2 * N + 1]


def test_no_chunk_is_copied_to_the_host(cupy, device, x, cubes):
    def copied(chunk_size):
        cupy.events.clear()
        found = accelnn.numerical_gradient(cubes, x, batched=True, chunk_size=chunk_size)
        assert device.owns(found)
        return [event.size for event in cupy.events if getattr(event, "to", "") == "host"]

    assert copied(2) == copied(N)
    # x twice, f at two points for each coordinate, and a few numbers.
    assert 0 < sum(copied(2)) < 8 * (4 * N + 20)


def test_the_error_has_the_numbers(device, room, x):
    def greedy(points):
        wide = device.xp.concat([points] * 1000)
        return wide[: len(points), 0]

    room(1 << 20)
    with pytest.raises(OutOfMemoryError) as caught:
        accelnn.numerical_gradient(greedy, x, batched=True)
    pattern = (
        r"out of memory on cuda:0: with batched=True f is given 3 points at least, which take "
        r"4,800 bytes; ([\d,]+) of ([\d,]+) bytes are free \(OutOfMemoryError: Out of memory "
        r"allocating 4,800,000 bytes\)\. Let f allocate less"
    )
    free, total = (
        int(number.replace(",", "")) for number in re.match(pattern, str(caught.value)).groups()
    )
    assert total == device.memory().total
    assert (1 << 20) * 0.9 < free < 1 << 20


def test_what_is_kept_for_later_arrays_is_free(device, pool):
    pool.total, pool.kept = pool.used + 1000, 300
    assert device.memory() == Memory(1000, pool.total)
    device.release_memory()
    assert pool.kept == 0
    assert device.memory() == Memory(1000, pool.total)


def test_a_limit_of_the_pool_is_what_there_is(device, pool):
    pool.limit = pool.used + 1000
    assert device.memory() == Memory(1000, pool.limit)


def test_the_host_has_no_count():
    assert accelnn.get_backend("numpy").memory() is None


def _fit(net, x, t, **options):
    return accelnn.fit(net, x, t, rng=0, **{"iters": 1, "batch_size": 1000} | options)


def test_a_batch_that_does_not_fit(device, room):
    net = accelnn.MLP([8, 500, 3], rng=0, backend=device)
    data = accelnn.prepare(np.ones((1000, 8)), np.zeros(1000, int), backend=device)
    room(1 << 20)
    message = (
        r"out of memory on cuda:0: a batch of 1,000 samples and a net of 6,003 parameters take "
        r"2,068,012 bytes or more; [\d,]+ of [\d,]+ bytes are free \(OutOfMemoryError: .*\)\. "
        r"Use a smaller batch_size"
    )
    with pytest.raises(OutOfMemoryError, match=message):
        _fit(net, data, None)
    history = _fit(net, data, None, batch_size=10)
    assert history.steps == 1


def test_the_optimizer_and_the_evaluation_need_memory_too(device, room):
    net = accelnn.MLP([8, 500, 3], rng=0, backend=device)
    data = accelnn.prepare(np.ones((10, 8)), np.zeros(10, int), backend=device)
    room(6_003 * 4)
    with pytest.raises(OutOfMemoryError, match="a batch of 1 samples"):
        _fit(net, data, None, optimizer=accelnn.Adam(), batch_size=1)
    room(6_003 * 4 + 10_000)
    _fit(net, data, None, batch_size=1)
    with pytest.raises(OutOfMemoryError, match="a batch of 1 samples"):
        _fit(net, data, None, batch_size=1, validation=data)


def test_samples_that_do_not_fit(device, room):
    x, t = np.ones((1000, 8)), np.zeros(1000, int)
    net = accelnn.MLP([8, 500, 3], rng=0, backend=device)
    room(1 << 14)
    message = (
        r"x of shape \(1000, 8\) takes 32,000 bytes in float32; [\d,]+ of [\d,]+ bytes are free"
    )
    for use in (
        lambda: accelnn.prepare(x, t, backend=device),
        lambda: _fit(net, x, t),
    ):
        with pytest.raises(OutOfMemoryError, match=message):
            use()


def test_a_net_that_does_not_fit(device, room):
    room(1 << 14)
    with pytest.raises(OutOfMemoryError, match=r"6,003 parameters take 24,012 bytes in float32; "):
        accelnn.MLP([8, 500, 3], rng=0, backend=device)


@pytest.mark.parametrize("name", ["predict", "loss", "accuracy", "gradient", "numerical_gradient"])
def test_a_pass_that_does_not_fit(device, room, name):
    net = accelnn.MLP([8, 500, 3], rng=0, backend=device)
    x, t = device.asarray(np.ones((5, 8))), device.asarray(np.zeros(5, int))
    use = getattr(net, name)
    arguments = (x,) if name == "predict" else (x, t)
    room(400)
    wide = 2 if name == "numerical_gradient" else 1
    message = rf"5 samples and a net of 6,003 parameters take {34_232 * wide:,} bytes or more"
    with pytest.raises(OutOfMemoryError, match=message):
        use(*arguments)
    room(1 << 24)
    use(*arguments)


def test_an_error_of_a_callback_is_its_own(device):
    def callback(_net, _history):
        raise MemoryError("of the callback")

    net = accelnn.MLP([8, 5, 3], rng=0, backend=device)
    with pytest.raises(MemoryError, match=r"^of the callback$") as caught:
        _fit(net, np.ones((10, 8)), np.zeros(10, int), batch_size=10, callbacks=[callback])
    assert type(caught.value) is MemoryError
