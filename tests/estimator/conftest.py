"""Problems that all tests of estimators share."""

import numpy as np
import pytest


@pytest.fixture
def iris():
    from sklearn.datasets import load_iris
    from sklearn.preprocessing import scale

    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture
def numbers():
    X = np.random.default_rng(0).normal(size=(120, 4))
    return X, X @ [1.0, -2.0, 0.5, 0.0]
