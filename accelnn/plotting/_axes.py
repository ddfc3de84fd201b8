"""Axes and styles of plots."""

from typing import TYPE_CHECKING, Any

from accelnn._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "ORANGE",
    "check_axes",
    "flat_axes",
    "matplotlib",
    "new_figure",
    "solid_axes",
    "style",
]

# From the colour-blind-safe palette of Okabe and Ito.
BLUE, ORANGE = "#0072B2", "#D55E00"


def new_figure(width: float, height: float) -> "Figure":
    """Return a new pyplot figure of a size in inches."""
    plt = matplotlib("pyplot")
    figure: Figure = plt.figure(figsize=(width, height), layout="constrained")
    return figure


def flat_axes(
    ax: "Axes | None", width: float, height: float, *, box_aspect: float | None = None
) -> "Axes":
    """Return `ax` if it is two-dimensional, or new axes for None."""
    if ax is None:
        return new_figure(width, height).add_subplot(box_aspect=box_aspect)
    if _is_solid(check_axes(ax)):
        msg = "ax is three-dimensional; this plot needs two-dimensional axes"
        raise ValueError(msg)
    return ax


def solid_axes(ax: "Axes | None", width: float, height: float) -> Any:
    """Return `ax` if it is three-dimensional, or new axes for None."""
    if ax is None:
        return new_figure(width, height).add_subplot(projection="3d")
    if not _is_solid(check_axes(ax)):
        msg = (
            "ax is two-dimensional; a surface needs three-dimensional axes, made with "
            "figure.add_subplot(projection='3d')"
        )
        raise ValueError(msg)
    return ax


def check_axes(ax: Any, name: str = "ax") -> "Axes":
    """Return `ax`, or raise TypeError if it is not matplotlib axes."""
    if not isinstance(ax, matplotlib("axes").Axes):
        msg = f"{name} must be matplotlib axes, got {type(ax).__name__}"
        raise TypeError(msg)
    checked: Axes = ax
    return checked


def style(artist: str, given: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return `defaults` overridden by `given`, whose keys may be matplotlib's aliases.

    Parameters
    ----------
    artist : str
        The artist's class, as in ``"lines.Line2D"``.
    given : dict
        The caller's options.
    **defaults
        Default options under their full names.
    """
    module, _, name = artist.rpartition(".")
    cls = getattr(matplotlib(module), name)
    return {**defaults, **matplotlib("cbook").normalize_kwargs(given, cls)}


def _is_solid(ax: "Axes") -> bool:
    return ax.name == "3d"


def matplotlib(module: str) -> Any:
    """Return a module of matplotlib, or raise if it is not installed."""
    return import_optional(f"matplotlib.{module}", feature="Plotting", extra="plot")
