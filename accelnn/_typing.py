"""Names for types that appear everywhere."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    # At run time this would import numpy.random, which NumPy itself leaves for its first use.
    import numpy as np

__all__ = ["Array", "ArrayLike", "Rng"]

Array: TypeAlias = Any
"""An array of the backend at hand (``numpy.ndarray``, ``cupy.ndarray``, ...)."""

ArrayLike: TypeAlias = Any
"""An `Array`, or Python numbers and nested sequences of them."""

Rng: TypeAlias = "int | np.random.Generator | None"
"""A seed, a generator to draw from, or None for fresh entropy."""
