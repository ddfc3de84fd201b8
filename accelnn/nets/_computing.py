"""Where methods of a net run, and what they say if they cannot."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from accelnn._typing import ArrayLike
from accelnn._underflow import rounds_to_zero
from accelnn._validation import ROWS
from accelnn.backends import Backend, UnfitError, is_sparse, out_of_memory, pass_bytes
from accelnn.errors import OutOfMemoryError
from accelnn.nets._blocks import in_blocks

if TYPE_CHECKING:
    from accelnn.nets._net import Net

__all__ = ["computing"]

Method = TypeVar("Method", bound=Callable[..., Any])


def computing(method: Method) -> Method:
    """Run a method that takes samples on the net's device; say so if they do not fit in memory."""
    # What memory is estimated for: finite differences compute in double precision.
    dtype = "float64" if method.__name__ == "numerical_gradient" else None

    @functools.wraps(method)
    def on_device(net: Net, x: ArrayLike, *args: Any, **options: Any) -> Any:
        if type(x) is not np.ndarray and is_sparse(x) and method.__name__ != "check_gradient":
            return in_blocks(on_device, net, x, args, options)
        try:
            if type(net.backend).current is Backend.current:
                # There is one device.
                return method(net, x, *args, **options)
            with net.backend.current():
                return method(net, x, *args, **options)
        except FloatingPointError:
            # See `underflow_is_harmless`, whose wrapper would be one more call of Python.
            if np.geterr()["under"] == "ignore":
                raise
            with rounds_to_zero():
                return on_device(net, x, *args, **options)
        except UnfitError as error:
            unfit = error
        except MemoryError as error:
            if isinstance(error, OutOfMemoryError):
                raise
            needs, remedy = _needs_of(net, x, dtype), "Pass fewer samples at a time"
            raise out_of_memory(net.backend, needs, remedy, error) from error
        # The engine has found targets out of range; to check them here is to say which.
        shape = _shape(x)
        t, n = args[0] if args else options["t"], shape[0] if len(shape) == ROWS else None
        net.check_targets(t, n)
        raise unfit

    return cast("Method", on_device)


def _needs_of(net: Net, x: ArrayLike, dtype: str | None) -> str:
    """Return how much memory a pass over samples takes, in words."""
    shape = _shape(x)
    n = shape[0] if len(shape) == ROWS else 1
    size = pass_bytes(net.spec, dtype or net.dtype, n)
    return f"{n:,} samples and a net of {net.size:,} parameters take {size:,} bytes or more"


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", None) or np.shape(x))
