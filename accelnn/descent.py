"""Gradient descent on functions."""

import dis
import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np

from accelnn._shown import shown
from accelnn._typing import Array, ArrayLike, MethodName
from accelnn._validation import as_floating, as_number, as_scalar, check_finite, require_callable
from accelnn._warn import warn
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.errors import DivergenceWarning, ImpureFunctionError, StagnationWarning
from accelnn.formulas._checks import positive
from accelnn.gradient import numerical_gradient
from accelnn.gradient._problem import pose
from accelnn.gradient.evaluators import HasMap, Mapper, refuse_random

__all__ = ["DescentResult", "gradient_descent"]

# An iterate so many times farther out than the start, and still accelerating, diverges.
RUNAWAY = 1e6
# A path shorter than this fraction of the norm of x is stagnation.
STANDSTILL = 1e-6


@dataclass(frozen=True)
class DescentResult:
    """What `gradient_descent` returns with ``full_output=True``.

    Attributes
    ----------
    x : array
        The last finite iterate.
    value : float
        f(x).
    gradient : array
        The gradient at `x`.
    trajectory : array of shape (steps + 1, ...)
        All iterates, the starting point first.
    steps : int
        Number of updates.
    diverged, stagnated : bool
        Whether the corresponding warning was issued.
    """

    x: Array
    value: float
    gradient: Array
    trajectory: Array
    steps: int
    diverged: bool
    stagnated: bool


@overload
def gradient_descent(
    f: Callable[[Array], Any],
    init_x: ArrayLike,
    lr: float = ...,
    step_num: int = ...,
    *,
    grad: Callable[[Array], Array] | None = ...,
    method: MethodName = ...,
    step: float | None = ...,
    workers: int | Mapper | HasMap | None = ...,
    batched: bool = ...,
    full_output: Literal[False] = ...,
    backend: BackendLike | None = ...,
) -> Array: ...
@overload
def gradient_descent(
    f: Callable[[Array], Any],
    init_x: ArrayLike,
    lr: float = ...,
    step_num: int = ...,
    *,
    grad: Callable[[Array], Array] | None = ...,
    method: MethodName = ...,
    step: float | None = ...,
    workers: int | Mapper | HasMap | None = ...,
    batched: bool = ...,
    full_output: Literal[True],
    backend: BackendLike | None = ...,
) -> DescentResult: ...
def gradient_descent(
    f: Callable[[Array], Any],
    init_x: ArrayLike,
    lr: float = 0.01,
    step_num: int = 1000,
    *,
    grad: Callable[[Array], Array] | None = None,
    method: MethodName = "central",
    step: float | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    full_output: bool = False,
    backend: BackendLike | None = None,
) -> Array | DescentResult:
    """Minimise a function by x ← x - lr ∇f(x).

    Parameters
    ----------
    f : callable
        Takes an array like `init_x`, returns a real scalar, and depends on its argument alone.
        With ``batched=True`` it takes ``(k, *x.shape)`` and returns ``(k,)``.
    init_x : array_like
        The starting point; it is not changed.
    lr : float, default 0.01
        The learning rate.
    step_num : int, default 1000
        Number of updates.
    grad : callable, optional
        The gradient of `f`; by default `numerical_gradient`.
    method, step, workers, batched
        Passed to `numerical_gradient`.
    full_output : bool, default False
        Return a `DescentResult` with the trajectory.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    array or DescentResult
        The last finite iterate, a floating array of the shape of `init_x`; alone, where the
        textbook returns a pair. To take it apart into two right where it is returned is refused.

    Warns
    -----
    accelnn.errors.DivergenceWarning
        At the first iterate that is not finite, or that is a million times farther out than the
        start and still accelerating; it is not returned.
    accelnn.errors.StagnationWarning
        If the whole path is shorter than a millionth of the norm of x while the gradient is not
        small.

    Raises
    ------
    accelnn.errors.ImpureFunctionError
        If `f` does not depend on its argument alone.
    TypeError
        In ``x, history = gradient_descent(...)`` without ``full_output=True``.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = accelnn.gradient_descent(lambda x: np.sum(x**2), [-3.0, 4.0], lr=0.1, step_num=100)
    >>> bool(np.abs(x).max() < 1e-8)
    True
    """
    require_callable(f)
    if not full_output and _is_taken_for_a_pair():
        msg = (
            "gradient_descent returns x alone, and not the textbook's pair, so that x, history = "
            "would take x apart: for the path pass full_output=True, and read .x and .trajectory "
            "of the result; to take x apart, give it a name first"
        )
        raise TypeError(msg)
    backend = resolve(backend, init_x)
    with backend.current():
        start = backend.xp.asarray(as_floating(backend, init_x, "init_x"), copy=True)
        check_finite(backend, start, "init_x")
        _check_options(lr, step_num)

        if grad is None:
            _require_argument(f, init_x, batched=batched, backend=backend)

        def gradient_at(x: Array) -> Array:
            if grad is not None:
                return _gradient_of(backend, grad, x)
            found: Array = numerical_gradient(
                f,
                x,
                method=method,
                step=step,
                in_place=False,
                workers=workers,
                batched=batched,
                backend=backend,
            )
            return found

        # Two, because the last one may lie outside the domain of f.
        iterates: deque[Array] = deque([start], maxlen=None if full_output else 2)
        # Overflow is reported as divergence.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            steps, travelled, diverged = _iterate(backend, gradient_at, iterates, lr, step_num)
            x = iterates[-1]
            slope = gradient_at(x)
            if math.isnan(_length(backend, slope)) and not diverged:
                _warn_of_divergence(
                    f"after update {steps} of {step_num}, because the gradient is NaN"
                )
                diverged = True
                if steps > 0:
                    # f is not defined where its gradient is NaN.
                    iterates.pop()
                    steps, x = steps - 1, iterates[-1]
                    slope = gradient_at(x)
            value = _value_at(backend, f, x, batched=batched)
        stagnated = (
            step_num > 0
            and not diverged
            and _stands_still(backend, start, x, travelled, slope, value)
        )
        if stagnated:
            msg = (
                f"{steps} updates moved x by less than a millionth of its norm although "
                f"the norm of the gradient is {_length(backend, slope):.3g}: lr={lr!r} is too small"
            )
            warn(msg, StagnationWarning)
        if not full_output:
            return x
        trajectory = backend.xp.stack(list(iterates))
        return DescentResult(x, value, slope, trajectory, steps, diverged, stagnated)


def _is_taken_for_a_pair() -> bool:
    """Return whether the caller's caller takes apart what it is about to get, into two."""
    if not hasattr(sys, "_getframe"):
        return False
    frame = sys._getframe(1).f_back  # noqa: SLF001 - as inspect does
    if frame is None:
        return False
    # Pairs of bytes: what is done and with what. Those of caches are of no account.
    code, here = frame.f_code.co_code, frame.f_lasti
    following = here + 2
    while following < len(code) and dis.opname[code[following]] == "CACHE":
        following += 2
    # Python 3.12 is at the last of them.
    while here > 0 and dis.opname[code[here]] == "CACHE":
        here -= 2
    taken = code[following : following + 2]
    is_call = dis.opname[code[here]].startswith("CALL")
    return is_call and taken == bytes([dis.opmap["UNPACK_SEQUENCE"], 2])


def _require_argument(
    f: Callable[[Array], Any], x: ArrayLike, *, batched: bool, backend: Backend
) -> None:
    """Refuse an f that reads the array x it closes over, because a descent moves copies of it.

    Only probing with the caller's x shows that.
    """
    try:
        with pose(f, x, backend=backend, method="central", batched=batched) as problem:
            if not problem.evaluator.moves_x:
                if not problem.evaluator.finish(diagnose=True):
                    refuse_random(problem.evaluator.base, problem.evaluator.at_copy())
                return
    except ImpureFunctionError as error:
        if "deterministic" in str(error):
            raise
        cause: Exception | None = error
    else:
        cause = None
    msg = (
        "f does not depend on its argument alone, but gradient_descent does not change init_x. "
        "Write f as a function of its argument, as in gradient_descent(lambda W: loss(W, x, t), "
        "W0); to train a net, use accelnn.fit(net, x, t)"
    )
    raise ImpureFunctionError(msg) from cause


def _check_options(lr: float, step_num: int) -> None:
    positive(lr, "lr")
    if isinstance(step_num, bool) or not isinstance(step_num, int | np.integer):
        msg = f"step_num must be an integer, got {shown(step_num)}"
        raise TypeError(msg)
    if step_num < 0:
        msg = f"step_num must not be negative, got {step_num}"
        raise ValueError(msg)


def _gradient_of(backend: Backend, grad: Callable[[Array], Array], x: Array) -> Array:
    # A copy, because grad may write to its argument.
    slope = as_floating(backend, grad(backend.xp.asarray(x, copy=True)), "grad(x)", x.dtype)
    if tuple(slope.shape) != tuple(x.shape):
        msg = f"grad(x) has shape {tuple(slope.shape)}, x has {tuple(x.shape)}"
        raise ValueError(msg)
    return slope


def _iterate(
    backend: Backend,
    gradient_at: Callable[[Array], Array],
    iterates: deque[Array],
    lr: float,
    step_num: int,
) -> tuple[int, float, bool]:
    """Append iterates until the end or a divergence.

    Returns
    -------
    tuple of int, float and bool
        The number of updates, the length of the path, and whether it diverged.
    """
    last_move, travelled = math.inf, 0.0
    limit = RUNAWAY * max(1.0, _length(backend, iterates[-1]))
    for k in range(1, step_num + 1):
        x = iterates[-1]
        move = lr * gradient_at(x)
        following = x - move
        distance, length = _length(backend, move), _length(backend, following)
        if math.isnan(distance):
            # The caller checks the last gradient in any case, and reports it.
            return k - 1, travelled, False
        if not math.isfinite(length) or (length > limit and distance > last_move):
            _warn_of_divergence(
                f"at update {k} of {step_num}, because lr={lr!r} is too large: |x| would go from "
                f"{_length(backend, x):.3g} to {length:.3g}"
            )
            return k - 1, travelled, True
        iterates.append(following)
        last_move = distance
        travelled += distance
    return step_num, travelled, False


def _warn_of_divergence(what: str) -> None:
    msg = f"gradient descent diverged {what}; the result is the last iterate before that"
    warn(msg, DivergenceWarning)


def _value_at(backend: Backend, f: Callable[[Array], Any], x: Array, *, batched: bool) -> float:
    # A copy, because f may write to its argument.
    x = backend.xp.asarray(x, copy=True)
    value = f(x[None, ...])[0] if batched else f(x)
    return as_number(backend, as_scalar(backend, value))


def _stands_still(
    backend: Backend, start: Array, x: Array, travelled: float, slope: Array, value: float
) -> bool:
    size = _length(backend, x)
    # From the origin any path is as long as x itself, and is compared with 1 instead.
    scale = size if _length(backend, start) > 0.0 else max(1.0, size)
    # The length of the path, not the distance: an oscillating descent does move.
    if travelled >= STANDSTILL * scale:
        return False
    # A gradient is small if a move of the size of x changes f by less than a millionth.
    return _length(backend, slope) * max(1.0, size) > STANDSTILL * max(1.0, abs(value))


def _length(backend: Backend, x: Array) -> float:
    xp = backend.xp
    largest = as_number(backend, xp.max(xp.abs(x))) if math.prod(x.shape) else 0.0
    if largest in (0.0, math.inf) or math.isnan(largest):
        return largest
    # Scaled, so that the squares of a diverging iterate do not overflow.
    return largest * float(backend.to_numpy(xp.sqrt(xp.sum((x / largest) ** 2))))
