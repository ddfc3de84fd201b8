"""What names mean, and what is known."""

import array
import multiprocessing
import os
import threading
import time
import warnings

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend, BackendInfo
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendMismatchError, BackendUnavailableError
from accelnn.testing import StrictBackend


class Other(NumpyBackend):
    name = "other"
    inferred = False


class Broken(Other):
    name = "broken"

    def __init__(self):
        raise OSError("the card fell out")


class Missing(Other):
    name = "missing"

    def __init__(self):
        raise BackendUnavailableError(
            "it needs the package zzz:\n\n    pip install zzz\n", reason="not installed"
        )


def test_a_name_an_instance_and_a_class_mean_the_same_backend():
    numpy = accelnn.get_backend("numpy")
    assert type(numpy) is NumpyBackend
    assert accelnn.get_backend(numpy) is numpy
    assert accelnn.get_backend(NumpyBackend) is numpy
    assert accelnn.get_backend(Other) is accelnn.get_backend(Other)
    assert accelnn.get_backend(Other) is not numpy
    own = Other()
    assert accelnn.get_backend(own) is own


def test_auto_is_the_fastest_that_is_usable():
    usable = {info.name for info in accelnn.list_backends() if info.available}
    fastest = next(name for name in ("cupy", "numba", "numpy") if name in usable)
    assert accelnn.get_backend("auto") is accelnn.get_backend(fastest)


def test_auto_passes_over_what_cannot_be_used():
    accelnn.register_backend(type("NoCupy", (Missing,), {}), name="cupy", replace=True)
    accelnn.register_backend(type("NoNumba", (Missing,), {}), name="numba", replace=True)
    assert accelnn.get_backend("auto").name == "numpy"
    accelnn.register_backend(Other, name="numba", replace=True)
    assert accelnn.get_backend("auto").name == "other"


def test_an_unknown_name_lists_the_known_ones():
    accelnn.register_backend(Other)
    for choose in (accelnn.get_backend, accelnn.set_backend):
        with pytest.raises(
            ValueError,
            match=r"unknown backend 'jax'; known backends are "
            r"'numpy', 'numba', 'cupy', 'other'.*, and 'auto'$",
        ):
            choose("jax")


@pytest.mark.parametrize("wrong", [3, np, int, np.float32, b"numpy", ["numpy"]])
def test_a_wrong_type_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="a backend is a name, a Backend or a subclass of Backend"):
        accelnn.get_backend(wrong)
    with pytest.raises(TypeError, match="expected a Backend or a subclass of Backend"):
        accelnn.register_backend(wrong)


def test_list_names_our_own_first_and_says_where_they_compute():
    # Installed packages may announce others, whose reason is known once they are loaded.
    rows = accelnn.list_backends(load=True)
    assert [row.name for row in rows][:3] == ["numpy", "numba", "cupy"]
    assert rows[0] == BackendInfo("numpy", available=True, reason="", device="cpu")
    for row in rows:
        if row.available:
            assert row.reason == ""
            assert row.device == str(accelnn.get_backend(row.name).device)
        else:
            assert row.device == ""
            with pytest.raises(BackendUnavailableError) as raised:
                accelnn.get_backend(row.name)
            assert row.reason == str(raised.value).strip()


def test_list_reports_what_is_missing_or_broken_and_goes_on():
    for cls in (Missing, Broken, Other):
        accelnn.register_backend(cls)
    rows = {row.name: row for row in accelnn.list_backends()}
    assert rows["missing"][1:] == (False, "it needs the package zzz:\n\n    pip install zzz", "")
    assert rows["broken"][1:] == (
        False,
        "making it failed with OSError: the card fell out",
        "",
    )
    assert rows["other"].available


def test_registration_of_a_class_an_instance_and_by_decorator():
    assert accelnn.register_backend(Other) is Other
    assert accelnn.get_backend("other") is accelnn.get_backend(Other)

    own = StrictBackend()
    assert accelnn.register_backend(own, name="second") is own
    assert accelnn.get_backend("second") is own

    @accelnn.register_backend
    class Decorated(NumpyBackend):
        name = "decorated"
        inferred = False

    assert type(accelnn.get_backend("decorated")) is Decorated
    assert [row.name for row in accelnn.list_backends()][3:6] == ["other", "second", "decorated"]


def test_a_registered_class_is_made_when_it_is_first_asked_for():
    accelnn.register_backend(Broken)
    with pytest.raises(OSError, match="the card fell out"):
        accelnn.get_backend("broken")


def test_a_taken_name_is_refused_unless_it_is_to_be_replaced():
    accelnn.register_backend(Other)
    for name in ("other", "numpy", "cupy"):
        with pytest.raises(ValueError, match=f"a backend named '{name}' is already registered"):
            accelnn.register_backend(Other, name=name)
    with pytest.raises(ValueError, match="the name 'auto' is reserved"):
        accelnn.register_backend(Other, name="auto", replace=True)
    own = Other()
    accelnn.register_backend(own, replace=True)
    assert accelnn.get_backend("other") is own


def test_a_replaced_numpy_is_what_numpy_arrays_select():
    class Traced(NumpyBackend):
        pass

    accelnn.register_backend(Traced, name="numpy", replace=True)
    assert type(accelnn.get_backend("numpy")) is Traced
    assert type(accelnn.backends.resolve(None, np.ones(2))) is Traced
    assert type(accelnn.get_backend()) is Traced


def test_many_threads_that_ask_at_once_get_one_instance():
    made = []

    class Slow(Other):
        def __init__(self):
            super().__init__()
            made.append(self)
            time.sleep(0.02)

    together = threading.Barrier(8)
    got = []

    def ask():
        together.wait()
        got.append(accelnn.get_backend(Slow))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # No lock is held, so that several may be made; they all get the one that was ready first.
    assert len(got) == 8
    assert {id(backend) for backend in got} == {id(accelnn.get_backend(Slow))}
    assert got[0] in made


def test_many_threads_that_ask_for_an_engine_get_one():
    class SlowEngines(Other):
        def make_engine(self, spec, dtype):
            time.sleep(0.02)
            return super().make_engine(spec, dtype)

    backend = SlowEngines()
    spec = accelnn.MLP([2, 3], rng=0, backend="numpy").spec
    together = threading.Barrier(6)
    got = []

    def ask():
        together.wait()
        got.append(backend.engine(spec, "float32"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert len({id(engine) for engine in got}) == 1
    assert backend.engine(spec, np.float32) is got[0]
    assert backend.engine(spec, "float64") is not got[0]


@pytest.fixture
def being_made():
    """Return the class of a backend that another thread is making until the test is over."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Other):
        name = "slow"

        def __init__(self):
            begun.set()
            go_on.wait(60)

    maker = threading.Thread(target=accelnn.get_backend, args=(Slow,))
    maker.start()
    assert begun.wait(60)
    yield Slow
    go_on.set()
    maker.join()


@pytest.mark.usefixtures("being_made")
def test_a_backend_that_is_being_made_keeps_nobody_waiting():
    class New(Other):
        name = "new"

    got = []
    other = threading.Thread(
        target=lambda: got.extend(map(accelnn.get_backend, ("numpy", New))), daemon=True
    )
    other.start()
    other.join(30)
    assert [backend.name for backend in got] == ["numpy", "new"]


def _answer_of_child(work):
    """Return what `work` returns in a forked child, which must not hang."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(work()), daemon=True)
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork of a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    try:
        assert receiving.poll(30), "the child hangs"
        return receiving.recv()
    finally:
        child.kill()
        child.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_meanwhile_makes_backends(being_made):
    class New(Other):
        name = "new"

    def work():
        # In the child nobody waits for the event any more.
        being_made.__init__ = object.__init__
        return [accelnn.get_backend(b).name for b in (New, being_made)]

    assert _answer_of_child(work) == ["new", "slow"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_while_a_spec_is_laid_out_lays_out_others(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    lay_out = accelnn.backends.NetSpec._lay_out

    def slowly(spec):
        if spec.sizes == (2, 3):
            begun.set()
            go_on.wait(60)
        return lay_out(spec)

    monkeypatch.setattr(accelnn.backends.NetSpec, "_lay_out", slowly)
    thread = threading.Thread(target=accelnn.MLP, args=([2, 3],))
    thread.start()
    assert begun.wait(60)
    try:
        assert _answer_of_child(lambda: accelnn.MLP([4, 5]).spec.size) == 25
    finally:
        go_on.set()
        thread.join()


def test_a_cached_property_is_computed_once_and_stays_one_object():
    together, got = threading.Barrier(6), []
    spec = accelnn.MLP([2, 3, 4], backend="numpy").spec
    fresh = type(spec)(spec.sizes, "relu", spec.loss)

    def ask():
        together.wait()
        got.append(fresh.parameters)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(parameters) for parameters in got} == {id(fresh.parameters)}
    assert len(got) == 6
    assert type(spec).parameters.__doc__.startswith("The parameters in buffer order")


def test_a_backend_may_be_made_of_another_one():
    class Outer(Other):
        name = "outer"

        def __init__(self):
            super().__init__()
            self.inner = accelnn.get_backend(Other)

    assert accelnn.get_backend(Outer).inner is accelnn.get_backend(Other)


def test_a_class_with_devices_has_one_instance_for_each():
    class Twin(Other):
        name = "twin"

        def __init__(self, number=1):
            self.number = number

        @classmethod
        def device_count(cls):
            return 2

    accelnn.register_backend(Twin)
    first, second = (accelnn.get_backend(f"twin:{i}") for i in range(2))
    assert (first.number, second.number) == (0, 1)
    assert accelnn.get_backend("twin") is accelnn.get_backend(Twin) is second
    assert accelnn.get_backend(first.address) is first
    with pytest.raises(ValueError, match=r"known devices are 'twin:0', 'twin:1'$"):
        accelnn.get_backend("twin:2")


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


def test_a_net_comes_back_from_a_pickle_on_the_registered_instance():
    import pickle

    class Tuned(NumpyBackend):
        name = "tuned"
        inferred = False

        def __init__(self, threads):
            self.threads = threads

    backend = Tuned(4)
    accelnn.register_backend(backend)
    net = accelnn.MLP([3, 2], rng=0, backend=backend)
    assert accelnn.list_backends()
    back = pickle.loads(pickle.dumps(net))  # noqa: S301 - our own bytes
    assert back.backend is backend
    np.testing.assert_array_equal(back.flat, net.flat)


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


def test_one_instance_for_each_number_of_threads(compiled):
    one = accelnn.get_backend("numba:1")
    assert (type(one), one.threads, one.address) == (type(compiled), 1, "numba:1")
    assert repr(one) == "<accelnn backend 'numba:1' on cpu>"
    assert accelnn.get_backend("numba:1") is accelnn.get_backend("numba:01") is one
    assert accelnn.get_backend("numba:3").threads == 3
    assert accelnn.get_backend("numba").address == "numba"
    for wrong in ("0", "x", "", "-1", "1.5"):
        with pytest.raises(
            ValueError,
            match=rf"unknown number of threads '{wrong}' of the backend 'numba'; .*'numba:1'",
        ):
            accelnn.get_backend(f"numba:{wrong}")
