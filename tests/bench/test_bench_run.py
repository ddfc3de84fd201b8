"""Small runs, end to end: real workers, real nets, few steps."""

import gc
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn._processors import usable_processors
from accelnn.bench import GPU_GROUPS, TABLES, Case, Report, _run, plan, run, turns
from accelnn.bench._plan import OURS
from accelnn.bench._run import busy_cores
from accelnn.bench._worker import WorkerError
from accelnn.bench.contestants import CONTESTANTS, Contestant, make_contestant
from accelnn.bench.contestants.base import amounts, seconds_per_unit
from accelnn.bench.contestants.training import FLOOR, JUDGED_EPOCHS, Training

DO = {"predict": "predict", "numerical-training": "by_differences"}
LINUX = Path("/proc/self/stat").exists()
PEERS = {"torch eager": "torch", "JAX step": "jax", "scikit-learn": "sklearn"}


def small(group, **options):
    return Case(group, "small", **{"sizes": (784, 6, 10), "batch": 20} | options)


def by_name(report):
    return {(m.contestant, m.threads): m for m in report.measurements}


def test_training_takes_turns_and_comes_to_the_same_loss(training_case, tmp_path, monkeypatch):
    monkeypatch.setattr(_run, "MUCH", math.inf)
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
    assert set(content) == {"format", "machine", "settings", "cases"}
    assert content["settings"] == {"repeats": 2, "threads": 2}
    assert content["machine"]["numpy"] == np.__version__
    first = content["cases"][0]["times"][0]
    assert first["median"] == np.median(first["seconds"])
    assert first["spread"] == [min(first["seconds"]), max(first["seconds"])]


def test_a_peer_goes_on_with_its_faster_number_of_threads(training_case, monkeypatch):
    monkeypatch.setattr(_run, "MUCH", 1.0)
    case, steps = replace(training_case, contestants=("NumPy loop", OURS)), []
    report = run([case], repeats=3, threads=2, progress=lambda n, _note: steps.append(n))
    measured = by_name(report)
    assert [len(measured[OURS, n].seconds) for n in (1, 2)] == [3, 3]
    loops = [measured["NumPy loop", n] for n in (1, 2)]
    slower, faster = sorted(loops, key=lambda m: m.seconds[0], reverse=True)
    assert (len(slower.seconds), len(faster.seconds)) == (1, 3)
    assert "loss" in faster.facts
    assert sum(steps) == turns([case], 3, 2)


def test_a_report_is_kept_after_every_case(gradient_case):
    cases = [replace(gradient_case, name=name, contestants=("NumPy analytic",)) for name in "ab"]
    kept = []
    report = run(
        cases,
        repeats=1,
        threads=1,
        keep=lambda r: kept.append([m.case.name for m in r.measurements]),
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
    cases = [replace(training_case, activation="nonsense", threaded=False), training_case]
    cases[1] = replace(cases[1], contestants=("nobody", "NumPy loop"), threaded=False)
    report = run(cases, repeats=1, threads=1)
    assert [p.contestant for p in report.problems] == [*training_case.contestants, "nobody"]
    assert all(not p.skipped for p in report.problems)
    assert "unknown activation 'nonsense'" in report.problems[0].reason
    assert [m.contestant for m in report.measurements] == ["NumPy loop"]


def test_who_comes_to_nan_has_no_times_and_is_nobodys_peer():
    # Dense noise at a rate for images, one sample at a time.
    diverging = {"data": "gaussian", "batch": 1, "activation": "relu", "few": 2, "many": 4}
    diverging |= {"sizes": (784, 256, 10), "do": "steps"}
    case = small("training", contestants=("NumPy loop", FLOOR), **diverging)
    report = run([replace(case, budget=0.05)], repeats=2, threads=2)
    assert {p.contestant for p in report.problems} == {"NumPy loop"}
    assert {p.reason for p in report.problems} == {"ArithmeticError: gives a loss of nan"}
    assert {m.contestant for m in report.measurements} == {FLOOR}


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(
    "net",
    [
        {"sizes": (784, 6, 10)},
        {"sizes": (784, 6, 5, 10), "activation": "relu", "dtype": "float64"},
    ],
    ids=["sigmoid", "deep relu"],
)
def test_the_loop_by_hand_takes_the_steps_of_fit(net, optimizer):
    case = Case("training", "x", do="steps", batch=20, optimizer=optimizer, **net)
    loop, ours = (make_contestant(name, case, 1) for name in ("NumPy loop", "accelnn numpy"))
    for who in (loop, ours):
        who.ready(30)
        who.run(30)
    tolerance = 1e-4 if case.dtype == "float32" else 1e-10
    for hand, fitted, first in zip(loop.layers(), ours.layers(), loop.initial, strict=True):
        np.testing.assert_allclose(hand, fitted, rtol=tolerance, atol=tolerance)
        assert np.abs(hand - first).max() > 1e-4


def test_a_whole_run_ends_where_fit_does(monkeypatch):
    monkeypatch.setattr(Training, "STEPS", 250)
    accuracies = []
    for name in ("NumPy loop", "accelnn numpy"):
        who = make_contestant(name, small("whole-run", do="whole"), 1)
        who.ready(1)
        who.run(1)
        accuracies.append(who.test_accuracy)
        assert who.facts() == {"accuracy": who.test_accuracy[-1]}
    # At the start, after the epoch of 200 steps, at the end.
    assert len(accuracies[0]) == len(accuracies[1]) == 3
    np.testing.assert_allclose(*accuracies, atol=2e-3)


@pytest.mark.parametrize("do", ["steps", "whole"])
def test_our_training_keeps_the_data_in_one_form_and_counts_their_preparation(monkeypatch, do):
    monkeypatch.setattr(Training, "STEPS", 20)
    prepared = []
    prepare = accelnn.prepare

    def counted(x, t, **options):
        data = prepare(x, t, **options)
        prepared.append([weakref.ref(x), weakref.ref(data)])
        return data

    monkeypatch.setattr(accelnn, "prepare", counted)
    who = make_contestant("accelnn numba", small("training", do=do), 1)
    gc.collect()
    (given, _), *_ = prepared
    assert given() is None
    assert sum(data() is not None for _, data in prepared) == (1 if do == "steps" else 2)
    assert (who.besides > 0.0) == (do == "whole")
    who.ready(1)
    who.run(1)
    assert who.facts()["accuracy"] > 0.0


class Sleeper(Contestant):
    """Work that costs something once, and something each time, on a clock of its own."""

    granule = 5


def test_time_is_the_slope_and_amounts_fit_the_budget(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("accelnn.bench.contestants.base.time.perf_counter", lambda: now[0])

    def run(_self, amount):
        now[0] += 3.0 + 0.25 * amount

    monkeypatch.setattr(Sleeper, "run", run)
    who = Sleeper(Case("x", "x", few=1000, many=3000), 1)
    assert seconds_per_unit(who, 10, 30) == 0.25
    assert seconds_per_unit(who, 0, 4) == pytest.approx((3 + 0.25 * 4) / 4)
    who.scale, who.besides = 8.0, 0.5
    assert seconds_per_unit(who, 10, 30) == 2.5
    who.besides = 0.0

    # Disturbed each time, it is the mean, which is too long but never negative.
    monkeypatch.setattr(
        Sleeper, "run", lambda _self, amount: now.__setitem__(0, now[0] + 9 / amount)
    )
    assert seconds_per_unit(who, 10, 30) == pytest.approx(8.0 * 9 / 30 / 30)
    monkeypatch.setattr(Sleeper, "run", run)

    # 100 units are tried first, at 0.28 s each: of 4,000 a 28th fits into 40 s.
    assert amounts(who, 40.0) == (40, 110)
    assert amounts(who, 1e6) == (1000, 3000)
    assert amounts(who, 1e-6) == (5, 10)


def test_plans_name_known_contestants_once():
    for full in (False, True):
        cases = plan(full=full, data="mnist")
        assert len({case.key for case in cases}) == len(cases)
        for case in cases:
            assert set(case.contestants) <= set(CONTESTANTS[case.group])
            assert OURS in case.contestants or case.group == "digits"
            assert 0 <= case.few < case.many
        assert {case.isa for case in plan(full=full, isa="avx2")} == {"avx2"}
    on_cpu = set(CONTESTANTS) - set(GPU_GROUPS)
    assert {case.group for case in plan(full=True, data="mnist")} == on_cpu
    assert {case.group for case in plan(full=True, data="5k")} == on_cpu - {"to-98"}
    assert [case.group for case in plan(full=False, only=["predict"])] == ["predict"]


@pytest.mark.parametrize(
    ("group", "contestant"),
    [(g, name) for g in ("predict", "prepare", "numerical-training") for name in CONTESTANTS[g]],
)
def test_the_other_contestants_run(group, contestant):
    who = make_contestant(contestant, small(group, do=DO.get(group, "")), 1)
    who.ready(2)
    who.run(2)
    facts = who.facts()
    if group == "predict":
        assert 0.0 < facts["deviation"] < 1e-6
    elif group == "prepare":
        assert facts == {"samples": 4000}


OWN = {
    "doors": (OURS, "accelnn numpy", "NumPy by hand"),
    "handwritten-loop": (OURS, "accelnn numpy", "NumPy by hand"),
    "growth": (OURS, "NumPy loop", FLOOR),
    "load": (OURS,),
    "options": (OURS, "with rates", "with a clip"),
}


def run_small(group, contestants=None, **options):
    case = small(group, contestants=contestants or OWN[group], budget=0.05, **options)
    report = run([replace(case, threaded=False)], repeats=1, threads=1)
    assert report.problems == []
    return {m.contestant: m for m in report.measurements}


@pytest.mark.parametrize("do", ["gradient", "loss", "predict"])
def test_doors_return_what_the_same_call_by_hand_does(do):
    measured = run_small("doors", do=do, many=3)
    for name in OWN["doors"]:
        # Of float32, from float64; no contestant returns exactly what another one does.
        assert 0.0 < measured[name].facts["deviation"] < 1e-6, name


def test_a_handwritten_loop_comes_to_the_same_loss_everywhere():
    measured = run_small("handwritten-loop", do="steps", many=5)
    losses = [measured[name].facts["loss"] for name in OWN["handwritten-loop"]]
    assert max(losses) - min(losses) < 1e-4
    # It has learned something: ten classes by chance have log 10.
    assert max(losses) < 0.9 * np.log(10)


def test_what_an_option_costs_is_measured_in_its_own_process():
    measured = run_small("options", do="steps", few=20, many=60)
    ours, *others = OWN["options"]
    assert measured[ours].facts.get("ratio") is None
    for name in others:
        # Tables show this, and not the ratio of times of two processes.
        assert measured[name].facts["ratio"] > 0.0
    table = TABLES["options"](Report({}, {}, list(measured.values())))
    shown = dict(zip(table.columns, *table.rows, strict=True))
    assert float(shown["with rates ÷ without"]) == pytest.approx(
        measured["with rates"].facts["ratio"], rel=1e-2
    )


def test_the_floor_is_the_time_of_the_products_at_the_rate_of_one():
    case = small("growth", sizes=(784, 16, 10), activation="relu", data="gaussian", batch=64)
    # Forward and weights of both layers, and the gradient of the second one's inputs.
    assert case.products() == 2 * 64 * (2 * 784 * 16 + 3 * 16 * 10)
    assert case.products(0.25) == 2 * 64 * (0.5 * 784 * 16 + 3 * 16 * 10)
    floor = make_contestant(FLOOR, case, 1)
    assert floor.scale == case.products() / (2 * 1024**3)
    sparse = make_contestant(FLOOR, replace(case, group="training", data="5k"), 1)
    (x, _), _ = accelnn.load_mnist(subset="5k")
    density = np.count_nonzero(x[:3968]) / x[:3968].size
    assert sparse.scale == case.products(density) / (2 * 1024**3)


def test_growth_measures_steps_and_their_floor():
    net = {"sizes": (784, 16, 10), "activation": "relu", "data": "gaussian", "batch": 256}
    measured = run_small("growth", do="steps", few=1, many=3, **net)
    loss, by_hand = (measured[name].facts["loss"] for name in (OURS, "NumPy loop"))
    assert loss == pytest.approx(by_hand, rel=1e-4)
    assert measured[FLOOR].median > 0.0


def test_a_run_ends_when_the_goal_is_reached_after_as_many_epochs_for_all(monkeypatch):
    monkeypatch.setattr(Training, "GOAL", 0.87)
    case = small("to-98", do="reach", sizes=(784, 16, 10), optimizer="adam", activation="relu")
    reached = {}
    for name in (OURS, "NumPy loop"):
        who = make_contestant(name, case, 1)
        who.run(3)
        assert who.facts()["accuracy"] >= 0.87 > who.test_accuracy[-2]
        assert who.facts()["epochs"] == np.median(who.reached[1:])
        reached[name] = who.reached
    assert reached[OURS] == reached["NumPy loop"]
    # The first run only warms up.
    assert reached[OURS][0] == 1 < min(reached[OURS][1:])

    monkeypatch.setattr(Training, "GOAL", 1.1)
    monkeypatch.setattr(Training, "MOST_EPOCHS", 2)
    with pytest.raises(RuntimeError, match="of the test data after 2 epochs"):
        make_contestant("NumPy loop", case, 1).run(2)


@pytest.mark.parametrize("do", ["steps", "callback", "differences"])
def test_cores_are_kept_busy_while_a_loaded_case_is_measured(do, monkeypatch):
    from accelnn.bench import _run

    started = []
    busy_cores = _run.busy_cores

    @contextmanager
    def watched(number):
        with busy_cores(number) as pids:
            started.append(pids)
            yield pids

    monkeypatch.setattr(_run, "busy_cores", watched)
    measured = run_small("load", do=do, many=3, loaded=True)
    assert measured[OURS].median > 0.0
    assert run_small("load", do=do, many=3)[OURS].median > 0.0
    assert [len(pids) for pids in started] == [usable_processors(), 0]


@pytest.mark.skipif(os.name != "posix", reason="signal 0 asks for a process on POSIX alone")
def test_busy_processes_are_busy_and_end_with_the_block():
    with busy_cores(2) as pids:
        assert len(set(pids)) == 2
        time.sleep(0.5)
        used = [Path(f"/proc/{pid}/stat").read_text().split()[13] for pid in pids if LINUX]
    assert all(int(ticks) > 0 for ticks in used)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_busy_processes_import_nothing_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle.py").write_text("open('pickle was run', 'w').close()")
    with busy_cores(1) as pids:
        assert len(pids) == 1
    assert not [*tmp_path.glob("*was run")]


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="no waiting for a process of another's")
def test_without_the_load_there_are_no_times_under_it(gradient_case, monkeypatch):
    busy_cores = _run.busy_cores

    def end(pid):
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    @contextmanager
    def disturbed(number):
        with busy_cores(number) as pids:
            yield pids
            if pids:
                end(pids[0])

    monkeypatch.setattr(_run, "busy_cores", disturbed)
    cases = [replace(gradient_case, name="x", contestants=("NumPy analytic",), loaded=True)]
    cases += [replace(cases[0], name="y", loaded=False)]
    report = run(cases, repeats=1, threads=1)
    assert [m.case.name for m in report.measurements] == ["y"]
    (problem,) = report.problems
    assert (problem.case.name, problem.contestant, problem.skipped) == (
        "x",
        "NumPy analytic",
        False,
    )
    assert f"1 of {usable_processors()} processes that keep the cores busy ended with code -9" in (
        problem.reason
    )


def test_a_process_that_never_comes_to_be_busy_is_an_error(monkeypatch):
    monkeypatch.setattr(_run, "_spin", sys.exit)
    with (
        pytest.raises(WorkerError, match="1 of 1 processes that keep the cores busy ended with"),
        busy_cores(1),
    ):
        pytest.fail("there is no load")


@pytest.mark.parametrize("threads", [-1, 999_999_999])
def test_a_number_of_threads_that_nobody_has_is_refused(gradient_case, threads):
    with pytest.raises(ValueError, match=rf"threads must be 1 to [\d]+ on .*, got {threads};"):
        run([gradient_case], repeats=1, threads=threads)


def test_the_list_of_contestants_is_made_without_any_of_their_packages():
    code = "import accelnn.bench, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "jax", "sklearn", "scipy", "numdifftools", "jacobi", "numba", "pytest"}
    assert not heavy & set(done.stdout.split())
    needed = {entry.needs for entries in CONTESTANTS.values() for entry in entries.values()}
    assert needed <= heavy | {""}
