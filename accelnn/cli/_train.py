"""``accelnn train``."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from rich.table import Table

from accelnn import optimizers
from accelnn.backends import get_backend
from accelnn.cli._options import friendly_errors, load_data, net_options
from accelnn.nets import MLP
from accelnn.training import GradientKind, History, Sampling, fit

__all__ = ["train"]

OPTIMIZERS = {name.lower(): getattr(optimizers, name) for name in optimizers.__all__}
# On the shipped 4,000 images these reach about 0.94 in 20 passes.
DEFAULT_EPOCHS = 20
DEFAULT_LR = {"sgd": 0.5}


@click.command()
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
    "--lr", type=float, help="Learning rate.  [default: 0.5 for sgd, else the optimizer's own]"
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
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw loss and accuracy into this file.",
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the trained net to this .safetensors file.",
)
def train(
    backend: str,
    data: str,
    hidden: tuple[int, ...],
    activation: str,
    seed: int,
    epochs: int | None,
    iters: int | None,
    batch_size: int,
    optimizer: str,
    lr: float | None,
    sampling: str,
    gradient: str,
    dtype: str,
    plot: Path | None,
    save: Path | None,
) -> None:
    """Train a multi-layer perceptron on MNIST and show its curves."""
    console = Console()
    with friendly_errors():
        _check_outputs(plot, save)
        (x, t), test = load_data(data)
        sizes = (x.shape[1], *hidden, 10)
        net = MLP(sizes, activation=activation, dtype=dtype, rng=seed, backend=get_backend(backend))
        lr = DEFAULT_LR.get(optimizer) if lr is None else lr
        rule = OPTIMIZERS[optimizer](**({} if lr is None else {"lr": lr}))
        console.print(f"{net} (device {net.backend.device}); {rule}", highlight=False)
        console.print(f"{len(x):,} training and {len(test[0]):,} test images", highlight=False)
        started = time.perf_counter()
        history = fit(
            net,
            x,
            t,
            validation=test,
            optimizer=rule,
            batch_size=batch_size,
            epochs=DEFAULT_EPOCHS if epochs is None and iters is None else epochs,
            iters=iters,
            sampling=cast("Sampling", sampling),
            gradient=cast("GradientKind", gradient),
            rng=seed,
            progress=True,
        )
        seconds = time.perf_counter() - started
        console.print(_table(history))
        console.print(
            f"test accuracy {history.test_accuracy[-1]:.4f} after {history.steps:,} steps in "
            f"{seconds:.1f} s, evaluations included",
            highlight=False,
        )
        if plot is not None:
            _plot(history, plot)
            console.print(f"curves: {plot}", highlight=False)
        if save is not None:
            net.save(save)
            console.print(f"net: {save}", highlight=False)


def _check_outputs(*paths: Path | None) -> None:
    """Fail before the training, not after it."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            msg = f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}"
            raise ValueError(msg)


def _table(history: History) -> Table:
    table = Table()
    for title in ("epoch", "steps", "train loss", "test loss", "train accuracy", "test accuracy"):
        table.add_column(title, justify="right")
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
        table.add_row(f"{epoch:.4g}", f"{step:,}", *(f"{value:.4f}" for value in values))
    return table


def _plot(history: History, path: Path) -> None:
    from accelnn.plotting import plot_training

    plot_training(history).savefig(path, dpi=150)
