"""Small runs, end to end: real workers, real nets, few steps."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

import accelnn
from accelnn.bench import GPU_GROUPS, Report, plan, run, turns
from accelnn.bench._contestants import CONTESTANTS, OURS, make_job
from accelnn.bench._task import Task
from accelnn.bench.jobs.job import Job, amounts, seconds_per_unit
from accelnn.bench.jobs.training import JUDGED_EPOCHS

PEERS = {"torch eager": "torch", "JAX step": "jax", "scikit-learn": "sklearn"}


def by_name(report):
    return {(m.contestant, m.threads): m for m in report.measurements}


def test_training_takes_turns_and_comes_to_the_same_loss(training_case, tmp_path):
    steps = []
    report = run([training_case], repeats=2, threads=2, progress=lambda n, _note: steps.append(n))
    assert report.problems == []
    measured = by_name(report)
    assert set(measured) == {(name, n) for name in training_case.contestants for n in (1, 2)}
    assert sum(steps) == turns([training_case], 2, 2) == 18

    (x, t), test = accelnn.load_mnist(subset="5k")
    net = accelnn.MLP((784, 8, 10), rng=0)
    accelnn.fit(net, x, t, batch_size=20, epochs=JUDGED_EPOCHS, rng=0)
    for m in measured.values():
        assert len(m.seconds) == 2
        assert (m.facts["few"], m.facts["many"]) == (4, 12)
        assert m.facts["loss"] == pytest.approx(net.loss(x, t), rel=1e-5)
        assert m.facts["accuracy"] == pytest.approx(net.accuracy(*test), abs=2e-3)
        assert 20 < m.facts["peak_mb"] < 4000

    path = tmp_path / "run.json"
    report.write(path)
    assert Report.read(path) == report
    content = json.loads(path.read_text())
    assert set(content) == {"format", "machine", "settings", "measurements", "problems"}
    assert content["settings"] == {"repeats": 2, "threads": 2}
    assert content["machine"]["numpy"] == np.__version__
    first = content["measurements"][0]
    assert first["median"] == np.median(first["seconds"])
    assert first["spread"] == [min(first["seconds"]), max(first["seconds"])]


def test_a_report_is_kept_after_every_case(gradient_case):
    cases = [replace(gradient_case, name=name, contestants=("NumPy analytic",)) for name in "ab"]
    kept = []
    report = run(
        cases, repeats=1, threads=1, keep=lambda r: kept.append([m.case for m in r.measurements])
    )
    assert kept == [["a"], ["a", "b"]]
    assert len(report.measurements) == 2


def test_an_interruption_keeps_the_times_taken_until_then(gradient_case):
    kept, told = [], []

    def interrupt(_steps, note):
        told.append(note)
        if "NumPy loop" in note and note.endswith("s") and note.count(":") > 1:
            raise KeyboardInterrupt

    names = ("NumPy analytic", "NumPy loop", "accelnn numpy")
    case = replace(gradient_case, contestants=names)
    with pytest.raises(KeyboardInterrupt):
        run([case], repeats=2, threads=1, progress=interrupt, keep=kept.append)
    (report,) = kept
    assert [m.contestant for m in report.measurements] == ["NumPy analytic", "NumPy loop"]
    assert [len(m.seconds) for m in report.measurements] == [1, 1]
    assert "few" in report.measurements[0].facts
    assert any(note.startswith("gradient, small: NumPy analytic, 1 thread: ") for note in told)


def test_gradients_are_compared_with_backpropagation(gradient_case):
    report = run([gradient_case], repeats=1, threads=1)
    assert report.problems == []
    facts = {m.contestant: m.facts for m in report.measurements}
    assert facts["NumPy analytic"]["deviation"] == 0.0
    for name in ("accelnn numba", "accelnn numpy", "NumPy loop"):
        assert 0.0 < facts[name]["deviation"] < 1e-8, name
    total = 785 * 2 + 3 * 10
    assert facts["NumPy loop"]["measured"] == f"{total:,} of {total:,} parameters"


@pytest.mark.parametrize("contestant", PEERS)
def test_a_missing_peer_is_skipped_by_name_and_a_present_one_agrees(training_case, contestant):
    case = replace(training_case, contestants=(contestant, "NumPy loop"), threaded=False)
    report = run([case], repeats=1, threads=1)
    measured = by_name(report)
    loop = measured["NumPy loop", 1]
    if importlib.util.find_spec(PEERS[contestant]) is None:
        (problem,) = report.problems
        assert problem.skipped
        assert problem.contestant == contestant
        assert PEERS[contestant] in problem.reason
    else:
        assert report.problems == []
        assert measured[contestant, 1].facts["loss"] == pytest.approx(loop.facts["loss"], rel=0.05)


def test_who_fails_is_named_and_the_others_go_on(training_case):
    broken = replace(training_case.task, activation="nonsense")
    cases = [replace(training_case, task=broken, threaded=False), replace(training_case)]
    cases[1] = replace(cases[1], contestants=("nobody", "NumPy loop"), threaded=False)
    report = run(cases, repeats=1, threads=1)
    assert [p.contestant for p in report.problems] == [*training_case.contestants, "nobody"]
    assert all(not p.skipped for p in report.problems)
    assert "unknown activation 'nonsense'" in report.problems[0].reason
    assert [m.contestant for m in report.measurements] == ["NumPy loop"]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(
    "task",
    [
        Task((784, 6, 10), batch=20),
        Task((784, 6, 5, 10), batch=20, activation="relu", dtype="float64"),
    ],
    ids=["sigmoid", "deep relu"],
)
def test_the_loop_by_hand_takes_the_steps_of_fit(task, optimizer):
    task = replace(task, optimizer=optimizer)
    loop, ours = (make_job("training", name, task, 1) for name in ("NumPy loop", "accelnn numpy"))
    for job in (loop, ours):
        job.ready(30)
        job.run(30)
    tolerance = 1e-4 if task.dtype == "float32" else 1e-10
    for hand, fitted, first in zip(loop.layers(), ours.layers(), loop.initial, strict=True):
        np.testing.assert_allclose(hand, fitted, rtol=tolerance, atol=tolerance)
        assert np.abs(hand - first).max() > 1e-4


def test_a_whole_run_ends_where_fit_does(monkeypatch):
    from accelnn.bench.jobs.training import WholeRun

    monkeypatch.setattr(WholeRun, "STEPS", 250)
    task = Task((784, 6, 10), batch=20)
    accuracies = []
    for name in ("NumPy loop", "accelnn numpy"):
        job = make_job("whole-run", name, task, 1)
        job.ready(1)
        job.run(1)
        accuracies.append(job.test_accuracy)
        assert job.facts() == {"steps": 250, "accuracy": job.test_accuracy[-1]}
    # At the start, after the epoch of 200 steps, at the end.
    assert len(accuracies[0]) == len(accuracies[1]) == 3
    np.testing.assert_allclose(*accuracies, atol=2e-3)


class Sleeper(Job):
    """Work that costs something once, and something each time, on a clock of its own."""

    granule = 5


def test_time_is_the_slope_and_amounts_fit_the_budget(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("accelnn.bench.jobs.clocks.time.perf_counter", lambda: now[0])

    def run(_self, amount):
        now[0] += 3.0 + 0.25 * amount

    monkeypatch.setattr(Sleeper, "run", run)
    job = Sleeper(Task(), 1)
    assert seconds_per_unit(job, 10, 30) == 0.25
    assert seconds_per_unit(job, 0, 4) == pytest.approx((3 + 0.25 * 4) / 4)
    job.scale = 8.0
    assert seconds_per_unit(job, 10, 30) == 2.0

    # 100 units are tried first, at 0.28 s each: of 4,000 a 28th fits into 40 s.
    assert amounts(job, 1000, 3000, 40.0) == (40, 110)
    assert amounts(job, 1000, 3000, 1e6) == (1000, 3000)
    assert amounts(job, 1000, 3000, 1e-6) == (5, 10)


def test_plans_name_known_contestants_once():
    for full in (False, True):
        cases = plan(full=full, data="mnist")
        assert len({(case.group, case.name) for case in cases}) == len(cases)
        for case in cases:
            assert set(case.contestants) <= set(CONTESTANTS[case.group])
            assert OURS in case.contestants or case.group == "digits"
            assert 0 <= case.few < case.many
    assert {case.group for case in plan(full=True)} == set(CONTESTANTS) - set(GPU_GROUPS)
    assert [case.group for case in plan(full=False, only=["predict"])] == ["predict"]


@pytest.mark.parametrize(
    ("group", "contestant"),
    [(g, name) for g in ("predict", "prepare", "numerical-training") for name in CONTESTANTS[g]],
)
def test_the_other_jobs_run(group, contestant):
    job = make_job(group, contestant, Task((784, 3, 10), batch=20), 1)
    job.ready(2)
    job.run(2)
    facts = job.facts()
    if group == "predict":
        assert 0.0 < facts["deviation"] < 1e-6
    elif group == "prepare":
        assert facts == {"samples": 4000}
