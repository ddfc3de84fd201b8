"""Activations, output functions and losses on arrays of any backend.

Every function takes arrays of one backend, or Python numbers, and ``backend=`` to choose one.
Integers are promoted to float64; a float dtype is kept, float16 too, and targets are cast to that
of the outputs. bfloat16 and smaller floats are refused. Complex arrays are continued analytically
from the real axis, so that complex steps differentiate every function. Nothing is converted between
backends.
"""

from typing import Any, TypeVar, overload

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn._underflow import underflow_is_harmless
from accelnn._validation import as_array, as_floating, as_targets
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.formulas._checks import not_negative

__all__ = [
    "cross_entropy_error",
    "identity",
    "identity_function",
    "log_softmax",
    "mean_squared_error",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "step_function",
    "sum_squared_error",
    "tanh",
    "tanh_grad",
]

# A NumPy array; the result has the same dtype and number of axes.
Numbers = TypeVar("Numbers", bound="np.ndarray[Any, np.dtype[np.inexact[Any]]]")


@overload
def sigmoid(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def sigmoid(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def sigmoid(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return the logistic function 1 / (1 + exp(-x)), without overflow.

    Parameters
    ----------
    x : array_like
        Numbers of any shape.
    backend : str, Backend or subclass, optional
        The backend that computes; see `accelnn.get_backend`.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    accelnn.errors.BackendMismatchError
        If `x` is an array of another backend.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """
    return _elementwise("sigmoid", x, backend)


@overload
def sigmoid_grad(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def sigmoid_grad(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def sigmoid_grad(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return the derivative of `sigmoid` at the pre-activation x: s(x) s(-x).

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.sigmoid_grad([0.0])
    array([0.25])
    """
    return _elementwise("sigmoid_grad", x, backend)


@overload
def relu(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def relu(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def relu(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return max(x, 0); NaN stays NaN.

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.relu([-2.0, 3.0])
    array([0., 3.])
    """
    return _elementwise("relu", x, backend)


@overload
def relu_grad(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def relu_grad(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def relu_grad(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return the derivative of `relu` at the pre-activation x: 1 for x > 0, else 0.

    The value at the kink itself is a convention, here ``relu_grad(0) = 0``. Parameters and errors
    are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.relu_grad([-2.0, 0.0, 3.0])
    array([0., 0., 1.])
    """
    return _elementwise("relu_grad", x, backend)


@overload
def tanh(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def tanh(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def tanh(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return the hyperbolic tangent.

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.tanh([0.0, 1000.0])
    array([0., 1.])
    """
    return _elementwise("tanh", x, backend)


@overload
def tanh_grad(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def tanh_grad(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def tanh_grad(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return the derivative of `tanh` at the pre-activation x: 1 / cosh(x)².

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.tanh_grad([0.0, 1000.0])
    array([1., 0.])
    """
    return _elementwise("tanh_grad", x, backend)


@overload
def identity(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def identity(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def identity(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return a copy of x, the output function of regression.

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.identity([1.5])
    array([1.5])
    """
    chosen = resolve(backend, x)
    with chosen.current():
        return chosen.xp.asarray(_elementwise("identity", x, chosen), copy=True)


def identity_function(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return a copy of x: the textbook's name of `identity`.

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.identity_function([1.5])
    array([1.5])
    """
    return identity(x, backend=backend)


def step_function(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return 1 where x > 0, else 0: the textbook's name of `relu_grad`; NaN stays NaN.

    Parameters and errors are those of `sigmoid`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.step_function([-1.0, 0.0, 2.0])
    array([0., 0., 1.])
    """
    return relu_grad(x, backend=backend)


@overload
def softmax(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def softmax(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def softmax(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return exp(x) / Σ exp(x) along the last axis, shifted by the maximum so as not to overflow.

    Parameters
    ----------
    x : array_like of shape (..., classes)
        Scores; one sample may be 1-D.
    backend : str, Backend or subclass, optional
        The backend that computes; see `accelnn.get_backend`.

    Returns
    -------
    array of shape (..., classes)
        Probabilities: rows are non-negative and sum to one.

    Raises
    ------
    ValueError
        If `x` has no last axis, or an empty one.
    TypeError
        If `x` does not hold real numbers.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """
    return _along_classes("softmax", x, backend)


@overload
def log_softmax(x: Numbers, *, backend: BackendLike | None = None) -> Numbers: ...
@overload
def log_softmax(x: ArrayLike, *, backend: BackendLike | None = None) -> Array: ...
def log_softmax(x: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return x - log Σ exp(x) along the last axis: finite where ``log(softmax(x))`` is not.

    Parameters and errors are those of `softmax`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.log_softmax([0.0, -1000.0])
    array([ 0., -1000.])
    """
    return _along_classes("log_softmax", x, backend)


@underflow_is_harmless
def sum_squared_error(y: ArrayLike, t: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return half the sum of squared errors, ½ Σ (y - t)², over all elements.

    Parameters
    ----------
    y : array_like
        Outputs of any shape.
    t : array_like
        Targets of exactly that shape: nothing is broadcast.
    backend : str, Backend or subclass, optional
        The backend that computes; see `accelnn.get_backend`.

    Returns
    -------
    0-d array
        The sum, not divided by the number of samples.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import accelnn
    >>> float(accelnn.sum_squared_error([1.0, 2.0], [0.0, 4.0]))
    2.5
    """
    chosen = resolve(backend, y, t)
    with chosen.current():
        outputs = _numbers(chosen, y, "y")
        dtype = None if _is_complex(chosen, outputs) else outputs.dtype
        targets = as_floating(chosen, t, "t", dtype)
        if tuple(outputs.shape) != tuple(targets.shape):
            msg = (
                f"y has shape {tuple(outputs.shape)} and t has shape {tuple(targets.shape)}; they "
                f"must be equal"
            )
            raise ValueError(msg)
        return chosen.sum_squared_error(outputs, targets)


def mean_squared_error(y: ArrayLike, t: ArrayLike, *, backend: BackendLike | None = None) -> Array:
    """Return ½ Σ (y - t)², no mean: older printings of the textbook call `sum_squared_error` so.

    Parameters and errors are those of `sum_squared_error`.

    Examples
    --------
    >>> import accelnn
    >>> float(accelnn.mean_squared_error([1.0, 2.0], [0.0, 4.0]))
    2.5
    """
    return sum_squared_error(y, t, backend=backend)


@underflow_is_harmless
def cross_entropy_error(
    y: ArrayLike, t: ArrayLike, *, eps: float = 1e-7, backend: BackendLike | None = None
) -> Array:
    """Return the cross entropy of probabilities, -Σ t log(y + eps) / N.

    Parameters
    ----------
    y : array_like of shape (..., classes)
        Probabilities; one sample may be 1-D. N is the number of rows.
    t : array_like
        Class labels, if integer and of shape ``y.shape[:-1]``, or else distributions (one-hot or
        soft) of the shape of `y`.
    eps : float, default 1e-7
        Keeps the logarithm of a zero probability finite.
    backend : str, Backend or subclass, optional
        The backend that computes; see `accelnn.get_backend`.

    Returns
    -------
    0-d array
        The mean over the rows.

    Raises
    ------
    ValueError
        If `t` fits neither form, a label is out of range, `eps` is negative or not finite, or there
        are no rows.

    Examples
    --------
    >>> import accelnn
    >>> y = [[0.1, 0.9], [0.5, 0.5]]
    >>> round(float(accelnn.cross_entropy_error(y, [1, 0])), 4)
    0.3993
    >>> round(float(accelnn.cross_entropy_error(y, [[0, 1], [1, 0]])), 4)
    0.3993
    """
    eps = not_negative(eps, "eps")
    chosen = resolve(backend, y, t)
    with chosen.current():
        outputs = _numbers(chosen, y, "y")
        _check_classes(outputs, "y")
        shape = tuple(outputs.shape)
        if 0 in shape:
            msg = f"y has shape {shape}: the mean over no samples is undefined"
            raise ValueError(msg)
        dtype = "float64" if _is_complex(chosen, outputs) else outputs.dtype
        targets = as_targets(chosen, as_array(chosen, t, "t"), shape, dtype)
        if targets.ndim < len(shape):
            targets = chosen.one_hot(targets, shape[-1], dtype)
        return chosen.cross_entropy_error(outputs, targets, eps)


def _elementwise(op: str, x: ArrayLike, backend: BackendLike | None) -> Array:
    chosen = resolve(backend, x)
    with chosen.current():
        return _applied(op, chosen, _numbers(chosen, x))


def _along_classes(op: str, x: ArrayLike, backend: BackendLike | None) -> Array:
    chosen = resolve(backend, x)
    with chosen.current():
        scores = _numbers(chosen, x)
        _check_classes(scores, "x")
        return _applied(op, chosen, scores)


@underflow_is_harmless
def _applied(op: str, backend: Backend, x: Array) -> Array:
    return _analytic(op, backend.xp, x) if _is_complex(backend, x) else getattr(backend, op)(x)


def _numbers(backend: Backend, x: ArrayLike, name: str = "x") -> Array:
    """Return a floating array; complex ones, which complex steps need, stay as they are."""
    return x if backend.owns(x) and _is_complex(backend, x) else as_floating(backend, x, name)


def _is_complex(backend: Backend, x: Array) -> bool:
    if isinstance(x.dtype, np.dtype):
        # `isdtype` refuses those of other packages, such as bfloat16.
        return x.dtype.kind == "c"
    return bool(backend.xp.isdtype(x.dtype, "complex floating"))


def _analytic(op: str, xp: Any, x: Array) -> Array:
    """Return the analytic continuation of an op; branches are chosen by the real part."""
    up = xp.real(x) > 0
    if op == "identity":
        return x
    if op in ("relu", "relu_grad"):
        return xp.where(up, x if op == "relu" else xp.ones_like(x), xp.zeros_like(x))
    if op == "tanh":
        return xp.tanh(x)
    if op == "tanh_grad":
        return 1.0 - xp.tanh(x) ** 2
    if op in ("softmax", "log_softmax"):
        top = xp.max(xp.real(x), axis=-1, keepdims=True)
        total = xp.sum(xp.exp(x - top), axis=-1, keepdims=True)
        return xp.exp(x - top) / total if op == "softmax" else x - top - xp.log(total)
    e = xp.exp(xp.where(up, -x, x))
    return (
        e / (1.0 + e) ** 2 if op == "sigmoid_grad" else xp.where(up, 1.0 + 0.0 * e, e) / (1.0 + e)
    )


def _check_classes(x: Array, name: str) -> None:
    if x.ndim == 0 or x.shape[-1] == 0:
        msg = f"{name} has shape {tuple(x.shape)}; its last axis must hold at least one class"
        raise ValueError(msg)
