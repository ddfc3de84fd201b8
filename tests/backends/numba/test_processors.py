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
from accelnn.backends.numba.vectors import BROAD, LANES, SHORT, TALL, WIDE, rows_at_once
from accelnn.testing import assert_equal_but_for_rounding

# NumPy's BLAS may raise false flags, which are warnings; what is not finite fails the comparison.
np.seterr(invalid="ignore")
engine.THREAD_WORK = 1
draw = np.random.default_rng(0)
for sizes in ([30, 40, 10], [33, 70, 35, 5], [9, 3]):
    for form in ("singles", "pixels", "dense"):
        # The batches of the last, half of them, have more than one block of rows.
        for samples in (17, 47, 100, 2 * rows_at_once(LANES[np.float32]) + 10):
            x = draw.normal(size=(samples, sizes[0]))
            if form == "singles":
                x *= draw.random(x.shape) < 0.1
            elif form == "pixels":
                x = draw.integers(1, 256, x.shape) / np.float32(255)
                groups = draw.random((samples, -(-sizes[0] // 4))) < 0.4
                x *= np.repeat(groups, 4, axis=1)[:, : sizes[0]]
            x, t = x.astype(np.float32), draw.integers(0, sizes[-1], samples)
            packed = accelnn.prepare(x, t, backend=NumbaBackend(2)).kernel_data
            if samples > 100:
                assert (packed.codes.size > 0) == (form == "pixels")
                assert packed.sparse == (form != "dense")

            def run(backend, move=lambda value: value):
                net = accelnn.MLP(sizes, rng=1, backend=backend)
                net.flat[...] = move(net.flat)
                data = move(x)
                found = [net.predict(data), *net.gradient(data, t).values()]
                for batch in (samples // 2, 1):
                    options = {"batch_size": batch, "iters": 7, "rng": 0}
                    losses = accelnn.fit(net, data, t, **options).loss
                    found += [np.array(losses, np.float32), net.flat.copy()]
                assert all(np.isfinite(array).all() for array in found)
                return found

            assert_equal_but_for_rounding(run(NumbaBackend(2)), lambda move: run("numpy", move))
lanes = [LANES[np.float32], LANES[np.float64]]
print(json.dumps({"lanes": lanes, "blocks": [TALL, SHORT, WIDE, BROAD]}))
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
    tall, short, wide, broad = printed["blocks"]
    assert tall % short == 0, "blocks of rows end where the next ones start"
    assert all(width % wide == 0 for width in lanes)
    assert broad == tall


# As on a machine whose processor is not an x86: many registers of 128 bits.
ELSEWHERE = """
import platform
import numba

platform.machine = lambda: "aarch64"
"""
ON_ARM = """
import json, re
import numpy as np, accelnn
import llvmlite.binding as llvm
from accelnn.backends.numba.kernels.products import multiply, multiply_transposed

accelnn.MLP([40, 70, 3], rng=0, backend="numba").gradient(np.ones((20, 40)), np.arange(20) % 3)
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
triple = "aarch64-unknown-linux-gnu"
machine = llvm.Target.from_triple(triple).create_target_machine(cpu="neoverse-n1", opt=3)
passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))

def compiled(function):
    overload = next(iter(function.overloads.values()))
    # With what it calls; nobody calls it here, so that it must not be dropped.
    text = str(overload.library._get_module_for_linking()).replace("linkonce_odr", "")
    text = re.sub('target triple = ".*"', f'target triple = "{triple}"', text)
    text = re.sub('target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', text)
    # Numba's reference counting is there for this machine already.
    declared = r"declare void @\\1(ptr)"
    text = re.sub(r"(?s)define[^\\n]*@(NRT_\\w+)\\(.*?\\n}", declared, text)
    module = llvm.parse_assembly(text)
    passes.getModulePassManager().run(module, passes)
    return machine.emit_assembly(module)

fused = r"fmla\\tv\\d+\\.4s"
print(json.dumps([len(re.findall(fused, compiled(f))) for f in (multiply, multiply_transposed)]))
"""


@pytest.mark.slow
def test_a_processor_that_is_no_x86(compiled, python, tmp_path):
    """Kernels take nothing of an x86 for granted, and become vector code of an ARM processor."""
    assert compiled.name == "numba"
    environment = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }
    printed = json.loads(python(ELSEWHERE + COMPARE, **environment))
    assert printed == {"lanes": [8, 4], "blocks": [12, 4, 4, 8]}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "not cached")
    # Two vectors for each of 12 rows, or of 8 columns and of 4.
    rows, columns = json.loads(python(ELSEWHERE + ON_ARM, **environment))
    assert rows >= 24
    assert columns >= 24
