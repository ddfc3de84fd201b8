"""The progress bar of everything that can take long."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from accelnn._optional import import_optional

__all__ = ["Advance", "color_system", "progress_bar"]


class Advance(Protocol):
    """Moves a bar by `n` units and shows `note` beside it."""

    def __call__(self, n: int, note: str = "") -> None:
        """Move the bar."""


@contextmanager
def progress_bar(
    description: str, total: int | None, *, enabled: bool = True, unit: str = ""
) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs.

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
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(n: int, note: str = "") -> None:
            bar.update(task, advance=n, note=note)

        yield advance


def color_system() -> Literal["auto"] | None:
    """Return what rich may use: under ``NO_COLOR`` nothing is coloured, bold or dim."""
    return None if os.environ.get("NO_COLOR") else "auto"


def _stand_still(n: int, note: str = "") -> None:
    """Ignore progress."""
