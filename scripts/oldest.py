#!/usr/bin/env python3
"""Print the oldest versions that pyproject.toml admits, as constraints for pip.

As in ``python scripts/oldest.py > oldest.txt && pip install -c oldest.txt -e '.[test]'``.
"""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest(requirements: Iterable[str]) -> dict[str, str]:
    """Return the lower bound of each package; two places that name one must agree."""
    bounds: dict[str, str] = {}
    for requirement in requirements:
        found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)", requirement)
        if found is None:
            msg = f"{requirement}: only name>=version has an oldest version"
            raise ValueError(msg)
        name, version = found.groups()
        if bounds.setdefault(name, version) != version:
            msg = f"{name} has two bounds: {bounds[name]} and {version}"
            raise ValueError(msg)
    return bounds


def main() -> None:
    """Print a line for each package."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = [r for extra in project["optional-dependencies"].values() for r in extra]
    # An extra may name others of the project itself.
    others = [r for r in extras if not r.startswith(f"{project['name']}[")]
    for name, version in sorted(oldest([*project["dependencies"], *others]).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
