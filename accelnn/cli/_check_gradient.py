"""``accelnn check-gradient``: anyone's gradient, or backpropagation on real images."""

import importlib
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, cast

import click
import numpy as np
from rich.table import Table

from accelnn._typing import Array
from accelnn.backends import Backend, get_backend
from accelnn.cli._options import console, friendly_errors, load_data, net_options
from accelnn.errors import GradientCheckError, InconclusiveCheckWarning
from accelnn.gradient import GradientReport
from accelnn.gradient import check_gradient as check
from accelnn.gradient._check import Mode
from accelnn.losses import LOSSES
from accelnn.nets import MLP

__all__ = ["check_gradient"]


@click.command("check-gradient", short_help="Check a gradient against finite differences.")
@click.argument("function", required=False)
@click.option(
    "--gradient",
    "gradient_name",
    help="Its gradient, as MODULE:NAME or the name alone.  [default: the function's, with _grad]",
)
@click.option("--at", help="Where: numbers with commas between, as in 1,2.5,-3.")
@click.option("--shape", help="Where, at random: the shape of x, as in 784,50.")
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
def check_gradient(
    function: str | None,
    gradient_name: str | None,
    at: str | None,
    shape: str | None,
    backend: str,
    data: str,
    hidden: tuple[int, ...],
    activation: str,
    seed: int,
    loss: str,
    dtype: str,
    images: int,
    mode: str,
) -> None:
    """Check a gradient against finite differences; exit with 1 if it is wrong.

    FUNCTION is MODULE:NAME of a function of one array that returns a number. Without it, the
    backpropagation of a net is checked, on real images.
    """
    if function is not None:
        with friendly_errors():
            if ":" not in function:
                msg = f"FUNCTION must be MODULE:NAME, got {function!r}"
                raise ValueError(msg)
            x = get_backend(backend).asarray(_point(at, shape, seed), dtype)
            reports = {"x": _of_function(function, gradient_name, x, mode, get_backend(backend))}
    else:
        if any(option is not None for option in (gradient_name, at, shape)):
            msg = "--gradient, --at and --shape belong to a FUNCTION, and none is given"
            raise click.UsageError(msg)
        reports = _of_net(backend, data, hidden, activation, seed, loss, dtype, images, mode)
    console().print(_table(reports))
    if not all(report.is_conclusive for report in reports.values()):
        click.echo("Inconclusive: the noise of f hides its slopes. Try --dtype float64.")
    if not all(report.passed for report in reports.values()):
        sys.exit(1)


def _of_function(
    function: str,
    gradient_name: str | None,
    x: Array,
    mode: str,
    backend: Backend,
) -> GradientReport:
    f = _load(function)
    module, _, name = function.partition(":")
    wanted = gradient_name or f"{name}_grad"
    gradient = _load(wanted if ":" in wanted else f"{module}:{wanted}")
    return _report(f, gradient, x, mode, backend)


def _load(name: str) -> Any:
    """Import a function from a module of the environment, or of the folder at hand."""
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    module = importlib.import_module(module_name)
    if not hasattr(module, attribute):
        msg = f"module {module_name!r} has no {attribute!r}"
        raise ValueError(msg)
    return getattr(module, attribute)


def _point(at: str | None, shape: str | None, seed: int) -> np.ndarray:
    if (at is None) == (shape is None):
        msg = "say where to check: either --at 1,2.5,-3 or --shape 784,50"
        raise ValueError(msg)
    numbers = (at if at is not None else shape or "").split(",")
    try:
        if at is not None:
            return np.array([float(number) for number in numbers])
        return np.random.default_rng(seed).normal(size=tuple(int(n) for n in numbers))
    except ValueError as error:
        msg = f"--at and --shape take numbers with commas between: {error}"
        raise ValueError(msg) from error


def _of_net(
    backend: str,
    data: str,
    hidden: tuple[int, ...],
    activation: str,
    seed: int,
    loss: str,
    dtype: str,
    images: int,
    mode: str,
) -> dict[str, GradientReport]:
    with friendly_errors():
        (x, t), _ = load_data(data)
        net = MLP(
            (x.shape[1], *hidden, 10),
            activation=activation,
            loss=loss,
            dtype=dtype,
            rng=seed,
            backend=get_backend(backend),
        )
        x, t = net.backend.asarray(x[:images]), net.backend.asarray(t[:images])
        click.echo(f"{net}, {len(x)} images")
        gradient = net.gradient(x, t)
        return {
            name: _report(
                lambda _: net.loss(x, t), gradient[name], net.params[name], mode, net.backend
            )
            for name in net.params
        }


def _report(
    f: Callable[[Array], float], gradient: Any, x: Array, mode: str, backend: Backend
) -> GradientReport:
    with warnings.catch_warnings():
        # The table says it.
        warnings.simplefilter("ignore", InconclusiveCheckWarning)
        try:
            return check(f, gradient, x, mode=cast("Mode", mode), backend=backend)
        except GradientCheckError as error:
            return cast("GradientReport", error.report)
        except ArithmeticError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            msg = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
            raise ValueError(msg) from error


def _table(reports: dict[str, GradientReport]) -> Table:
    table = Table("parameter", "verdict", "worst at")
    for title in ("analytic", "numerical", "error", "tolerance", "compared"):
        table.add_column(title, justify="right")
    for name, report in reports.items():
        table.add_row(
            name,
            report.verdict,
            "a direction" if report.index is None else str(list(report.index)),
            f"{report.analytic:.8g}",
            f"{report.numerical:.8g}",
            f"{report.error:.2g}",
            f"{report.tolerance:.2g}",
            f"{report.comparisons:,}",
        )
    return table
