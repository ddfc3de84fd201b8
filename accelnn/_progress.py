"""The progress bar of everything that can take long."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from accelnn._optional import import_optional

__all__ = ["Advance", "color_system", "progress_bar"]

# Seconds between the pictures of a bar in a notebook.
PERIOD = 0.1


class Advance(Protocol):
    """Moves a bar by `n` units and shows `note` beside it."""

    def __call__(self, n: int, note: str = "") -> None:
        """Move the bar."""


@contextmanager
def progress_bar(
    description: str, total: int | None, *, enabled: bool = True, unit: str = ""
) -> Iterator[Advance]:
    """Show a bar on standard error, or in a notebook below the cell, while the block runs.

    Parameters
    ----------
    description : str
        Shown beside the bar.
    total : int or None
        Number of units of work; None if nobody knows.
    enabled : bool, default True
        False makes the yielded function do nothing, and rich is not imported.
    unit : str, default ""
        Name of a unit of work, shown after the count.

    Yields
    ------
    advance : callable
        ``advance(n, note="")`` moves the bar by `n` units and shows `note` beside it.
    """
    if not enabled:
        yield _stand_still
        return
    rich_progress = import_optional("rich.progress", feature="A progress bar", extra="cli")
    rich_console = import_optional("rich.console", feature="A progress bar", extra="cli")
    of_total = "" if total is None else "/{task.total:,.0f}"
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn(f"{{task.completed:,.0f}}{of_total} {unit}"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
    )
    console = rich_console.Console(stderr=True, color_system=color_system())
    if console.is_jupyter:
        with _notebook_bar(description, total, unit) as advance:
            yield advance
        return
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(n: int, note: str = "") -> None:
            bar.update(task, advance=n, note=note)

        yield advance


@contextmanager
def _notebook_bar(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show a bar as HTML does, for which rich would need the package ipywidgets."""
    # Not at the start of every program, for its table of entities.
    from html import escape

    display = import_optional("IPython.display", feature="A progress bar", extra="cli")
    handle = display.display(display.HTML(""), display_id=True)
    done, drawn = 0, -PERIOD

    def advance(n: int, note: str = "") -> None:
        nonlocal done, drawn
        done += n
        now = time.monotonic()
        if now - drawn >= PERIOD:
            drawn = now
            share = "" if total is None else f" value={done} max={total}"
            of_total = "" if total is None else f"/{total:,}"
            text = escape(f"{done:,}{of_total} {unit} {note}")
            bar = f"{escape(description)} <progress{share}></progress> {text}"
            handle.update(display.HTML(bar))

    try:
        advance(0)
        yield advance
    finally:
        handle.update(display.HTML(""))


def color_system() -> Literal["auto"] | None:
    """Return what rich may use: under ``NO_COLOR`` nothing is coloured, bold or dim."""
    return None if os.environ.get("NO_COLOR") else "auto"


def _stand_still(n: int, note: str = "") -> None:
    """Ignore progress."""
