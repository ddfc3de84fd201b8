"""What cannot be collected where scikit-learn is not installed."""

import importlib.util

collect_ignore = (
    [] if importlib.util.find_spec("sklearn") else ["accelnn/estimator", "docs/estimator.md"]
)
