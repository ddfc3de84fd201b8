"""Histories joined, as tables and as pictures."""

import csv
import importlib.util
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import accelnn
from accelnn.errors import MissingDependencyError
from accelnn.training import _picture

COLUMNS = ["step", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]


def evaluated(**changes):
    """Two epochs and a half, of two batches."""
    return accelnn.History(
        **{
            "batches_per_epoch": 2,
            "loss": [2.5, 2.0, 1.25, 0.1 + 0.2, 0.75],
            "evaluated_at": [0, 2, 4, 5],
            "train_accuracy": [0.125, 0.5, 0.75, 0.875],
            "test_accuracy": [0.25, 0.375, 0.625, 0.6875],
            "train_loss": [2.5, 1.5, 1e-17, 0.5],
            "test_loss": [2.25, 1.75, 1.0, 1 / 3],
        }
        | changes
    )


def rows(history):
    columns = [history.train_loss, history.train_accuracy, history.test_loss]
    epochs = [step / history.batches_per_epoch for step in history.evaluated_at]
    return list(zip(history.evaluated_at, epochs, *columns, history.test_accuracy, strict=True))


def read(path):
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    return header, [tuple(map(float, line)) for line in lines]


def fit(net, *, seed, **options):
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(23, 4)), draw.integers(0, 3, 23)
    options = {"validation": (x[:9], t[:9]), "epochs": 2, "batch_size": 5, **options}
    return accelnn.fit(net, x, t, rng=seed, **options)


def test_updates_are_steps():
    assert evaluated().updates == evaluated().steps == 5


# Tables -------------------------------------------------------------------------------------------


def test_a_file_has_a_row_for_each_evaluation_with_all_digits(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("something longer that is there already\n" * 99)
    evaluated().to_csv(path)
    assert read(path) == (COLUMNS, rows(evaluated()))
    assert path.read_bytes().startswith(b"step,epoch,train_loss,train_accuracy,")
    assert b"\r" not in path.read_bytes()


def test_without_evaluations_it_has_a_row_for_each_update(tmp_path):
    path = tmp_path / "history.csv"
    accelnn.History(2, loss=[2.5, 0.1 + 0.2, np.nan]).to_csv(str(path))
    header, values = read(path)
    assert header == ["step", "loss"]
    np.testing.assert_array_equal(values, [(0, 2.5), (1, 0.1 + 0.2), (2, np.nan)])


def test_of_a_loss_that_does_not_classify(tmp_path):
    path = tmp_path / "history.csv"
    evaluated(train_accuracy=[], test_accuracy=[]).to_csv(path)
    assert read(path)[0] == ["step", "epoch", "train_loss", "test_loss"]


def test_an_empty_history_is_a_table_without_rows(tmp_path):
    accelnn.History(2).to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "step,loss\n"


def test_pandas_gets_the_same_table(tmp_path):
    pandas = pytest.importorskip("pandas", reason="the extra 'pandas' is not installed")
    for history in (evaluated(), accelnn.History(2, loss=[2.5, 2.0]), accelnn.History(2)):
        history.to_csv(tmp_path / "history.csv")
        found = history.to_pandas()
        assert type(found) is pandas.DataFrame
        # Not read by pandas, whose options for all digits differ from version to version.
        with (tmp_path / "history.csv").open(newline="") as file:
            names, *rows = csv.reader(file)
        assert list(found.columns) == names
        assert found.to_numpy().tolist() == [list(map(float, row)) for row in rows]
    assert evaluated().to_pandas().step.dtype == "int64"


def test_pandas_that_is_missing_is_an_error_with_the_command(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pandas" else found(name)
    )
    with pytest.raises(
        MissingDependencyError,
        match=r"(?s)to_pandas needs.*pip install 'accelnn\[pandas\]'",
    ):
        evaluated().to_pandas()


# Joined -------------------------------------------------------------------------------------------


def test_a_sum_is_the_history_of_a_run_that_went_on():
    net = accelnn.MLP([4, 3], dtype="float64", rng=0)
    first, second = fit(net, seed=1), fit(net, seed=2)
    assert second.test_loss[0] == first.test_loss[-1]
    parts = first, second
    before = [repr(vars(part)) for part in parts]
    joined = first + second

    # One generator goes on where it was.
    class Both(np.random.Generator):
        def permutation(self, *_):
            return next(orders)

    orders = iter(
        [draw.permutation(23) for draw in map(np.random.default_rng, (1, 2)) for _ in range(2)]
    )
    whole = accelnn.MLP([4, 3], dtype="float64", rng=0)
    assert joined == fit(whole, seed=Both(np.random.PCG64(0)), epochs=4)
    assert joined.evaluated_at == [0, 5, 10, 15, 20]
    assert [repr(vars(part)) for part in parts] == before, "they are as they were"


def test_sums_of_three():
    one, two, three = evaluated(), evaluated(loss=[9.0] * 5), evaluated(loss=[8.0] * 5)
    assert (one + two) + three == one + (two + three)
    assert (one + two + three).epochs == 7.5
    assert (one + two).evaluated_at == [0, 2, 4, 5, 7, 9, 10]
    assert (one + two).test_loss == one.test_loss + two.test_loss[1:]


def test_what_is_empty_changes_nothing():
    empty = accelnn.History(2)
    assert empty + evaluated() == evaluated() + empty == evaluated()


@pytest.mark.parametrize("first", [True, False])
def test_one_part_may_have_no_evaluations(first):
    plain = accelnn.History(2, loss=[3.0] * 4)
    joined = plain + evaluated() if first else evaluated() + plain
    assert joined.evaluated_at == ([4, 6, 8, 9] if first else [0, 2, 4, 5])
    assert joined.test_loss == evaluated().test_loss
    assert joined.steps == 9


def test_an_evaluation_that_is_no_double_is_kept():
    """Where the first run was interrupted, nothing was evaluated."""
    joined = evaluated(loss=[1.0] * 7) + evaluated()
    assert joined.evaluated_at == [0, 2, 4, 5, 7, 9, 11, 12]
    assert joined.test_loss == evaluated().test_loss * 2


def test_histories_that_do_not_fit():
    with pytest.raises(ValueError, match="of 2 and of 3 batches per epoch cannot be joined"):
        evaluated() + accelnn.History(3)
    with pytest.raises(ValueError, match="only one of the histories has train_accuracy"):
        evaluated() + evaluated(train_accuracy=[], test_accuracy=[])
    for wrong in ([], 0, None):
        with pytest.raises(TypeError, match="unsupported operand"):
            evaluated() + wrong


def test_equality_looks_at_every_number():
    assert evaluated() == evaluated()
    assert evaluated() != evaluated(loss=[2.5, 2.0, 1.25, 0.3, 0.75])
    assert evaluated() != evaluated(batches_per_epoch=3)


# Pictures -----------------------------------------------------------------------------------------


def parsed(history):
    """Return the picture as XML, which is stricter than HTML."""
    return ET.fromstring(history._repr_html_())  # noqa: S314 - our own


def polylines(history):
    found = {}
    for line in parsed(history).iter("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        found.setdefault(line.get("stroke"), []).append(points)
    return found


def texts(history):
    svg = "{http://www.w3.org/2000/svg}"
    return ["".join(text.itertext()) for text in parsed(history).iter(f"{svg}text")]


def test_a_picture_has_each_curve():
    lines = polylines(evaluated())
    assert {colour: [len(line) for line in found] for colour, found in lines.items()} == {
        _picture.BATCHES: [5],
        _picture.TRAIN: [4, 4],
        _picture.TEST: [4, 4],
    }
    assert {"Loss", "Accuracy", "epochs", "● batches ● train ● test"} <= set(texts(evaluated()))


def test_points_are_where_the_numbers_are():
    """Linear in both axes, losses downwards, with the ticks as the measure."""
    history = evaluated()
    (points, _) = polylines(history)[_picture.TEST]
    # A tenth of a pixel is the last digit.
    x, y = np.array(points).T
    epochs = np.array(history.evaluated_at) / 2
    np.testing.assert_allclose(np.diff(x), np.diff(epochs) * (x[-1] - x[0]) / 2.5, atol=0.21)
    depths = np.diff(history.test_loss) * (y[0] - y[-1]) / (2.25 - 1 / 3)
    np.testing.assert_allclose(np.diff(y), depths, atol=0.21)
    assert y[0] < y[-1]
    svg = "{http://www.w3.org/2000/svg}"
    ticks = {
        "".join(text.itertext()): float(text.get("x"))
        for text in parsed(history).iter(f"{svg}text")
        if text.get("text-anchor") == "middle" and float(text.get("x")) < _picture.WIDTH
    }
    assert ticks["1"] == pytest.approx(x[1], abs=0.11)
    assert ticks["2"] == pytest.approx(x[2], abs=0.11)


def test_without_accuracies_there_is_one_panel():
    assert "Accuracy" not in texts(evaluated(train_accuracy=[], test_accuracy=[]))
    plain = accelnn.History(2, loss=[3.0, 2.0])
    assert polylines(plain).keys() == {_picture.BATCHES}
    assert "● batches" in texts(plain)


def test_what_is_not_finite_is_left_out():
    history = evaluated(loss=[2.5, 2.0, 1.25, 1e308, np.nan], test_loss=[2.0, 1.0, np.inf, np.nan])
    lines = polylines(history)
    assert len(lines[_picture.BATCHES][0]) == 4
    assert len(lines[_picture.TEST][0]) == 2
    assert not re.search("nan|inf", "".join(texts(history)))


@pytest.mark.parametrize(
    "history",
    [
        accelnn.History(3),
        accelnn.History(3, loss=[np.nan]),
        accelnn.History(3, evaluated_at=[0], test_loss=[np.nan], train_loss=[np.nan]),
    ],
)
def test_where_there_is_nothing_to_draw_it_is_a_text(history):
    assert parsed(history).text == repr(history)


@pytest.mark.parametrize(
    "history",
    [
        accelnn.History(3, loss=[2.0]),
        accelnn.History(3, loss=[0.0] * 7),
        accelnn.History(3, evaluated_at=[0], test_loss=[1.0], train_loss=[1.0]),
        accelnn.History(1, loss=[1e-300, 1e300]),
        accelnn.History(1, loss=[-5.0, -7.0]),
    ],
)
def test_curves_of_any_form_can_be_drawn(history):
    for lines in polylines(history).values():
        points = np.array(lines[0])
        assert len(points) >= 2, "a line to be seen"
        assert (points >= 0).all()
        assert (points <= [_picture.WIDTH, _picture.HEIGHT]).all()


def test_long_curves_are_averaged():
    loss = np.linspace(5.0, 1.0, 100_000).tolist()
    history = accelnn.History(1000, loss=loss)
    (line,) = polylines(history)[_picture.BATCHES]
    assert len(line) == _picture.POINTS
    assert len(history._repr_html_()) < 20_000
    slopes = np.diff(np.array(line), axis=0)
    assert (slopes > 0).all()


def test_nothing_is_unescaped():
    class Odd(accelnn.History):
        def __repr__(self):
            return '<b title="&">'

    odd = Odd(2, loss=[2.0, 1.0])
    assert '<b title="&">' not in odd._repr_html_()
    assert parsed(odd)[0].get("aria-label") == '<b title="&">'


@pytest.mark.parametrize("background", ["#FFFFFF", "#111111"])
@pytest.mark.parametrize("colour", [_picture.TRAIN, _picture.TEST])
def test_curves_can_be_told_from_light_and_dark_backgrounds(colour, background):
    """By the contrast of WCAG 2, of which graphics need 3."""

    def luminance(text):
        parts = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(colour), luminance(background)])
    assert (high + 0.05) / (low + 0.05) >= 3.0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 12.0, [0, 2, 4, 6, 8, 10, 12]),
        (0.3, 2.3, [0.5, 1.0, 1.5, 2.0]),
        (-7.0, -5.0, [-7.0, -6.5, -6.0, -5.5, -5.0]),
        (1e-9, 9e-9, [2e-9, 4e-9, 6e-9, 8e-9]),
    ],
)
def test_ticks_are_round_numbers(low, high, ticks):
    # Two roundings each: of the power of ten and of the product.
    np.testing.assert_allclose(_picture._ticks(low, high), ticks, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("epochs", [2, 3, 5, 30])
def test_epochs_in_a_picture_are_whole(epochs):
    history = accelnn.History(2, loss=[1.0, 0.5] * epochs + [1.0])
    words = list(parsed(history).iter("{http://www.w3.org/2000/svg}text"))
    below = [word.text for word in words if word.get("text-anchor") == "middle"]
    assert below[-1] == "epochs"
    assert len(below) > 2
    assert all(number.isdecimal() for number in below[:-1])
