"""What names mean, and which backends are known."""

import numpy as np
import pytest
from made_up_backends import Other

import accelnn
from accelnn.backends import BackendInfo, _resolve
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendUnavailableError
from accelnn.testing import StrictBackend


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


def test_auto_says_what_is_installed_and_cannot_be_used(caplog):
    """Once, and not of what nobody has installed."""

    class Old(Other):
        def __init__(self):
            raise BackendUnavailableError("the card is too old\n", reason="no compiler")

    _resolve._pass_over.cache_clear()
    accelnn.register_backend(type("NoNumba", (Missing,), {}), name="numba", replace=True)
    accelnn.register_backend(Old, name="cupy", replace=True)
    for _ in range(2):
        assert accelnn.get_backend("auto").name == "numpy"
    assert caplog.messages == ["'auto' passes over the backend 'cupy': the card is too old"]


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
