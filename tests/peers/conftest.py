"""The table is a package that tests and worker processes import by its name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
