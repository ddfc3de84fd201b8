"""Warnings that name the caller's line."""

import importlib.util
import warnings

import numpy as np
import pytest

import accelnn
from accelnn._warn import warn
from accelnn.errors import DivergenceWarning

X = np.linspace(-1.0, 1.0, 40).reshape(10, 4)
T = np.arange(10) % 3


def diverging(**given):
    net = accelnn.MLP([4, 3], activation="relu", rng=0)
    with np.errstate(all="ignore"):
        accelnn.fit(net, X, T, optimizer=accelnn.SGD(1e38), iters=9, rng=0, **given)


def test_a_callback_is_its_own_line():
    """What it calls warns of the line in it, not of the call of `fit`."""
    lines = []

    def own(_net, history):
        if history.steps == 1:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                diverging()
            lines.extend(caught)

    own.every = 1
    accelnn.fit(accelnn.MLP([4, 3], rng=0), X, T, iters=2, rng=0, callbacks=[own])
    assert {warning.filename for warning in lines} == {__file__}
    assert {warning.lineno for warning in lines} == {diverging.__code__.co_firstlineno + 3}


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_an_estimator_in_a_pipeline_names_the_call_of_the_pipeline():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from accelnn.estimator import MLPClassifier

    model = MLPClassifier(3, max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="max_iter=2 epochs") as caught:
        make_pipeline(StandardScaler(), model).fit(X, T)
    assert caught[0].filename == __file__
    model = MLPClassifier(3, early_stopping=True, optimizer=accelnn.SGD(1e38), random_state=0)
    with np.errstate(all="ignore"), pytest.warns(DivergenceWarning) as caught:
        model.fit(np.tile(X, (5, 1)), np.tile(T, 5))
    assert {warning.filename for warning in caught} == {__file__}
    assert {warning.category for warning in caught} == {DivergenceWarning}, "it did not converge"


def test_where_there_is_no_other_line(monkeypatch):
    """As in a command of ours, whose frames are all inside."""
    monkeypatch.setattr("accelnn._warn._is_inside", lambda _module: True)
    with pytest.warns(UserWarning, match="here"):
        warn("here")
