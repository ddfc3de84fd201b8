"""Backends, engines and specs that several threads or forked children ask for at once."""

import multiprocessing
import os
import threading
import time
import warnings

import numpy as np
import pytest
from made_up_backends import Other

import accelnn


def test_many_threads_that_ask_at_once_get_one_instance():
    made = []

    class Slow(Other):
        def __init__(self):
            super().__init__()
            made.append(self)
            time.sleep(0.02)

    together = threading.Barrier(8)
    got = []

    def ask():
        together.wait()
        got.append(accelnn.get_backend(Slow))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # No lock is held, so several may be made; all threads get the one that was ready first.
    assert len(got) == 8
    assert {id(backend) for backend in got} == {id(accelnn.get_backend(Slow))}
    assert got[0] in made


def test_many_threads_that_ask_for_an_engine_get_one():
    class SlowEngines(Other):
        def make_engine(self, spec, dtype):
            time.sleep(0.02)
            return super().make_engine(spec, dtype)

    backend = SlowEngines()
    spec = accelnn.MLP([2, 3], rng=0, backend="numpy").spec
    together = threading.Barrier(6)
    got = []

    def ask():
        together.wait()
        got.append(backend.engine(spec, "float32"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert len({id(engine) for engine in got}) == 1
    assert backend.engine(spec, np.float32) is got[0]
    assert backend.engine(spec, "float64") is not got[0]


@pytest.fixture
def being_made():
    """Return the class of a backend that another thread is making until the test is over."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Other):
        name = "slow"

        def __init__(self):
            begun.set()
            go_on.wait(60)

    maker = threading.Thread(target=accelnn.get_backend, args=(Slow,))
    maker.start()
    assert begun.wait(60)
    yield Slow
    go_on.set()
    maker.join()


@pytest.mark.usefixtures("being_made")
def test_a_backend_that_is_being_made_keeps_nobody_waiting():
    class New(Other):
        name = "new"

    got = []
    other = threading.Thread(
        target=lambda: got.extend(map(accelnn.get_backend, ("numpy", New))), daemon=True
    )
    other.start()
    other.join(30)
    assert [backend.name for backend in got] == ["numpy", "new"]


def _answer_of_child(work):
    """Return what `work` returns in a forked child, which must not hang."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(work()), daemon=True)
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork of a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    try:
        assert receiving.poll(30), "the child hangs"
        return receiving.recv()
    finally:
        child.kill()
        child.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_meanwhile_makes_backends(being_made):
    class New(Other):
        name = "new"

    def work():
        # In the child, no thread is left that would set the event.
        being_made.__init__ = object.__init__
        return [accelnn.get_backend(b).name for b in (New, being_made)]

    assert _answer_of_child(work) == ["new", "slow"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_while_a_spec_is_laid_out_lays_out_others(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    lay_out = accelnn.backends.NetSpec._lay_out

    def slowly(spec):
        if spec.sizes == (2, 3):
            begun.set()
            go_on.wait(60)
        return lay_out(spec)

    monkeypatch.setattr(accelnn.backends.NetSpec, "_lay_out", slowly)
    thread = threading.Thread(target=accelnn.MLP, args=([2, 3],))
    thread.start()
    assert begun.wait(60)
    try:
        assert _answer_of_child(lambda: accelnn.MLP([4, 5]).spec.size) == 25
    finally:
        go_on.set()
        thread.join()


def test_a_cached_property_is_computed_once_and_stays_one_object():
    together, got = threading.Barrier(6), []
    spec = accelnn.MLP([2, 3, 4], backend="numpy").spec
    fresh = type(spec)(spec.sizes, "relu", spec.loss)

    def ask():
        together.wait()
        got.append(fresh.parameters)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(parameters) for parameters in got} == {id(fresh.parameters)}
    assert len(got) == 6
    assert type(spec).parameters.__doc__.startswith("The parameters in buffer order")
