"""The group of commands."""

from typing import Any

import click

from accelnn._version import __version__
from accelnn.cli._backends import backends
from accelnn.cli._bench import bench
from accelnn.cli._check_gradient import check_gradient
from accelnn.cli._options import INTERRUPTED
from accelnn.cli._train import train

__all__ = ["app"]


class _Commands(click.Group):
    """Commands that Ctrl-C ends with a status of its own: 1 may be a verdict."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="accelnn")
def app() -> None:
    """From-scratch neural networks at hardware speed, with gradients you can trust."""


for _command in (train, bench, backends, check_gradient):
    app.add_command(_command)
