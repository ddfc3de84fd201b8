"""What scikit-learn asks of every estimator."""

import pytest

pytest.importorskip("sklearn", reason="the extra 'sklearn' is not installed")

from sklearn.utils.estimator_checks import parametrize_with_checks

from accelnn.estimator import MLPClassifier, MLPRegressor


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
