"""Time and accuracy of `accelnn.estimator.MLPClassifier` beside scikit-learn's, in turns.

As in ``ACCELNN_DATA_DIR=... python benchmarks/estimators.py``. Both have one hidden layer of 100
units, Adam, batches of 200 and as many epochs; the best of the repeats is the time shown.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as Other

import accelnn
from accelnn.estimator import MLPClassifier

REPEATS = 3
COMMON = {"tol": 0.0, "n_iter_no_change": 10_000, "random_state": 0}


def problems() -> Iterator[tuple[str, Sequence[Any], int]]:
    """Yield a name, training and test data in float32, and a number of epochs."""
    (x, t), (x_test, t_test) = accelnn.load_mnist()
    yield "MNIST, 60,000 x 784", (x, x_test, t, t_test), 5
    x, t = load_digits(return_X_y=True)
    yield "digits, 1,797 x 64", train_test_split(np.float32(x / 16), t, random_state=0), 50
    x, t = make_classification(100_000, 50, n_informative=20, n_classes=4, random_state=0)
    yield "random, 100,000 x 50", train_test_split(np.float32(x), t, random_state=0), 5


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{'data':22}{'who':14}{'seconds':>9}{'accuracy':>10}")
    for name, (x, x_test, t, t_test), epochs in problems():
        models = {
            "scikit-learn": Other(alpha=0.0, max_iter=epochs, **COMMON),
            "ours, numpy": MLPClassifier(max_iter=epochs, backend="numpy", **COMMON),
            "ours, numba": MLPClassifier(max_iter=epochs, backend="numba", **COMMON),
        }
        # What is compiled once is no part of the time.
        models["ours, numba"].fit(x[:400], t[:400]).score(x_test, t_test)
        best = dict.fromkeys(models, np.inf)
        for _ in range(REPEATS):
            for who, model in models.items():
                start = time.perf_counter()
                model.fit(x, t)
                best[who] = min(best[who], time.perf_counter() - start)
        for who, model in models.items():
            print(f"{name:22}{who:14}{best[who]:9.2f}{model.score(x_test, t_test):10.4f}")


if __name__ == "__main__":
    main()
