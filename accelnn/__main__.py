"""The command line, as ``python -m accelnn`` and as ``accelnn``."""

import sys

from accelnn.errors import MissingDependencyError

__all__ = ["main"]


def main() -> None:
    """Run the command line; without its packages, say how to install them."""
    try:
        from accelnn.cli import app
    except MissingDependencyError as error:
        sys.exit(str(error))
    app()


if __name__ == "__main__":
    main()
