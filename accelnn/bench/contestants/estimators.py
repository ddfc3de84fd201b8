"""Fits of estimators: ours, which have scikit-learn's interface, beside scikit-learn's own."""

import warnings
from collections.abc import Callable
from typing import Any

from accelnn.bench.contestants.base import Calls, Lazy, contestant
from accelnn.bench.contestants.data import load

__all__ = ["Fit"]

neural_network: Any = Lazy("sklearn.neural_network")
exceptions: Any = Lazy("sklearn.exceptions")
estimator: Any = Lazy("accelnn.estimator")


class Fit(Calls):
    """A fit of a new classifier, from the data as they come."""

    def pose(self) -> None:
        self.data = load(self.case)
        self.options = {
            "hidden_layer_sizes": tuple(self.case.sizes[1:-1]),
            "batch_size": self.case.batch,
            "max_iter": self.case.epochs,
            # No fit ends before.
            "tol": 0.0,
            "n_iter_no_change": 10 * self.case.epochs,
            "random_state": 0,
        }

    def run(self, amount: int) -> None:
        with warnings.catch_warnings():
            # The loss still falls after so few epochs.
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            super().run(amount)

    def facts(self) -> dict[str, Any]:
        """Return the accuracy on the test data."""
        return {"accuracy": float(self.found.score(self.data.x_test, self.data.t_test))}


@contestant("accelnn numba", "estimator", kind=Fit, needs="sklearn", backend="numba")
@contestant("accelnn numpy", "estimator", kind=Fit, needs="sklearn", backend="numpy")
def ours(problem: Fit, backend: str) -> Callable[[], Any]:
    """Return a fit of `accelnn.estimator.MLPClassifier`."""
    options = problem.options | {"backend": backend}
    return lambda: estimator.MLPClassifier(**options).fit(problem.data.x, problem.data.t)


@contestant("scikit-learn", "estimator", kind=Fit, needs="sklearn")
def theirs(problem: Fit) -> Callable[[], Any]:
    """Return a fit of scikit-learn's, without its penalty."""
    options = problem.options | {"alpha": 0.0}
    return lambda: neural_network.MLPClassifier(**options).fit(problem.data.x, problem.data.t)
