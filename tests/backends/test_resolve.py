"""Which backend computes, when several have a say."""

import asyncio
import threading

import array_api_strict
import numpy as np
import pytest

import accelnn
from accelnn.backends import resolve
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendMismatchError, BackendUnavailableError
from accelnn.testing import StrictBackend


def _named(name):
    return type(name.title(), (NumpyBackend,), {"name": name, "inferred": False})


@pytest.fixture
def strict():
    accelnn.register_backend(StrictBackend)
    return accelnn.get_backend("strict")


@pytest.fixture
def four():
    """Register backends named after the four places where one can be chosen."""
    for name in ("argument", "context", "process", "environment"):
        accelnn.register_backend(_named(name))


class TorchLike:
    """What a tensor of another library shows of itself."""

    __module__ = "torch"

    def __dlpack__(self):
        raise AssertionError("nothing may be converted implicitly")

    __array__ = __dlpack__


@pytest.mark.usefixtures("four")
def test_the_whole_order(monkeypatch, strict):
    x = strict.asarray([1.0])

    def chosen(argument=None):
        return resolve(argument, x).name

    assert resolve(None).name == resolve(None, [1.0]).name == "numpy"
    assert chosen() == "strict"
    monkeypatch.setenv("ACCELNN_BACKEND", "environment")
    assert chosen() == "environment"
    accelnn.set_backend("process")
    assert chosen() == "process"
    with accelnn.use_backend("context"):
        assert chosen() == "context"
        assert chosen("argument") == "argument"
        accelnn.set_backend("environment")
        assert chosen() == "context"
    assert chosen() == "environment"
    accelnn.set_backend(None)
    monkeypatch.delenv("ACCELNN_BACKEND")
    assert chosen() == "strict"


@pytest.mark.usefixtures("four")
def test_get_backend_without_a_name_is_the_active_one(monkeypatch):
    assert accelnn.get_backend().name == "numpy"
    monkeypatch.setenv("ACCELNN_BACKEND", "environment")
    assert accelnn.get_backend().name == "environment"
    accelnn.set_backend("process")
    assert accelnn.get_backend().name == "process"
    with accelnn.use_backend("context"):
        assert accelnn.get_backend().name == "context"
    accelnn.set_backend(None)
    assert accelnn.get_backend().name == "environment"


@pytest.mark.usefixtures("four")
def test_blocks_nest_and_yield_their_backend():
    with accelnn.use_backend("context") as outer:
        assert accelnn.get_backend() is outer
        with accelnn.use_backend("argument") as inner:
            assert accelnn.get_backend() is inner
            with accelnn.use_backend(outer):
                assert accelnn.get_backend() is outer
            assert accelnn.get_backend() is inner
        assert accelnn.get_backend() is outer
    assert accelnn.get_backend().name == "numpy"


@pytest.mark.usefixtures("four")
def test_a_block_left_by_an_exception_is_left():
    def fail(name):
        with accelnn.use_backend(name):
            raise KeyError(accelnn.get_backend().name)

    with accelnn.use_backend("context"):
        with pytest.raises(KeyError, match="argument"):
            fail("argument")
        assert accelnn.get_backend().name == "context"
    with pytest.raises(KeyError, match="argument"):
        fail("argument")
    assert accelnn.get_backend().name == "numpy"


@pytest.mark.usefixtures("four")
def test_a_wrong_choice_leaves_the_old_one():
    accelnn.set_backend("process")
    with pytest.raises(ValueError, match="unknown backend 'nothing'"):
        accelnn.set_backend("nothing")
    with (
        pytest.raises(ValueError, match="unknown backend 'nothing'"),
        accelnn.use_backend("nothing"),
    ):
        pass
    assert accelnn.get_backend().name == "process"


@pytest.mark.usefixtures("four")
def test_a_choice_may_be_a_class_or_an_instance():
    cls = _named("own")
    own = cls()
    accelnn.set_backend(own)
    assert accelnn.get_backend() is own
    with accelnn.use_backend(cls) as made:
        assert type(made) is cls
        assert made is not own
        assert accelnn.sigmoid([0.0], backend="argument").tolist() == [0.5]


@pytest.mark.usefixtures("four")
def test_threads_do_not_see_each_others_blocks():
    inside, leave = threading.Barrier(3), threading.Event()
    seen = {}

    def work(name):
        with accelnn.use_backend(name):
            inside.wait()
            seen[name] = accelnn.get_backend().name
            leave.wait()
        seen[f"{name} after"] = accelnn.get_backend().name

    threads = [threading.Thread(target=work, args=(n,)) for n in ("context", "argument")]
    for thread in threads:
        thread.start()
    inside.wait()
    # Both threads are inside their blocks, and the main thread is in none.
    assert accelnn.get_backend().name == "numpy"
    accelnn.set_backend("process")
    leave.set()
    for thread in threads:
        thread.join()
    assert seen == {
        "context": "context",
        "argument": "argument",
        "context after": "process",
        "argument after": "process",
    }


@pytest.mark.usefixtures("four")
def test_asyncio_tasks_do_not_see_each_others_blocks():
    async def work(name, mine, other):
        with accelnn.use_backend(name):
            mine.set()
            await other.wait()
            await asyncio.sleep(0)
            return accelnn.get_backend().name, resolve(None, np.ones(1)).name

    async def main():
        a, b = asyncio.Event(), asyncio.Event()
        with accelnn.use_backend("environment"):
            tasks = [
                asyncio.create_task(work("context", a, b)),
                asyncio.create_task(work("argument", b, a)),
            ]
            found = await asyncio.gather(*tasks)
            # A task starts with the choice of the one that made it, and leaves it alone.
            return [*found, accelnn.get_backend().name]

    assert asyncio.run(main()) == [
        ("context", "context"),
        ("argument", "argument"),
        "environment",
    ]
    assert accelnn.get_backend().name == "numpy"


def test_an_unknown_name_in_the_environment_is_reported_when_it_is_needed(monkeypatch):
    monkeypatch.setenv("ACCELNN_BACKEND", "nunpy")
    for needs_one in (
        accelnn.get_backend,
        lambda: accelnn.sigmoid(1.0),
        lambda: accelnn.MLP([2, 3]),
    ):
        with pytest.raises(ValueError, match="unknown backend 'nunpy'; known backends are 'numpy'"):
            needs_one()
    assert accelnn.get_backend("numpy").name == "numpy"
    assert accelnn.sigmoid(0.0, backend="numpy") == 0.5
    monkeypatch.setenv("ACCELNN_BACKEND", "")
    assert accelnn.get_backend().name == "numpy"


def test_an_unusable_backend_in_the_environment_is_no_silent_fallback(monkeypatch):
    class Missing(NumpyBackend):
        name = "missing"
        inferred = False

        def __init__(self):
            raise BackendUnavailableError("get it", reason="not installed")

    accelnn.register_backend(Missing)
    monkeypatch.setenv("ACCELNN_BACKEND", "missing")
    with pytest.raises(BackendUnavailableError, match="get it"):
        accelnn.softmax(np.ones(3))


def test_numpy_arrays_never_select_numba():
    numba = pytest.importorskip("numba", reason="numba is not installed")
    assert numba.__name__ == "numba"
    compiled = accelnn.get_backend("numba")
    x = compiled.asarray([1.0, 2.0])
    assert resolve(None, x).name == "numpy"
    assert accelnn.MLP([2, 3]).backend.name == "numpy"
    assert resolve("numba", x) is compiled


def test_arrays_of_a_registered_backend_select_it(strict):
    x = strict.asarray([0.0])
    assert strict.owns(accelnn.sigmoid(x))
    assert strict.owns(accelnn.gradient_descent(lambda x: strict.xp.sum(x**2), x, step_num=1))
    assert accelnn.prepare(strict.asarray([[1.0]]), strict.asarray([[1.0]])).backend is strict


def test_arrays_select_the_very_instance_that_was_registered():
    own = StrictBackend()
    accelnn.register_backend(own, name="mine")
    assert resolve(None, own.asarray([1.0])) is own


def test_arrays_select_a_backend_that_was_only_used():
    own = accelnn.get_backend(StrictBackend)
    assert resolve(None, own.asarray([1.0])) is own


def test_arrays_of_two_backends_are_refused_by_both_names(strict):
    a, b = np.ones((1, 3)), strict.asarray(np.ones((1, 3)))
    for mixed in ((a, b), (b, a)):
        with pytest.raises(
            BackendMismatchError,
            match=r"different backends \('(numpy|strict)' and '(numpy|strict)'\)",
        ) as raised:
            accelnn.sum_squared_error(*mixed)
        for word in ("'numpy'", "'strict'", ".asarray(", ".to_numpy("):
            assert word in str(raised.value)
    assert resolve(None, [1.0], 2, b) is strict
    assert resolve(None, a, [1.0], a) is accelnn.get_backend("numpy")


def test_an_explicit_backend_refuses_arrays_of_another(strict):
    mine, theirs = np.ones(3), strict.asarray(np.ones(3))
    for name, x in (("numpy", theirs), ("strict", mine)):
        with pytest.raises(
            BackendMismatchError,
            match=rf"the backend is '{name}' .*nothing is converted implicitly",
        ) as raised:
            accelnn.relu(x, backend=name)
        assert f"accelnn.get_backend('{name}').asarray(...)" in str(raised.value)
        with accelnn.use_backend(name), pytest.raises(BackendMismatchError):
            accelnn.relu(x)
        with pytest.raises(BackendMismatchError, match="init_x is a "):
            accelnn.gradient_descent(lambda x: x, x, backend=name)


def test_an_array_on_another_device_of_the_same_library_is_refused(strict):
    on_host = array_api_strict.asarray([1.0])
    assert not strict.owns(on_host)
    with pytest.raises(BackendMismatchError, match=r"x is a array_api_strict\.Array"):
        accelnn.relu(on_host, backend="strict")
    with pytest.raises(BackendMismatchError, match="the backend is 'numpy'"):
        accelnn.relu(on_host)


@pytest.mark.parametrize("choose", [{}, {"backend": "numpy"}, {"backend": StrictBackend}])
def test_an_array_of_an_unknown_library_is_refused_unread(choose):
    for call in (
        lambda x: accelnn.sigmoid(x, **choose),
        lambda x: accelnn.cross_entropy_error([[1.0]], x, **choose),
        lambda x: accelnn.numerical_gradient(np.sum, x, **choose),
        lambda x: accelnn.MLP([3, 2], **choose).predict(x),
        lambda x: accelnn.prepare(x, [0], **choose),
    ):
        with pytest.raises(BackendMismatchError, match=r"is a torch\.TorchLike, but the backend"):
            call(TorchLike())


@pytest.mark.usefixtures("four")
def test_objects_keep_the_backend_they_were_made_with(strict):
    with accelnn.use_backend("context") as context:
        net = accelnn.MLP([2, 3], rng=0)
    accelnn.set_backend("process")
    assert net.backend is context
    assert net.engine.backend is context
    x, t = np.ones((4, 2)), np.array([0, 1, 2, 0])
    accelnn.fit(net, x, t, epochs=1)
    assert net.backend is context
    assert net.to("numpy").backend.name == "numpy"
    with accelnn.use_backend("strict"):
        # Nothing was converted: the net still takes what its own backend takes.
        assert isinstance(net.predict(x), np.ndarray)
        with pytest.raises(BackendMismatchError, match="the backend is 'context'"):
            net.predict(strict.asarray(x))
        inside = accelnn.SimpleNet(rng=0)
    assert strict.owns(inside.W)
    assert strict.owns(inside.predict(strict.asarray([1.0, 2.0])))


def test_a_data_set_of_another_backend_is_refused_with_the_call_that_mends_it(strict):
    data = accelnn.prepare(np.ones((4, 2)), np.array([0, 1, 2, 0]))
    net = accelnn.MLP([2, 3], backend=strict)
    with pytest.raises(
        BackendMismatchError,
        match=r"prepared for 'numpy' in float32, and the net is on 'strict' in float32: "
        r"call prepare\(x, t, backend=net.backend, dtype='float32'\)",
    ):
        accelnn.fit(net, data, epochs=1)
