"""The plot of a report: time against size."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accelnn._optional import import_optional
from accelnn.bench._results import Measurement, Report
from accelnn.bench._task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SIZED", "check_picture", "draw"]

# From the colour-blind-safe palette of Okabe and Ito.
COLOURS = ("#D55E00", "#E69F00", "#000000", "#CC79A7", "#882255", "#56B4E9", "#0072B2", "#009E73")
MARKERS = "os^DvP*X"
SIZED = "scaling"
"""The group that is plotted."""
ONE_HIDDEN = 3  # widths of a net with one hidden layer


def check_picture(path: Path) -> None:
    """Raise ValueError if matplotlib cannot write a file with this suffix."""
    bases = import_optional("matplotlib.backend_bases", feature="--plot", extra="plot")
    known = sorted(bases.FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        msg = f"cannot draw into {str(path)!r}: known suffixes are {', '.join(known)}"
        raise ValueError(msg)


def draw(report: Report) -> "Figure":
    """Draw time against size, one line for each contestant, in up to three panels.

    Parameters
    ----------
    report : Report
        With the group ``scaling``, or ``training`` of a full run.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If nothing in the report has several sizes.
    """
    figures = import_optional("matplotlib.figure", feature="--plot", extra="plot")
    # Cases that differ in size only.
    widths = [m for m in report.best("training") if _differs_in_width_only(m)]
    by_width = [m for m in report.best(SIZED) if m.case.startswith("hidden")]
    by_batch = [
        m
        for m in report.best(SIZED)
        if m.case.startswith("batch") or m.task.sizes[1] == _narrowest(by_width)
    ]
    panels: list[tuple[str, str, str, list[Measurement], Callable[[Measurement], float]]] = [
        ("Training step, batch 100", "width of the hidden layer", "step", widths, _width),
        ("Gradient, 20 samples", "parameters", "gradient", by_width, _parameters),
        ("Gradient, 784-50-10", "samples", "gradient", by_batch, _batch),
    ]
    panels = [panel for panel in panels if len({panel[4](m) for m in panel[3]}) > 1]
    if not panels:
        msg = f"there is nothing to draw: measure the group {SIZED!r}"
        raise ValueError(msg)
    figure: Figure = figures.Figure(figsize=(5.0 * len(panels), 5.0), layout="constrained")
    names = list(dict.fromkeys(m.contestant for panel in panels for m in panel[3]))
    for i, (title, size, unit, measured, of) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), i + 1)
        _draw_panel(ax, names, measured, of)
        ax.set(title=title, xlabel=size, ylabel=f"seconds per {unit}")
    handles = {
        label: handle
        for ax in figure.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        [handles[name] for name in names], names, loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def _draw_panel(
    ax: "Axes",
    names: list[str],
    measured: list[Measurement],
    size_of: Callable[[Measurement], float],
) -> None:
    for i, name in enumerate(names):
        points = sorted((m for m in measured if m.contestant == name), key=size_of)
        if not points:
            continue
        medians = [m.median for m in points]
        low = [max(0.0, m.median - m.spread[0]) for m in points]
        high = [max(0.0, m.spread[1] - m.median) for m in points]
        ax.errorbar(
            [size_of(m) for m in points],
            medians,
            yerr=(low, high),
            label=name,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            # When colours repeat, lines are dashed and markers hollow.
            linestyle="-" if i < len(COLOURS) else "--",
            markerfacecolor=None if i < len(COLOURS) else "white",
            markersize=5,
            linewidth=1.8 if i == 0 else 1.2,
            capsize=2,
        )
    ax.set(xscale="log", yscale="log")
    sizes = sorted({size_of(m) for m in measured})
    ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes], rotation=30)
    ax.minorticks_off()
    # Whole decades, so that at least two have a label.
    low, high = np.log10(ax.get_ylim())
    ax.set_ylim(10.0 ** np.floor(low), 10.0 ** np.ceil(high))
    ax.grid(alpha=0.3)


def _width(m: Measurement) -> float:
    return m.task.sizes[1]


def _parameters(m: Measurement) -> float:
    return m.task.parameters


def _batch(m: Measurement) -> float:
    return m.task.batch


def _narrowest(measured: list[Measurement]) -> float:
    return min((_width(m) for m in measured), default=0.0)


def _differs_in_width_only(m: Measurement) -> bool:
    """Return whether a training case differs from the first one in width only."""
    standard = Task(sizes=m.task.sizes, data=m.task.data)
    return m.task == standard and len(m.task.sizes) == ONE_HIDDEN and (m.task.data != "gaussian")
