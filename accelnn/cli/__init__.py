"""The command line: ``accelnn train``, ``bench``, ``backends`` and ``check-gradient``."""

from accelnn._optional import import_optional

for _package in ("click", "rich", "threadpoolctl"):
    import_optional(_package, feature="The command line", extra="cli")

from accelnn.cli._app import app  # noqa: E402 - only once its packages are known to be there

__all__ = ["app"]
