"""Estimators for scikit-learn, whose nets are accelnn's.

Everything of scikit-learn takes them: pipelines, grid search, calibration, model inspection. This
module needs scikit-learn 1.6 or newer; ``import accelnn`` does not import it.
"""

from accelnn._optional import import_optional

import_optional("sklearn", feature="accelnn.estimator", extra="sklearn")

# ruff: noqa: E402 - only after the check for scikit-learn
from accelnn.estimator._classifier import MLPClassifier
from accelnn.estimator._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
