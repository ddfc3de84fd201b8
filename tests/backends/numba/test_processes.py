"""Training in forked and spawned children, and beside Numba's own threading layers."""

import json
import os
import site
import sys
from pathlib import Path

import pytest

TRAIN = """
import multiprocessing
import numpy as np, accelnn

def train():
    backend = type(accelnn.get_backend("numba"))(2)
    net = accelnn.MLP([40, 65, 7], rng=0, backend=backend)
    draw = np.random.default_rng(1)
    x = draw.normal(size=(101, 40)) * (draw.random((101, 40)) < 0.2)
    history = accelnn.fit(net, x, draw.integers(0, 7, 101), epochs=5, batch_size=10, rng=2)
    gradient = net.numerical_gradient(x[:5], np.arange(5))["W1"]
    results = history.loss, net.flat.tobytes().hex(), gradient.tobytes().hex()
    return *results, len(backend.team._tasks)

def train_again(connection, net, x, t):
    history = accelnn.fit(net, x, t, epochs=2, rng=3)
    connection.send((train(), history.loss, len(net.backend.team._tasks)))

def in_child(method, net, x, t):
    context = multiprocessing.get_context(method)
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=train_again, args=(sending, net, x, t))
    child.start()
    assert receiving.poll(100), "the child hangs"
    answer = receiving.recv()
    child.join(20)
    assert child.exitcode == 0
    return answer
"""

CHILD = """
import sys, threading, warnings
import numpy as np, accelnn, training_module

# Python 3.12 warns of every fork of a process with threads; ours are not used by the child.
warnings.simplefilter("ignore", DeprecationWarning)
x, t = np.eye(30, 20, dtype=np.float32), np.arange(30) % 3
net = accelnn.MLP([20, 65, 3], rng=0, backend="numba")
accelnn.fit(net, x, t, epochs=1, rng=0)
assert any(thread.name == "accelnn" for thread in threading.enumerate())
METHOD = "{method}"
at_child, losses, threads = training_module.in_child(METHOD, net, x, t)
print(at_child == training_module.train())
print(losses == accelnn.fit(net, x, t, epochs=2, rng=3).loss)
print(at_child[-1], threads)
"""

LAYER = """
import json, threading
import numba, numpy as np
import training_module

@numba.njit(parallel=True)
def total(x):
    result = 0.0
    for i in numba.prange(x.size):
        result += x[i]
    return result

numbers = np.arange(100_000.0)
try:
    total(numbers)
except ValueError as error:
    print(json.dumps(["missing", str(error)]))
    raise SystemExit
alone = training_module.train()
sums, stop = set(), threading.Event()

def keep_on():
    while not stop.is_set():
        sums.add(total(numbers))

other = threading.Thread(target=keep_on)
other.start()
together = [training_module.train() for _ in range(10)]
stop.set()
other.join()
print(json.dumps([
    numba.threading_layer(), sums == {numbers.sum()}, together == [alone] * 10, alone[-1]
]))
"""


@pytest.fixture
def folder(tmp_path, compiled):
    """Return a folder with a module that trains."""
    assert compiled.name == "numba"
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "training_module.py").write_text(TRAIN)
    return modules


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(
            "fork", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
        ),
        "spawn",
    ],
)
def test_a_child_trains_after_its_parent(python, folder, method):
    code = CHILD.replace("{method}", method)
    same, goes_on, threads = python(code, folder, NUMBA_NUM_THREADS="2").split("\n")
    assert (same, goes_on) == ("True", "True")
    assert threads == "1 1"


@pytest.mark.parametrize("layer", ["omp", "tbb", "workqueue"])
def test_beside_a_threading_layer_of_numba(python, folder, layer):
    environment = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    # Where pip puts the libraries of tbb, of which the loader does not know.
    libraries = [str(Path(root) / "lib") for root in (sys.prefix, site.USER_BASE) if root]
    known = os.environ.get("LD_LIBRARY_PATH", "")
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, known])
    loaded, *results = json.loads(python(LAYER, folder, **environment))
    if loaded == "missing":
        pytest.skip(f"Numba's threading layer {layer} is not installed: {results[0]}")
    assert loaded == layer
    assert results == [True, True, 1]


@pytest.mark.parametrize("made", ["accelnn.get_backend('numba:1')", "NumbaBackend(1)"])
def test_a_process_that_is_sent_a_net_uses_as_many_threads(python, tmp_path, made):
    (tmp_path / "asked.py").write_text("def threads(net):\n    return net.backend.threads\n")
    code = f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import accelnn, asked
from accelnn.backends.numba import NumbaBackend

nets = [accelnn.MLP([3, 2], backend=b) for b in ({made}, "numba")]
with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    print(*pool.map(asked.threads, nets))
"""
    assert python(code, tmp_path, NUMBA_NUM_THREADS="2") == "1 2"
