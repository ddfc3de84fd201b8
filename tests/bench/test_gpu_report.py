"""The script for a few minutes on a rented card, as far as no card is needed."""

import importlib.util
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import accelnn
from accelnn.bench import Report

SCRIPT = Path(accelnn.__file__).parents[1] / "scripts" / "gpu_report.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the script is not installed")
needs_no_gpu = pytest.mark.skipif(
    any(info.available for info in accelnn.list_backends() if info.name == "cupy"),
    reason="there is a GPU",
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_report", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def outcomes(script):
    return {
        "tests": script.Outcome(1, "F.\nFAILED tests/x.py\n2 failed, 30 passed in 4.20s\n"),
        "memcheck": script.Outcome(0, "[0.3]\n========= ERROR SUMMARY: 0 errors\n"),
        "racecheck": script.Outcome(None, "compute-sanitizer is not on PATH: not run"),
        "headline": script.Outcome(0, ""),
    }


@pytest.fixture
def carry_out(script, tmp_path):
    """Return ``carry_out(code, seconds)``: how Python with that code ends, and the log."""

    def carry_out(code, seconds=30.0, command=sys.executable):
        stage = script.Stage("x", [command, "-c", code], seconds)
        with script.Log(tmp_path / "log.txt") as log:
            outcome = script.carry_out(stage, log, os.environ, seconds)
        return outcome, (tmp_path / "log.txt").read_text()

    return carry_out


@needs_no_gpu
def test_a_dry_run_starts_every_stage(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--dry-run", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    with pytest.raises(accelnn.errors.BackendUnavailableError) as unavailable:
        accelnn.get_backend("cupy")
    why = str(unavailable.value).splitlines()[0]
    log = (tmp_path / "log.txt").read_text()
    for stage in (stage for together in script.stages(tmp_path) for stage in together):
        if stage.name == "card":
            continue
        assert f"{stage.name:<10} {why}\n" in log, stage.name
        assert f"{stage.name:<10} exit code 1\n" in log, stage.name
    assert "tests collected" in log
    assert "Traceback" not in log
    assert len(list(tmp_path.iterdir())) <= 8


@needs_no_gpu
def test_without_a_device_there_is_nothing_to_report(script, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu_report.py"])
    with pytest.raises(SystemExit, match=r"nothing to report: .*cupy"):
        script.main()


def test_all_stages_together_stay_under_eight_minutes(script, tmp_path):
    limits = [max(s.limit for s in together) for together in script.stages(tmp_path)]
    assert sum(limits) < 460
    # The breakdown and the headline come first.
    assert sum(limits[:3]) < 250


def test_in_short_all_stages_together_stay_under_340_seconds(script, tmp_path):
    planned = script.stages(tmp_path, is_short=True)
    assert sum(max(s.limit for s in together) for together in planned) <= 330
    names = [stage.name for together in planned for stage in together]
    assert names[:4] == ["card", "kernels", "breakdown", "headline"]
    assert names[-1] == "rest"


def test_stages_tell_what_they_print_line_by_line(script, carry_out):
    outcome, log = carry_out("print('a'); print('b'); raise SystemExit(3)")
    assert outcome == script.Outcome(3, "a\nb\n")
    lines = [line.split(" s  ", 1)[1].split() for line in log.splitlines()]
    assert lines == [["x", "a"], ["x", "b"], ["x", "exit", "code", "3"]]


def test_a_stage_is_interrupted_before_it_is_ended(script, carry_out):
    code = """
import signal, subprocess, sys, time
# Tests in the background of a shell ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("b", flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("what was found", flush=True)
    time.sleep(600)
"""
    started = time.monotonic()
    outcome, log = carry_out(code, 8.0)
    assert time.monotonic() - started < 60
    assert outcome == script.Outcome(None, "b\nwhat was found\nended after 8 s\n")
    assert "what was found" in log


def test_what_cannot_be_started_says_why(script, carry_out):
    outcome, log = carry_out("", command="no-such-program")
    assert outcome == script.Outcome(None, "no-such-program is not on PATH: not run")
    assert outcome.output in log
    assert carry_out("print(1)", 0.0)[0].output == "no time was left: not run"


def test_stages_at_the_same_time_hide_nothing_of_each_other(script, tmp_path, capsys):
    codes = {"good": "print(1)", "bad": "print('2 failed'); raise SystemExit(1)"}
    together = [script.Stage(n, [sys.executable, "-c", code], 30.0) for n, code in codes.items()]
    with script.Log(tmp_path / "log.txt") as log:
        found = script.carry_out_together(together, log, os.environ, 0.0, is_dry=False)
    assert found == {"good": script.Outcome(0, "1\n"), "bad": script.Outcome(1, "2 failed\n")}
    assert "bad: 2 failed" in capsys.readouterr().out


def test_packages_are_found_in_wheels_and_data_in_its_folder(script, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "brought_along-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought_along/__init__.py", "where = __file__")
    given = script.environment(tmp_path / "scratch", wheels, tmp_path, {"PYTHONPATH": "elsewhere"})
    assert given["ACCELNN_DATA_DIR"] == str(tmp_path)
    assert given["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    code = "import brought_along, accelnn; print(brought_along.where); print(accelnn.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert found[0].startswith(str(tmp_path / "scratch"))
    assert Path(found[1]).parents[1] == SCRIPT.parents[1]


def test_folders_that_are_not_there_are_told_and_left_out(script, tmp_path, capsys):
    assert script.usable_wheels(tmp_path / "none") is None
    assert script.usable_data(tmp_path / "none") is None
    told = capsys.readouterr().out
    assert f"no wheel in {tmp_path / 'none'}" in told
    assert "going on with the 5,000 images" in told
    assert "ACCELNN_DATA_DIR" not in os.environ or os.environ["ACCELNN_DATA_DIR"] != str(tmp_path)


def test_the_table_says_what_was_met(script, outcomes, gpu_report, tmp_path):
    lines = script.rows(outcomes, gpu_report)
    step, ratio, deep, deep_ratio, gradient, deviation, whole = lines[3:]
    assert [tuple(line) for line in lines[:3]] == [
        ("tests", "2 failed, 30 passed in 4.20s", "no failures", False),
        ("memcheck", "ERROR SUMMARY: 0 errors", "no failures", True),
        ("racecheck", "compute-sanitizer is not on PATH: not run", "no failures", False),
    ]
    assert step[1:] == ("5.00 µs", "at most 5.00 µs", True)
    assert ratio[1:] == ("4.00 (torch CUDA graph)", "at least 3", True)
    assert (deep[1:], deep_ratio.met) == (("20.0 µs", "", None), None)
    assert gradient[1:] == ("200 µs", "at most 100 µs", False)
    assert (deviation.value, whole.value) == ("1.3e-10", "not measured")

    with (tmp_path / "table.txt").open("w", encoding="utf-8") as file:
        script.draw("A card", lines, file)
    text = (tmp_path / "table.txt").read_text(encoding="utf-8")
    assert text.startswith("A card")
    assert " NO " in text
    assert " yes " in text


def test_tests_that_were_ended_are_counted(script):
    lines = "[gw0] [ 0%] PASSED a\n[gw1] [ 1%] FAILED b\n[gw0] [ 2%] PASSED c\n"
    for summary, counted in (
        ("", "1 failed, 2 passed"),
        ("== 1 failed, 2 passed in 3.00s ==\n", "1 failed, 2 passed in 3.00s"),
    ):
        outcome = script.Outcome(None, f"{lines}{summary}ended after 9 s\n")
        (row, *_) = script.rows({"tests": outcome}, None)
        assert row == ("tests", f"{counted}, ended after 9 s", "no failures", False)


def test_what_is_missing_hides_nothing(script, outcomes, gpu_report):
    broken = outcomes | {"headline": script.Outcome(1, "Error: no device\n")}
    assert tuple(script.rows(broken, None)[-1]) == ("times", "Error: no device", "measured", False)

    # An interruption leaves times without facts.
    gpu_report.measurements[-1].facts.clear()
    lines = script.rows(outcomes, gpu_report)
    assert [line.value for line in lines[-2:]] == ["200 µs", "not measured"]

    peers = [m for m in gpu_report.measurements if m.contestant != "accelnn cupy"]
    gpu_report.measurements[:] = peers
    lines = script.rows(outcomes, gpu_report)
    assert [line.value for line in lines[3:5]] == ["not measured", "not measured"]
    assert [line.met for line in lines[3:5]] == [False, False]
    assert len(lines) == 9

    gpu_report.measurements.clear()
    step, ratio, gradient, _ = script.rows(outcomes, gpu_report)[3:]
    assert [line.met for line in (step, ratio, gradient)] == [False, False, False]


def test_the_report_is_written_as_far_as_it_goes(script, outcomes, gpu_report, tmp_path):
    lines = script.say(tmp_path, "A card", {})
    assert [line.what for line in lines] == ["times"]
    assert not (tmp_path / "times.json").exists()

    groups = {"headline": "gpu-training", "rest": "gpu-gradient"}
    for part, group in groups.items():
        Report(gpu_report.machine, gpu_report.settings, gpu_report.of(group)).write(
            tmp_path / f"{part}.json"
        )
    found = {"case": "a net", "what": "barrier", "value": 1.25, "unit": "µs"}
    content = {"machine": {}, "found": [found], "failed": ["halves: failed: ValueError"]}
    (tmp_path / "breakdown.json").write_text(json.dumps(content))
    script.say(tmp_path, "A card", outcomes)
    assert Report.read(tmp_path / "times.json") == gpu_report
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    for part in ("A card", "a net: barrier", "1.25 µs", "halves: failed", "5.00 µs"):
        assert part in text
