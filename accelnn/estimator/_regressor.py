"""The regressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from accelnn._typing import DTypeLike
from accelnn.backends import BackendLike, Optimizer
from accelnn.backends import Loss as LossProtocol
from accelnn.estimator._base import BaseMLP
from accelnn.estimator._weights import checked_weights
from accelnn.losses import get_loss
from accelnn.nets._mlp import Hidden

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multi-layer perceptron that predicts numbers, one or several for each sample.

    Targets are not scaled: where they are far from the size of 1, put the regressor into
    ``sklearn.compose.TransformedTargetRegressor(..., transformer=StandardScaler())``.

    Parameters
    ----------
    loss : {"sum_squared_error", "huber"} or loss object, default "sum_squared_error"
        Of `accelnn.losses`, one that does not classify.
    hidden_layer_sizes, activation, optimizer, batch_size, max_iter, shuffle, tol
        As in `MLPClassifier`.
    n_iter_no_change, early_stopping, validation_fraction, warm_start, random_state, verbose
        As in `MLPClassifier`; the validation part is drawn at random.
    backend, dtype
        As in `MLPClassifier`.

    Attributes
    ----------
    net_ : accelnn.MLP
        The trained net. The other attributes are those of `MLPClassifier`, without `classes_`;
        `validation_scores_` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from accelnn.estimator import MLPRegressor
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> y = X @ [1.0, -2.0, 0.5]
    >>> MLPRegressor(max_iter=1000, random_state=0).fit(X, y).score(X, y) > 0.98
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Hidden | Sequence[Hidden] = "relu",
        *,
        loss: str | LossProtocol = "sum_squared_error",
        optimizer: Optimizer | None = None,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        dropout: float = 0.0,
        backend: BackendLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            optimizer,
            batch_size,
            max_iter,
            shuffle,
            tol,
            n_iter_no_change,
            early_stopping,
            validation_fraction,
            warm_start,
            random_state,
            verbose,
            dropout,
            backend,
            dtype,
        )
        self.loss = loss

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn may pass."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a net.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, features)
            Samples.
        y : array_like of shape (n,) or (n, outputs)
            Targets.
        sample_weight : array_like of shape (n,), optional
            Not negative; scaled to a mean of 1 over the samples trained on.
        """
        with self._kept_if_refused():
            return self._fit(X, y, sample_weight, partial=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these samples; parameters are those of `fit`."""
        with self._kept_if_refused():
            return self._fit(X, y, sample_weight, partial=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets, of shape (n,) or (n, outputs)."""
        outputs = self._outputs(X)
        return outputs.ravel() if self._is_flat else outputs

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool) -> Self:
        goes_on = hasattr(self, "net_") and (partial or self.warm_start)
        X, y = self._checked(X, y, reset=not goes_on, multi_output=True, y_numeric=True)
        if y.dtype.kind not in "biuf":
            msg = (
                f"y must hold numbers, got dtype {y.dtype}: a regression has numbers for targets, "
                f"and MLPClassifier takes the names of classes"
            )
            raise ValueError(msg)
        weights = checked_weights(sample_weight, X)
        loss = get_loss(self.loss)
        if loss.classifies:
            msg = f"loss={loss.name!r} is one of classifiers: take 'sum_squared_error' or 'huber'"
            raise ValueError(msg)
        if y.ndim > 1 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        is_flat = y.ndim == 1
        targets = y[:, None] if is_flat else y
        told, outputs = {"_is_flat": is_flat}, targets.shape[1]
        return self._train(
            X, targets, weights, loss, told=told, outputs=outputs, strata=None, partial=partial
        )
