"""Names for types that appear everywhere."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    # At run time this would import numpy.random, which NumPy itself leaves for its first use.
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
    "Tree",
]

Array: TypeAlias = Any
"""An array of the backend at hand (``numpy.ndarray``, ``cupy.ndarray``, ...)."""


class IsArray(Protocol):
    """An array of any library."""

    @property
    def shape(self) -> Any:
        """Its lengths."""

    @property
    def dtype(self) -> Any:
        """What its elements are."""


Kind = TypeVar("Kind", bound=IsArray)
"""A library's arrays, of a dtype, and with as many axes as their type says."""


class HasArray(Protocol):
    """What NumPy can make an array of, such as a table of pandas."""

    def __array__(self) -> Any:
        """Return the array."""


_Leaf: TypeAlias = float | IsArray | HasArray
# As deep as this and not recursive, because a text is a sequence of texts, for ever.
_Nested: TypeAlias = (
    Sequence[_Leaf] | Sequence[Sequence[_Leaf]] | Sequence[Sequence[Sequence[_Leaf]]]
)
Numbers: TypeAlias = float | _Nested
"""Python numbers and nested sequences of them."""

ArrayLike: TypeAlias = _Leaf | _Nested
"""An array, or Python numbers and nested sequences of them."""

Tree: TypeAlias = Mapping[Any, Any] | Sequence[Any]
"""Arrays in a dict, a list or a tuple, with others within."""

MethodName: TypeAlias = Literal[
    "central", "central4", "forward", "backward", "complex", "richardson"
]
"""The finite differences that there are."""

NetMethodName: TypeAlias = Literal["central", "forward", "backward"]
"""Those that engines take of nets."""

DTypeName: TypeAlias = Literal["float32", "float64"]
"""What nets compute in."""

DTypeLike: TypeAlias = (
    "DTypeName | type[np.float32 | np.float64] | np.dtype[np.float32] | np.dtype[np.float64]"
)
"""A `DTypeName`, or NumPy's own name for it."""

Rng: TypeAlias = "int | np.random.Generator | None"
"""A seed, a generator to draw from, or None for fresh entropy."""
