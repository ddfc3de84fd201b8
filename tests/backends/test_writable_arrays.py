"""Arrays that nets and derivatives cannot compute with are refused when their backend is made."""

import array_api_strict
import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend


class Frozen:
    """An array that refuses item assignment, as JAX's do."""

    def __init__(self, x):
        self.x = x

    def __getitem__(self, index):
        return self.made(self.x[index])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.x, dtype)

    def __setitem__(self, index, value):
        raise TypeError("arrays are immutable\nand a long explanation")

    @classmethod
    def made(cls, x):
        return cls(x)


class Copied(Frozen):
    """An array whose parts are copies, as those of some lazy libraries are."""

    def __setitem__(self, index, value):
        self.x[index] = value.x

    @classmethod
    def made(cls, x):
        return cls(array_api_strict.asarray(x, copy=True))


class Namespace:
    """array-api-strict, whose arrays are those of another class."""

    def __init__(self, array):
        self.array = array

    def asarray(self, x, **options):
        return self.array(array_api_strict.asarray(x, **options))

    def zeros(self, shape, **options):
        return self.array(array_api_strict.zeros(shape, **options))

    def __getattr__(self, name):
        return getattr(array_api_strict, name)


class Wrapped(Backend):
    inferred = False
    array = None

    def __init__(self):
        self.xp = Namespace(self.array)

    @classmethod
    def owns(cls, x):
        return isinstance(x, cls.array)


class Immutable(Wrapped):
    name = "immutable"
    array = Frozen


class WithoutViews(Wrapped):
    name = "without-views"
    array = Copied


CHOICES = {
    "when made": lambda cls: cls(),
    "get_backend": accelnn.get_backend,
    "backend=": lambda cls: accelnn.sigmoid([0.0], backend=cls),
    "set_backend": accelnn.set_backend,
}


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (Immutable, r"Frozen is none \(TypeError: arrays are immutable\)$"),
        (WithoutViews, r"Copied is none \(writing to x\[1:\] does not change x\)$"),
    ],
)
def test_a_backend_of_such_arrays_is_refused(cls, why, choose):
    with pytest.raises(TypeError, match=r"needs arrays that can be written, with views.*" + why):
        choose(cls)


def test_one_that_is_registered_is_listed_with_the_reason(listed):
    accelnn.register_backend(Immutable)
    row = listed("immutable")
    assert not row.available
    assert "needs arrays that can be written, with views" in row.reason
    # And no other is disturbed.
    assert accelnn.sigmoid([0.0]) == 0.5
