"""What a row of the table is."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """An input with its right value.

    Attributes
    ----------
    name : str
        Names the row in the test's id; unique.
    f : callable
        What is differentiated.
    x : array_like
        Where.
    right : array_like
        The derivative; of `Derivative` a tuple, order by order.
    source : str
        The address of the test or report from which the input is taken.
    radius : float or array
        f is analytic in each coordinate within this distance of x. Every tolerance follows from it
        and from the size of f there (`peer_rows._tolerance`).
    smooth : callable, optional
        A function equal to f that computes with complex numbers, where f itself does not.
    size : float, optional
        max |f| within `radius` of x, where neither computes with complex numbers, or where x is
        long.
    noise : float
        The size of what is cancelled inside f, where it is larger than f.
    complex_steps : bool
        Whether f computes with complex numbers.
    batches : bool
        Whether many points can be put on top of each other.
    options : dict
        For every call: `args`, `bounds`, `step` ...
    epsilon : float
        Machine epsilon of f's values where it is not that of x.
    """

    name: str
    f: Callable[..., Any]
    x: Any
    right: Any
    source: str
    radius: Any = 1.0
    smooth: Callable[..., Any] | None = None
    size: Any = None
    noise: float = 0.0
    complex_steps: bool = True
    batches: bool = True
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    epsilon: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Derivative(Row):
    """A function of one variable, elementwise; `right` has the orders 1, 2, ... that are known."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gradient(Row):
    """A function with one value."""


@dataclasses.dataclass(frozen=True, eq=False)
class Jacobian(Row):
    """A function with many values; `pattern` marks what may be other than zero."""

    pattern: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Hessian(Row):
    """Second derivatives of a function with one value, and its `gradient` where it is known."""

    gradient: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Check:
    """A gradient to be checked, and what is to be said of it in which modes.

    Attributes
    ----------
    verdict : {"right", "WRONG", "inconclusive", "not right", "not WRONG"}
        What `check_gradient` must answer.
    modes : tuple of str
        In which modes.
    """

    name: str
    f: Callable[[Any], Any]
    grad: Any
    x: Any
    verdict: str
    source: str
    modes: tuple[str, ...] = ("directional", "sampled", "full")
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    says: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """An answer: a value within an absolute tolerance, and flags or none."""

    right: Any
    tolerance: Any = 0.0
    flags: Any = None
    """For each coordinate whether it must be flagged; None where that is not asked."""
    dtype: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Raises:
    """An answer: an error of this type whose message matches."""

    error: Any
    match: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call that no other row has the form for, and its answer."""

    name: str
    call: Callable[[], Any]
    answer: Value | Raises
    source: str
    needs: str = ""
    """A package without which the row is skipped."""


def quiet(f: Callable[..., Any]) -> Callable[..., Any]:
    """Let f leave its domain without a warning, in threads too."""

    def quietly(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return f(*args, **kwargs)

    return quietly
