"""``accelnn check-gradient``: of a user's function, or of a net on real images."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import click
import numpy as np
from rich.table import Table

from accelnn._typing import Array, DTypeName
from accelnn.cli._functions import Source, UsersFunction, importable, raised_by_user
from accelnn.cli._options import (
    NARROW,
    FiniteRange,
    as_json,
    backend_of,
    console,
    layer_sizes,
    load_data,
    net_options,
)
from accelnn.errors import InconclusiveCheckWarning
from accelnn.formulas._table import ActivationName, LossName
from accelnn.gradient import GradientFailure, GradientReport
from accelnn.gradient import check_gradient as check
from accelnn.losses import LOSSES
from accelnn.nets import MLP

__all__ = ["check_gradient"]

# Exit codes.
RIGHT, WRONG, UNCHECKED = 0, 1, 2
# At most so many wrong coordinates are listed below the table.
NAMED = 10


@click.command("check-gradient", short_help="Check a gradient against finite differences.")
@click.argument("function", required=False)
@click.option(
    "--gradient",
    "gradient_name",
    help="Its gradient or Jacobian: a name like FUNCTION, or one from the same module or file."
    "  [default: the function's, with _grad]",
)
@click.option(
    "--value-and-gradient",
    is_flag=True,
    help="FUNCTION returns both: a tuple of its value and its gradient.",
)
@click.option("--at", help="The point x: comma-separated numbers, as in 1,2.5,-3, or a .npy file.")
@click.option("--shape", help="Check at a random point x of this shape, as in 784,50.")
@net_options
@click.option("--loss", type=click.Choice(list(LOSSES)), default="cross_entropy", show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float64", show_default=True
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Images in the batch.",
)
@click.option(
    "--mode",
    type=click.Choice(["directional", "sampled", "full"]),
    default="sampled",
    show_default=True,
    help="Random directions, 100 coordinates of each parameter, or all.",
)
@click.option("--rtol", type=FiniteRange(min=0), help="Relative tolerance.  [default: by dtype]")
@click.option("--atol", type=FiniteRange(min=0), help="Absolute tolerance.  [default: 0]")
@click.option(
    "--step",
    type=FiniteRange(min=0, min_open=True),
    help="Step in units of max(1, abs(x)).  [default: the cube root of eps]",
)
@click.option(
    "--workers", type=int, help="Processes that evaluate FUNCTION; -1 for one per processor."
)
@click.option("--json", is_flag=True, help="Print the reports as JSON, and nothing else.")
def check_gradient(
    function: str | None,
    gradient_name: str | None,
    value_and_gradient: bool,  # noqa: FBT001 - click passes all options by name
    at: str | None,
    shape: str | None,
    backend: str,
    data: str,
    hidden: tuple[int, ...],
    activation: ActivationName,
    seed: int,
    loss: LossName,
    dtype: DTypeName,
    images: int,
    mode: str,
    rtol: float | None,
    atol: float | None,
    step: float | None,
    workers: int | None,
    json: bool,  # noqa: FBT001 - as above
) -> None:
    """Check a gradient against finite differences.

    FUNCTION takes one array and returns a number, or an array to check its Jacobian. It is
    module:f, path/file.py:f, or file.py:Class.method, called on an instance made without arguments.
    Without FUNCTION, the backpropagation of a net is checked, on real images.

    Exit codes: 0 if the gradient is right, 1 if it is wrong, and 2 if it cannot be checked, because
    f is too noisy, FUNCTION raises or ends the program, or the command is invalid.
    """
    options: dict[str, Any] = {"mode": mode, "rtol": rtol, "atol": atol, "step": step}
    with _quiet() if json else nullcontext(), _or_unchecked():
        if function is not None:
            if value_and_gradient and gradient_name is not None:
                msg = "--value-and-gradient and --gradient exclude each other"
                raise click.UsageError(msg)
            options |= {"workers": workers, "backend": backend_of(backend)}
            gradient: str | Literal[True] | None = gradient_name
            if value_and_gradient:
                gradient = True
            reports = {"x": _of_function(function, gradient, at, shape, seed, dtype, options)}
        else:
            if value_and_gradient or any(
                v is not None for v in (gradient_name, at, shape, workers)
            ):
                msg = (
                    "--gradient, --value-and-gradient, --at, --shape and --workers need a FUNCTION"
                )
                raise click.UsageError(msg)
            (x, t), _ = load_data(data)
            net = MLP(
                layer_sizes(x, hidden),
                activation=activation,
                loss=loss,
                dtype=dtype,
                rng=seed,
                backend=backend_of(backend),
            )
            x, t = net.backend.asarray(x[:images]), net.backend.asarray(t[:images])
            click.echo(f"{net}, {len(x)} images")
            reports = _of_net(net, x, t, options)
    # A full disk, too, is no verdict.
    with _or_unchecked():
        if json:
            click.echo(as_json(_document(reports)))
        else:
            _show(reports, dtype)
    sys.exit(_code(reports))


def _of_function(
    function: str,
    gradient: str | Literal[True] | None,
    at: str | None,
    shape: str | None,
    seed: int,
    dtype: str,
    options: Mapping[str, Any],
) -> GradientReport:
    # From the right, because the path of a file may contain a colon.
    where, _, name = function.rpartition(":")
    if not (where and name):
        msg = f"FUNCTION must be MODULE:NAME or FILE.py:NAME, got {function!r}"
        raise ValueError(msg)
    x = options["backend"].asarray(_point(at, shape, seed), dtype)
    source = Source(where)
    with importable(source.folder):
        f = UsersFunction(source, name)
        if gradient is True:
            return _report(f, gradient, x, "x", options)
        if gradient is None:
            return _report(f, _gradient_of(f, function), x, "x", options)
        where, colon, name = gradient.rpartition(":")
        other = Source(where) if colon else source
        if other.path == source.path:
            # One instance for both, because backward may need what forward has stored.
            other = source
        with importable(other.folder):
            return _report(f, UsersFunction(other, name), x, "x", options)


def _gradient_of(f: UsersFunction, function: str) -> UsersFunction:
    name = f"{f.name}_grad"
    if not f.source.has(name):
        msg = (
            f"{f.source.where} has no {name!r}: name the gradient with --gradient, or pass "
            f"--value-and-gradient if {function} returns both"
        )
        raise ValueError(msg)
    return UsersFunction(f.source, name)


def _point(at: str | None, shape: str | None, seed: int) -> np.ndarray:
    if (at is None) == (shape is None):
        msg = "say where to check: either --at 1,2.5,-3 or --at x.npy or --shape 784,50"
        raise ValueError(msg)
    if at is not None and at.endswith(".npy"):
        x = np.load(Path(at), allow_pickle=False)
        if x.dtype.kind not in "fiu":
            msg = f"{at} must hold real numbers, but holds {x.dtype}"
            raise ValueError(msg)
        return cast("np.ndarray", x)
    numbers = (at if at is not None else shape or "").split(",")
    try:
        if at is not None:
            return np.array([float(number) for number in numbers])
        return np.random.default_rng(seed).normal(size=tuple(int(n) for n in numbers))
    except ValueError as error:
        msg = f"--at and --shape take comma-separated numbers: {error}"
        raise ValueError(msg) from error


def _of_net(net: MLP, x: Array, t: Array, options: Mapping[str, Any]) -> dict[str, GradientReport]:
    gradient = net.gradient(x, t)
    options = {**options, "backend": net.backend}
    return {
        name: _report(lambda _: net.loss(x, t), gradient[name], net.params[name], name, options)
        for name in net.params
    }


def _report(
    f: Callable[[Array], Any], gradient: Any, x: Array, name: str, options: Mapping[str, Any]
) -> GradientReport:
    with warnings.catch_warnings():
        # The verdict says so.
        warnings.simplefilter("ignore", InconclusiveCheckWarning)
        report = check(f, gradient, x, raises=False, **options)
    return replace(
        report,
        worst=replace(report.worst, name=name),
        failures=tuple(replace(failure, name=name) for failure in report.failures),
    )


class _Unchecked(click.ClickException):
    """An error because of which nothing could be checked."""

    exit_code = UNCHECKED


@contextmanager
def _or_unchecked() -> Iterator[None]:
    """Show errors that a user can fix as messages, and exit with 2 on any error."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # First, because the user's function may raise anything, even exceptions of click.
        message = raised_by_user(error)
        if message is not None:
            raise _Unchecked(message) from None
        if isinstance(error, click.ClickException):
            raise
        if isinstance(error, ValueError | TypeError | ImportError | OSError | RuntimeError):
            # In terms of the options of this command.
            text = str(error).replace("with grad=True", "with --value-and-gradient")
            raise _Unchecked(
                text.replace("check_gradient(f, True, x) takes", "--value-and-gradient takes")
            ) from error
        if isinstance(error, MemoryError):
            raise _Unchecked(str(error) or "out of memory") from error
        # A bug of accelnn, shown with its traceback.
        traceback.print_exception(error)
        sys.exit(UNCHECKED)


@contextmanager
def _quiet() -> Iterator[None]:
    """Redirect all output to stderr, so that stdout holds nothing but JSON."""
    if sys.stdout is not None:
        sys.stdout.flush()
    kept = None
    with suppress(OSError):
        # Other processes and C libraries write to the file descriptor.
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _verdict(reports: Mapping[str, GradientReport]) -> str:
    verdicts = {report.verdict for report in reports.values()}
    return next(word for word in ("WRONG", "inconclusive", "right") if word in verdicts)


def _code(reports: Mapping[str, GradientReport]) -> int:
    return {"right": RIGHT, "WRONG": WRONG, "inconclusive": UNCHECKED}[_verdict(reports)]


def _show(reports: Mapping[str, GradientReport], dtype: str) -> None:
    console(NARROW).print(_table(reports))
    hints = []
    for name, report in reports.items():
        if len(report.failures) > 1 and report.mode != "directional":
            wrong = [str(list(failure.index or ())) for failure in report.failures]
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            click.echo(f"{name} is wrong at {', '.join(wrong[:NAMED])}{more}")
        hints += [str(report).partition(". ")[2]]
    for hint in dict.fromkeys(filter(None, hints)):
        click.echo(f"{hint}.")
    if any(not report.is_conclusive for report in reports.values()):
        way_out = (
            "Try --dtype float64"
            if dtype == "float32"
            else "Let it compute in a more precise dtype"
        )
        click.echo(f"Inconclusive: f is too noisy. {way_out}.")


def _table(reports: Mapping[str, GradientReport]) -> Table:
    # Compared numbers are stacked, so that all digits fit in 80 columns.
    table = Table("parameter", "verdict", "worst at\ncompared", show_lines=True)
    rows = [
        (
            name,
            report.verdict,
            f"{_where(report.worst)}\nof {report.comparisons:,}",
            f"{report.analytic:.10g}\n{report.numerical:.10g}",
            f"{report.error:.3g}\n{report.tolerance:.3g}",
        )
        for name, report in reports.items()
    ]
    for title in ("analytic\nnumerical", "error\ntolerance"):
        table.add_column(title, justify="right", no_wrap=True)
    # Only long names and indices are wrapped.
    for column in table.columns[::2][:2]:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    return table


def _where(failure: GradientFailure) -> str:
    return "a direction" if failure.index is None else str(list(failure.index))


def _document(reports: Mapping[str, GradientReport]) -> dict[str, Any]:
    return {
        "verdict": _verdict(reports),
        "passed": all(report.passed for report in reports.values()),
        "reports": [
            {
                "name": name,
                "verdict": report.verdict,
                "passed": report.passed,
                "mode": report.mode,
                "comparisons": report.comparisons,
                "worst": _failure(report.worst),
                "failures": [_failure(failure) for failure in report.failures],
            }
            for name, report in reports.items()
        ],
    }


def _failure(failure: GradientFailure) -> dict[str, Any]:
    numbers = (
        *("analytic", "numerical", "error", "relative_error"),
        *("tolerance", "noise_floor"),
    )
    return {
        "name": failure.name,
        "index": None if failure.index is None else list(failure.index),
        **{name: float(getattr(failure, name)) for name in numbers},
    }
