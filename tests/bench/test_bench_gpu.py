"""The groups of a GPU, as far as no GPU is needed: plan, peers, clocks, tables."""

import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import accelnn
from accelnn.bench import GPU_GROUPS, TABLES, Case, Report, plan, run
from accelnn.bench._machine import describe_gpu
from accelnn.bench._plan import GPU_HEADLINE, ours_in
from accelnn.bench._worker import worker_environment
from accelnn.bench.contestants import Contestant, make_contestant
from accelnn.bench.contestants.gradients import Gradient, numerical
from accelnn.bench.contestants.training import Accelnn, Training
from accelnn.cli import app
from accelnn.testing import StrictBackend

needs_no_gpu = pytest.mark.skipif(
    any(info.available for info in accelnn.list_backends() if info.name == "cupy"),
    reason="there is a GPU",
)
SMALL = Case("gpu-training", "x", do="steps", sizes=(784, 6, 10), batch=20)
GRADIENT = Case("gpu-gradient", "x", sizes=(784, 2, 10), batch=3, dtype="float64")
ON_GPU = {"device": "cuda", "threaded": False}


def test_the_plan_has_the_groups_of_a_gpu_where_they_are_named():
    cases = plan(full=False, only=GPU_GROUPS, data="mnist")
    assert {case.group for case in cases} == set(GPU_GROUPS)
    for case in cases:
        assert case.device == "cuda"
        assert not case.threaded
        assert case.contestants[0] == ours_in(case.group) == "accelnn cupy"
        assert 0 <= case.few < case.many
    training = {c.name: c for c in cases if c.group == "gpu-training"}
    assert {(c.sizes, c.batch) for c in training.values()} == {
        *(((784, 50, 10), batch) for batch in (100, 1_000, 10_000)),
        ((784, 256, 128, 10), 100),
    }
    headline = training[GPU_HEADLINE]
    assert (headline.data, headline.sizes, headline.batch) == ("mnist", (784, 50, 10), 100)
    (gradient,) = (c for c in cases if c.group == "gpu-gradient")
    assert (gradient.parameters, gradient.batch, gradient.dtype) == (79_510, 20, "float64")
    assert not {case.group for full in (False, True) for case in plan(full=full)} & set(GPU_GROUPS)


def test_a_batch_is_left_out_that_the_shipped_images_do_not_fill():
    cases = plan(full=False, only=["gpu-training"], data="5k")
    assert sorted({case.batch for case in cases}) == [100, 1_000]


@needs_no_gpu
def test_without_a_device_one_message_says_why():
    with pytest.raises(accelnn.errors.BackendUnavailableError) as error:
        accelnn.get_backend("cupy")
    result = CliRunner().invoke(app, ["bench", "--gpu"])
    assert result.exit_code == 1
    assert result.output.strip() == f"Error: {error.value}".strip()


@needs_no_gpu
def test_peers_that_cannot_use_a_device_are_skipped(monkeypatch):
    monkeypatch.setattr("accelnn.bench._run.describe_machine", lambda _data, *, gpu: {"gpu": gpu})
    names = ("accelnn cupy", "torch eager", "torch CUDA graph", "torch compiled", "JAX scan")
    report = run(
        [replace(SMALL, contestants=names, few=2, many=4, budget=0.1, **ON_GPU)], repeats=1
    )
    assert [p.contestant for p in report.problems] == list(names)
    assert all(p.skipped for p in report.problems), report.problems
    assert report.machine == {"gpu": True}


def test_who_computes_on_the_processor_in_a_group_of_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr("accelnn.bench._run.describe_machine", lambda _data, *, gpu: {"gpu": gpu})
    case = replace(GRADIENT, contestants=("accelnn numpy",), many=2, budget=0.1, **ON_GPU)
    (measured,) = run([case], repeats=1).measurements
    assert measured.facts["clock"] == "wall clock"
    assert 0.0 < measured.facts["deviation"] < 1e-8


def steps_of(who, steps=30):
    who.ready(steps)
    who.run(steps)
    return who.layers()


def by_hand(case):
    return make_contestant("NumPy loop", case, 1, "training")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own use
@pytest.mark.parametrize("sizes", [(784, 6, 10), (784, 6, 5, 10)])
@pytest.mark.parametrize(
    ("contestant", "package"),
    [
        ("torch eager", "torch"),
        ("torch CUDA graph", "torch"),
        pytest.param("torch compiled", "torch", marks=pytest.mark.slow),
        ("JAX scan", "jax"),
    ],
)
def test_peers_take_the_steps_of_the_loop_by_hand(contestant, package, sizes, monkeypatch):
    pytest.importorskip(package)
    if contestant == "torch CUDA graph":
        from accelnn.bench.contestants.with_torch import Graph

        # The steps that a graph would replay, on the window that it would read.
        monkeypatch.setattr(Graph, "record", lambda g, n: lambda: g.take(g.window[:n]))
        monkeypatch.setattr(Graph, "RECORDED", 7)
    case = replace(SMALL, sizes=sizes, few=2)
    who = make_contestant(contestant, case, 1)
    assert who.events == ""
    expected = steps_of(by_hand(case))
    # Twice, as every run begins with the first weights.
    for _ in range(2):
        for found, exact in zip(steps_of(who), expected, strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("contestant", ["torch eager", "torch CUDA graph"])
def test_a_whole_run_of_torch_ends_where_the_loop_does(contestant, monkeypatch):
    pytest.importorskip("torch")
    from accelnn.bench.contestants.with_torch import Graph

    monkeypatch.setattr(Training, "STEPS", 250)
    monkeypatch.setattr(Graph, "record", lambda g, n: lambda: g.take(g.window[:n]))
    accuracies = []
    for group, name in (("gpu-whole-run", contestant), ("whole-run", "NumPy loop")):
        who = make_contestant(name, replace(SMALL, group=group, do="whole"), 1)
        assert who.granule == 1
        who.ready(1)
        who.run(1)
        accuracies.append(who.test_accuracy)
    np.testing.assert_allclose(*accuracies, atol=2e-3)


@pytest.fixture
def strict():
    """Return a backend whose arrays are as hard to reach as a device's."""
    pytest.importorskip("array_api_strict")
    return StrictBackend()


def test_our_training_on_a_device_takes_the_steps_of_the_loop_by_hand(strict):
    expected = steps_of(by_hand(SMALL))
    found = steps_of(Accelnn(SMALL, 1, strict))
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-5)


def test_our_gradient_on_a_device_is_compared_with_the_analytic_one(strict):
    who = Gradient(GRADIENT, 1, numerical, backend=strict)
    who.run(1)
    assert 0.0 < who.facts()["deviation"] < 1e-8


def test_our_whole_run_on_a_device_tells_its_accuracy_and_how_it_was_computed(strict, monkeypatch):
    monkeypatch.setattr(Training, "STEPS", 20)
    who = Accelnn(replace(SMALL, do="whole"), 1, strict)
    who.ready(1)
    who.run(1)
    way = who.net.engine.describe
    monkeypatch.setattr(who.net.engine, "describe", lambda batch: f"{way(batch)}, {batch} samples")
    facts = who.facts()
    assert facts["accuracy"] == who.test_accuracy[-1]
    assert facts["engine"].startswith("portable")
    assert facts["engine"].endswith("20 samples")


class Device:
    """Events of a stream on which work takes 12.5 ms."""

    def __init__(self):
        self.log = []

    def event(self, **_options):
        event = SimpleNamespace(record=partial(self.log.append, "record"))
        event.synchronize = partial(self.log.append, "synchronize")
        event.elapsed_time = lambda _end: 12.5
        return event


def test_events_are_recorded_before_and_after_and_waited_for(monkeypatch):
    for name in ("cupy", "torch"):
        who, device = Contestant(GRADIENT, 1), Device()
        who.events, who.run = name, device.log.append
        cuda = SimpleNamespace(Event=device.event, get_elapsed_time=lambda a, b: a.elapsed_time(b))
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(cuda=cuda))
        assert who.seconds(7) == 0.0125
        assert device.log == ["record", 7, "record", "synchronize"]


def test_the_machine_has_the_name_of_the_card(monkeypatch):
    card = {"name": b"A card", "major": 9, "minor": 0, "multiProcessorCount": 132}
    runtime = SimpleNamespace(
        getDeviceProperties=lambda _device: card | {"totalGlobalMem": 85_000_000_000},
        driverGetVersion=lambda: 13_000,
        runtimeGetVersion=lambda: 12_090,
    )
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    xp = SimpleNamespace(cuda=cuda, __version__="14.1")
    monkeypatch.setattr("accelnn.bench._machine.get_backend", lambda _name: SimpleNamespace(xp=xp))
    assert describe_gpu() == {
        "GPU": "A card",
        "size of the GPU": "compute capability 9.0, 132 multiprocessors, 85 GB",
        "CUDA": "13.0 in the driver, 12.9 in cupy",
        "cupy": "14.1",
    }


def test_a_worker_for_a_device_sees_it_and_leaves_memory_to_the_others(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert worker_environment(2, SMALL)["CUDA_VISIBLE_DEVICES"] == ""
    environment = worker_environment(2, replace(SMALL, device="cuda"))
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_tables_name_the_card_and_the_clock(gpu_report, tmp_path):
    table = TABLES["gpu-training"](gpu_report)
    assert table.title.endswith(", on A card")
    assert table.labels == 2
    assert table.columns == [
        "case", "contestant", "threads", "step", "spread", "÷ accelnn cupy", "training loss",
        "timed with",
    ]  # fmt: skip
    times = ["5.00 µs", "5.00 to 5.00", "1.00", "0.3602", "CUDA events"]
    assert table.rows[0] == [GPU_HEADLINE, "accelnn cupy", "2", *times]
    slower = ["50.0 µs", "50.0 to 50.0", "10.0", "0.3602", "wall clock"]
    assert table.rows[2] == [GPU_HEADLINE, "JAX scan", "2", *slower]
    assert [row[5] for row in table.rows] == ["1.00", "4.00", "10.0", "1.00", "1.50"]

    gradient = TABLES["gpu-gradient"](gpu_report)
    assert gradient.title.endswith("in float64, on A card")
    assert gradient.columns[0] == "contestant"
    (engine,) = TABLES["engines"](gpu_report).rows
    assert engine == ["gpu-training", GPU_HEADLINE, "accelnn cupy", "one kernel, 132 blocks"]

    gpu_report.write(tmp_path / "gpu.json")
    assert Report.read(tmp_path / "gpu.json") == gpu_report
