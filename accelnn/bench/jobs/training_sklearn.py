"""Training with scikit-learn."""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.training import Training
from accelnn.optimizers import Adam, Momentum

__all__ = ["Classifier"]

ACTIVATIONS = {"sigmoid": "logistic", "relu": "relu"}


class Classifier(Training):
    """`MLPClassifier.fit` on whole epochs; drawing batches is timed.

    From the weights that all start from, without its penalty and without its early stop.
    """

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.granule = self.per_epoch

    def ready(self, amount: int) -> None:
        """Do nothing: `fit` draws its batches itself."""

    def begin(self) -> None:
        """See `Training.begin`."""
        rule = self.optimizer
        x, t, *_ = self.data
        options: dict[str, Any] = {"solver": "adam" if isinstance(rule, Adam) else "sgd"}
        if isinstance(rule, Adam):
            options |= dict(zip(("beta_1", "beta_2"), rule.betas, strict=True))
            options |= {"epsilon": rule.eps}
        else:
            options |= {"momentum": rule.momentum if isinstance(rule, Momentum) else 0.0}
        self.net = MLPClassifier(
            tuple(self.task.sizes[1:-1]),
            activation=ACTIVATIONS[self.task.activation],
            alpha=0.0,
            batch_size=self.task.batch,
            learning_rate_init=rule.lr,
            nesterovs_momentum=False,
            tol=0.0,
            n_iter_no_change=10**9,
            random_state=0,
            **options,
        )
        # This creates the weights, which are then replaced.
        first = self.task.batch
        self.net.partial_fit(x[:first], t[:first], classes=np.arange(self.task.sizes[-1]))
        for value, layer in zip(_layers(self.net), self.initial, strict=True):
            value[...] = layer

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        epochs, rest = divmod(last - first, self.per_epoch)
        x, t, *_ = self.data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            if epochs:
                self.net.set_params(warm_start=True, max_iter=epochs).fit(x, t)
        if rest:
            # One pass over some samples; a warm start would refuse samples without all classes.
            some = rest * self.task.batch
            self.net.set_params(warm_start=False).partial_fit(x[:some], t[:some])

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return _layers(self.net)


def _layers(net: MLPClassifier) -> plain.Layers:
    pairs = zip(net.coefs_, net.intercepts_, strict=True)
    return [layer for pair in pairs for layer in pair]
