"""Fits that end when samples set aside are predicted no better."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra 'sklearn' is not installed")

from sklearn.metrics import recall_score

import accelnn
from accelnn.estimator import MLPClassifier, MLPRegressor
from accelnn.estimator._weighted_stop import WeightedStop

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OPTIONS = {"early_stopping": True, "random_state": 0, "n_iter_no_change": 3}


def classifier(**options):
    return MLPClassifier(20, **({"random_state": 0, "max_iter": 8} | options))


def test_early_stopping_restores_the_best_parameters(iris):
    X, y = iris
    options = {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 2000}
    model = classifier(optimizer=accelnn.Adam(0.05), validation_fraction=0.3, **options)
    model.fit(X, y)
    assert model.n_iter_ < 2000
    assert len(model.validation_losses_) == len(model.validation_scores_) == model.n_iter_
    assert model.best_validation_loss_ == min(model.validation_losses_)
    longer = classifier(optimizer=accelnn.Adam(0.05), validation_fraction=0.3, **options)
    longer.set_params(max_iter=model.n_iter_ - 3).fit(X, y)
    np.testing.assert_array_equal(longer.net_.flat, model.net_.flat)


def test_a_class_of_one_sample_is_trained_on(iris):
    X, y = np.vstack([iris[0], [[9.0] * 4]]), np.append(iris[1], 3)
    model = classifier(early_stopping=True, max_iter=300).fit(X, y)
    assert model.predict(X[-1:]) == [3]


def rare(n=3000, seed=0):
    """Return samples of which 3 % are of a class that is not easily told apart."""
    draw = np.random.default_rng(seed)
    y = (draw.random(n) < 0.03).astype(int)
    return draw.normal(size=(n, 6)) + 1.2 * y[:, None], y


def test_the_part_set_aside_is_stratified(monkeypatch):
    X, y = np.zeros((1000, 2)), np.repeat([0, 1, 2], [900, 90, 10])
    seen, split = [], MLPClassifier._split

    def noted(self, n, strata):
        parts = split(self, n, strata)
        seen.extend(parts)
        return parts

    monkeypatch.setattr(MLPClassifier, "_split", noted)
    classifier(early_stopping=True, max_iter=1).fit(X, y)
    _, aside = seen
    np.testing.assert_array_equal(np.bincount(y[aside]), [90, 9, 1])
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(1000))


@pytest.mark.parametrize("seed", range(3))
def test_a_rare_class_of_great_weight_is_learnt(seed):
    """By a loss without weights the net at the start would often be the best one."""
    (X, y), test = rare(), rare(seed=1)
    options = {"optimizer": accelnn.Adam(0.02), "max_iter": 100, "class_weight": {1: 100.0}}
    model = MLPClassifier(32, **{**OPTIONS, "random_state": seed}, **options).fit(X, y)
    assert recall_score(test[1], model.predict(test[0])) > 0.7


@pytest.mark.parametrize("kind", ["dense", "sparse", "regression"])
def test_the_loss_of_the_part_set_aside_is_weighted(monkeypatch, kind):
    from scipy import sparse

    (X, y), parts = rare(400), []
    init = WeightedStop.__init__

    def noted(self, patience, min_delta, x, t, weights):
        parts.append((x, t, weights))
        init(self, patience, min_delta, x, t, weights)

    monkeypatch.setattr(WeightedStop, "__init__", noted)
    weights = np.random.default_rng(2).random(400)
    make = MLPRegressor if kind == "regression" else MLPClassifier
    model = make(5, **OPTIONS, max_iter=30)
    model.fit(sparse.csr_array(X) if kind == "sparse" else X, y, weights)
    ((x, t, of_part),) = parts
    assert of_part.mean() == pytest.approx(1.0)
    x = x.toarray() if kind == "sparse" else x
    assert model.best_validation_loss_ == min(model.validation_losses_)
    if kind == "regression":
        losses = 0.5 * (model.predict(x) - t.ravel()) ** 2
    else:
        right = model.predict_proba(x)[np.arange(len(t)), t.ravel().astype(int)]
        losses = -np.log(right)
    assert model.best_validation_loss_ == pytest.approx(np.average(losses, weights=of_part))
    assert len(model.validation_losses_) == model.n_iter_


def test_weights_of_zero_throughout_the_part_set_aside_are_refused():
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    model = classifier(early_stopping=True, max_iter=1, validation_fraction=0.5)
    seen, split = [], MLPClassifier._split
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            MLPClassifier, "_split", lambda *given: seen.append(split(*given)) or seen[-1]
        )
        model.fit(X, y)
        (_, aside), weights = seen[0], np.ones(40)
        weights[aside] = 0.0
        with pytest.raises(ValueError, match="weights of the samples set aside are zero"):
            model.fit(X, y, weights)
