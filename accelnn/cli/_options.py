"""Options and behaviour that several commands share."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.shell_completion import CompletionItem
from rich.console import Console

from accelnn._progress import color_system
from accelnn.backends import list_backends
from accelnn.datasets import load_mnist
from accelnn.errors import DivergenceWarning, OutOfMemoryError
from accelnn.formulas._table import ACTIVATIONS

__all__ = [
    "INTERRUPTED",
    "as_json",
    "check_folder",
    "console",
    "friendly_errors",
    "load_data",
    "net_options",
]

# The exit status of a program that Ctrl-C has ended, by convention.
INTERRUPTED = 130
# The width of a terminal that does not report one.
NARROW = 80

Data = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def check_folder(path: Path | None) -> None:
    """Raise ValueError if a file cannot be written, before the work that it is to hold."""
    if path is not None and not path.parent.is_dir():
        msg = f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}"
        raise ValueError(msg)
    if path is not None and not os.access(path.parent, os.W_OK):
        msg = f"cannot write {str(path)!r}: the folder {str(path.parent)!r} is read-only"
        raise ValueError(msg)


class _Widths(click.ParamType):  # type: ignore[type-arg] # older releases have no type argument
    """Hidden layer widths, as in ``256,128``."""

    name = "widths"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(int(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is not a list of widths such as 50 or 256,128", param, ctx)
        if any(width < 1 for width in widths):
            self.fail(f"{value!r} holds a width below 1", param, ctx)
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
    if not Path(name).is_dir():
        msg = f"--data {name!r} is neither '5k' nor 'mnist' nor a folder"
        raise ValueError(msg)
    return load_mnist(data_dir=name)


def console(width_of_files: int = 120, *, stderr: bool = False) -> Console:
    """Return where tables are printed: names and paths in them are no markup."""
    file = sys.stderr if stderr else sys.stdout
    # By default wide enough for any of ours where there is no terminal to ask.
    out = Console(
        file=file,
        width=None if file.isatty() else width_of_files,
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
