"""The group of commands."""

import sys
from contextlib import suppress
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

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            # Raised by writing what a command, its help or an error says, as to a full disk.
            with suppress(OSError):
                click.echo(f"Error: cannot write the output: {error.strerror or error}", err=True)
            sys.exit(1)

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
