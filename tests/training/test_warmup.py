"""What `warmup` promises: after it, nothing is compiled any more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

CODE = """
import json, os, sys
from pathlib import Path
import numpy as np
import accelnn

def compiled():
    return sorted(path.name for path in Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbc"))

accelnn.set_backend("numba")
accelnn.warmup(dtypes=["float32"])
ahead = compiled()
(x, t), test = accelnn.load_mnist(subset="5k")
dense = np.random.default_rng(0).normal(size=(1500, 20)).astype(np.float32)
for sizes, x, t in (((784, 9, 8, 10), x, t), ((20, 3), dense, np.eye(3)[np.arange(1500) % 3])):
    net = accelnn.MLP(sizes, activation="tanh", rng=0)
    for optimizer in (accelnn.Adam(), accelnn.Momentum()):
        accelnn.fit(net, x, t, validation=(x, t), iters=3, optimizer=optimizer, rng=0)
    for some in (slice(0, 5), slice(0, 1500)):
        net.predict(x[some]), net.loss(x[some], t[some]), net.accuracy(x[some], t[some])
        net.gradient(x[some], t[some])
    net.numerical_gradient(x[:3], t[:3])
    accelnn.fit(net, x, t, iters=2, gradient="numerical", rng=0)
json.dump([ahead, compiled()], sys.stdout)
"""


@pytest.mark.slow
def test_nothing_is_left_to_compile(tmp_path):
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    run = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    ahead, after = json.loads(run.stdout)
    assert len(ahead) > 5
    assert after == ahead
    announced = [line for line in run.stderr.splitlines() if "compiles its kernel" in line]
    assert {line.split("'")[1] for line in announced} == {
        "train",
        "evaluate",
        "predict",
        "differences",
    }
