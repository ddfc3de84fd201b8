"""The classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, is_multilabel, unique_labels
from sklearn.utils.validation import column_or_1d

from accelnn._shown import shown
from accelnn._typing import DTypeLike
from accelnn.backends import BackendLike, Optimizer
from accelnn.estimator._base import BaseMLP
from accelnn.estimator._weights import checked_weights
from accelnn.nets._mlp import Hidden

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A multi-layer perceptron that classifies: two classes, several, or several labels at once.

    Two classes and several labels at once are trained with the binary cross entropy, other classes
    with the cross entropy.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Widths of the hidden layers; () for none.
    activation : str or activation object, or a sequence of them, default "relu"
        As in `accelnn.MLP`; "logistic" is another name of "sigmoid".
    optimizer : optimizer, optional
        See `accelnn.optimizers`; ``accelnn.Adam(0.001)`` by default. Weight decay is one of its
        options, in the place of scikit-learn's ``alpha``.
    batch_size : int or "auto", default "auto"
        Samples per update; "auto" is at most 200. A larger number than there are samples is theirs.
    max_iter : int, default 200
        The most passes over the data.
    shuffle : bool, default True
        Whether each pass has an order of its own.
    tol : float, default 1e-4
        A loss must fall by more than this to count as better.
    n_iter_no_change : int, default 10
        The training ends after so many epochs in a row that are not better.
    early_stopping : bool, default False
        Set a part of the samples aside, stratified by class, and end when the loss on it no longer
        falls; the best parameters are restored. That loss has the weights of the samples.
    validation_fraction : float, default 0.1
        How much is set aside.
    warm_start : bool, default False
        Whether `fit` goes on with the parameters trained before.
    random_state : int, RandomState or None
        Where weights and the order of samples come from.
    verbose : bool, default False
        Show a progress bar; needs rich.
    dropout : float, default 0.0
        The probability that an update drops a hidden unit; see `accelnn.MLP`.
    label_smoothing : float, default 0.0
        How far targets are moved towards equal probabilities; see `accelnn.MLP`.
    class_weight : dict or "balanced", optional
        Weights of classes, by which those of samples are multiplied.
    backend : str, Backend or subclass, optional
        Where to compute; see `accelnn.get_backend`.
    dtype : {"float32", "float64"}, optional
        By default float32 for X of float32, and float64 for any other.

    Attributes
    ----------
    net_ : accelnn.MLP
        The trained net.
    classes_ : array
        The classes; for several labels at once their numbers.
    n_iter_ : int
        Epochs done.
    loss_curve_, loss_, best_loss_ : list of float, float, float
        Mean loss of each epoch, each batch's before its update; the last; the least.
    validation_losses_, validation_scores_ : list of float or None
        With early stopping, loss and accuracy on the part set aside after each epoch.
    best_validation_loss_ : float or None
        With early stopping, the loss of the parameters restored.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_
        As in scikit-learn.

    Examples
    --------
    >>> from accelnn.estimator import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPClassifier(max_iter=1000, random_state=0))
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Hidden | Sequence[Hidden] = "relu",
        *,
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
        label_smoothing: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn may pass."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a net.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, features)
            Samples.
        y : array_like of shape (n,), or indicator matrix of shape (n, labels)
            Classes, numbers or strings; or 1 for each label that a sample has.
        sample_weight : array_like of shape (n,), optional
            Not negative; scaled to a mean of 1 over the samples trained on.
        """
        with self._kept_if_refused():
            return self._fit(X, y, sample_weight, None, partial=False)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these samples; other parameters are those of `fit`.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array_like, optional
            All classes that will come; needed in the first call, unless y is an indicator matrix.
        """
        if self.class_weight == "balanced":
            msg = (
                "class_weight='balanced' needs all samples at once, and partial_fit sees some of "
                "them: pass a dict, such as one of sklearn.utils.compute_class_weight"
            )
            raise ValueError(msg)
        with self._kept_if_refused():
            return self._fit(X, y, sample_weight, classes, partial=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each sample, or an indicator matrix."""
        outputs = self._outputs(X)
        if self._is_multilabel:
            return (outputs > 0.5).astype(np.intp)  # noqa: PLR2004 - the middle of probabilities
        if len(self.classes_) > 2:  # noqa: PLR2004 - two classes have one output
            found: np.ndarray = self.classes_[outputs.argmax(axis=1)]
        elif len(self.classes_) == 1:
            found = np.repeat(self.classes_, len(outputs))
        else:
            found = self.classes_[(outputs[:, 0] > 0.5).astype(np.intp)]  # noqa: PLR2004 - as above
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class or label, of shape (n, classes)."""
        outputs = self._outputs(X)
        if self._is_multilabel or len(self.classes_) > 2:  # noqa: PLR2004 - as above
            return outputs
        if len(self.classes_) == 1:
            return np.ones_like(outputs)
        return np.hstack([1.0 - outputs, outputs])

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of each probability, -inf for those that have rounded to 0."""
        with np.errstate(divide="ignore"):
            found: np.ndarray = np.log(self.predict_proba(X))
        return found

    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any, *, partial: bool) -> Self:
        goes_on = hasattr(self, "net_") and (partial or self.warm_start)
        X, y = self._checked(X, y, reset=not goes_on, multi_output=True)
        check_classification_targets(y)
        has_labels = is_multilabel(y)
        if has_labels and hasattr(y, "toarray"):
            y = y.toarray()
        y = y if has_labels else column_or_1d(y, warn=True)
        found = self._classes_of(y, classes, labels=has_labels, goes_on=goes_on, partial=partial)
        weights = checked_weights(sample_weight, X, self.class_weight, y, found)
        strata, outputs = None, len(found)
        if has_labels:
            targets, loss = y.astype(X.dtype), "binary_cross_entropy"
        else:
            strata = np.searchsorted(found, y)
            is_binary = len(found) <= 2  # noqa: PLR2004 - one output tells two
            loss = "binary_cross_entropy" if is_binary else "cross_entropy"
            targets = strata.astype(X.dtype)[:, None] if is_binary else strata
            outputs = 1 if is_binary else outputs
        told = {"_is_multilabel": has_labels, "classes_": found}
        return self._train(
            X, targets, weights, loss, told=told, outputs=outputs, strata=strata, partial=partial
        )

    def _classes_of(
        self,
        y: np.ndarray,
        classes: Any,
        *,
        labels: bool,
        goes_on: bool,
        partial: bool,
    ) -> np.ndarray:
        """Return the classes that the net tells apart, or raise ValueError."""
        if labels:
            return np.arange(y.shape[1])
        present: np.ndarray = unique_labels(y)
        if goes_on:
            known = self.classes_
            if classes is not None and not np.array_equal(unique_labels(classes), known):
                msg = (
                    f"classes={shown(classes)} is not the same as in the first call, which had "
                    f"{shown(known.tolist())}"
                )
                raise ValueError(msg)
        elif not partial:
            return present
        elif classes is None:
            msg = "classes must be passed on the first call to partial_fit."
            raise ValueError(msg)
        else:
            known = unique_labels(classes)
        unknown = np.setdiff1d(present, known)
        if unknown.size:
            msg = (
                f"y has the classes {shown(unknown.tolist())}, which are not among those to tell "
                f"apart: {shown(known.tolist())}"
            )
            raise ValueError(msg)
        found: np.ndarray = known
        return found
