"""Plots of training runs."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._validation import positive_int
from accelnn.plotting._axes import (
    BLUE,
    ORANGE,
    check_axes,
    flat_axes,
    matplotlib,
    new_figure,
    style,
)
from accelnn.training import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_accuracy", "plot_loss", "plot_training", "smooth_curve"]

PANEL = 4.2  # inches, the width of a panel
HEIGHT = 3.8

# Iterations of the panel that shows the start of a run.
START = 1000
# Shorter curves are not smoothed.
SMOOTHED_FROM = 200
# The window of the moving average is one part in so many of the panel.
WINDOWS = 50
# The window of `smooth_curve`.
SMOOTHING, SMOOTHING_BETA = 11, 2.0
# Longer curves have no markers, which would overlap.
MARKED_UP_TO = 30
# With more points, matplotlib warns that placing the legend is slow.
PLACED_UP_TO = 10_000


def plot_loss(
    history: History | Sequence[float],
    *,
    axes: "Iterable[Axes] | None" = None,
    first: int = START,
) -> "tuple[Axes, Axes]":
    """Draw the training loss of the whole run, and of its start beside it.

    Parameters
    ----------
    history : History or sequence of float
        What `accelnn.fit` returned, or the losses themselves.
    axes : pair of Axes, optional
        For the whole run and for the start; they will share their y axis. By default those of a
        new figure.
    first : int, default 1000
        Iterations in the panel of the start.

    Returns
    -------
    tuple of Axes
        The two axes. Panels of 200 iterations or more show the losses faintly, and their moving
        average over 1/50 of the panel.

    Raises
    ------
    ValueError
        If there are no losses, or `axes` are not two.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from accelnn.plotting import plot_loss
    >>> whole, start = plot_loss([2.3, 1.9, 1.2, 0.8], first=2)
    >>> whole.lines[0].get_ydata().tolist()
    [2.3, 1.9, 1.2, 0.8]
    >>> start.lines[0].get_ydata().tolist()
    [2.3, 1.9]
    >>> plt.close(whole.figure)
    """
    losses = _losses(history)
    first = min(positive_int(first, "first"), losses.size)
    if axes is None:
        whole, start = _loss_axes(new_figure(2 * PANEL, HEIGHT), columns=2)
    else:
        whole, start = _pair(axes)
    _draw_losses(whole, losses, f"Training loss, {losses.size:,} iterations")
    _draw_losses(start, losses[:first], f"Training loss, first {first:,} iterations")
    whole.set_ylabel("Loss")
    return whole, start


def plot_accuracy(
    history: History | Sequence[float],
    test: Sequence[float] | None = None,
    *,
    ax: "Axes | None" = None,
    label: str = "",
    **kwargs: Any,
) -> "Axes":
    """Draw the accuracy on training and test data, per epoch.

    Parameters
    ----------
    history : History or sequence of float
        What `accelnn.fit` returned, given ``validation``; or the accuracies on training data, the
        first of which is drawn at 0.
    test : sequence of float, optional
        The accuracies on test data, beside those on training data.
    ax : Axes, optional
        By default those of a new figure. To compare runs, draw them into the same axes.
    label : str, default ""
        A name for the run, shown before "train" and "test" in the legend.
    **kwargs
        Passed to ``Axes.plot``, for both lines.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the history holds no accuracies, because `accelnn.fit` got no ``validation`` or the loss
        is not one of classification; or if there are not as many of one kind as of the other.
    TypeError
        If there are accuracies on training data alone, or `test` beside a history.

    Examples
    --------
    >>> import accelnn
    >>> import matplotlib.pyplot as plt
    >>> from accelnn.plotting import plot_accuracy
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    >>> history = accelnn.fit(net, x, t, validation=test, epochs=3, rng=0)
    >>> ax = plot_accuracy(history)
    >>> ax.lines[0].get_xdata().tolist()
    [0.0, 1.0, 2.0, 3.0]
    >>> plt.close(ax.figure)
    >>> ax = plot_accuracy([0.1, 0.8, 0.9], [0.1, 0.7, 0.8])
    >>> plt.close(ax.figure)
    """
    history = _accuracies(history, test)
    if not history.evaluated_at:
        msg = (
            "this history holds no accuracies: fit() records them when it is given "
            "validation=(x, t)"
        )
        raise ValueError(msg)
    if not history.train_accuracy:
        msg = (
            "this history holds no accuracies: the net's loss is not one of classification. "
            "plot_training() draws its losses on training and test data"
        )
        raise ValueError(msg)
    ax = flat_axes(ax, 1.2 * PANEL, HEIGHT)
    curves = history.train_accuracy, history.test_accuracy
    _draw_curves(ax, history, "Accuracy", *curves, label=label, **kwargs)
    ax.legend(loc="lower right")
    # The limits of everything in the axes, which may hold other runs too.
    low = ax.dataLim.y0
    bottom = max(0.0, math.floor(10 * low - 0.1) / 10)
    ax.set_ylim(bottom, 1 + 0.02 * (1 - bottom))
    return ax


def plot_training(history: History, *, figure: "Figure | None" = None) -> "Figure":
    """Draw the loss and the accuracy of a training run in one figure.

    Parameters
    ----------
    history : History
        What `accelnn.fit` returned.
    figure : Figure, optional
        By default a new pyplot figure; pyplot does not keep a ``matplotlib.figure.Figure()``.

    Returns
    -------
    Figure
        With the panels of `plot_loss` and `plot_accuracy`; the loss on test data is drawn over that
        of the batches. For runs of up to 1,000 iterations, the start is the first quarter. Without
        accuracies the third panel shows the loss on training and test data; without ``validation``
        it is left out.

    Raises
    ------
    ValueError
        If the history holds no losses.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import accelnn
    >>> from accelnn.plotting import plot_training
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    >>> figure = plot_training(accelnn.fit(net, x, t, validation=test, epochs=3, rng=0))
    >>> len(figure.axes)
    3
    >>> plt.close(figure)
    """
    steps = _losses(history).size
    # A run no longer than its start would be drawn twice.
    first = START if steps > START else max(1, steps // 4)
    columns = 3 if history.evaluated_at else 2
    if figure is None:
        figure = new_figure(columns * PANEL, HEIGHT)
    whole, _ = plot_loss(history, axes=_loss_axes(figure, columns), first=first)
    if history.train_accuracy:
        is_short = len(history.evaluated_at) <= MARKED_UP_TO
        test: dict[str, Any] = {
            "color": ORANGE,
            "linestyle": "--",
            "marker": "s" if is_short else "",
        }
        whole.plot(history.evaluated_at, history.test_loss, **test, markersize=4, label="test")
        whole.legend(loc="upper right")
        plot_accuracy(history, ax=figure.add_subplot(1, columns, columns))
    elif history.evaluated_at:
        ax = figure.add_subplot(1, columns, columns)
        _draw_curves(ax, history, "Loss", history.train_loss, history.test_loss)
        ax.legend(loc="upper right")
    return figure


def smooth_curve(losses: History | Sequence[float]) -> np.ndarray:
    """Return a moving average of losses for drawing, with the textbook's window.

    Parameters
    ----------
    losses : History or sequence of float
        What `accelnn.fit` returned, or the losses themselves.

    Returns
    -------
    numpy.ndarray
        Of the length of the losses: each is the mean of itself and five on either side, by a Kaiser
        window (β = 2). Beyond the ends the curve is mirrored.

    Raises
    ------
    ValueError
        If there are no losses.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.smooth_curve([1.0, 1.0, 4.0, 1.0, 1.0]).round(2)
    array([1.64, 1.62, 1.74, 1.73, 1.6 ])
    """
    half = SMOOTHING // 2
    window = np.kaiser(SMOOTHING, SMOOTHING_BETA)
    # As in the textbook, the last loss is mirrored too, and the first one is not.
    before = np.pad(_losses(losses), (half, 0), "reflect")
    mirrored = np.pad(before, (0, half), "symmetric")
    return np.convolve(mirrored, window / window.sum(), "valid")


def _accuracies(history: History | Sequence[float], test: Sequence[float] | None) -> History:
    """Return the history, or that of accuracies given as sequences."""
    if isinstance(history, History):
        if test is None:
            return history
        msg = "test must be left out beside a history, which holds the accuracies on test data"
        raise TypeError(msg)
    if test is None:
        msg = "pass a history, or the accuracies on training and on test data: (train, test)"
        raise TypeError(msg)
    train, test = ([float(value) for value in values] for values in (history, test))
    if len(train) != len(test):
        msg = f"there are {len(train)} accuracies on training data, and {len(test)} on test data"
        raise ValueError(msg)
    epochs = list(range(len(train)))
    return History(1, evaluated_at=epochs, train_accuracy=train, test_accuracy=test)


def _whole_numbers(ax: "Axes") -> None:
    """Put only whole numbers beside the x axis, unless a caller's axes have another scale."""
    locator: Any = ax.xaxis.get_major_locator()
    if isinstance(locator, matplotlib("ticker").MaxNLocator):
        locator.set_params(integer=True)


def _losses(history: History | Sequence[float]) -> np.ndarray:
    losses = np.asarray(history.loss if isinstance(history, History) else history, dtype=float)
    if losses.ndim != 1 or losses.size == 0:
        msg = f"losses must be a sequence of at least one number, got shape {losses.shape}"
        raise ValueError(msg)
    return losses


def _loss_axes(figure: "Figure", columns: int) -> "tuple[Axes, Axes]":
    whole = figure.add_subplot(1, columns, 1)
    start = figure.add_subplot(1, columns, 2, sharey=whole)
    start.tick_params(labelleft=False)
    return whole, start


def _pair(axes: "Iterable[Axes]") -> "tuple[Axes, Axes]":
    given = list(axes)
    if len(given) != 2:  # noqa: PLR2004 - the whole run and its start
        msg = f"axes must be two, for the whole run and for its start; got {len(given)}"
        raise ValueError(msg)
    whole, start = (check_axes(ax, f"axes[{i}]") for i, ax in enumerate(given))
    if not whole.get_shared_y_axes().joined(whole, start):
        start.sharey(whole)
    return whole, start


def _draw_losses(ax: "Axes", losses: np.ndarray, title: str) -> None:
    smooth = losses.size >= SMOOTHED_FROM
    ax.plot(
        np.arange(losses.size),
        losses,
        color=BLUE,
        marker="." if losses.size <= MARKED_UP_TO else "",
        linewidth=0.8 if smooth else 1.5,
        alpha=0.35 if smooth else 1.0,
        label="each batch",
    )
    if smooth:
        window = losses.size // WINDOWS
        # A tenth of a window apart, so that the work is proportional to the length of the run.
        stride = max(1, window // 10)
        windows = np.lib.stride_tricks.sliding_window_view(losses, window)[::stride]
        average = windows.mean(axis=1)
        middle = stride * np.arange(average.size) + (window - 1) / 2
        ax.plot(middle, average, color=BLUE, linewidth=2.0, label=f"mean of {window:,}")
        ax.legend(loc="best" if losses.size <= PLACED_UP_TO else "upper right")
    ax.set(title=title, xlabel="Iteration")
    _whole_numbers(ax)
    ax.grid(alpha=0.3)


def _draw_curves(
    ax: "Axes",
    history: History,
    quantity: str,
    train: Sequence[float],
    test: Sequence[float],
    **kwargs: Any,
) -> None:
    epochs = np.array(history.evaluated_at) / history.batches_per_epoch
    run = kwargs.pop("label", "")
    for values, name, colour, dashes, marker in (
        (train, "train", BLUE, "-", "o"),
        (test, "test", ORANGE, "--", "s"),
    ):
        line = style(
            "lines.Line2D",
            kwargs,
            color=colour,
            linestyle=dashes,
            linewidth=1.8,
            marker=marker if len(epochs) <= MARKED_UP_TO else "",
            markersize=4,
            label=f"{run}, {name}" if run else name,
        )
        ax.plot(epochs, values, **line)
    ax.set(title=f"{quantity} per epoch", xlabel="Epoch", ylabel=quantity)
    _whole_numbers(ax)
    ax.grid(alpha=0.3)
