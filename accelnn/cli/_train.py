"""``accelnn train``."""

import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from rich.table import Table

from accelnn._compilation import seconds_compiled
from accelnn._typing import DTypeName
from accelnn.cli._options import (
    INTERRUPTED,
    FiniteRange,
    OutputFile,
    as_json,
    backend_of,
    check_distinct,
    check_picture,
    console,
    friendly_errors,
    is_terminal,
    layer_sizes,
    load_data,
    net_options,
    save_picture,
)
from accelnn.errors import DivergenceWarning
from accelnn.formulas._table import RULES, ActivationName
from accelnn.nets import MLP
from accelnn.nets._files import architecture_of
from accelnn.training import GradientKind, History, Sampling, fit
from accelnn.training._history import CURVES

__all__ = ["train"]

OPTIMIZERS = {name.lower(): rule for name, rule in RULES.items()}
# On the shipped 4,000 images every rule reaches at least 0.92 in 20 passes with these, or, where
# none is listed, with its own rate.
DEFAULT_EPOCHS = 20
DEFAULT_LR = {"sgd": 0.5, "momentum": 0.05, "nesterov": 0.05}
# A rate that differs by more than this factor is named after a run that ends below this accuracy.
FAR, POOR = 5.0, 0.9
# From here on a loss of the table has an exponent, and its column stays as wide as its title.
LARGE = 1e5


@click.command(short_help="Train a multi-layer perceptron on MNIST.")
@net_options
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help=f"Passes over the data.  [default: {DEFAULT_EPOCHS}]",
)
@click.option("--iters", type=click.IntRange(min=1), help="Updates, instead of --epochs.")
@click.option("--batch-size", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--optimizer", type=click.Choice(sorted(OPTIMIZERS)), default="sgd", show_default=True
)
@click.option(
    "--lr",
    type=FiniteRange(min=0, min_open=True),
    help="Learning rate.  [default: "
    + ", ".join(f"{rate} for {name}" for name, rate in DEFAULT_LR.items())
    + ", else the optimizer's own]",
)
@click.option(
    "--sampling",
    type=click.Choice(["shuffle", "replacement"]),
    default="shuffle",
    show_default=True,
)
@click.option(
    "--gradient",
    type=click.Choice(["analytic", "numerical"]),
    default="analytic",
    show_default=True,
    help="Backpropagation, or finite differences alone.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)
@click.option(
    "--dropout",
    type=FiniteRange(min=0, max=1, max_open=True),
    default=0.0,
    help="The share of hidden units that each update drops.  [default: none]",
)
@click.option(
    "--checkpoint",
    type=OutputFile(),
    help="Keep the run in this file, with which the same command goes on where it was ended.",
)
@click.option(
    "--plot",
    type=OutputFile(),
    help="Draw loss and accuracy into this file.",
)
@click.option(
    "--save",
    type=OutputFile(),
    help="Write the trained net to this .safetensors file.",
)
@click.option(
    "--json",
    is_flag=True,
    help="Print the run and its curves as JSON; all else goes to standard error.",
)
def train(
    backend: str,
    data: str,
    hidden: tuple[int, ...],
    activation: ActivationName,
    seed: int,
    epochs: int | None,
    iters: int | None,
    batch_size: int,
    optimizer: str,
    lr: float | None,
    sampling: str,
    gradient: str,
    dtype: DTypeName,
    dropout: float,
    checkpoint: Path | None,
    plot: Path | None,
    save: Path | None,
    json: bool,  # noqa: FBT001 - click passes all options by name
) -> None:
    """Train a multi-layer perceptron on MNIST and show its curves."""
    say = partial(click.echo, err=json)
    with friendly_errors():
        if epochs is not None and iters is not None:
            msg = "--epochs and --iters exclude each other"
            raise click.UsageError(msg)
        check_distinct({"--checkpoint": checkpoint, "--plot": plot, "--save": save})
        if plot is not None:
            check_picture(plot)
        home = backend_of(backend)
        (x, t), test = load_data(data)
        net = MLP(
            layer_sizes(x, hidden),
            activation=activation,
            dropout=dropout,
            dtype=dtype,
            rng=seed,
            backend=home,
        )
        make_rule: Any = OPTIMIZERS[optimizer]
        usual = DEFAULT_LR.get(optimizer, make_rule().lr)
        rule = make_rule(usual if lr is None else lr)
        hint = ""
        if lr is not None and not usual / FAR <= lr <= usual * FAR:
            hint = f"--lr {lr:g} is far from {usual:g}, the default of {optimizer}"
        say(f"{net} (device {net.backend.device}); {rule}")
        say(f"steps: {net.engine.describe(batch_size)}")
        say(f"{len(x):,} training and {len(test[0]):,} test images")
        started, before = time.perf_counter(), seconds_compiled()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # A net that diverged is neither drawn nor saved.
            warnings.simplefilter("error", DivergenceWarning)
            history, was_interrupted = _trained(
                net,
                x,
                t,
                hint,
                validation=test,
                optimizer=rule,
                batch_size=batch_size,
                epochs=DEFAULT_EPOCHS if epochs is None and iters is None else epochs,
                iters=iters,
                sampling=cast("Sampling", sampling),
                gradient=cast("GradientKind", gradient),
                rng=seed,
                progress=is_terminal(sys.stderr),
                checkpoint=checkpoint,
                resume=checkpoint,
            )
        compiled = seconds_compiled() - before
        seconds = time.perf_counter() - started - compiled
        console(stderr=json).print(_table(history))
        accuracy = net.accuracy(*test) if was_interrupted else history.test_accuracy[-1]
        say(
            f"test accuracy {accuracy:.4f} after {history.steps:,} steps in {seconds:.1f} s, "
            f"evaluations included"
            + (f"; kernels were compiled or loaded in {compiled:.1f} s" if compiled else "")
        )
        if hint and accuracy < POOR:
            say(f"hint: {hint}")
        if save is not None:
            net.save(save)
            say(f"net: {save}")
        if plot is not None:
            _plot(history, plot)
            say(f"curves: {plot}")
        if json:
            run = {
                "optimizer": str(rule),
                "accuracy": accuracy,
                "seconds": seconds,
                "seconds_compiled": compiled,
                "is_interrupted": was_interrupted,
                "files": {"checkpoint": checkpoint, "plot": plot, "save": save},
            }
            click.echo(as_json(_document(net, history) | run))
        if was_interrupted:
            found = f"accelnn.load({str(save)!r})" if save else "the net, kept by --save FILE,"
            how = "run the same command" if checkpoint else f"pass {found} to accelnn.fit"
            click.echo(f"interrupted; to go on, {how}", err=True)
            raise click.exceptions.Exit(INTERRUPTED)


def _trained(net: MLP, x: Any, t: Any, hint: str, **options: Any) -> tuple[History, bool]:
    """Train the net; return the curves, and whether Ctrl-C has ended them.

    The hint is shown if the net diverges.
    """
    try:
        return fit(net, x, t, **options), False
    except DivergenceWarning as error:
        raise click.ClickException(f"{error} {hint}".rstrip()) from error
    except KeyboardInterrupt as error:
        history = getattr(error, "history", None)
        if history is None or history.steps == 0:
            raise
        return history, True


def _document(net: MLP, history: History) -> dict[str, Any]:
    return {
        "net": architecture_of(net),
        "backend": net.backend.address,
        "steps": history.steps,
        "batches_per_epoch": history.batches_per_epoch,
        "evaluated_at": history.evaluated_at,
        **{curve: getattr(history, curve) for curve in ("loss", *CURVES)},
    }


def _table(history: History) -> Table:
    table = Table()
    for title in ("epoch", "steps", "train loss", "test loss", "train accuracy", "test accuracy"):
        table.add_column(title, justify="right", overflow="fold")
    rows: Sequence[tuple[float, ...]] = list(
        zip(
            history.evaluated_at,
            history.train_loss,
            history.test_loss,
            history.train_accuracy,
            history.test_accuracy,
            strict=True,
        )
    )
    for step, *values in rows:
        epoch = step / history.batches_per_epoch
        table.add_row(f"{epoch:.4g}", f"{step:,}", *map(_shown, values))
    return table


def _shown(value: float) -> str:
    return f"{value:.4e}" if abs(value) >= LARGE else f"{value:.4f}"


def _plot(history: History, path: Path) -> None:
    from accelnn.plotting import plot_training

    save_picture(plot_training(history), path)
