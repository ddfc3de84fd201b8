"""``accelnn train`` as a user meets it."""

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

import accelnn
from accelnn.cli import app
from accelnn.cli._train import OPTIMIZERS

PNG = b"\x89PNG\r\n\x1a\n"
QUICK = ("--hidden", "8", "--epochs", "1")


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(*arguments):
        return CliRunner().invoke(app, ["train", *map(str, arguments)])

    return run


def rows(output):
    """The cells of the table's rows."""
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def printed_accuracy(output):
    return float(re.search(r"^test accuracy (\d\.\d{4}) after", output, re.MULTILINE)[1])


def assert_refused(result, message, code):
    """A single line says what is wrong; nothing was trained."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    *usage, error = result.stderr.strip().splitlines()
    assert re.search(message, error)
    assert error.startswith("Error: ")
    assert len(usage) <= 3
    assert "Traceback" not in result.output
    assert "│" not in result.stdout


def test_the_defaults_learn_the_digits(train):
    result = train()
    assert result.exit_code == 0, result.output
    assert printed_accuracy(result.output) >= 0.90
    table = rows(result.output)
    assert [int(row[0]) for row in table] == list(range(21))
    assert [int(row[1]) for row in table] == list(range(0, 801, 40))
    assert float(table[-1][5]) == printed_accuracy(result.output)
    assert float(table[0][5]) < 0.3
    assert float(table[-1][2]) < 0.1 * float(table[0][2])
    assert "4,000 training and 1,000 test images" in result.output
    assert "<MLP 784-50-10, sigmoid, cross_entropy, float32, 39,760 parameters" in result.output


def test_the_table_is_what_fit_gives(train):
    result = train("--hidden", "16", "--epochs", 2, "--seed", 3, "--backend", "numpy")
    (x, t), test = accelnn.load_mnist(subset="5k")
    net = accelnn.MLP([784, 16, 10], rng=3)
    h = accelnn.fit(net, x, t, validation=test, optimizer=accelnn.SGD(0.5), epochs=2, rng=3)
    curves = (h.train_loss, h.test_loss, h.train_accuracy, h.test_accuracy)
    expected = [[f"{value:.4f}" for value in row] for row in zip(*curves, strict=True)]
    assert [row[2:] for row in rows(result.output)] == expected
    assert train("--hidden", "16", "--epochs", 2, "--seed", 4).output != result.output


def test_a_partial_last_epoch_is_a_row(train):
    result = train("--hidden", "8", "--iters", 50)
    assert [row[:2] for row in rows(result.output)] == [["0", "0"], ["1", "40"], ["1.25", "50"]]


def test_options_reach_the_net_and_the_run(train):
    result = train(
        *("--hidden", "64,32", "--activation", "relu", "--dtype", "float64", "--backend", "numpy"),
        *("--optimizer", "adam", "--lr", "0.002", "--batch-size", 500, "--epochs", 1),
        *("--sampling", "replacement"),
    )
    assert result.exit_code == 0, result.output
    assert "<MLP 784-64-32-10, relu, cross_entropy, float64, 52,650 parameters on numpy>" in (
        result.output
    )
    assert "(device cpu); Adam(lr=0.002, betas=(0.9, 0.999), eps=1e-08)" in result.output
    assert [row[1] for row in rows(result.output)] == ["0", "8"]


def test_finite_differences_train_too(train):
    by = {
        kind: train("--hidden", "", "--iters", 2, "--dtype", "float64", "--gradient", kind)
        for kind in ("analytic", "numerical")
    }
    assert rows(by["numerical"].output) == rows(by["analytic"].output)


def test_an_optimizer_brings_its_own_rate(train):
    assert "Momentum(lr=0.05, momentum=0.9)" in train(*QUICK, "--optimizer", "momentum").output


@pytest.mark.parametrize("name", ["curves.png", "[red]curves[0].PNG", "sub/curves.pdf"])
def test_a_plot_is_drawn_and_named(train, tmp_path, name):
    (tmp_path / "sub").mkdir()
    result = train(*QUICK, "--plot", name)
    assert result.exit_code == 0, result.output
    assert f"curves: {name}\n" in result.output
    expected = b"%PDF" if name.endswith("pdf") else PNG
    assert (tmp_path / name).read_bytes().startswith(expected)


def test_a_saved_net_has_the_printed_accuracy(train, tmp_path):
    result = train("--epochs", 2, "--save", "[b]net.safetensors")
    assert "net: [b]net.safetensors\n" in result.output
    net = accelnn.load(tmp_path / "[b]net.safetensors")
    _, test = accelnn.load_mnist(subset="5k")
    assert net.accuracy(*test) == pytest.approx(printed_accuracy(result.output), abs=5e-5)
    assert net.backend.name == "numpy"


def test_a_folder_of_data(train):
    shipped = Path(accelnn.datasets.__file__).with_name("mnist5k")
    result = train(*QUICK, "--data", shipped)
    assert rows(result.output) == rows(train(*QUICK).output)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--hidden", "50,x"), "'50,x' is not a list of widths such as 50 or 256,128", 2),
        (("--hidden", "50,0"), "'50,0' holds a width below 1", 2),
        (("--hidden", "1.5"), "'1.5' is not a list of widths", 2),
        (("--hidden", "99999999999999999999999"), "'--hidden': 9{23} makes a net of more than", 2),
        (("--hidden", "9999999999999999"), "'--hidden': .* a single hidden layer may have 7.3e", 2),
        (("--hidden", "4611686018427387904,2"), "'--hidden': 4611686018427387904,2 makes a net", 2),
        (
            ("--backend", "nope"),
            "'--backend'.*: unknown backend 'nope'; known .* 'numpy', 'numba'",
            2,
        ),
        (("--backend", "numpy:3"), "'--backend'.*: unknown device '3' of the backend 'numpy'", 2),
        (
            ("--data", "nofolder"),
            "'--data': 'nofolder' is neither '5k' nor 'mnist' nor a folder",
            2,
        ),
        (("--data", "n" * 300), "'--data': File name too long: n{80}$", 2),
        (("--lr", "-1"), r"'--lr': -1\.0 is not in the range", 2),
        (("--lr", "0"), r"'--lr': 0\.0 is not in the range", 2),
        (("--lr", "nan"), "'--lr': nan is not a finite number", 2),
        (("--lr", "inf"), "'--lr': inf is not a finite number", 2),
        (("--dropout", "nan"), "'--dropout': nan is not a finite number", 2),
        (("--lr", "fast"), "'fast' is not a valid float", 2),
        (("--epochs", "0"), "0 is not in the range", 2),
        (("--iters", "-5"), "-5 is not in the range", 2),
        (("--batch-size", "0"), "0 is not in the range", 2),
        (("--seed", "-1"), "-1 is not in the range", 2),
        (("--epochs", "1", "--iters", "1"), "--epochs and --iters exclude each other", 2),
        (("--activation", "swish"), "'swish' is not one of", 2),
        (("--optimizer", "lion"), "'lion' is not one of", 2),
        (("--plot", "x.docx"), "'--plot': cannot draw into 'x.docx': known suffixes are .*png", 2),
        (("--plot", "x"), "'--plot': cannot draw into 'x': known suffixes", 2),
        (("--nonsense",), "No such option", 2),
    ],
)
def test_mistakes_are_found_before_training(train, tmp_path, arguments, message, code):
    result = train(*arguments)
    assert_refused(result, message, code)
    assert "training and" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--checkpoint", "--plot", "--save"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/x.png", "cannot write 'no/x.png': there is no folder '.*no'"),
        ("models/", "cannot write 'models/': it does not end with the name of a file"),
        ("", "cannot write '': it does not end with the name of a file"),
        ("..", r"cannot write '\.\.': it is a folder"),
        ("n" * 300, "File name too long: .{80}$"),
        pytest.param(
            "/dev/null",
            "cannot write '/dev/null': it is a FIFO, a device",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="a device of POSIX"),
        ),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_training(
    train, tmp_path, option, name, message
):
    result = train("--iters", 1, option, name)
    assert_refused(result, f"^Error: Invalid value for '{option}': {message}", 2)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_picture_replaces_its_file_whole(train, tmp_path):
    """So that it can be written wherever the check before the training says so."""
    (tmp_path / "curves.png").write_bytes(b"old")
    before = (tmp_path / "curves.png").stat().st_ino
    assert train(*QUICK, "--plot", "curves.png").exit_code == 0
    assert (tmp_path / "curves.png").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_a_backend_that_is_known_but_not_there_is_no_wrong_option(train):
    missing = [info.name for info in accelnn.list_backends(load=True) if not info.available]
    for name in missing:
        result = train("--iters", 1, "--backend", name)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")


def test_a_huge_loss_has_an_exponent(train, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = rows(train("--iters", 5, "--lr", "1e30", "--backend", "numpy").output)
    assert len(table) == 2
    ordinary, huge = ([*row[2:4]] for row in table)
    assert all(re.fullmatch(r"\d\.\d{4}", cell) for cell in ordinary)
    assert all(re.fullmatch(r"\d\.\d{4}e\+\d\d", cell) for cell in huge)


def test_an_empty_folder_of_data_is_named(train, tmp_path):
    result = train("--data", tmp_path)
    assert_refused(result, "lacks train-images-idx3-ubyte", 1)
    assert str(tmp_path) in result.stderr


def test_a_run_that_diverges_says_so_and_keeps_nothing(train, tmp_path):
    outputs = ("--save", "net", "--plot", "x.png")
    with warnings.catch_warnings():
        # As outside of tests, where warnings are no errors.
        warnings.simplefilter("default")
        result = train(*QUICK, "--activation", "relu", "--lr", "1e30", *outputs)
    assert_refused(result, r"the loss of step \d+ is nan; .* try a smaller learning rate", 1)
    assert list(tmp_path.iterdir()) == []


def test_help_tells_every_default(train):
    output = " ".join(train("--help").output.split())
    for phrase in ("[default: 20]", "[default: 0.5 for sgd", "[default: 5k]", "default: auto]"):
        assert phrase in output


def start(*arguments):
    command = [sys.executable, "-m", "accelnn", "train", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=listen_to_ctrl_c,  # noqa: PLW1509 - the tests start no threads
    )


def listen_to_ctrl_c():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_through_a_pipe_there_are_no_escapes_and_no_cut_lines():
    with start("--hidden", "64,32,16", "--epochs", "1", "--optimizer", "adam") as process:
        output, errors = process.communicate(timeout=120)
    # Where nothing is compiled yet, that is said.
    assert [line for line in errors.splitlines() if "accelnn compiles" not in line] == []
    assert process.returncode == 0
    assert "\x1b" not in output + errors
    assert "…" not in output
    first, steps, second, *_ = output.splitlines()
    assert re.fullmatch(r"<MLP .*> \(device cpu\); Adam\(.*\)", first)
    assert steps.startswith(("steps: compiled: ", "steps: portable: "))
    assert second == "4,000 training and 1,000 test images"
    assert [len(row) for row in rows(output)] == [6, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is a POSIX feature")
def test_ctrl_c_ends_a_run_and_keeps_what_it_has(tmp_path):
    saved, drawn = tmp_path / "net.safetensors", tmp_path / "curves.png"
    options = ("--iters", 100_000_000, "--save", saved, "--plot", drawn, "--backend", "numpy")
    with start(*options) as process:
        for beginning in ("<MLP", "steps", "4,000 training"):
            assert process.stdout.readline().startswith(beginning)
        # The start evaluation and some steps, without anything that is compiled.
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        try:
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert (
        errors.strip() == f"interrupted; to go on, pass accelnn.load({str(saved)!r}) to accelnn.fit"
    )
    assert len(rows(output)) >= 1
    _, test = accelnn.load_mnist(subset="5k")
    assert f"{accelnn.load(saved).accuracy(*test):.4f}" == f"{printed_accuracy(output):.4f}"
    assert drawn.read_bytes().startswith(PNG)


def test_the_environment_chooses_the_backend(monkeypatch):
    monkeypatch.setenv("ACCELNN_BACKEND", "numpy")
    assert "on numpy" in CliRunner().invoke(app, ["train", "--iters", "1"]).output
    monkeypatch.setenv("ACCELNN_BACKEND", "nope")
    result = CliRunner().invoke(app, ["train", "--iters", "1"])
    assert result.exit_code == 2
    assert "'--backend' (env var: 'ACCELNN_BACKEND'): unknown backend 'nope'" in result.stderr


def test_a_net_is_not_overwritten_by_its_picture(tmp_path):
    path = str(tmp_path / "one.png")
    result = CliRunner().invoke(app, ["train", "--iters", "1", "--plot", path, "--save", path])
    assert result.exit_code == 2
    assert "--plot and --save both name" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_file_by_two_names_is_one_file(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    names = str(tmp_path / "run"), str(folder / ".." / "run")
    options = ["--iters", "1", "--checkpoint", names[0], "--save", names[1]]
    result = CliRunner().invoke(app, ["train", *options])
    assert result.exit_code == 2
    assert "--checkpoint and --save both name" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is a POSIX feature")
def test_the_same_command_goes_on_with_a_checkpoint(tmp_path, train):
    options = ["--epochs", "60", "--backend", "numpy", "--dropout", "0.2", "--optimizer", "adam"]
    kept, saved = tmp_path / "run", [tmp_path / "parts", tmp_path / "whole"]
    for attempt in range(3):
        before = kept.stat().st_mtime_ns if kept.exists() else 0
        with start(*options, "--checkpoint", kept, "--save", saved[0]) as process:
            try:
                deadline = time.monotonic() + 60
                # The first two are ended after something has been kept.
                while attempt < 2 and time.monotonic() < deadline:
                    if kept.exists() and kept.stat().st_mtime_ns > before:
                        process.send_signal(signal.SIGINT)
                        break
                    time.sleep(0.001)
                output, errors = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == (130 if attempt < 2 else 0)
        # Without how to go on if nothing was trained yet.
        assert errors.strip() in ("", "interrupted; to go on, run the same command", "interrupted")
    train(*options, "--save", saved[1])
    assert saved[0].read_bytes() == saved[1].read_bytes()
    again = train(*options, "--checkpoint", kept).output
    assert rows(again) == rows(output)


def test_a_format_that_cannot_be_drawn_fails_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    path = str(tmp_path / "curves.pgf")
    result = CliRunner().invoke(app, ["train", "--iters", "1", "--plot", path])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: cannot draw into {path!r}: 'xelatex' not found")
    assert "training" not in result.stdout


def test_a_net_beyond_memory_is_told():
    result = CliRunner().invoke(app, ["train", "--iters", "1", "--hidden", "100000000000"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: out of memory on cpu: to draw 79,500,000,000,010 param")


def test_a_user_who_does_not_exist_is_told(monkeypatch):
    monkeypatch.setenv("ACCELNN_DATA_DIR", "~nosuchuser")
    result = CliRunner().invoke(app, ["train", "--iters", "1", "--data", "mnist"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no folder '~nosuchuser'")


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_rule_learns_with_its_default_rate(train, optimizer):
    output = train("--optimizer", optimizer, "--backend", "numpy").output
    assert printed_accuracy(output) > 0.9
    assert "hint" not in output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("momentum", "--lr", "0.001"), "--lr 0.001 is far from 0.05, the default of momentum"),
        (("rmsprop", "--lr", "0.5"), "--lr 0.5 is far from 0.01, the default of rmsprop"),
        (("sgd", "--lr", "0.2"), None),
        (("momentum", "--lr", "0.5"), None),
    ],
    ids=str,
)
def test_a_rate_that_is_far_from_the_default_is_named_after_a_poor_run(train, arguments, hint):
    output = train("--optimizer", *arguments, "--epochs", 10, "--backend", "numpy").output
    assert f"hint: {hint}" in output if hint else "hint" not in output


@pytest.mark.parametrize("rate", ["300", "1e30"])
def test_a_rate_with_which_the_loss_explodes_is_compared_with_the_default(train, rate):
    arguments = "--optimizer", "adam", "--activation", "relu", "--lr", rate, "--epochs", 2
    with warnings.catch_warnings():
        # As outside of tests, where warnings are no errors.
        warnings.simplefilter("default")
        result = train(*arguments, "--backend", "numpy")
    hint = f"--lr {float(rate):g} is far from 0.001, the default of adam"
    assert_refused(result, f"try a smaller learning rate. {re.escape(hint)}", 1)


def test_json_is_the_run_and_its_curves_and_nothing_else(train):
    result = train(*QUICK, "--backend", "numpy", "--seed", 3, "--save", "n.safetensors", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (x, t), test = accelnn.load_mnist(subset="5k")
    net = accelnn.MLP([784, 8, 10], rng=3)
    h = accelnn.fit(net, x, t, validation=test, optimizer=accelnn.SGD(0.5), epochs=1, rng=3)
    names = ("loss", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "evaluated_at")
    curves = {name: getattr(h, name) for name in names}
    assert {name: found[name] for name in names} == curves
    assert found["accuracy"] == h.test_accuracy[-1]
    assert found["files"] == {"checkpoint": None, "plot": None, "save": "n.safetensors"}
    assert (found["backend"], found["net"]["sizes"]) == ("numpy", [784, 8, 10])
    assert found["seconds"] > 0.0 == found["seconds_compiled"]
    assert not found["is_interrupted"]
    assert f"test accuracy {h.test_accuracy[-1]:.4f} after 40 steps" in result.stderr
    assert len(rows(result.stderr)) == 2


def test_compilation_is_told_apart_from_training(train):
    assert "compiled" not in train(*QUICK, "--backend", "numpy").output
    command = [sys.executable, "-m", "accelnn", "train", *QUICK, "--backend", "numba"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = r"included; kernels were compiled or loaded in \d+\.\d s$"
    assert re.search(said, done.stdout, re.MULTILINE)
