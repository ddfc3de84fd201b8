"""User-defined activations, losses and update rules, made from scalar functions."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Real
from types import FunctionType
from typing import Any, ClassVar

from accelnn._shown import shown
from accelnn._typing import Array, Schedule
from accelnn.formulas._activation import ActivationFormula, Initializer
from accelnn.formulas._checks import check_parameters, learning_rate
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._ops import ops_of
from accelnn.formulas._rule import UpdateRule

__all__ = ["Activation", "Loss", "Rule", "described_own"]

# The points at which slopes are checked: integers, because kinks are usually at one of them.
POINTS = tuple(float(point) for point in range(-4, 5))
# The steps of the differences that a slope is compared with, and that of the complex step.
STEPS, IMAGINARY = (1e-2, 1e-3, 1e-4, 1e-5), 1e-50
# Tolerances of the comparison: relative, absolute, in multiples of the distance of two differences,
# and the relative difference of the slopes on both sides that makes a point a kink.
RTOL, ATOL, APART, KINK = 1e-6, 1e-9, 10.0, 1e-3
# The target at which slopes of a loss are checked.
TARGET = 0.3
# The output functions that a loss may name.
OUTPUTS = ("identity", "sigmoid", "softmax", "softplus", "tanh", "relu")


class _Own:
    """A name and two scalar functions, compared by value."""

    kind: ClassVar[str]

    def __init__(self, name: str, value: Callable[..., Any], slope: Callable[..., Any]) -> None:
        _check_own(name, value=value, slope=slope)
        self.name = name
        self.functions = value, slope

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"accelnn.{type(self).__name__}({self.name!r}, ...)"

    def _key(self) -> tuple[Any, ...]:
        return self.name, *self.functions

    def described(self) -> dict[str, Any]:
        """Return a description for JSON: where its functions can be imported.

        Raises
        ------
        TypeError
            If they cannot, as a lambda.
        """
        found: dict[str, Any] = {"name": self.name, "kind": self.kind}
        for what, function in zip(("value", "slope"), self.functions, strict=True):
            module = getattr(function, "__module__", None)
            path = f"{module}:{getattr(function, '__qualname__', '')}"
            if module in (None, "__main__") or _imported(path) is not function:
                msg = (
                    f"{self!r} cannot be saved: its {what}, {path}, cannot be imported. Define it "
                    f"with def in a module"
                )
                raise TypeError(msg)
            found[what] = path
        return found


class Activation(_Own, ActivationFormula):
    """A user-defined activation, from scalar functions for its value and its slope.

    Two activations are equal if their names and functions are equal; there is no registry.

    Parameters
    ----------
    name : str
        Its name in errors and files.
    value, slope : callable
        f(x) and f'(x) of a float, in plain Python and `math`.
    initializer : {"xavier", "he"}, default "xavier"
        The initialisation of the weights that feed it.

    Raises
    ------
    ValueError
        If the slope is not that of the value at one of nine points from -4 to 4, by central
        differences, and by a complex step where `value` takes complex numbers. At a kink it may be
        anything between the slopes of both sides.
    TypeError
        If one of the two is not a function, or the backend's arrays are on a device.

    Notes
    -----
    NumPy calls the functions once per number, which is slow; a warning is logged once. Numba
    compiles them into its kernels: for vectors, or number by number if they branch, which takes up
    to four times as long. Compiled code does not raise: what is an error in Python, as ``1 / 0``
    or ``math.log(-1)``, is infinite or NaN there, and functions with ``raise``, ``assert`` or
    ``try`` are not compiled. The change is ``value(x + d) - value(x)``.

    Examples
    --------
    >>> import math, accelnn
    >>> def bent(x):
    ...     return (math.sqrt(x * x + 1) - 1) / 2 + x
    >>> def slope(x):
    ...     return x / (2 * math.sqrt(x * x + 1)) + 1
    >>> accelnn.MLP([4, 3, 2], activation=accelnn.Activation("bent", bent, slope), rng=0)
    <MLP 4-3-2, bent, cross_entropy, float32, 23 parameters on numpy>
    """

    kind = "activation"

    def __init__(
        self,
        name: str,
        value: Callable[[float], float],
        slope: Callable[[float], float],
        *,
        initializer: Initializer = "xavier",
    ) -> None:
        super().__init__(name, value, slope)
        if initializer not in ("xavier", "he"):
            msg = f"initializer must be 'xavier' or 'he', got {shown(initializer)}"
            raise ValueError(msg)
        self.initializer = initializer
        _check_slope(repr(self), value, slope)

    def _key(self) -> tuple[Any, ...]:
        return (*super()._key(), self.initializer)

    def described(self) -> dict[str, Any]:
        """See `_Own.described`."""
        return {**super().described(), "initializer": self.initializer}

    def _value(self, ops: Any, x: Array) -> Array:
        return ops.map(self.functions[0], x)

    def _slope(self, ops: Any, x: Array) -> Array:
        return ops.map(self.functions[1], x)


class Loss(_Own, LossFormula):
    """A user-defined loss, from scalar functions of one score and its target.

    Parameters
    ----------
    name : str
        Its name in errors and files.
    value, slope : callable
        l(a, t) of two floats, and its derivative with respect to `a`, in plain Python and `math`.
        `a` is the score, before the output function: any number. The loss of a sample is the sum
        over its outputs.
    output : str, default "identity"
        The op that turns scores into what the net predicts, such as "sigmoid".

    Raises
    ------
    ValueError, TypeError
        As `Activation` does.

    Examples
    --------
    >>> import math, accelnn
    >>> def value(a, t):
    ...     return math.log(math.cosh(a - t))
    >>> def slope(a, t):
    ...     return math.tanh(a - t)
    >>> accelnn.MLP([4, 3, 2], loss=accelnn.Loss("log_cosh", value, slope), rng=0)
    <MLP 4-3-2, sigmoid, log_cosh, float32, 23 parameters on numpy>
    """

    kind = "loss"

    def __init__(
        self,
        name: str,
        value: Callable[[float, float], float],
        slope: Callable[[float, float], float],
        output: str = "identity",
    ) -> None:
        super().__init__(name, value, slope)
        if output not in OUTPUTS:
            msg = f"output must be one of {', '.join(map(repr, OUTPUTS))}, got {shown(output)}"
            raise ValueError(msg)
        self.output = output
        _check_slope(repr(self), lambda a: value(a, TARGET), lambda a: slope(a, TARGET))

    def _key(self) -> tuple[Any, ...]:
        return (*super()._key(), self.output)

    def described(self) -> dict[str, Any]:
        """See `_Own.described`."""
        return {**super().described(), "output": self.output}

    def _value(self, ops: Any, a: Array, t: Array) -> Array:
        return ops.xp.sum(ops.map(self.functions[0], a, t), axis=-1)

    def _grad(self, ops: Any, a: Array, t: Array) -> Array:
        return ops.map(self.functions[1], a, t)


@dataclass(frozen=True, repr=False)
class Rule(UpdateRule):
    """A user-defined update rule, from a scalar function of one parameter.

    Parameters
    ----------
    name : str
        Its name in errors.
    function : callable
        ``function(p, g, rate, k, *state)`` of a parameter, its gradient, the learning rate and the
        number of the update, from 1.0, in plain Python and `math`. It returns the new parameter or,
        if the rule has state, a tuple of the new parameter and the new state.
    lr : float or schedule
        Learning rate; see `accelnn.schedules`.
    state : tuple of str, default ()
        Names of the numbers that are kept for each parameter; they start at zero.
    weight_decay, decay_biases
        See `UpdateRule`; the decay is part of g.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, the function does not return that many numbers, or the backend's
        arrays are on a device.

    Notes
    -----
    It is called or compiled as the functions of `Activation` are; compiled code flushes subnormal
    numbers to zero. Coefficients are global variables, or those of a closure.

    Examples
    --------
    Lion, whose updates are signs:

    >>> import math, numpy as np, accelnn
    >>> def lion(p, g, rate, k, m):
    ...     moved = 0.9 * m + 0.1 * g
    ...     sign = math.copysign(1.0, moved) if moved != 0.0 else 0.0
    ...     return p - rate * sign, 0.99 * m + 0.01 * g
    >>> rule = accelnn.Rule("lion", lion, lr=0.1, state=("average",))
    >>> params = {"W": np.array([[1.0, -1.0]])}
    >>> state = rule.init(params)
    >>> rule.update(params, {"W": np.array([[3.0, -0.5]])}, state)
    >>> params["W"], state["average"]["W"]
    (array([[ 0.9, -0.9]]), array([[ 0.03 , -0.005]]))
    """

    name: str
    function: Callable[..., Any]
    lr: float | Schedule = field(kw_only=True)
    state: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, lr=learning_rate)
        _check_own(self.name, function=self.function)
        names = self.state
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            msg = f"state must be a tuple of names, such as ('average',), got {shown(names)}"
            raise TypeError(msg)
        if len({"updates", *names}) <= len(names):
            msg = f"state must have different names, none of them 'updates', got {shown(names)}"
            raise ValueError(msg)
        rate = self._rate(1)
        try:
            found = self.function(0.5, 0.25, rate, 1.0, *[0.0] * len(names))
        except Exception as error:
            error.add_note(f"It was raised by function(p, g, rate, k, *state) of {self!r}")
            raise
        parts = found if isinstance(found, tuple) else (found,)
        is_right = isinstance(found, tuple) == bool(names) and len(parts) == 1 + len(names)
        if not is_right or not all(isinstance(part, Real) for part in parts):
            wanted = (
                f"a tuple of {1 + len(names)} numbers, p and its state" if names else "a number"
            )
            msg = f"the function of {self!r} must return {wanted}, got {shown(found)}"
            raise TypeError(msg)

    def __repr__(self) -> str:
        return f"accelnn.Rule({self.name!r}, ..., lr={self.lr!r})"

    @property
    def state_names(self) -> tuple[str, ...]:
        """The arrays of its state."""
        return self.state

    def _apply(
        self,
        params: Array,
        grads: Array,
        slots: Sequence[Array],
        rate: float,
        k: int,
        xp: Any,
        scratch: Array | None = None,
    ) -> None:
        ops = ops_of(None, params)
        numbers = params, grads, ops.asarray(float(rate)), ops.asarray(float(k)), *slots
        found = ops.map(self.function, *numbers, results=1 + len(slots))
        for array, moved in zip((params, *slots), found if slots else (found,), strict=True):
            array[...] = moved


def described_own(description: Mapping[str, Any]) -> Activation | Loss:
    """Return what `described` described.

    Only functions of modules are taken, and none is called: their slopes were checked once.
    """
    functions = []
    for what in ("value", "slope"):
        function = _imported(description[what])
        if not isinstance(function, FunctionType):
            msg = f"the {what} of {description['name']!r}, {description[what]}, cannot be imported"
            if isinstance(function, BaseException):
                msg += f": {type(function).__name__}: {function}"
            raise ValueError(msg)  # noqa: TRY004 - of what a file says
        functions.append(function)
    kinds: dict[str, type[Activation | Loss]] = {own.kind: own for own in (Activation, Loss)}
    kind = kinds[description["kind"]]
    found = kind.__new__(kind)
    _Own.__init__(found, description["name"], *functions)
    part = "output" if kind is Loss else "initializer"
    if description[part] not in (OUTPUTS if kind is Loss else ("xavier", "he")):
        msg = f"unknown {part} {description[part]!r}"
        raise ValueError(msg)
    setattr(found, part, description[part])
    return found


def _check_own(name: object, **functions: object) -> None:
    """Refuse what is no name, and what is no function that can tell two formulas apart."""
    for what, given in functions.items():
        if not callable(given):
            msg = f"{what} must be a function of plain numbers, got {shown(given)}"
            raise TypeError(msg)
        try:
            hash(given)
        except TypeError as error:
            msg = f"{what} must be hashable, as functions are, and {shown(given)} is not"
            raise TypeError(msg) from error
    if not isinstance(name, str) or not name:
        msg = f"name must be a text, got {shown(name)}"
        raise TypeError(msg)


def _imported(path: object) -> Any:
    """Return what ``module:name`` is, or the error that keeps it from being had."""
    if not isinstance(path, str):
        return TypeError(f"{path!r} is no text")
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - of the module: the caller says it
        return error
    return found


def _check_slope(what: str, value: Callable[..., Any], slope: Callable[..., Any]) -> None:
    for x in POINTS:
        try:
            found = float(slope(x))
            low, high = _slopes(value, x)
        except Exception as error:
            error.add_note(f"It was raised while the slope of {what} was checked at {x:g}")
            raise
        if not low <= found <= high:
            expected = 0.5 * (low + high)
            msg = (
                f"the slope of {what} is {found:.10g} at {x:g}, but its value changes by "
                f"{expected:.10g} times a small step there"
            )
            raise ValueError(msg)


def _slopes(value: Callable[..., Any], x: float) -> tuple[float, float]:
    """Return between which numbers a derivative is, or the slopes of both sides of a kink."""
    central = [_central(value, x, h) for h in STEPS]
    apart = [abs(a - b) for a, b in pairwise(central)]
    best = apart.index(min(apart))
    found = central[best + 1]
    h = STEPS[-1]
    sides = sorted((value(x) - value(x - h), value(x + h) - value(x)))
    left, right = sides[0] / h, sides[1] / h
    if right - left > KINK * max(abs(left), abs(right)):
        found, apart[best] = 0.5 * (left + right), 0.5 * (right - left) / APART
    off = RTOL * abs(found) + ATOL + APART * apart[best]
    exact = _complex(value, x)
    # A function of the size of a complex number, as abs, is none of the number.
    if exact is not None and abs(exact - found) <= off:
        return exact - RTOL * abs(exact) - ATOL, exact + RTOL * abs(exact) + ATOL
    return found - off, found + off


def _central(value: Callable[..., Any], x: float, h: float) -> float:
    """Return a difference of the fourth order."""
    near, far = value(x + h) - value(x - h), value(x + 2 * h) - value(x - 2 * h)
    return float(8.0 * near - far) / (12.0 * h)


def _complex(value: Callable[..., Any], x: float) -> float | None:
    try:
        stepped = value(complex(x, IMAGINARY))
    except Exception:  # noqa: BLE001 - it need not take complex numbers
        return None
    return stepped.imag / IMAGINARY if isinstance(stepped, complex) else None
