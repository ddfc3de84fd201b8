"""What a user's class needs to be a backend, and when its methods are called."""

import array

import numpy as np
import pytest
from made_up_backends import Other

import accelnn
from accelnn.backends import Backend
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendMismatchError, BackendUnavailableError
from accelnn.testing import StrictBackend


def test_the_base_class_asks_for_ownership_to_be_told():
    class Nameless(Backend):
        name = "nameless"
        xp = np

    with pytest.raises(NotImplementedError):
        Nameless.owns(np.ones(1))


def test_a_backend_may_forget_to_call_the_constructor_of_the_base():
    class Forgetful(NumpyBackend):
        name = "forgetful"
        inferred = False

        def __init__(self):
            self.made = True

    net = accelnn.MLP([3, 2], rng=0, backend=Forgetful)
    assert net.predict(np.zeros(3)).shape == (2,)


def test_a_device_that_cannot_be_told_is_a_broken_backend(listed):
    class Broken(NumpyBackend):
        name = "broken"
        inferred = False

        @property
        def device(self):
            raise OSError("no driver")

    accelnn.register_backend(Broken)
    row = listed("broken")
    assert not row.available
    assert "OSError: no driver" in row.reason


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "b"}, "needs a class method `owns`"),
        (
            {"name": "", "owns": classmethod(lambda _cls, _x: False)},
            "needs a class attribute `name`",
        ),
        ({}, "needs a class attribute `name` and a class method `owns`"),
    ],
)
def test_an_incomplete_backend_is_refused_where_it_is_offered(body, message):
    incomplete = type("Incomplete", (Backend,), body)
    for offer in (accelnn.register_backend, accelnn.get_backend, accelnn.set_backend):
        with pytest.raises(TypeError, match=message):
            offer(incomplete)
    assert accelnn.sigmoid(0.0) == 0.5


def test_a_backend_without_a_namespace_is_told_what_to_write():
    class Bare(Backend):
        name = "bare"

        @classmethod
        def owns(cls, x):
            return isinstance(x, array.array)

    class Forgetful(Bare):
        def __init__(self):
            self.made = True

    class Late(Bare):
        def __init__(self):
            self.xp = np

    message = r"it needs an attribute `xp`. Write in the class:\n\n    xp = array_namespace"
    for offer in (accelnn.register_backend, accelnn.get_backend, accelnn.MLP([2, 3]).to):
        with pytest.raises(TypeError, match=f"Bare is no complete backend: {message}"):
            offer(Bare)
    # A constructor may set it: whether it does is seen when there is an instance.
    accelnn.register_backend(Forgetful, name="forgetful")
    for name in ("forgetful", Forgetful):
        with pytest.raises(TypeError, match=f"Forgetful is no complete backend: {message}"):
            accelnn.get_backend(name)
    with pytest.raises(TypeError, match=message):
        accelnn.register_backend(Forgetful(), name="made")
    assert accelnn.register_backend(Late) is Late
    assert accelnn.get_backend("bare").xp is np


@pytest.mark.parametrize("own", [staticmethod, classmethod])
def test_owns_may_be_a_static_method(own):
    class Ours(np.ndarray):
        pass

    def owns(*args):
        return isinstance(args[-1], Ours)

    backend = type("Static", (Backend,), {"name": "static", "xp": np, "owns": own(owns)})
    accelnn.register_backend(backend)
    # A subclass of NumPy's arrays, which NumPy's backend owns too, and is asked first.
    assert accelnn.get_backend("static").owns(np.ones(2).view(Ours))
    assert not accelnn.get_backend("static").owns(np.ones(2))


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("owns", r"def owns\(cls, x\):"),
        ("check_available", r"def check_available\(cls\):"),
        ("number_of", r"def number_of\(cls, x\):"),
    ],
)
def test_a_method_of_instances_where_the_class_is_asked_is_refused(method, shown):
    wrong = type("Wrong", (Other,), {method: lambda *_: None})
    for offer in (accelnn.register_backend, accelnn.get_backend):
        with pytest.raises(
            TypeError,
            match=rf"(?s)Wrong\.{method} is called on the class, .*@classmethod\n    {shown}",
        ):
            offer(wrong)


def test_check_available_is_called_before_a_backend_is_made(listed):
    calls = []

    class Checked(Other):
        name = "checked"

        def __init__(self):
            calls.append("made")

        @classmethod
        def check_available(cls):
            calls.append("checked")
            if len(calls) == 1:
                raise BackendUnavailableError("plug it in", reason="no device")

    accelnn.register_backend(Checked)
    assert calls == []
    assert listed("checked") == ("checked", False, "plug it in", "")
    accelnn.get_backend("checked")
    accelnn.get_backend("checked")
    assert calls == ["checked", "checked", "made"]


def test_a_class_that_ends_the_interpreter_when_it_is_made_is_a_broken_one(listed):
    class Exits(Other):
        name = "exits"

        def __init__(self):
            raise SystemExit("no licence")

    accelnn.register_backend(Exits)
    assert listed("exits").reason == "making it failed with SystemExit: no licence"


def test_the_truth_of_a_backend_decides_nothing(exercise, monkeypatch):
    class Empty(NumpyBackend):
        def __len__(self):
            return 0

    empty = Empty()
    accelnn.register_backend(empty, name="numpy", replace=True)
    x = np.ones(3)
    assert accelnn.backends.resolve(None, x, x) is empty
    assert accelnn.get_backend() is accelnn.get_backend("numpy") is empty
    other = Other()
    with pytest.raises(BackendMismatchError, match="'numpy' and 'strict'"):
        accelnn.backends.resolve(None, x, accelnn.get_backend(StrictBackend).asarray(x))
    for outer in (other, empty):
        accelnn.set_backend(outer)
        with accelnn.use_backend(empty):
            assert accelnn.get_backend() is accelnn.backends.resolve(None, x) is empty
    assert accelnn.get_backend() is empty
    accelnn.set_backend(None)
    accelnn.register_backend(empty, name="empty")
    monkeypatch.setenv("ACCELNN_BACKEND", "empty")
    assert accelnn.get_backend() is empty
    exercise(empty)


def test_the_truth_of_a_backend_is_never_asked_for(exercise, listed):
    class Undecided(Other):
        name = "undecided"

        def __bool__(self):
            raise AssertionError("bool(backend) decides something")

    with accelnn.use_backend(Undecided) as backend:
        exercise(backend)
    accelnn.register_backend(backend)
    assert listed("undecided").available
