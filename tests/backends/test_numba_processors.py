"""Kernels for narrower processors than this one: other vectors, other blocks of rows."""

import json
import platform

import pytest

FEATURES = {
    "AVX2": "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt",
    "SSE2": "+sse2",
}

COMPARE = """
import json
import numpy as np
import accelnn
from accelnn.backends.numba import NumbaBackend, engine
from accelnn.backends.numba.vectors import LANES, SHORT, TALL, WIDE

# NumPy's BLAS may raise false flags, which are warnings; what is not finite fails the comparison.
np.seterr(invalid="ignore")
engine.FEW = 0
draw = np.random.default_rng(0)
worst = {"gradient": 0.0, "predict": 0.0, "fit": 0.0}
for sizes in ([30, 40, 10], [33, 70, 35, 5], [9, 3]):
    for density in (0.1, 1.0):
        for samples in (17, 47, 100, 502):
            x = draw.normal(size=(samples, sizes[0])) * (draw.random((samples, sizes[0])) < density)
            t = draw.integers(0, sizes[-1], samples)
            ours = accelnn.MLP(sizes, rng=1, backend=NumbaBackend(2))
            theirs = ours.to("numpy")
            a, b = ours.gradient(x, t), theirs.gradient(x, t)
            deviation = np.max([np.abs(a[k] - b[k]).max() / np.abs(b[k]).max() for k in b])
            assert np.isfinite(deviation)
            worst["gradient"] = max(worst["gradient"], float(deviation))
            deviation = np.abs(ours.predict(x) - theirs.predict(x)).max()
            assert np.isfinite(deviation)
            worst["predict"] = max(worst["predict"], float(deviation))
            batch = samples // 2
            options = {"batch_size": batch, "iters": 7, "rng": 0}
            a, b = (accelnn.fit(net, x, t, **options).loss for net in (ours, theirs))
            assert np.isfinite(a).all() and np.isfinite(b).all()
            worst["fit"] = max(worst["fit"], float(np.abs(np.subtract(a, b)).max()))
lanes = [LANES[np.float32], LANES[np.float64]]
print(json.dumps({"lanes": lanes, "blocks": [TALL, SHORT, WIDE], **worst}))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 processors")
@pytest.mark.parametrize(("name", "lanes"), [("AVX2", [16, 8]), ("SSE2", [8, 4])])
def test_a_narrower_processor_computes_the_same(compiled, python, tmp_path, name, lanes):
    assert compiled.name == "numba"
    environment = {
        "NUMBA_CPU_NAME": "haswell" if name == "AVX2" else "x86-64",
        "NUMBA_CPU_FEATURES": FEATURES[name],
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }
    printed = json.loads(python(COMPARE, **environment))
    assert printed["lanes"] == lanes
    tall, short, wide = printed["blocks"]
    assert tall % short == 0, "blocks of rows end where the next ones start"
    assert all(width % wide == 0 for width in lanes)
    assert printed["gradient"] < 5e-6
    assert printed["predict"] < 2e-6
    assert printed["fit"] < 2e-6
