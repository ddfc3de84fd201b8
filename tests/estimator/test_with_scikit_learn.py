"""What of scikit-learn takes the estimators."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra 'sklearn' is not installed")

from sklearn.calibration import CalibratedClassifierCV
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accelnn.estimator import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_a_notebook_shows_what_is_not_the_default():
    model = MLPClassifier(hidden_layer_sizes=70, max_iter=9)
    shown = model._repr_mimebundle_()
    assert shown["text/plain"] == "MLPClassifier(hidden_layer_sizes=70, max_iter=9)"
    for html in (shown["text/html"], model._repr_html_()):
        assert "<pre>MLPClassifier(hidden_layer_sizes=70, max_iter=9)</pre>" in html


def test_a_grid_of_widths_compiles_once(iris, usable):
    usable("numba")
    from numba.core import event

    def compilations(widths):
        grid = GridSearchCV(
            MLPClassifier(random_state=0, max_iter=3, backend="numba"),
            {"hidden_layer_sizes": widths},
            cv=2,
        )
        with event.install_recorder("numba:compile") as recorder:
            grid.fit(*iris)
        return len(recorder.buffer)

    compilations([5])
    assert compilations([6, 17, 40, (9, 11)]) == 0


def test_a_pipeline_is_searched_in_two_processes(iris):
    model = make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=30))
    grid = {"mlpclassifier__hidden_layer_sizes": [5, 40]}
    found = [GridSearchCV(model, grid, cv=2, n_jobs=n).fit(*iris) for n in (1, 2)]
    scores = [search.cv_results_["mean_test_score"] for search in found]
    np.testing.assert_array_equal(*scores)


def test_calibration_and_importance(iris, numbers):
    X, y = iris
    calibrated = CalibratedClassifierCV(MLPClassifier(random_state=0, max_iter=200), cv=2)
    assert calibrated.fit(X, y).score(X, y) > 0.9
    X, y = numbers
    model = MLPRegressor(random_state=0, max_iter=1000).fit(X, y)
    importances = permutation_importance(model, X, y, random_state=0).importances_mean
    assert importances.argmax() == 1
    assert importances.argmin() == 3


def test_weights_are_routed(iris):
    import sklearn

    X, y = iris
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(random_state=0, max_iter=5).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        scores = cross_val_score(model, X, y, cv=2, params={"sample_weight": np.ones(150)})
    assert scores.shape == (2,)


def test_skops_writes_and_reads_them(iris):
    io = pytest.importorskip("skops.io", reason="skops is not installed")
    X, y = iris
    model = MLPClassifier(random_state=0, max_iter=5).fit(X, y)
    data = io.dumps(model)
    trusted = io.get_untrusted_types(data=data)
    assert all(name.startswith(("accelnn.", "numpy.random.")) for name in trusted)
    read = io.loads(data, trusted=trusted)
    np.testing.assert_array_equal(read.predict_proba(X), model.predict_proba(X))
