"""Fits of estimators beside scikit-learn's."""

import pytest

from accelnn.bench._case import Case
from accelnn.bench._run import run
from accelnn.bench.contestants import CONTESTANTS
from accelnn.bench.contestants.data import load

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.mark.parametrize(("data", "features"), [("5k", 784), ("8x8", 64)])
def test_estimators_learn_the_same(data, features):
    names = tuple(CONTESTANTS["estimator"])
    options = {"sizes": (features, 32, 10), "batch": 50, "data": data, "budget": 0.05}
    case = Case("estimator", "small", names, threaded=False, **options)
    report = run([case], repeats=1, threads=1)
    assert report.problems == []
    accuracies = {m.contestant: m.facts["accuracy"] for m in report.measurements}
    assert set(accuracies) == {"accelnn numba", "accelnn numpy", "scikit-learn"}
    # From weights of their own.
    assert min(accuracies.values()) > 0.88
    assert max(accuracies.values()) - min(accuracies.values()) < 0.03


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_table_fills_whole_batches(dtype):
    case = Case("estimator", "small", sizes=(50, 8, 4), batch=200, data="table", dtype=dtype)
    data = load(case)
    assert data.x.shape == (75_000, 50)
    assert data.x_test.shape == (25_000, 50)
    assert data.x.dtype == data.x_test.dtype == dtype
    assert set(data.t) == set(range(4))
