"""The derivatives of a function with many values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn._optional import import_optional
from accelnn._progress import progress_bar
from accelnn._typing import Array, ArrayLike
from accelnn.backends import BackendLike
from accelnn.gradient._complex import Slopes, require_complex_safe
from accelnn.gradient._numerical import Problem, flat_steps, pose
from accelnn.gradient._schemes import difference_scheme
from accelnn.gradient._steps import machine_epsilon, step_sizes
from accelnn.gradient.evaluators import HasMap, Mapper

__all__ = ["numerical_jacobian"]


def numerical_jacobian(
    f: Callable[[Array], Any],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | ArrayLike | None = None,
    bounds: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    sparsity: Any = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    full_output: bool = False,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Return the Jacobian of a function by finite differences.

    Parameters
    ----------
    f : callable
        Takes an array like `x` and returns an array of any shape, always the same. With
        ``batched=True`` it takes ``(k, *x.shape)`` and returns ``(k, ...)``.
    x : array_like
        As in `numerical_gradient`.
    method, step, bounds, workers, batched, chunk_size, full_output, progress, backend
        As in `numerical_gradient`.
    sparsity : array or scipy.sparse matrix of shape (m, n), optional
        Not zero where the derivative of value i by coordinate j may be other than zero; `x` and
        f(x) count as flat. Coordinates that share no value are moved together, which takes as many
        evaluations as there are groups of them. Not with ``method="richardson"`` or `full_output`.

    Returns
    -------
    array, scipy.sparse.csr_array or DerivativeResult
        Of shape ``(*f(x).shape, *x.shape)`` and x's dtype; with `sparsity`, of its shape, and
        sparse where it is.

    Raises
    ------
    ValueError
        As in `numerical_gradient`, and if `f` returns different shapes.
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
    with pose(
        f,
        x,
        method=method,
        bounds=bounds,
        backend=backend,
        scalar=False,
        workers=workers,
        batched=batched,
        chunk_size=chunk_size,
    ) as problem:
        if sparsity is not None:
            if method == "richardson" or full_output:
                msg = "with sparsity, method='richardson' and full_output=True are not supported"
                raise ValueError(msg)
            return _sparse(problem, step, sparsity, progress=progress)
        found = problem.solve("Numerical Jacobian", step, diagnose=full_output, progress=progress)
        xp = problem.backend.xp
        shape = tuple(found.value.shape)[1:]
        jacobian = xp.reshape(xp.moveaxis(found.value, 0, -1), (*shape, *problem.shape))
        problem.start.require_response(jacobian)
        if not full_output:
            return jacobian
        error = None if found.error is None else found.error.T
        return problem.result(jacobian, found._replace(error=error))


def _sparse(problem: Problem, step: Any, sparsity: Any, *, progress: bool) -> Any:
    """Move groups of coordinates together, and take the differences that the pattern names."""
    backend, start, n = problem.backend, problem.start, problem.x.shape[0]
    base = backend.to_numpy(start.base).reshape(-1)
    rows, columns = _pattern(sparsity, (base.size, n))
    groups = _grouped(rows, columns, n)
    step = flat_steps(backend, step, problem.shape)
    epsilon = machine_epsilon(backend, problem.x.dtype, start.base.dtype)
    h = step_sizes(backend, problem.x, method=problem.method, step=step, epsilon=epsilon)
    scheme = difference_scheme(
        backend, problem.x, h, problem.method, bounds=problem.bounds, step=step
    )
    together = _members(groups)
    moved = backend.xp.take(scheme.moved, backend.asarray(together.reshape(-1)), axis=0)
    moved = backend.xp.reshape(moved, (*together.shape, -1))
    title, unit = "Numerical Jacobian", "groups of coordinates"
    with progress_bar(title, len(together), enabled=progress, unit=unit) as advance:
        values = start.evaluator(together, backend.xp.permute_dims(moved, (0, 2, 1)), advance)
    seen = backend.to_numpy(values).reshape(len(together), -1, base.size)
    dtype = backend.to_numpy(problem.x).dtype
    entries = scheme.on_host(columns).derivatives(seen[groups[columns], :, rows], base[rows], dtype)
    if problem.method == "complex":
        slopes = Slopes(rows, columns, entries, base.size)
        require_complex_safe(start, problem.x, slopes, problem.bounds)
    start.require_response(entries)
    if hasattr(sparsity, "tocoo"):
        scipy_sparse = import_optional("scipy.sparse", feature="A sparse Jacobian", extra="bench")
        return scipy_sparse.csr_array((entries, (rows, columns)), shape=(base.size, n))
    jacobian = np.zeros((base.size, n), dtype)
    jacobian[rows, columns] = entries
    return backend.asarray(jacobian)


def _pattern(sparsity: Any, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of what may be other than zero."""
    pattern = sparsity if hasattr(sparsity, "tocoo") else np.asarray(sparsity)
    if tuple(pattern.shape) != shape:
        msg = (
            f"sparsity has shape {tuple(pattern.shape)}, but f has {shape[0]} values and x has "
            f"{shape[1]} coordinates: it must have shape {shape}"
        )
        raise ValueError(msg)
    # Sparse forms may name a place twice.
    places = np.unique(np.stack(pattern.nonzero(), axis=1), axis=0)
    return places[:, 0], places[:, 1]


def _grouped(rows: np.ndarray, columns: np.ndarray, n: int) -> np.ndarray:
    """Return the group of each column, so that no row meets two columns of one group."""
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


def _members(groups: np.ndarray) -> np.ndarray:
    """Return the columns of each group, of which short ones name their first again."""
    members = [np.flatnonzero(groups == group) for group in range(groups.max(initial=-1) + 1)]
    widest = max(map(len, members), default=0)
    rows = [np.concatenate([m, np.full(widest - len(m), m[0])]) for m in members]
    return np.array(rows, dtype=np.int64).reshape(len(members), widest)
