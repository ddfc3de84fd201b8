"""A history as a small picture for notebooks: an SVG, which needs no other package."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from accelnn.training._history import History

__all__ = ["picture"]

# A panel, and its margins around the curves.
WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 34
# Longer curves are averaged over as many pieces: there are hardly more pixels.
POINTS = 250
# At most so many numbers stand beside an axis.
TICKS = 6
# On an axis of at least so many epochs there are no parts of one.
WHOLE = 2
# Both have a contrast of 3 or more with white and with the dark background of notebooks. The
# losses of batches have the colour of the notebook's own text.
TRAIN, TEST, BATCHES = "#D55E00", "#2F8ACB", "currentColor"


class _Line(NamedTuple):
    name: str
    colour: str
    x: np.ndarray
    y: np.ndarray


def picture(history: "History") -> str:
    """Return a history as HTML, with its losses and accuracies over the epochs."""
    caption = html.escape(repr(history))
    at_batches = np.arange(history.steps) / history.batches_per_epoch
    at_epochs = np.asarray(history.evaluated_at, float) / history.batches_per_epoch
    losses = [
        _line("batches", BATCHES, at_batches, history.loss),
        _line("train", TRAIN, at_epochs, history.train_loss),
        _line("test", TEST, at_epochs, history.test_loss),
    ]
    accuracies = [
        _line("train", TRAIN, at_epochs, history.train_accuracy),
        _line("test", TEST, at_epochs, history.test_accuracy),
    ]
    panels: list[str] = []
    for title, lines in (("Loss", losses), ("Accuracy", accuracies)):
        if drawn := [line for line in lines if line.x.size]:
            panels.append(_panel(title, drawn, len(panels) * WIDTH))
    if not panels:
        return f"<div>{caption}</div>"
    width = len(panels) * WIDTH
    return (
        f'<div><svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{caption}" '
        f'viewBox="0 0 {width} {HEIGHT}" width="{width}" style="max-width: 100%" '
        f'fill="currentColor" font-family="sans-serif" font-size="11">{"".join(panels)}</svg>'
        f"<div>{caption}</div></div>"
    )


def _line(name: str, colour: str, x: np.ndarray, values: Sequence[float]) -> _Line:
    """Return a curve of no more than `POINTS` points, the finite ones alone."""
    y = np.asarray(values, float)
    pieces = max(1, min(y.size, POINTS))
    with np.errstate(all="ignore"):
        x, y = (
            np.asarray([piece.mean() for piece in np.array_split(a, pieces) if piece.size])
            for a in (x[: y.size], y)
        )
    return _Line(name, colour, x[np.isfinite(y)], y[np.isfinite(y)])


def _panel(title: str, lines: list[_Line], left: float) -> str:
    """Return a panel as elements of an SVG."""
    top, bottom = TOP, HEIGHT - BOTTOM
    start, end = left + LEFT, left + WIDTH - RIGHT
    x_low, x_high = _range(np.concatenate([line.x for line in lines]))
    y_low, y_high = _range(np.concatenate([line.y for line in lines]))

    def across(x: float) -> str:
        return f"{start + (x - x_low) / (x_high - x_low) * (end - start):.1f}"

    def down(y: float) -> str:
        return f"{bottom - (y - y_low) / (y_high - y_low) * (bottom - top):.1f}"

    parts = [f'<text x="{start}" y="{top - 12}" font-weight="bold">{title}</text>']
    legend = " ".join(f'<tspan fill="{line.colour}">●</tspan> {line.name}' for line in lines)
    parts.append(f'<text x="{end}" y="{top - 12}" text-anchor="end">{legend}</text>')
    for tick in _ticks(y_low, y_high):
        y = down(tick)
        parts.append(
            f'<path d="M{start} {y}H{end}" stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{start - 6}" y="{y}" dy=".35em" text-anchor="end">{tick:.4g}</text>'
        )
    parts += [
        f'<text x="{across(tick)}" y="{bottom + 14}" text-anchor="middle">{tick:.4g}</text>'
        # Epochs are whole, where there are some.
        for tick in _ticks(x_low, x_high, least=1.0 if x_high - x_low >= WHOLE else 0.0)
    ]
    middle = (start + end) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 29}" text-anchor="middle">epochs</text>')
    for line in lines:
        points = [f"{across(x)},{down(y)}" for x, y in zip(line.x, line.y, strict=True)]
        # A point alone is a line to itself, which round ends make visible.
        points *= 2 if len(points) == 1 else 1
        faint = ' stroke-opacity=".4"' if line.colour == BATCHES else ' stroke-width="2"'
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{line.colour}"{faint} '
            f'stroke-linecap="round" stroke-linejoin="round"/>'
        )
    return "".join(parts)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of an axis, which are never the same."""
    low, high = float(values.min()), float(values.max())
    if low < high:
        return low, high
    room = abs(low) / 2 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Return round numbers between two: multiples of 1, 2 or 5 times a power of ten.

    They are at least `least` apart.
    """
    least = max(least, (high - low) / TICKS)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= least)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
