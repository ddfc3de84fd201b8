"""``accelnn check-gradient``: backpropagation against finite differences, on real images."""

import sys
from collections.abc import Callable
from typing import cast

import click
from rich.table import Table

from accelnn._typing import Array
from accelnn.backends import get_backend
from accelnn.cli._options import console, friendly_errors, load_data, net_options
from accelnn.errors import GradientCheckError
from accelnn.gradient import GradientReport
from accelnn.gradient import check_gradient as check
from accelnn.gradient._check import Mode
from accelnn.losses import LOSSES
from accelnn.nets import MLP, Net

__all__ = ["check_gradient"]


@click.command("check-gradient", short_help="Check backpropagation against finite differences.")
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
    """Check a net's backpropagation against finite differences; exit with 1 if it is wrong."""
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
        reports = {
            name: _report(lambda _: net.loss(x, t), gradient[name], net, name, mode)
            for name in net.params
        }
    console().print(_table(reports))
    if not all(report.passed for report in reports.values()):
        sys.exit(1)


def _report(
    f: Callable[[Array], float], gradient: Array, net: Net, name: str, mode: str
) -> GradientReport:
    try:
        return check(f, gradient, net.params[name], mode=cast("Mode", mode), backend=net.backend)
    except GradientCheckError as error:
        return cast("GradientReport", error.report)


def _table(reports: dict[str, GradientReport]) -> Table:
    table = Table("parameter", "verdict", "worst at")
    for title in ("analytic", "numerical", "error", "tolerance", "compared"):
        table.add_column(title, justify="right")
    for name, report in reports.items():
        table.add_row(
            name,
            "right" if report.passed else "WRONG",
            "a direction" if report.index is None else str(list(report.index)),
            f"{report.analytic:.8g}",
            f"{report.numerical:.8g}",
            f"{report.error:.2g}",
            f"{report.tolerance:.2g}",
            f"{report.comparisons:,}",
        )
    return table
