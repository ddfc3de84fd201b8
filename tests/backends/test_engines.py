"""How many engines a backend keeps, and how much memory of many nets."""

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import accelnn
from accelnn.backends._base import MOST_ENGINES


def net_of(width, backend):
    return accelnn.MLP([3, width, 2], rng=0, backend=backend)


def test_a_search_over_architectures_keeps_a_few(backend):
    engines = [weakref.ref(net_of(width, backend).engine) for width in range(1, 4 * MOST_ENGINES)]
    gc.collect()
    alive = [engine() is not None for engine in engines]
    assert sum(alive) <= MOST_ENGINES
    assert all(alive[-MOST_ENGINES // 2 :])
    # The last ones are shared.
    assert net_of(len(engines), backend).engine is engines[-1]()


def test_memory_does_not_grow_with_the_architectures_that_were_trained():
    x, t = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])

    def held(widths):
        for width in widths:
            net = accelnn.MLP([3, 1 + width % 60, 1 + width // 60, 2], rng=0, backend="numpy")
            accelnn.fit(net, x, t, iters=1, rng=0)
        gc.collect()
        # Of Python's memory, where each array has one at least.
        return sys.getallocatedblocks()

    before = held(range(3 * MOST_ENGINES))
    grown = held(range(3 * MOST_ENGINES, 3_000)) - before
    assert grown < 3_000


def test_nets_keep_theirs(backend):
    """And compute as nets of a new engine do."""
    first = net_of(5, backend)
    for width in range(100, 100 + 2 * MOST_ENGINES):
        net_of(width, backend)
    second = net_of(5, backend)
    assert first.engine is not second.engine
    x, t = backend.asarray(np.ones((4, 3), np.float32)), backend.asarray(np.array([0, 1, 0, 1]))
    assert first.loss(x, t) == second.loss(x, t)


def test_threads_ask_for_many_at_once():
    with ThreadPoolExecutor(8) as pool:
        nets = list(pool.map(lambda i: net_of(1 + i % (2 * MOST_ENGINES), "numpy"), range(2_000)))
    assert all(net.engine.spec == net.spec for net in nets)
