"""Plots of a report: time against size, and our lead by size."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._optional import import_optional
from accelnn.bench._case import Case
from accelnn.bench._plan import HEADLINE, OURS
from accelnn.bench._results import Measurement, Report
from accelnn.bench._tables import lead_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SIZED", "check_picture", "draw", "draw_growth"]

# From the colour-blind-safe palette of Okabe and Ito.
COLOURS = ("#D55E00", "#E69F00", "#000000", "#CC79A7", "#882255", "#56B4E9", "#0072B2", "#009E73")
MARKERS = "os^DvP*X"
SIZED = "scaling"
"""The group that is plotted."""
WIDTH = "width of the hidden layer"


def check_picture(path: Path) -> None:
    """Raise ValueError if matplotlib cannot write a file with this suffix."""
    bases = import_optional("matplotlib.backend_bases", feature="--plot", extra="plot")
    known = sorted(bases.FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        msg = f"cannot draw into {str(path)!r}: known suffixes are {', '.join(known)}"
        raise ValueError(msg)


def draw(report: Report) -> "Figure":
    """Draw time against size, one line for each contestant, in up to three panels.

    Raises
    ------
    ValueError
        If nothing in the report has several sizes.
    """
    in_width = [m for m in report.best("training") if m.case.name in (HEADLINE, "hidden 100")]
    gradients = report.best(SIZED)
    by_width = [m for m in gradients if m.case.name.startswith("hidden")]
    narrowest = min((m.case.sizes[1] for m in by_width), default=0)
    by_batch = [m for m in gradients if m not in by_width or m.case.sizes[1] == narrowest]
    panels: list[tuple[str, str, str, list[Measurement], Callable[[Case], float]]] = [
        ("Training step, batch 100", WIDTH, "step", in_width, lambda case: case.sizes[1]),
        ("Gradient, 20 samples", "parameters", "gradient", by_width, lambda case: case.parameters),
        ("Gradient, 784-50-10", "samples", "gradient", by_batch, lambda case: case.batch),
    ]
    panels = [panel for panel in panels if len({panel[4](m.case) for m in panel[3]}) > 1]
    if not panels:
        msg = f"there is nothing to draw: measure the group {SIZED!r}"
        raise ValueError(msg)
    figure = _figure(5.0 * len(panels), 5.0)
    names = list(dict.fromkeys(m.contestant for panel in panels for m in panel[3]))
    handles: dict[str, Any] = {}
    for i, (title, size, unit, measured, of) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), i + 1)
        _draw_panel(ax, names, measured, of)
        ax.set(title=title, xlabel=size, ylabel=f"seconds per {unit}")
        lines, labels = ax.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    shown = [handles[name] for name in names]
    figure.legend(shown, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_growth(report: Report) -> "Figure":
    """Draw how many times longer the best peer takes than we, by width and batch.

    Raises
    ------
    ValueError
        If the group ``growth`` was not measured.
    """
    leads = {case: lead_of(row) for case, row in report.by_case("growth").items()}
    widths = sorted({case.sizes[1] for case in leads})
    batches = sorted({case.batch for case in leads})
    found = np.full((len(widths), len(batches)), np.nan)
    for case, lead in leads.items():
        found[widths.index(case.sizes[1]), batches.index(case.batch)] = lead or np.nan
    if np.isnan(found).all():
        msg = "there is nothing to draw: measure the group 'growth'"
        raise ValueError(msg)
    figure = _figure(6.5, 4.5)
    ax = figure.add_subplot()
    # As far to both sides, so that white is where both take as long.
    most = max(1.0, float(np.nanmax(np.abs(np.log2(found)))))
    look: Any = {"cmap": "RdBu", "origin": "lower", "aspect": "auto"}
    image = ax.imshow(np.log2(found), vmin=-most, vmax=most, **look)
    for (row, column), lead in np.ndenumerate(found):
        dark = abs(np.log2(lead)) > 0.6 * most
        style: Any = {"ha": "center", "va": "center", "color": "white" if dark else "black"}
        ax.text(column, row, f"{lead:.2f}", **style)
    ax.set_xticks(range(len(batches)), [f"{batch:,}" for batch in batches])
    ax.set_yticks(range(len(widths)), [f"{width:,}" for width in widths])
    ax.set(title=f"Training step of 784-h-10: best peer ÷ {OURS}", xlabel="batch", ylabel=WIDTH)
    bar = figure.colorbar(image)
    ticks = [2.0**n for n in range(-int(most), int(most) + 1)]
    bar.set_ticks(np.log2(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks])
    return figure


def _figure(width: float, height: float) -> "Figure":
    figures = import_optional("matplotlib.figure", feature="--plot", extra="plot")
    figure: Figure = figures.Figure(figsize=(width, height), layout="constrained")
    return figure


def _draw_panel(
    ax: "Axes", names: list[str], measured: list[Measurement], size_of: Callable[[Case], float]
) -> None:
    """Draw a line for each contestant."""
    for i, name in enumerate(names):
        points = sorted(
            (size_of(m.case), m.median, *m.spread) for m in measured if m.contestant == name
        )
        if not points:
            continue
        sizes, medians, fastest, slowest = np.array(points).T
        ax.errorbar(
            sizes,
            medians,
            yerr=(medians - fastest, slowest - medians),
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
    ticks = sorted({size_of(m.case) for m in measured})
    ax.set_xticks(ticks, [f"{size:,.0f}" for size in ticks], rotation=30)
    ax.minorticks_off()
    # Whole decades, so that at least two have a label.
    low, high = np.log10(ax.get_ylim())
    ax.set_ylim(10.0 ** np.floor(low), 10.0 ** np.ceil(high))
    ax.grid(alpha=0.3)
