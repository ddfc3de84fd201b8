"""From a report of known numbers: tables, the script that writes them, the picture."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import accelnn
from accelnn.bench import TABLES, Case, Measurement, Report
from accelnn.bench._plan import HEADLINE, OURS
from accelnn.bench._plot import draw, draw_growth
from accelnn.bench._tables import duration
from accelnn.bench.contestants.training import FLOOR

SCRIPT = Path(accelnn.__file__).parents[1] / "scripts" / "performance.py"


def test_the_comparison_shows_the_better_number_of_threads(report):
    table = TABLES["headline"](report)
    assert table.columns == [
        "contestant", "threads", "step", "spread", "÷ accelnn numba", "training loss",
        "test accuracy",
    ]  # fmt: skip
    assert table.rows == [
        ["accelnn numba", "2", "42.5 µs", "40.0 to 50.0", "1.00", "0.3600", "0.9062"],
        ["NumPy loop", "1", "200 µs", "170 to 210", "4.71", "0.3600", "0.9062"],
    ]


def test_a_row_for_each_training_case(report):
    table = TABLES["training"](report)
    assert table.columns == [
        "case", "accelnn numba", "NumPy loop", "spread of accelnn numba",
        "best peer ÷ accelnn numba",
    ]  # fmt: skip
    assert [row[1:] for row in table.rows] == [
        ["42.5 µs", "200 µs", "40.0 to 50.0", "4.71"],
        ["100 µs", "500 µs", "100 to 100", "5.00"],
    ]


def test_threads_scaling_memory_and_problems(report):
    (row,) = TABLES["threads"](report).rows
    assert row[2:] == ["85.0 µs", "42.5 µs", "2.00"]
    first, second = TABLES["scaling"](report).rows
    # 500 µs for 784·50 + 50 + 50·10 + 10 parameters and 20 samples.
    assert first == ["hidden 50", "39,760", "20", "0.629 ns", "500 µs", "5.00 s", "500 to 500"]
    assert second[4:] == ["2.00 ms", "20.0 s", "2.00 to 2.00"]
    assert TABLES["memory"](report).rows == [["accelnn numba", "101"], ["NumPy loop", "-"]]
    assert TABLES["problems"](report).rows == [
        ["JAX scan", "skipped: No module named 'jax'"],
        ["torch eager", "failed: died: code -9 (training, hidden 100)"],
    ]


def test_what_was_not_measured_has_no_table(report):
    for name in ("gradient", "predict", "prepare", "whole-run", "first-call"):
        assert TABLES[name](report) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (17.26, "17.3 s"),
        (1091.4, "1,090 s"),
        (1.0, "1.00 s"),
        (0.00352, "3.52 ms"),
        (42.5e-6, "42.5 µs"),
        (123e-6, "123 µs"),
        # Rounding reaches the next unit, and the first number of four digits.
        (999.53e-6, "1.00 ms"),
        (999.6, "1,000 s"),
        (4e-10, "0.400 ns"),
        (-2e-6, "-2.00 µs"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def script(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def document(tmp_path, report):
    report.write(tmp_path / "run.json")
    path = tmp_path / "performance.md"
    path.write_text(
        "# Speed\n\n<!-- table: headline -->\n<!-- end -->\n\nWords | with bars.\n\n"
        "<!-- table: problems -->\nold\n<!-- end -->\nThe end.\n"
    )
    return path


needs_checkout = pytest.mark.skipif(not SCRIPT.exists(), reason="the script is not installed")


@needs_checkout
def test_tables_are_written_between_their_marks(document):
    run = document.parent / "run.json"
    assert script("--json", run, "--check", document).returncode == 1
    done = script("--json", run, document)
    assert (done.returncode, done.stdout) == (0, "written: performance.md\n"), done.stderr
    text = document.read_text()
    assert text.startswith("# Speed\n\n<!-- table: headline -->\n\n**Time per training step")
    assert "\n| accelnn numba | 2 | 42.5 µs | 40.0 to 50.0 | 1.00 | 0.3600 | 0.9062 |\n" in text
    assert "\n\n<!-- end -->\n\nWords | with bars.\n\n<!-- table: problems -->\n\n" in text
    assert "old" not in text
    assert text.endswith("<!-- end -->\nThe end.\n")
    assert script("--json", run, document).stdout == "unchanged: all tables\n"
    assert script("--json", run, "--check", document).returncode == 0


@needs_checkout
def test_an_edited_figure_is_noticed_and_left_alone(document):
    run = document.parent / "run.json"
    script("--json", run, document)
    edited = document.read_text().replace("42.5 µs", "32.5 µs")
    document.write_text(edited)
    done = script("--json", run, "--check", document)
    assert done.returncode == 1
    assert "performance.md" in done.stderr
    assert document.read_text() == edited
    # Words outside the marks are nobody's business.
    script("--json", run, document)
    document.write_text(document.read_text().replace("The end.", "The End."))
    assert script("--json", run, "--check", document).returncode == 0


@needs_checkout
def test_a_table_that_is_not_known_is_an_error(document):
    document.write_text("<!-- table: nothing -->\n<!-- end -->\n")
    done = script("--json", document.parent / "run.json", document)
    assert done.returncode == 1
    assert "no table 'nothing': known are machine" in done.stderr
    assert "Traceback" not in done.stderr


@needs_checkout
def test_what_was_not_measured_is_said_to_be_missing(document):
    document.write_text("<!-- table: predict -->\n<!-- end -->\n")
    assert script("--json", document.parent / "run.json", document).returncode == 0
    assert document.read_text() == "<!-- table: predict -->\n\nNot measured yet.\n\n<!-- end -->\n"


@needs_checkout
def test_a_run_may_be_made_of_parts(report, tmp_path):
    groups = ("training", "scaling")
    for group in groups:
        part = replace(report, measurements=report.of(group), problems=[])
        part.write(tmp_path / f"{group}.json")
    document, whole = tmp_path / "page.md", tmp_path / "whole.json"
    document.write_text("<!-- table: headline -->\n<!-- end -->\n")
    parts = [tmp_path / f"{group}.json" for group in groups]
    done = script("--json", whole, document, "--merge", *parts)
    assert done.returncode == 0, done.stderr
    assert Report.read(whole).measurements == report.measurements


@needs_checkout
def test_a_run_on_a_card_joins_that_of_another_machine(report, gpu_report, tmp_path):
    document, whole = tmp_path / "page.md", tmp_path / "whole.json"
    names = ("machine", "headline", "gpu-machine", "gpu-training", "gpu-gradient")
    document.write_text("".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in names))
    report.write(whole)
    gpu_report.write(tmp_path / "times.json")
    # The second time, the card's times are measured anew.
    for _ in range(2):
        done = script("--json", whole, document, "--merge", whole, tmp_path / "times.json")
        assert done.returncode == 0, done.stderr
        found = Report.read(whole)
        assert found.measurements == report.measurements + gpu_report.measurements
        assert found.machine == report.machine
        assert found.settings == report.settings
        assert found.gpu_machine == gpu_report.machine | {"most threads tried": "2", "repeats": "1"}
        done = script("--json", whole, document, "--check")
        assert done.returncode == 0, done.stderr
    text = document.read_text()
    assert "| GPU | A card |" in text
    assert "the gather of the batch included, on A card**" in text
    assert "an abacus" in text

    other = tmp_path / "other.json"
    replace(gpu_report, machine={"GPU": "Another", "data": "digits"}).write(other)
    done = script("--json", whole, document, "--merge", whole, tmp_path / "times.json", other)
    assert done.returncode == 1
    assert done.stderr.strip() == "--merge: these runs cannot be merged: they differ in GPU"


def test_only_what_was_measured_alike_is_one_run(report):
    other = replace(report, machine=report.machine | {"python": "3.12.1"})
    with pytest.raises(ValueError, match="they differ in python"):
        Report.merged([report, other])
    with pytest.raises(ValueError, match="they differ in threads"):
        Report.merged([report, replace(report, settings={"repeats": 3, "threads": 4})])
    with pytest.raises(ValueError, match="some times were taken in two of them"):
        Report.merged([report, report])


def test_parts_may_be_measured_more_or_less_often(report, tmp_path):
    few = report.only(lambda case: case.group == "scaling")
    rest = report.only(lambda case: case.group != "scaling")
    often = replace(few, settings=few.settings | {"repeats": 9})
    Report.merged([rest, often]).write(tmp_path / "whole.json")
    whole = Report.read(tmp_path / "whole.json")
    assert whole.described["repeats"] == "3, 9"
    assert Report.merged([rest, few]).settings == report.settings


def test_many_lines_of_a_picture_can_be_told_apart(report):
    few = [m for m in report.measurements if m.case.group == "scaling"]
    report.measurements[:] = [
        replace(m, contestant=f"{m.contestant} {i}") for i in range(8) for m in few
    ]
    (gradients,) = draw(report).axes
    looks = {
        (line.get_color(), line.get_marker(), line.get_linestyle())
        for line in (container.lines[0] for container in gradients.containers)
    }
    assert len(looks) == len(gradients.containers) == 16


def test_the_picture_has_a_line_for_each_contestant(report, tmp_path):
    figure = draw(report)
    training, gradients = figure.axes
    assert training.get_xlabel() == "width of the hidden layer"
    assert gradients.get_xlabel() == "parameters"
    for ax, unit in ((training, "step"), (gradients, "gradient")):
        assert ax.get_ylabel() == f"seconds per {unit}"
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    lines = {
        container.get_label(): container.lines[0].get_xydata() for container in gradients.containers
    }
    np.testing.assert_allclose(lines["accelnn numba"], [[39_760, 5e-4], [159_010, 2e-3]])
    np.testing.assert_allclose(lines["NumPy loop"], [[39_760, 5.0], [159_010, 20.0]])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["accelnn numba", "NumPy loop"]

    path = tmp_path / "picture.png"
    figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    colours = plt.imread(path)[..., :3].reshape(-1, 3)
    assert colours.shape[0] == 500_000
    assert len(np.unique(colours, axis=0)) > 20


def test_nothing_to_draw_is_an_error(report):
    del report.measurements[:]
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(report)


def measurement(contestant, threads, seconds, case):
    return Measurement(case, contestant, threads, seconds)


def training(name, **seconds):
    """Return the times of a case by contestant, on two threads and twice that on one."""
    case = Case("training", name, do="steps", sizes=(784, 512, 10), activation="relu")
    return [measurement(who, n, [t * 2 / n], case) for who, t in seconds.items() for n in (1, 2)]


def test_the_share_of_the_rate_is_that_at_as_many_threads_as_ours(report):
    times = training("wide", **{OURS: 400e-6, "JAX scan": 500e-6, FLOOR: 300e-6})
    # One thread of this is faster than two, which is no reason to compare us with it.
    times[4:] = times[5], replace(times[4], seconds=[100e-6])
    report.measurements[:] = times
    table = TABLES["training"](report)
    assert table.columns[-4:] == [
        "spread of accelnn numba", "best peer ÷ accelnn numba",
        "products at the rate of NumPy matmul", "share that accelnn numba reaches",
    ]  # fmt: skip
    assert FLOOR not in table.columns[:-2]
    assert table.rows[0][-3:] == ["1.25", "300 µs", "75%"]
    # It is no contestant of the other tables.
    named = [replace(m, case=replace(m.case, name=HEADLINE), facts={"peak_mb": 9.0}) for m in times]
    report.measurements[:] = named
    for name in ("headline", "memory"):
        assert [row[0] for row in TABLES[name](report).rows] == [OURS, "JAX scan"]


def growth(width, batch, ours, best, isa="native"):
    net = {"sizes": (784, width, 10), "batch": batch, "data": "gaussian", "isa": isa}
    case = Case("growth", f"hidden {width}, batch {batch}", do="steps", **net)
    times = {OURS: ours, "JAX scan": best, "NumPy loop": 2 * best, FLOOR: ours / 2}
    return [measurement(name, 2, [seconds], case) for name, seconds in times.items()]


@pytest.fixture
def grown(report):
    cells = ((16, 1, 1e-6, 4e-6), (16, 128, 2e-6, 3e-6), (64, 1, 3e-6, 3e-6), (64, 128, 4e-6, 2e-6))
    report.measurements[:] = [m for cell in cells for m in growth(*cell)]
    return report


def test_growth_names_the_best_peer_and_draws_how_far_ahead_we_are(grown):
    table = TABLES["growth"](grown)
    assert table.columns == ["hidden", "batch 1", "batch 128"]
    assert table.rows == [
        ["16", "1.00 µs, 4.00 JAX scan, 50%", "2.00 µs, 1.50 JAX scan, 50%"],
        ["64", "3.00 µs, 1.00 JAX scan, 50%", "4.00 µs, 0.500 JAX scan, 50%"],
    ]
    figure = draw_growth(grown)
    ax, bar = figure.axes
    np.testing.assert_allclose(ax.images[0].get_array(), np.log2([[4.0, 1.5], [1.0, 0.5]]))
    # As long is in the middle of the colours.
    assert ax.images[0].norm.vmin == -ax.images[0].norm.vmax == -2.0
    assert "1" in [text.get_text() for text in bar.get_yticklabels()]
    assert [text.get_text() for text in ax.texts] == ["4.00", "1.50", "1.00", "0.50"]
    with pytest.raises(ValueError, match="measure the group 'growth'"):
        draw_growth(replace(grown, measurements=[]))


@needs_checkout
def test_a_table_of_another_machine_names_the_file_of_its_run(grown, tmp_path):
    grown.write(tmp_path / "run.json")
    grown.measurements[:] = growth(16, 1, 5e-6, 6e-6)
    grown.write(tmp_path / "other-1.json")
    document = tmp_path / "page.md"
    marks = "<!-- table: growth of other-1.json -->\n{}<!-- end -->\n<!-- table: growth -->\n"
    document.write_text(marks.format("") + "<!-- end -->\n")
    done = script("--json", tmp_path / "run.json", document)
    assert done.returncode == 0, done.stderr
    other, main = document.read_text().split("<!-- end -->\n")[:2]
    assert "5.00 µs, 1.20 JAX scan" in other
    assert "](images/other-1.png)" in other
    assert "1.00 µs, 4.00 JAX scan" in main
    assert "](images/growth.png)" in main
    pictures = [
        (tmp_path / "images" / f"{name}.png").read_bytes() for name in ("growth", "other-1")
    ]
    assert pictures[0] != pictures[1]
    assert script("--json", tmp_path / "run.json", document, "--check").returncode == 0
    grown.measurements[:] = growth(16, 1, 5e-6, 7e-6)
    grown.write(tmp_path / "other-1.json")
    assert script("--json", tmp_path / "run.json", document, "--check").returncode == 1


@needs_checkout
def test_the_picture_of_growth_is_drawn_beside_its_table(grown, tmp_path):
    grown.write(tmp_path / "run.json")
    document = tmp_path / "page.md"
    document.write_text("<!-- table: growth -->\n<!-- end -->\n")
    done = script("--json", tmp_path / "run.json", document)
    assert done.returncode == 0, done.stderr
    assert "](images/growth.png)\n\n<!-- end -->" in document.read_text()
    assert (tmp_path / "images" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_times_with_avx2_alone_have_tables_of_their_own(grown):
    assert TABLES["growth-avx2"](grown) is None
    narrow = replace(grown, measurements=growth(16, 1, 5e-6, 10e-6, isa="avx2"))
    both = Report.merged([grown, narrow])
    assert TABLES["growth"](both) == TABLES["growth"](grown)
    table = TABLES["growth-avx2"](both)
    assert table.title.endswith(", AVX2 alone")
    assert table.rows == [["16", "5.00 µs, 2.00 JAX scan, 50%"]]
    assert not TABLES["growth"](both).title.endswith("AVX2 alone")


def test_calls_are_compared_with_those_by_hand(report):
    case = Case("doors", "net.loss, 20 samples", do="loss", batch=20)
    seconds = {OURS: 30e-6, "accelnn numpy": 55e-6, "NumPy by hand": 50e-6}
    report.measurements[:] = [measurement(name, 1, [s], case) for name, s in seconds.items()]
    table = TABLES["doors"](report)
    assert table.columns[-2:] == ["accelnn numpy ÷ NumPy by hand", "accelnn numba ÷ NumPy by hand"]
    assert table.rows == [
        ["net.loss, 20 samples", "30.0 µs", "55.0 µs", "50.0 µs", "1.10", "0.600"]
    ]


def test_a_slow_down_is_that_of_the_same_contestant_with_as_many_threads(report):
    alone, busy = (Case("load", "training", do="steps", loaded=loaded) for loaded in (False, True))
    report.measurements[:] = [
        *(measurement(OURS, n, [10e-6 / n], alone) for n in (1, 2)),
        *(measurement(OURS, n, [25e-6 / n**2], busy) for n in (1, 2)),
        measurement("JAX scan", 2, [30e-6], alone),
    ]
    assert TABLES["load"](report).rows == [
        ["training", OURS, "1", "10.0 µs", "25.0 µs", "2.50"],
        ["training", OURS, "2", "5.00 µs", "6.25 µs", "1.25"],
    ]
    # What is measured under load says nothing about threads.
    assert [row[2:] for row in TABLES["threads"](report).rows] == [["10.0 µs", "5.00 µs", "2.00"]]
