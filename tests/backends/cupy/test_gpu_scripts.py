"""The parts of the report on a rented card, on the stand-in: they know the engine from inside."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from stand_in_arrays import Device

import accelnn
from accelnn.backends.cupy import engine, launch, training
from accelnn.backends.cupy.resident import RESIDENT
from accelnn.backends.cupy.source import KERNELS

SCRIPTS = Path(accelnn.__file__).parents[1] / "scripts"

pytestmark = [
    pytest.mark.cuda_on_cpu,
    pytest.mark.skipif(not SCRIPTS.exists(), reason="the scripts are not installed"),
]


@pytest.fixture
def load(cupy, monkeypatch):
    """Return ``load(name)``, which imports a script while the stand-in is what is imported."""
    assert cupy.__version__ == "0"

    def load(name):
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def samples():
    (x, t), _ = accelnn.load_mnist(subset="5k")
    return x[:66, 200:220].copy(), t[:66]


@pytest.mark.slow
def test_the_breakdown_times_every_part_of_a_step(load, samples, tmp_path, monkeypatch):
    script = load("gpu_breakdown")
    monkeypatch.setattr(script, "REPEATS", 1)
    monkeypatch.setattr(script, "LAUNCHES", 2)
    monkeypatch.setattr(script, "THREADS", (64,))
    notes = script.Notes(tmp_path / "breakdown.json")
    script.Case(notes, (20, 6, 10), 2, samples).measure()
    content = json.loads((tmp_path / "breakdown.json").read_text())
    assert content == notes.content
    assert content["failed"] == []
    found = {entry["what"]: entry for entry in content["found"]}
    for what in (
        "OneLaunch, a step",
        "Replayed, a step",
        "Products, a step",
        "batch_errors, 64 threads",
        "batch_update, 64 threads",
        "engine.train of 33 steps",
        "fit of an epoch, a step",
        "net.gradient of a batch",
    ):
        assert found[what]["value"] > 0.0, what
        assert found[what]["unit"] == "µs"
    assert 0.0 < found["largest deviation of 20 losses from NumPy's"]["value"] < 1e-5
    assert sum(what.endswith("as chosen") for what in found) == 2


def test_a_part_that_fails_is_named_and_the_others_go_on(load, samples, tmp_path, monkeypatch):
    script = load("gpu_breakdown")
    monkeypatch.setattr(script.Case, "ways", lambda _case: 1 / 0)
    for part in ("halves", "deviation"):
        monkeypatch.setattr(script.Case, part, lambda _case: None)
    notes = script.Notes(tmp_path / "breakdown.json")
    script.Case(notes, (20, 6, 10), 30, samples).measure()
    (failed,) = json.loads((tmp_path / "breakdown.json").read_text())["failed"]
    assert "ZeroDivisionError" in failed
    assert any(entry["what"] == "net.loss of a batch" for entry in notes.content["found"])


@pytest.mark.slow
def test_the_check_launches_every_kernel_and_finds_a_wrong_one(load, cupy, monkeypatch):
    script = load("gpu_stage")
    for module, name in (
        (launch, "MOST_THREADS"),
        (launch, "device_attributes"),
        (training, "CAPTURED"),
        (engine, "TILED"),
        (engine, "PRODUCTS_NOT_TILES"),
        (script.CupyEngine, "_way"),
        (script.CupyEngine, "_layout"),
    ):
        # Put back what the check, which has a process to itself elsewhere, leaves changed.
        monkeypatch.setattr(module, name, getattr(module, name))
    Device.attributes = Device.attributes | {"MaxSharedMemoryPerBlockOptin": 232_448}
    script.check()
    assert {name for name, _ in cupy.buffers} == {*KERNELS, RESIDENT}

    monkeypatch.setattr(script, "TOLERANCE", 1e-12)
    with pytest.raises(SystemExit, match="wrong: the largest deviation is"):
        script.check()
