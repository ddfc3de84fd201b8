"""Type aliases and protocols used throughout the package."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    # At run time this would import numpy.random, which NumPy loads lazily.
    import numpy as np

__all__ = [
    "Array",
    "ArrayLike",
    "DTypeLike",
    "DTypeName",
    "HasArray",
    "IsArray",
    "Kind",
    "MethodName",
    "NetMethodName",
    "Numbers",
    "Rng",
    "Schedule",
    "Tree",
]

Array: TypeAlias = Any
"""An array of the backend at hand (``numpy.ndarray``, ``cupy.ndarray``, ...)."""


class IsArray(Protocol):
    """An array of any library."""

    @property
    def shape(self) -> Any:
        """The length of each axis."""

    @property
    def dtype(self) -> Any:
        """The type of its elements."""


Kind = TypeVar("Kind", bound=IsArray)
"""An array type, with the dtype and number of axes that it declares."""


class HasArray(Protocol):
    """An object that NumPy can convert to an array, such as a pandas DataFrame."""

    def __array__(self) -> Any:
        """Return the array."""


_Leaf: TypeAlias = float | IsArray | HasArray
# Three levels rather than a recursive type, which `str`, a sequence of `str`, would match.
_Nested: TypeAlias = (
    Sequence[_Leaf] | Sequence[Sequence[_Leaf]] | Sequence[Sequence[Sequence[_Leaf]]]
)
Numbers: TypeAlias = float | _Nested
"""Python numbers and nested sequences of them."""

ArrayLike: TypeAlias = _Leaf | _Nested
"""An array, or Python numbers and nested sequences of them."""

Tree: TypeAlias = Mapping[Any, Any] | Sequence[Any]
"""Arrays in nested dicts, lists and tuples."""

MethodName: TypeAlias = Literal[
    "central", "central4", "forward", "backward", "complex", "richardson"
]
"""The finite difference methods."""

NetMethodName: TypeAlias = Literal["central", "forward", "backward"]
"""The methods of a net's numerical gradient."""

DTypeName: TypeAlias = Literal["float32", "float64"]
"""The dtypes of nets."""

DTypeLike: TypeAlias = (
    "DTypeName | type[np.float32 | np.float64] | np.dtype[np.float32] | np.dtype[np.float64]"
)
"""A `DTypeName`, or NumPy's type or dtype for it."""

Rng: TypeAlias = "int | np.random.Generator | None"
"""A seed, a generator to draw from, or None for fresh entropy."""

Schedule: TypeAlias = Callable[[int], float]
"""A learning rate as a function of the number of updates done before."""
