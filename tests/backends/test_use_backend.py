"""Blocks and decorators that choose a backend, where execution leaves and comes back."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading

import pytest

import accelnn
from accelnn.backends.numpy import NumpyBackend

pytestmark = pytest.mark.usefixtures("named")


@pytest.fixture
def named():
    for name in "abc":
        cls = type(name.upper(), (NumpyBackend,), {"name": name, "inferred": False})
        accelnn.register_backend(cls)


def active():
    return accelnn.get_backend().name


def test_one_object_is_entered_any_number_of_times():
    choice = accelnn.use_backend("a")
    for _ in range(2):
        with choice as backend:
            assert backend is accelnn.get_backend("a")
            with accelnn.use_backend("b"), choice:
                assert active() == "a"
                with choice:
                    assert active() == "a"
                assert active() == "a"
            assert active() == "a"
        assert active() == "numpy"
    with pytest.raises(KeyError), choice:
        raise KeyError
    assert active() == "numpy"


def test_one_object_in_several_threads():
    choice, inside, found = accelnn.use_backend("a"), threading.Barrier(4), []

    def work():
        for _ in range(20):
            with choice:
                inside.wait(30)
                found.append(active())
            found.append(active())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["a"] * 80 + ["numpy"] * 80


def test_a_block_that_is_left_in_another_thread_is_refused():
    choice, errors = accelnn.use_backend("a"), []

    def leave():
        try:
            choice.__exit__(None, None, None)
        except RuntimeError as error:
            errors.append(str(error))
        errors.append(active())

    with accelnn.use_backend("b"):
        choice.__enter__()
        thread = threading.Thread(target=contextvars.Context().run, args=(leave,))
        thread.start()
        thread.join()
        assert errors[0].startswith("a use_backend block is left where it was not entered")
        assert errors[1] == "numpy"
        assert active() == "a"
        leave()
        assert active() == "b"
    leave()
    assert len(errors) == 5, "left twice"


def test_the_blocks_of_generators_leave_each_others_choice():
    def generate(name):
        with accelnn.use_backend(name):
            yield active()
            yield active()

    first, second = generate("a"), generate("b")
    assert next(first) == "a"
    assert next(second) == "b"
    # Its block is left, out of order, and the other's is not.
    assert list(first) == ["b"]
    assert active() == "b"
    second.close()
    assert active() == "numpy"


def test_a_generators_block_that_outlives_its_callers():
    def generate():
        with accelnn.use_backend("a"):
            yield

    with accelnn.use_backend("b"):
        suspended = generate()
        next(suspended)
        assert active() == "a"
    # It was entered last, and is not left yet.
    assert active() == "a"
    with accelnn.use_backend("c"):
        suspended.close()
        assert active() == "c"
    assert active() == "numpy"


def test_a_decorated_function():
    @accelnn.use_backend("a")
    def computes(depth=0):
        """Says so."""
        inner = computes(depth - 1) if depth else []
        return [*inner, active()]

    assert computes.__name__ == "computes"
    assert computes.__doc__ == "Says so."
    assert computes(2) == ["a"] * 3
    assert active() == "numpy"
    with accelnn.use_backend("b"):
        assert computes() == ["a"]
        assert active() == "b"

    @accelnn.use_backend("a")
    def fails():
        raise KeyError(active())

    with pytest.raises(KeyError, match="a"):
        fails()
    assert active() == "numpy"


def test_a_decorated_method_and_what_cannot_be_decorated():
    class Model:
        @accelnn.use_backend("a")
        def method(self):
            return self, active()

        @classmethod
        @accelnn.use_backend("b")
        def generates(cls):
            yield cls, active()

    model = Model()
    assert model.method() == (model, "a")
    assert list(Model.generates()) == [(Model, "b")]
    for wrong in (Model, "a", 3):
        with pytest.raises(TypeError, match="use_backend decorates functions, got"):
            accelnn.use_backend("a")(wrong)


def test_the_name_is_looked_up_when_it_is_needed():
    @accelnn.use_backend("later")
    def computes():
        return active()

    with pytest.raises(ValueError, match="unknown backend 'later'"):
        computes()
    accelnn.register_backend(type("Later", (NumpyBackend,), {"name": "later", "inferred": False}))
    assert computes() == "later"


def test_a_decorated_generator_chooses_while_it_runs():
    log = []

    @accelnn.use_backend("a")
    def generates(count):
        for _ in range(count):
            try:
                log.append((active(), (yield active())))
            except KeyError as error:
                log.append((active(), error.args[0]))
        log.append(active())
        return "done"

    assert inspect.isgeneratorfunction(generates)
    with accelnn.use_backend("b"):
        running = generates(3)
        assert active() == "b"
        assert next(running) == "a"
        assert active() == "b"
        assert running.send("sent") == "a"
        assert running.throw(KeyError("thrown")) == "a"
        assert active() == "b"
        with pytest.raises(StopIteration) as stopped:
            next(running)
        assert active() == "b"
    assert stopped.value.value == "done"
    assert log == [("a", "sent"), ("a", "thrown"), ("a", None), "a"]
    with pytest.raises(TypeError):
        next(generates())
    assert active() == "numpy"


def test_a_decorated_generator_that_is_closed_cleans_up_with_its_choice():
    log = []

    @accelnn.use_backend("a")
    def generates():
        try:
            yield
        finally:
            log.append(active())

    running = generates()
    next(running)
    running.close()
    assert log == ["a"]
    assert active() == "numpy"
    generates().close()
    assert log == ["a"]


def test_blocks_in_a_decorated_generator_are_its_own():
    @accelnn.use_backend("a")
    def generates():
        with accelnn.use_backend("b"):
            yield active()
            yield active()
        yield active()

    found = []
    for name in generates():
        with accelnn.use_backend("c"):
            found.append((name, active()))
        assert active() == "numpy"
    assert found == [("b", "c"), ("b", "c"), ("a", "c")]


def test_a_decorated_generator_goes_on_in_another_thread():
    @accelnn.use_backend("a")
    def generates():
        with accelnn.use_backend("b"):
            yield active()
        yield active()

    running, found = generates(), []
    found.append(next(running))
    thread = threading.Thread(target=lambda: found.extend([*running, active()]))
    thread.start()
    thread.join()
    assert found == ["b", "a", "numpy"]
    assert active() == "numpy"


def test_a_decorated_context_manager():
    """With `contextlib.contextmanager` outside, the choice is that of its two halves alone."""
    log = []

    @contextlib.contextmanager
    @accelnn.use_backend("a")
    def manages():
        log.append(active())
        yield
        log.append(active())

    with manages():
        log.append(active())
    assert log == ["a", "numpy", "a"]


def test_a_decorated_coroutine():
    @accelnn.use_backend("a")
    async def computes():
        found = [active()]
        await asyncio.sleep(0)
        with accelnn.use_backend("b"):
            await asyncio.sleep(0)
            found.append(active())
        found.append(active())
        return found

    assert inspect.iscoroutinefunction(computes)

    async def main():
        with accelnn.use_backend("c"):
            alone = await computes()
            at_once = await asyncio.gather(computes(), computes())
            return [alone, *at_once, active()]

    assert asyncio.run(main()) == [["a", "b", "a"]] * 3 + ["c"]
    assert active() == "numpy"


def test_a_decorated_coroutine_does_not_choose_while_it_is_suspended():
    class Suspended:
        def __await__(self):
            yield active()

    @accelnn.use_backend("a")
    async def computes():
        await Suspended()
        try:
            await Suspended()
        except KeyError:
            return active()

    # Driven by hand, in the context of this very test.
    coroutine = computes()
    assert coroutine.send(None) == "a"
    assert active() == "numpy"
    assert coroutine.send(None) == "a"
    assert active() == "numpy"
    with pytest.raises(StopIteration) as stopped:
        coroutine.throw(KeyError())
    assert stopped.value.value == "a"
    assert active() == "numpy"


def test_a_decorated_coroutine_can_be_cancelled():
    log = []

    @accelnn.use_backend("a")
    async def waits():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append(active())
            raise

    async def main():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(waits(), 0.01)
        return active()

    assert asyncio.run(main()) == "numpy"
    assert log == ["a"]


def test_a_decorated_asynchronous_generator():
    log = []

    @accelnn.use_backend("a")
    async def generates(count):
        try:
            for _ in range(count):
                with accelnn.use_backend("b"):
                    await asyncio.sleep(0)
                    try:
                        log.append((yield active()))
                    except KeyError as error:
                        log.append(error.args[0])
                log.append(active())
        finally:
            await asyncio.sleep(0)
            log.append(f"{active()} at the end")

    assert inspect.isasyncgenfunction(generates)

    async def main():
        found = [(name, active()) async for name in generates(2)]
        running = generates(9)
        found.append((await anext(running), active()))
        found.append((await running.asend("sent"), active()))
        found.append((await running.athrow(KeyError("thrown")), active()))
        await running.aclose()
        with pytest.raises(ZeroDivisionError):
            await _first_error(generates(9))
        return [*found, active()]

    assert asyncio.run(main()) == [("b", "numpy")] * 5 + ["numpy"]
    end = "a at the end"
    assert log == [None, "a", None, "a", end, "sent", "a", "thrown", "a", end, end]


async def _first_error(running):
    await anext(running)
    await running.athrow(ZeroDivisionError())


def test_what_is_decorated_may_be_wrapped_before():
    def generates(name, again):
        yield active()
        yield name, again

    decorated = accelnn.use_backend("a")(functools.partial(generates, "x"))
    assert list(decorated("y")) == ["a", ("x", "y")]
    assert active() == "numpy"
