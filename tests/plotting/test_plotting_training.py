"""Pictures of a training run."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

import accelnn
from accelnn.plotting import (
    plot_accuracy,
    plot_loss,
    plot_training,
)

LOSSES = [2.5, 2.0, 1.25, 0.5, 0.75]


@pytest.fixture
def history():
    """Two epochs and a half, evaluated at the start, after each epoch, and at the end."""
    return accelnn.History(
        batches_per_epoch=2,
        loss=LOSSES,
        evaluated_at=[0, 2, 4, 5],
        train_accuracy=[0.125, 0.5, 0.75, 0.875],
        test_accuracy=[0.25, 0.375, 0.625, 0.6875],
        train_loss=[2.5, 1.5, 0.75, 0.5],
        test_loss=[2.25, 1.75, 1.0, 0.875],
    )


def drawn(figure):
    """Draw everything, where matplotlib gives its late warnings."""
    figure.canvas.draw()
    return figure


def x_of(line):
    return np.asarray(line.get_xdata()).tolist()


def y_of(line):
    return np.asarray(line.get_ydata()).tolist()


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Loss -----------------------------------------------------------------------------------------


def test_loss_draws_every_loss_and_the_first_ones(history):
    whole, start = plot_loss(history, first=3)
    assert x_of(whole.lines[0]) == [0, 1, 2, 3, 4]
    assert y_of(whole.lines[0]) == LOSSES
    assert x_of(start.lines[0]) == [0, 1, 2]
    assert y_of(start.lines[0]) == [2.5, 2.0, 1.25]
    assert len(whole.lines) == len(start.lines) == 1
    assert "5 iterations" in whole.get_title()
    assert "first 3 iterations" in start.get_title()
    drawn(whole.figure)


def test_loss_panels_stand_side_by_side_with_one_y_axis():
    whole, start = plot_loss(LOSSES)
    assert whole.figure is start.figure
    assert whole.get_position().x1 <= start.get_position().x0
    assert whole.get_position().y0 == start.get_position().y0
    whole.set_ylim(-1.0, 7.0)
    assert start.get_ylim() == (-1.0, 7.0)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_loss_takes_any_sequence(kind):
    whole, start = plot_loss(kind(LOSSES))
    assert y_of(whole.lines[0]) == y_of(start.lines[0]) == LOSSES


def test_the_start_of_a_long_run_is_1000_iterations():
    _, start = plot_loss(np.linspace(2.0, 1.0, 1500))
    assert len(x_of(start.lines[0])) == 1000


def test_a_long_run_gets_a_moving_average_that_is_centred():
    losses = np.arange(1000.0)
    losses[::2] += 0.5
    losses[1::2] -= 0.5
    whole, start = plot_loss(losses, first=500)
    raw, average = whole.lines
    assert y_of(raw) == losses.tolist()
    assert raw.get_alpha() < 0.5
    # A window of 20 holds as many raised as lowered values, so the straight line comes back.
    np.testing.assert_allclose(y_of(average), x_of(average))
    assert x_of(average)[0] == 9.5
    assert x_of(average)[-1] == pytest.approx(989.5, abs=2)
    assert "mean of 20" in legend_of(whole)
    assert "mean of 10" in legend_of(start)
    np.testing.assert_allclose(y_of(start.lines[1])[0], losses[:10].mean())


def test_a_moving_average_by_hand():
    losses = np.random.default_rng(0).uniform(size=999)
    average = plot_loss(losses)[0].lines[1]
    assert len(x_of(average)) > 400
    for x, y in average.get_xydata():
        first = round(x - 9.0)  # of a window of 19
        assert y == pytest.approx(losses[first : first + 19].mean())


def test_a_run_that_diverged_is_drawn():
    losses = [*np.linspace(2.0, 9.0, 400), np.inf]
    whole, _ = plot_loss(losses)
    assert y_of(whole.lines[0])[-1] == np.inf
    assert 9.0 < whole.get_ylim()[1] < 12.0
    drawn(whole.figure)
    whole, _ = plot_loss([*losses[:-1], np.nan])
    assert np.isfinite(y_of(whole.lines[1])[:-8]).all()
    drawn(whole.figure)


@pytest.mark.parametrize("layout", [(1, 2), (2, 1)])
def test_loss_draws_into_given_axes(figure, layout):
    given = figure.subplots(*layout)
    whole, start = plot_loss(LOSSES, axes=given)
    assert whole is given[0]
    assert start is given[1]
    assert whole.get_ylim() == start.get_ylim()
    start.set_ylim(0.0, 5.0)
    assert whole.get_ylim() == (0.0, 5.0)
    assert y_of(given[0].lines[0]) == LOSSES


def test_loss_takes_axes_that_share_already(figure):
    given = figure.subplots(1, 2, sharey=True)
    assert plot_loss(LOSSES, axes=given) == tuple(given)


def test_two_runs_fit_into_the_same_loss_axes(figure):
    axes = plot_loss([1.0, 2.0], axes=figure.subplots(1, 2))
    whole, _ = plot_loss([1.0, 50.0], axes=axes)
    assert len(whole.lines) == 2
    assert whole.get_ylim()[1] > 50.0


@pytest.mark.parametrize("count", [1, 3])
def test_loss_needs_two_axes(figure, count):
    with pytest.raises(ValueError, match=f"axes must be two.*got {count}"):
        plot_loss(LOSSES, axes=figure.subplots(1, count, squeeze=False)[0])


def test_loss_refuses_rows_of_axes(figure):
    with pytest.raises(TypeError, match=r"axes\[0\] must be matplotlib axes, got ndarray"):
        plot_loss(LOSSES, axes=figure.subplots(2, 2))


@pytest.mark.parametrize("losses", [[], [[1.0, 2.0]], accelnn.History(batches_per_epoch=2)])
def test_loss_needs_losses(losses):
    with pytest.raises(ValueError, match="at least one number"):
        plot_loss(losses)
    assert not plt.get_fignums()


def test_the_start_has_at_least_one_iteration():
    with pytest.raises(ValueError, match="first must be at least 1, got 0"):
        plot_loss(LOSSES, first=0)


# Accuracy -------------------------------------------------------------------------------------


def test_accuracy_is_drawn_per_epoch(history):
    ax = plot_accuracy(history)
    train, test = ax.lines
    assert x_of(train) == x_of(test) == [0.0, 1.0, 2.0, 2.5]
    assert y_of(train) == history.train_accuracy
    assert y_of(test) == history.test_accuracy
    assert legend_of(ax) == ["train", "test"]
    assert train.get_color() != test.get_color()
    assert train.get_linestyle() != test.get_linestyle()
    drawn(ax.figure)


@pytest.mark.parametrize(
    ("lowest", "bottom"), [(0.0, 0.0), (0.098, 0.0), (0.125, 0.1), (0.3, 0.2), (0.95, 0.9)]
)
def test_accuracy_limits_hold_all_values_up_to_one(history, lowest, bottom):
    history.train_accuracy = [lowest, 1.0, 1.0, 1.0]
    history.test_accuracy = [1.0] * 4
    low, high = plot_accuracy(history).get_ylim()
    assert low == pytest.approx(bottom)
    assert 1.0 < high < 1.03


def test_runs_are_compared_in_the_same_axes(history, figure):
    ax = figure.add_subplot()
    assert plot_accuracy(history, ax=ax, label="SGD") is ax
    better = accelnn.History(2, [1.0], [0, 2], [0.9, 0.95], [0.9, 0.95], [1.0, 1.0], [1.0, 1.0])
    plot_accuracy(better, ax=ax, label="Adam", c="black", lw=3)
    assert legend_of(ax) == ["SGD, train", "SGD, test", "Adam, train", "Adam, test"]
    assert ax.get_ylim()[0] < 0.125
    assert [line.get_color() for line in ax.lines[2:]] == ["black", "black"]
    assert [line.get_linewidth() for line in ax.lines[2:]] == [3, 3]


def test_accuracy_without_validation_says_how_to_get_it():
    history = accelnn.History(batches_per_epoch=2, loss=LOSSES)
    with pytest.raises(ValueError, match=r"no accuracies: fit\(\) records them .* validation="):
        plot_accuracy(history)
    assert not plt.get_fignums()


def test_accuracy_of_a_loss_that_does_not_classify_is_refused(history):
    history.train_accuracy, history.test_accuracy = [], []
    with pytest.raises(ValueError, match="is not one of classification"):
        plot_accuracy(history)
    assert not plt.get_fignums()


def test_accuracies_of_a_loop_of_ones_own(history):
    train, test = history.train_accuracy, np.array(history.test_accuracy)
    ax = plot_accuracy(train, test, label="mine")
    assert [y_of(line) for line in ax.lines] == [train, test.tolist()]
    assert x_of(ax.lines[1]) == [0, 1, 2, 3]
    assert legend_of(ax) == ["mine, train", "mine, test"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.5],), TypeError, "accuracies on training and on test data"),
        ((accelnn.History(2, loss=LOSSES), [0.5]), TypeError, "test must be left out"),
        (([0.5, 0.75], [0.5]), ValueError, "2 accuracies on training data, and 1 on test data"),
        (([], []), ValueError, "holds no accuracies"),
    ],
)
def test_accuracies_that_are_no_pair(arguments, error, message):
    with pytest.raises(error, match=message):
        plot_accuracy(*arguments)
    assert not plt.get_fignums()


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 8])
def test_numbers_beside_epochs_and_iterations_are_whole(epochs):
    history = accelnn.History(1, LOSSES[:epochs], list(range(epochs + 1)))
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        setattr(history, name, [0.5] * (epochs + 1))
    figure = drawn(plot_training(history))
    for ax in figure.axes:
        low, high = ax.get_xlim()
        ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
        if high - low > 1:
            assert all(tick == round(tick) for tick in ticks)
            assert len(ticks) >= 2


def test_axes_with_a_scale_of_their_own_keep_it(history, figure):
    ax = figure.add_subplot(xscale="log")
    plot_accuracy(history, ax=ax)
    assert ax.get_xscale() == "log"
    drawn(figure)


# Training -------------------------------------------------------------------------------------


def test_training_draws_loss_and_accuracy(history):
    figure = plot_training(history)
    whole, start, accuracy = figure.axes
    assert y_of(whole.lines[0]) == LOSSES
    assert y_of(start.lines[0]) == LOSSES[:1], "a quarter, because the run is all start"
    assert [y_of(line) for line in accuracy.lines] == [
        history.train_accuracy,
        history.test_accuracy,
    ]
    assert accuracy.get_ylabel() == "Accuracy"
    assert y_of(whole.lines[1]) == history.test_loss
    assert x_of(whole.lines[1]) == history.evaluated_at
    assert legend_of(whole) == ["each batch", "test"]
    whole.set_ylim(0.0, 9.0)
    assert start.get_ylim() == (0.0, 9.0)
    assert accuracy.get_ylim()[1] < 1.1
    assert figure.number in plt.get_fignums()


@pytest.mark.parametrize(("steps", "first"), [(8, 2), (1000, 250), (1001, 1000)])
def test_the_start_is_never_the_whole_run(steps, first):
    losses = [1.0] * steps
    _, start = plot_training(accelnn.History(steps, loss=losses)).axes
    assert y_of(start.lines[0]) == losses[:first]


def test_training_shows_losses_where_there_are_no_accuracies(history):
    history.train_accuracy, history.test_accuracy = [], []
    ax = plot_training(history).axes[2]
    assert [y_of(line) for line in ax.lines] == [history.train_loss, history.test_loss]
    assert x_of(ax.lines[0]) == [0.0, 1.0, 2.0, 2.5]
    assert legend_of(ax) == ["train", "test"]
    assert ax.get_ylabel() == "Loss"


def test_training_without_validation_is_two_panels():
    figure = drawn(plot_training(accelnn.History(batches_per_epoch=2, loss=LOSSES)))
    _, start = figure.axes
    assert start.get_position().x1 > 0.95


def test_training_draws_into_a_given_figure(history, figure):
    assert plot_training(history, figure=figure) is figure
    assert len(figure.axes) == 3
    assert not plt.get_fignums()


def test_training_needs_losses():
    with pytest.raises(ValueError, match="at least one number"):
        plot_training(accelnn.History(batches_per_epoch=2))
    assert not plt.get_fignums()


def test_panels_of_a_real_training_do_not_overlap():
    (x, t), test = accelnn.load_mnist(subset="5k")
    net = accelnn.TwoLayerNet(784, 10, 10, rng=0)
    history = accelnn.fit(net, x, t, validation=test, epochs=6, rng=0)
    figure = drawn(plot_training(history))
    panels = [ax.get_tightbbox() for ax in figure.axes]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(panels))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in panels)
    assert x_of(figure.axes[2].lines[0]) == [0, 1, 2, 3, 4, 5, 6]
    assert y_of(figure.axes[2].lines[1]) == history.test_accuracy
