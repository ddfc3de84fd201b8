"""The script for an hour on a rented card, as far as no card is needed."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import accelnn

SCRIPT = Path(accelnn.__file__).parents[1] / "scripts" / "gpu_report.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the script is not installed")


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
        "bench": script.Outcome(0, ""),
    }


def test_a_dry_run_prints_the_commands():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--dry-run"], capture_output=True, text=True, check=True
    )
    for part in (
        "pytest tests/test_conformance.py tests/backends tests/training tests/nets",
        "--require-backend cupy",
        "compute-sanitizer --tool memcheck",
        "compute-sanitizer --tool racecheck",
        "accelnn bench --gpu",
    ):
        assert part in done.stdout


def test_all_stages_together_stay_under_eight_minutes(script, tmp_path):
    limits = [stage.limit for stage in script.stages(tmp_path / "times.json")]
    assert sum(limits) < 8 * 60


def test_the_table_says_what_was_met(script, outcomes, gpu_report):
    lines = script.rows(outcomes, gpu_report)
    step, ratio, deep, deep_ratio, gradient, deviation, whole = lines[3:]
    assert [tuple(line) for line in lines[:3]] == [
        ("tests", "2 failed, 30 passed in 4.20s", "no failures", False),
        ("memcheck", "ERROR SUMMARY: 0 errors", "no failures", True),
        ("racecheck", "compute-sanitizer is not on PATH: not run", "no failures", False),
    ]
    assert step[1:] == ("5.00 µs", "at most 8.00 µs", True)
    assert ratio[1:] == ("4.00 (torch CUDA graph)", "at least 3", True)
    assert (deep[1:], deep_ratio.met) == (("20.0 µs", "", None), None)
    assert gradient[1:] == ("200 µs", "at most 100 µs", False)
    assert (deviation.value, whole.value) == ("1.3e-10", "not measured")

    console = Console(width=150, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(script.table("A card", lines))
    console.file.close()
    text = console.export_text()
    assert text.startswith("A card")
    assert " NO " in text
    assert " yes " in text


def test_what_is_missing_hides_nothing(script, outcomes, gpu_report):
    broken = outcomes | {"bench": script.Outcome(1, "Error: no device\n")}
    assert tuple(script.rows(broken, None)[-1]) == ("times", "Error: no device", "measured", False)

    peers = [m for m in gpu_report.measurements if m.contestant != "accelnn cupy"]
    gpu_report.measurements[:] = peers
    lines = script.rows(outcomes, gpu_report)
    assert [line.value for line in lines[3:5]] == ["not measured", "not measured"]
    assert [line.met for line in lines[3:5]] == [False, False]
    assert len(lines) == 9


def test_stages_are_ended_in_time_and_tell_what_they_printed(script, tmp_path):
    def python(code, limit=30.0):
        return script.carry_out(script.Stage("x", [sys.executable, "-c", code], limit), tmp_path)

    assert python("print('a'); raise SystemExit(3)") == script.Outcome(3, "a\n")
    started = time.monotonic()
    ended = python("import time; print('b', flush=True); time.sleep(600)", 2.0)
    assert time.monotonic() - started < 20
    assert ended == script.Outcome(None, "b\n\nended after 2 s")
    absent = script.carry_out(script.Stage("x", ["no-such-program"], 1.0), tmp_path)
    assert absent == script.Outcome(None, "no-such-program is not on PATH: not run")


def test_the_finished_cases_of_an_unfinished_run_are_read(script, gpu_report, tmp_path):
    times = tmp_path / "times.json"
    assert script.read(times) is None
    gpu_report.write(script.partial(times))
    assert script.read(times) == gpu_report


def test_stages_that_fail_are_shown_and_the_table_comes_last(
    script, gpu_report, tmp_path, monkeypatch, capsys
):
    def stages(times):
        # An old file of times is gone by now.
        assert not times.exists()
        gpu_report.write(times)
        code = "print('5 failed'); raise SystemExit(1)"
        return [script.Stage("tests", [sys.executable, "-c", code], 30.0)]

    card = {"GPU": "A card", "size of the GPU": "small", "CUDA": "13.0"}
    (tmp_path / "times.json").write_text("old")
    monkeypatch.setattr(script, "describe_gpu", lambda: card)
    monkeypatch.setattr(script, "stages", stages)
    monkeypatch.setattr("sys.argv", ["gpu_report.py", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    beginning, _, drawn = printed.partition("A card, small, CUDA 13.0")
    assert beginning.startswith("tests, at most 30 s ...\n5 failed\n")
    assert "5.00 µs" in drawn


def test_without_a_device_there_is_nothing_to_report(script, monkeypatch):
    def refuse():
        raise accelnn.errors.BackendUnavailableError("no card", reason="no device")

    monkeypatch.setattr(script, "describe_gpu", refuse)
    monkeypatch.setattr("sys.argv", ["gpu_report.py"])
    with pytest.raises(SystemExit, match="nothing to report: no card"):
        script.main()
