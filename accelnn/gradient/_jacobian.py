"""Jacobians, dense or sparse, and Jacobian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import numpy as np

from accelnn._optional import import_optional
from accelnn._typing import Array, ArrayLike, Kind, MethodName, Numbers, Tree
from accelnn.backends import BackendLike
from accelnn.gradient._argument import Argument, names_of
from accelnn.gradient._complex import require_complex_safe
from accelnn.gradient._differentiate import Derivatives, differentiate
from accelnn.gradient._lines import Entries
from accelnn.gradient._options import Evaluation, Options
from accelnn.gradient._precision import SAFETY
from accelnn.gradient._problem import Problem, pose
from accelnn.gradient._result import DerivativeResult
from accelnn.gradient._steps import imaginary_step, size_of, step_sizes
from accelnn.gradient.evaluators import HasMap, Mapper

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["direction_of", "numerical_jacobian", "numerical_jvp", "solve_along"]

Scalar = TypeVar("Scalar", bound=np.generic)

# Entries missing from a sparsity pattern show along a random direction if they contribute more than
# this part of a value's change, beyond the errors of both derivatives,
MISSED = 1e-4
# and more than this part of the largest change of any value.
NOTHING = 1e-9
# Rounding of a derivative, in units in the last place of the terms of f, whose size shows at this
# distance from x, in units of the size of x.
ROUNDING_ULPS, FAR = 16.0, 0.1
# Bound on measured noise of f, in standard deviations.
NOISE = 8.0


@overload
def numerical_jacobian(
    f: Callable[..., Any],
    x: np.ndarray[Any, np.dtype[Scalar]],
    *,
    sparsity: None = None,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> NDArray[Scalar]: ...
@overload
def numerical_jacobian(
    f: Callable[..., Any],
    x: Kind,
    *,
    sparsity: None = None,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Kind: ...
@overload
def numerical_jacobian(
    f: Callable[..., Any],
    x: Numbers | Tree,
    *,
    sparsity: None = None,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Array: ...
@overload
def numerical_jacobian(
    f: Callable[..., Any],
    x: ArrayLike,
    *,
    sparsity: Any,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Array: ...
@overload
def numerical_jacobian(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    sparsity: None = None,
    full_output: Literal[True],
    **options: Unpack[Options],
) -> DerivativeResult: ...
@overload
def numerical_jacobian(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    sparsity: None = None,
    full_output: bool,
    **options: Unpack[Options],
) -> Array | DerivativeResult: ...
def numerical_jacobian(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: MethodName = "central",
    step: float | ArrayLike | None = None,
    rel_step: float | ArrayLike | None = None,
    bounds: Any = None,
    sparsity: Any = None,
    f0: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    full_output: bool = False,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Compute the Jacobian of a function by finite differences.

    Parameters
    ----------
    f : callable
        Takes an `x` and returns an array of any fixed shape. With ``batched=True`` it takes
        ``(k, *x.shape)`` and returns ``(k, ...)``.
    x : array_like or tree
        As in `numerical_gradient`.
    args, kwargs, method, step, rel_step, bounds, f0, in_place, workers, batched, chunk_size, \
full_output, progress, backend
        As in `numerical_gradient`.
    sparsity : array or scipy.sparse matrix of shape (m, n), optional
        Nonzero where the derivative of value i with respect to coordinate j may be nonzero; `x` and
        f(x) are flattened. Coordinates that affect no common value are moved together, so that the
        number of evaluations is that of such groups, and a few more that check the pattern for
        missing entries. Not with ``method="richardson"`` or `full_output`.

    Returns
    -------
    array, tree, scipy.sparse.csr_array or DerivativeResult
        Of shape ``(*f(x).shape, *x.shape)`` and x's dtype, for a tree a tree of such; with
        `sparsity`, of its shape, and sparse if it is sparse.

    Raises
    ------
    ValueError
        As in `numerical_gradient`; also if `f` returns different shapes, or if `sparsity` has no
        entry where a derivative is nonzero.
    accelnn.errors.ImpureFunctionError
        As in `numerical_gradient`.

    References
    ----------
    A. R. Curtis, M. J. D. Powell and J. K. Reid, "On the estimation of sparse Jacobian matrices",
    IMA Journal of Applied Mathematics 13 (1974), for `sparsity`.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([1.0, 2.0])
    >>> accelnn.numerical_jacobian(lambda x: np.array([x[0] * x[1], x[0] ** 2]), x).round(6)
    array([[2., 1.],
           [2., 0.]])
    """
    if sparsity is not None and (method == "richardson" or full_output):
        msg = "with sparsity, method='richardson' and full_output=True are not supported"
        raise ValueError(msg)
    with pose(
        f,
        x,
        backend=backend,
        args=args,
        kwargs=kwargs,
        method=method,
        step=step,
        rel_step=rel_step,
        bounds=bounds,
        scalar=False,
        f0=f0,
        in_place=in_place,
        workers=workers,
        batched=batched,
        chunk_size=chunk_size,
    ) as problem:
        if sparsity is not None:
            return _sparse(problem, sparsity, progress=progress)
        found = problem.solve(title="Numerical Jacobian", diagnose=full_output, progress=progress)
        problem.require_complex_safe(found.value)
        return problem.result(found, partial(_shaped, problem), full_output=full_output)


def _shaped(problem: Problem, derivatives: np.ndarray) -> Any:
    """Reshape derivatives of shape (n, q) to (*f(x).shape, *x.shape), for a tree to its form."""
    numbers = derivatives.T.reshape(*problem.shape, problem.x.size)
    return problem.argument.of(problem.array(numbers))


def _sparse(problem: Problem, sparsity: Any, *, progress: bool) -> Any:
    """Compute the entries of a pattern, moving groups of coordinates together."""
    q, n = problem.lines.base.size, problem.x.size
    rows, columns = _pattern(sparsity, (q, n))
    groups = _grouped(rows, columns, n)
    found = problem.solve(
        Entries(problem.lines, groups, columns, rows),
        problem.h[columns],
        title="Numerical Jacobian",
        unit="groups of coordinates",
        progress=progress,
        count=int(groups.max(initial=-1)) + 1,
    )
    entries = found.value[:, 0]
    _require_complete(problem, rows, columns, entries)
    problem.require_complex_safe(entries, rows, columns)
    problem.evaluator.finish(diagnose=False)
    dtype = problem.argument.dtype
    if hasattr(sparsity, "tocoo"):
        scipy_sparse = import_optional("scipy.sparse", feature="A sparse Jacobian", extra="bench")
        return scipy_sparse.csr_array((entries.astype(dtype), (rows, columns)), shape=(q, n))
    jacobian = np.zeros((q, n), dtype)
    jacobian[rows, columns] = entries
    return problem.backend.asarray(jacobian)


def _require_complete(
    problem: Problem, rows: np.ndarray, columns: np.ndarray, entries: np.ndarray
) -> None:
    """Refuse a pattern whose entries do not explain the change along a random direction."""
    n, q = problem.x.size, problem.lines.base.size
    if n == 0 or q == 0:
        return
    draw = np.random.default_rng(0)
    # As far as the steps of the entries, so that both have errors of the same size.
    size = problem.h if not problem.method.is_imaginary else size_of(problem.x)
    move = size / size.max() * draw.uniform(0.5, 1.0, n) * draw.choice([-1.0, 1.0], n)
    line = problem.along(np.arange(n)[None], move[None])
    h = imaginary_step(line.position) if problem.method.is_imaginary else size.max(keepdims=True)
    seen = differentiate(
        line, problem.method, 1, h, epsilon=problem.epsilon, diagnose=True, kinks=False
    )
    parts = entries * move[columns]
    expected, terms = (np.bincount(rows, w, minlength=q) for w in (parts, np.abs(parts)))
    apart = np.abs(seen.value[0] - expected)
    assert seen.error is not None  # noqa: S101 - it was asked for
    allowed = MISSED * np.maximum(terms, np.abs(seen.value[0])) + 2.0 * SAFETY * seen.error[0]
    allowed += NOTHING * np.max(terms, initial=0.0)
    # Where terms of f cancel at x, a derivative may be the rounding of what they are further away.
    far, values = line.at(np.zeros(1, int), np.array([[FAR]]))
    with np.errstate(all="ignore"):
        terms = np.abs(np.real(values[0, 0]) - problem.lines.base) / far[0, 0]
    allowed += ROUNDING_ULPS * problem.epsilon * np.where(np.isfinite(terms), terms, 0.0)
    with np.errstate(invalid="ignore"):
        missed = apart > allowed
    if missed.any() and not problem.method.is_imaginary:
        # Cancellation inside f shows as noise on a line through x.
        noise = NOISE * problem.lines.noise(problem.bounds).max()
        several = np.bincount(rows, np.abs(move / problem.h)[columns], minlength=q)
        missed &= apart > allowed + noise * (several + 1.0 / h[0])
    if missed.any():
        i = int(np.argmax(missed))
        msg = (
            f"sparsity leaves out nonzero derivatives: along a random direction value {i} of f "
            f"changes by {seen.value[0, i]:.6g}, but the entries of row {i} add up to "
            f"{expected[i]:.6g}. Add the missing entries, or leave out sparsity"
        )
        raise ValueError(msg)


def _pattern(sparsity: Any, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the entries of a pattern."""
    pattern = sparsity if hasattr(sparsity, "tocoo") else np.asarray(sparsity)
    if tuple(pattern.shape) != shape:
        msg = (
            f"sparsity has shape {tuple(pattern.shape)}, but f has {shape[0]} values and x has "
            f"{shape[1]} coordinates: it must have shape {shape}"
        )
        raise ValueError(msg)
    # Sparse formats may hold an entry twice.
    places = np.unique(np.stack(pattern.nonzero(), axis=1), axis=0)
    return places[:, 0], places[:, 1]


def _grouped(rows: np.ndarray, columns: np.ndarray, n: int) -> np.ndarray:
    """Return a group for each column, such that no row has entries in two columns of a group."""
    groups, taken = np.zeros(n, int), np.zeros((1, int(rows.max(initial=-1)) + 1), bool)
    order = np.argsort(columns, kind="stable")
    ends = np.searchsorted(columns[order], np.arange(n + 1))
    for column in range(n):
        own = rows[order[ends[column] : ends[column + 1]]]
        free = np.flatnonzero(~taken[:, own].any(axis=1))
        if free.size == 0:
            taken = np.concatenate([taken, np.zeros_like(taken)])
            free = np.array([len(taken) // 2])
        groups[column] = free[0]
        taken[free[0], own] = True
    return groups


@overload
def numerical_jvp(
    f: Callable[..., Any],
    x: np.ndarray[Any, np.dtype[Scalar]],
    v: ArrayLike | Tree,
    *,
    step: float | None = None,
    full_output: Literal[False] = False,
    **options: Unpack[Evaluation],
) -> NDArray[Scalar]: ...
@overload
def numerical_jvp(
    f: Callable[..., Any],
    x: Kind,
    v: ArrayLike | Tree,
    *,
    step: float | None = None,
    full_output: Literal[False] = False,
    **options: Unpack[Evaluation],
) -> Kind: ...
@overload
def numerical_jvp(
    f: Callable[..., Any],
    x: Numbers | Tree,
    v: ArrayLike | Tree,
    *,
    step: float | None = None,
    full_output: Literal[False] = False,
    **options: Unpack[Evaluation],
) -> Array: ...
@overload
def numerical_jvp(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    v: ArrayLike | Tree,
    *,
    step: float | None = None,
    full_output: Literal[True],
    **options: Unpack[Evaluation],
) -> DerivativeResult: ...
@overload
def numerical_jvp(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    v: ArrayLike | Tree,
    *,
    step: float | None = None,
    full_output: bool,
    **options: Unpack[Evaluation],
) -> Array | DerivativeResult: ...
def numerical_jvp(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    v: ArrayLike | Tree,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: MethodName = "central",
    step: float | None = None,
    bounds: Any = None,
    f0: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    full_output: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Compute the directional derivative of f along v, the product of its Jacobian with v.

    Central differences take two evaluations, whatever the size of `x`.

    Parameters
    ----------
    f : callable
        As in `numerical_jacobian`.
    x : array_like or tree
        As in `numerical_gradient`.
    v : array_like or tree
        The direction, in the form of `x`, of any length.
    args, kwargs, method, bounds, f0, in_place, workers, batched, full_output, backend
        As in `numerical_gradient`.
    step : float, optional
        h in f(x + hv). By default h v moves at least one coordinate by the default step of
        `numerical_gradient`, and none by more.

    Returns
    -------
    array or DerivativeResult
        Of the shape of f(x) and x's dtype. A `DerivativeResult` has the step and flags along v.

    Raises
    ------
    ValueError
        If v does not have the form of x; and as in `numerical_gradient`.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([1.0, 2.0])
    >>> accelnn.numerical_jvp(lambda x: np.array([x[0] * x[1], x[0] ** 2]), x, [1.0, 1.0]).round(6)
    array([3., 2.])
    """
    with pose(
        f,
        x,
        backend=backend,
        args=args,
        kwargs=kwargs,
        method=method,
        bounds=bounds,
        scalar=False,
        f0=f0,
        in_place=in_place,
        workers=workers,
        batched=batched,
    ) as problem:
        found = solve_along(problem, v, step, diagnose=full_output)
        return problem.result(
            found,
            lambda a: problem.array(a.reshape(problem.shape)),
            full_output=full_output,
            is_along=True,
        )


def solve_along(
    problem: Problem, v: ArrayLike | Tree, step: float | None, *, diagnose: bool = False
) -> Derivatives:
    """Return the first derivative along v."""
    direction, unit = direction_of(problem, v)
    q = problem.lines.base.size
    if unit == 0.0:
        return Derivatives(np.zeros((1, q)), np.zeros(1), np.zeros((1, q)), np.zeros(1, int))
    lines = problem.along(np.arange(problem.x.size)[None], direction[None])
    # t = 1 is a move by v * unit.
    step = None if step is None else step / unit
    h = step_sizes(lines.position, problem.method, 1, epsilon=problem.epsilon, step=step)
    found = problem.solve(lines, h, diagnose=diagnose)
    if problem.method.is_imaginary:
        length = float(np.sum(direction**2))

        def predict(move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            change = found.value[0] * float(np.sum(move * direction)) / length
            return change, np.abs(change)

        require_complex_safe(
            problem.lines, problem.bounds, predict, np.zeros(0, bool), problem.epsilon, direction
        )
    error = None if found.error is None else found.error / unit
    return found._replace(value=found.value / unit, step=found.step * unit, error=error)


def direction_of(problem: Problem, v: ArrayLike | Tree) -> tuple[np.ndarray, float]:
    """Return v scaled to the size of x, and the scale factor, 0 if v is 0."""
    given = Argument(problem.backend, v, "v")
    its = problem.argument
    is_alike = given.is_tree == its.is_tree and given.shapes == its.shapes
    if not is_alike or (given.is_tree and names_of(v) != names_of(its.given)):
        msg = f"v must have the form of x: it has shape {given.shape}, and x has {its.shape}"
        raise ValueError(msg)
    flat = given.host.astype(problem.x.dtype)
    if problem.bounds is not None:
        # The derivative along a fixed coordinate is 0.
        flat = np.where(problem.bounds.low == problem.bounds.high, 0.0, flat)
    largest = np.max(np.abs(flat) / size_of(problem.x), initial=0.0)
    if largest == 0.0:
        return flat, 0.0
    return flat / largest, float(1.0 / largest)
