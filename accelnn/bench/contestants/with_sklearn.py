"""Training with scikit-learn."""

import warnings
from typing import Any

import numpy as np

from accelnn.bench._case import Case
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Lazy, contestant
from accelnn.bench.contestants.training import Training
from accelnn.optimizers import Adam

__all__ = ["Classifier"]

neural_network: Any = Lazy("sklearn.neural_network")
exceptions: Any = Lazy("sklearn.exceptions")
ACTIVATIONS = {"sigmoid": "logistic", "relu": "relu"}


@contestant("scikit-learn", "training", needs="sklearn")
class Classifier(Training):
    """`MLPClassifier.fit` on whole epochs, or on parts of long ones; drawing batches is timed.

    From the weights that all start from, without its penalty and without its early stop.
    """

    draws = False

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        self.granule = min(self.per_epoch, case.few or case.many)

    def begin(self) -> None:
        rule = self.optimizer
        x, t, *_ = self.data
        options: dict[str, Any] = {"solver": "sgd", "momentum": getattr(rule, "momentum", 0.0)}
        if isinstance(rule, Adam):
            options = {"solver": "adam", "epsilon": rule.eps}
            options["beta_1"], options["beta_2"] = rule.betas
        self.net = neural_network.MLPClassifier(
            tuple(self.case.sizes[1:-1]),
            activation=ACTIVATIONS[self.case.activation],
            alpha=0.0,
            batch_size=self.case.batch,
            learning_rate_init=rule.lr,
            nesterovs_momentum=False,
            tol=0.0,
            n_iter_no_change=10**9,
            random_state=0,
            **options,
        )
        # This creates the weights, which are then replaced.
        first = self.case.batch
        self.net.partial_fit(x[:first], t[:first], classes=np.arange(self.case.sizes[-1]))
        for value, layer in zip(self.layers(), self.initial, strict=True):
            value[...] = layer

    def advance(self, first: int, last: int) -> None:
        epochs, rest = divmod(last - first, self.per_epoch)
        x, t, *_ = self.data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            if epochs:
                self.net.set_params(warm_start=True, max_iter=epochs).fit(x, t)
        if rest:
            # One pass over some samples; a warm start would refuse samples without all classes.
            some = rest * self.case.batch
            self.net.set_params(warm_start=False).partial_fit(x[:some], t[:some])

    def layers(self) -> plain.Layers:
        pairs = zip(self.net.coefs_, self.net.intercepts_, strict=True)
        return [layer for pair in pairs for layer in pair]
