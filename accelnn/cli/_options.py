"""Options and behaviour that several commands share."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import numpy as np
from click.shell_completion import CompletionItem
from rich.console import Console

from accelnn._atomic import check_replaceable, replacing
from accelnn._optional import import_optional
from accelnn._progress import color_system
from accelnn._shown import shown
from accelnn.backends import Backend, get_backend, list_backends
from accelnn.bench import _plot
from accelnn.datasets import load_mnist
from accelnn.errors import DivergenceWarning, OutOfMemoryError
from accelnn.formulas._table import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "INTERRUPTED",
    "FiniteRange",
    "OutputFile",
    "as_json",
    "backend_of",
    "check_distinct",
    "check_picture",
    "console",
    "friendly_errors",
    "is_terminal",
    "layer_sizes",
    "load_data",
    "net_options",
    "save_picture",
    "wrong_value",
]

# The exit status of a program that Ctrl-C has ended, by convention.
INTERRUPTED = 130
# The width of a terminal that does not report one.
NARROW = 80
# More parameters than an array of float64 can have on any machine, whatever its memory.
TOO_MANY = sys.maxsize // 16

Data = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@contextmanager
def wrong_value(option: str) -> Iterator[None]:
    """Say of which option a value is wrong, and end with 2.

    What this machine lacks, such as a package, is no fault of the value.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        context = click.get_current_context()
        (param,) = (param for param in context.command.params if option in param.opts)
        raise click.BadParameter(_text(error), context, param) from error


def _text(error: Exception) -> str:
    """Return an error, of the system's without the number and most of a long name."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return error.strerror
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!s:.80}"
    return str(error)


class OutputFile(click.Path):
    """A file that a command writes at its end, and refuses before its work."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            check_replaceable(value)
        except (ValueError, OSError) as error:
            self.fail(_text(error), param, ctx)
        return Path(value)


def check_distinct(paths: Mapping[str, Path | None]) -> None:
    """Refuse options that name one file."""
    taken: dict[Path, str] = {}
    for option, path in paths.items():
        other = option if path is None else taken.setdefault(path.resolve(), option)
        if other != option:
            msg = f"{other} and {option} both name {str(path)!r}"
            raise click.UsageError(msg, click.get_current_context())


def check_picture(path: Path) -> None:
    """Refuse a picture that cannot be drawn, before the work that it is to show."""
    with wrong_value("--plot"):
        _plot.check_picture(path)
    # Some formats need programs that may not be installed, such as LaTeX.
    figure = import_optional("matplotlib.figure", feature="--plot", extra="plot").Figure()
    figure.text(0.5, 0.5, "loss")
    try:
        figure.savefig(BytesIO(), format=path.suffix[1:].lower())
    except (RuntimeError, OSError) as error:
        msg = f"cannot draw into {str(path)!r}: {error}"
        raise ValueError(msg) from error


def save_picture(figure: "Figure", path: Path) -> None:
    """Draw into a file, in the format that its suffix names."""
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


class FiniteRange(click.FloatRange):
    """A range of numbers, none of which is infinite or NaN."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        # No comparison excludes NaN.
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


class _Widths(click.ParamType):  # type: ignore[type-arg] # older releases have no type argument
    """Hidden layer widths, as in ``256,128``."""

    name = "widths"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(int(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"{shown(value)} is not a list of widths such as 50 or 256,128", param, ctx)
        if any(width < 1 for width in widths):
            self.fail(f"{shown(value)} holds a width below 1", param, ctx)
        return widths


class _BackendName(click.ParamType):  # type: ignore[type-arg] # as above
    """The name of a backend, which a shell completes."""

    name = "text"

    def shell_complete(self, _ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
        names = ("auto", *(info.name for info in list_backends()))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class _DataName(click.ParamType):  # type: ignore[type-arg] # as above
    """The name of a data set or a folder, which a shell completes."""

    name = "text"

    def shell_complete(self, _ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in ("5k", "mnist") if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="dir")]


_NET_OPTIONS = (
    click.option(
        "--backend",
        type=_BackendName(),
        envvar="ACCELNN_BACKEND",
        show_envvar=True,
        default="auto",
        show_default=True,
        help="Where to compute: numpy, numba, cupy (cupy:1 on its second device), or the fastest "
        "that is usable.",
    ),
    click.option(
        "--data",
        type=_DataName(),
        default="5k",
        show_default=True,
        help="'5k' (shipped), 'mnist' (full; downloaded once), or a folder with the four files.",
    ),
    click.option(
        "--hidden",
        type=_Widths(),
        default="50",
        show_default=True,
        help="Widths of the hidden layers, e.g. 256,128; '' for none.",
    ),
    click.option(
        "--activation", type=click.Choice(list(ACTIVATIONS)), default="sigmoid", show_default=True
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of weights and batches.",
    ),
)


def net_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a net and its data."""
    for option in reversed(_NET_OPTIONS):
        command = option(command)
    return command


def load_data(name: str) -> Data:
    """Load the data set that ``--data`` names."""
    if name == "5k":
        return load_mnist(subset="5k")
    if name == "mnist":
        return load_mnist(progress=True)
    with wrong_value("--data"):
        if not Path(name).is_dir():
            msg = f"{shown(name)} is neither '5k' nor 'mnist' nor a folder"
            raise ValueError(msg)
    return load_mnist(data_dir=name)


def backend_of(name: str) -> Backend:
    """Return the backend that ``--backend`` names."""
    with wrong_value("--backend"):
        return get_backend(name)


def layer_sizes(x: np.ndarray, hidden: tuple[int, ...]) -> tuple[int, ...]:
    """Return the widths of all layers of a net for digits.

    What is too large for the memory of this machine is told when the net is made.
    """
    sizes = (x.shape[1], *hidden, 10)
    with wrong_value("--hidden"):
        parameters = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        if parameters > TOO_MANY:
            one = (TOO_MANY - sizes[-1]) // (sizes[0] + 1 + sizes[-1])
            msg = (
                f"{','.join(map(str, hidden)):.80} makes a net of more than {TOO_MANY:.2g} "
                f"parameters, which no array holds; a single hidden layer may have {one:.2g} "
                f"units, where the memory has room for them"
            )
            raise ValueError(msg)
    return sizes


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal; it is None where it was closed."""
    return stream is not None and stream.isatty()


def console(width_of_files: int = 120, *, stderr: bool = False) -> Console:
    """Return where tables are printed: names and paths in them are no markup."""
    file = sys.stderr if stderr else sys.stdout
    # By default wide enough for any of ours where there is no terminal to ask.
    out = Console(
        file=file,
        width=None if is_terminal(file) else width_of_files,
        color_system=color_system(),
        markup=False,
        emoji=False,
        highlight=False,
    )
    # A narrower terminal wraps the lines, so that no number is cut.
    out.width = max(out.width, NARROW)
    return out


def as_json(document: Mapping[str, Any]) -> str:
    """Return a document as JSON, in which numbers that are not finite are strings."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    # JSON has no NaN and no infinity.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Show what a user can mend as a message, not as a traceback."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        ImportError,
        OSError,
        OutOfMemoryError,
        DivergenceWarning,
    ) as error:
        raise click.ClickException(str(error)) from error
