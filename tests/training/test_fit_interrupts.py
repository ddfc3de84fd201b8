"""Runs that an exception or Ctrl-C ends."""

import asyncio
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from small_runs import PER_EPOCH, data, new_net, options

import accelnn
from accelnn.training._plan import Orders

POSIX = pytest.mark.skipif(os.name != "posix", reason="no process can send Ctrl-C to itself")


class Counts:
    """A rule that keeps a state of its own: how many updates it has done."""

    slots = 0

    def __init__(self):
        self.done = 0

    def __repr__(self):
        return "Counts()"

    def update(self, params, grads, _state, _step, _xp):
        self.done += 1
        params -= grads / (1.0 + self.done)


def one_by_one(_net, _history):
    """A callback by which each update is a call of the engine."""


one_by_one.every = 1


def press_after(patched, net, method, done):
    """Press Ctrl-C in the call of an engine's method after so many others; it must be heard."""
    usual, calls = getattr(type(net.engine), method), []

    def pressed(self, *given, **named):
        found = usual(self, *given, **named)
        calls.append(self)
        if len(calls) == done + 1:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it has waited")
        return found

    patched.setattr(type(net.engine), method, pressed)


class StopError(Exception):
    """What a callback raises."""


def test_an_exception_carries_the_history():
    def fail(_net, history):
        if history.steps == 6:
            raise StopError

    fail.every = 2
    whole, parts = new_net("numpy"), new_net("numpy")
    accelnn.fit(whole, *data(), iters=9, rng=1, **options())
    with pytest.raises(StopError) as caught:
        accelnn.fit(parts, *data(), epochs=9, rng=1, callbacks=[fail], **options())
    assert caught.value.history.steps == 6
    accelnn.fit(parts, *data(), iters=3, resume=caught.value.history, **options())
    assert parts.flat.tobytes() == whole.flat.tobytes()


def test_an_exception_that_takes_no_attributes_passes_as_it_is():
    class FrozenError(Exception):
        def __setattr__(self, name, value):
            # Python itself sets others.
            if name == "history":
                raise AttributeError(name)
            super().__setattr__(name, value)

    def fail(_net, _history):
        raise FrozenError

    with pytest.raises(FrozenError):
        accelnn.fit(new_net("numpy"), *data(), epochs=1, callbacks=[fail], **options())


@POSIX
@pytest.mark.usefixtures("listens_to_ctrl_c")
@pytest.mark.parametrize("delay", [0.003, 0.05, 0.2])
def test_ctrl_c_ends_a_run_between_updates(backend, delay):
    net, whole = new_net(backend), new_net(backend)
    accelnn.fit(new_net(backend), *data(), iters=1, **options())
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))

    def begin(*_):
        if timer.ident is None:
            timer.start()

    with pytest.raises(KeyboardInterrupt) as caught:
        accelnn.fit(net, *data(), epochs=1_000_000, rng=1, callbacks=[begin], **options())
    timer.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    history = caught.value.history
    assert history.steps > 0
    accelnn.fit(whole, *data(), iters=history.steps, rng=1, **options())
    np.testing.assert_array_equal(backend.to_numpy(net.flat), backend.to_numpy(whole.flat))


@pytest.mark.usefixtures("listens_to_ctrl_c")
@pytest.mark.parametrize("done", [0, 2])
def test_ctrl_c_does_not_wait_for_differences_and_keeps_nothing_of_them(backend, monkeypatch, done):
    """They may take minutes."""
    x, t = data()
    rule = Counts()
    given = {"optimizer": rule, "gradient": "numerical", "batch_size": len(x)}
    net = new_net(backend)
    with monkeypatch.context() as patched:
        press_after(patched, net, "_numerical_gradient_in_double", done)
        with pytest.raises(KeyboardInterrupt) as caught:
            accelnn.fit(net, x, t, callbacks=[one_by_one], rng=1, iters=5, **given)
    history = caught.value.history
    assert history.steps == rule.done == done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not done:
        np.testing.assert_array_equal(
            backend.to_numpy(net.flat), backend.to_numpy(new_net(backend).flat)
        )
        return
    # It goes on as if nothing had happened.
    accelnn.fit(net, x, t, resume=history, iters=3, **given)
    again = new_net(backend)
    accelnn.fit(again, x, t, rng=1, iters=done + 3, **given | {"optimizer": Counts()})
    np.testing.assert_array_equal(backend.to_numpy(net.flat), backend.to_numpy(again.flat))


@pytest.mark.usefixtures("listens_to_ctrl_c")
@pytest.mark.parametrize("done", [0, 2])
def test_ctrl_c_does_not_wait_for_a_long_update_and_keeps_nothing_of_it(backend, monkeypatch, done):
    net = new_net(backend)
    # Modules of the engine, which is imported now, that have the constant.
    for kind in type(net.engine).__mro__:
        if hasattr(sys.modules[kind.__module__], "LONG"):
            monkeypatch.setattr(sys.modules[kind.__module__], "LONG", 0)
    with monkeypatch.context() as patched:
        press_after(patched, net, "_train" if backend.name == "numba" else "_analytic", done)
        with pytest.raises(KeyboardInterrupt) as caught:
            accelnn.fit(net, *data(), callbacks=[one_by_one], rng=1, iters=5, **options())
    history = caught.value.history
    assert history.steps == done
    whole = new_net(backend)
    if done:
        accelnn.fit(net, *data(), iters=3, resume=history, **options())
        accelnn.fit(whole, *data(), iters=done + 3, rng=1, **options())
    np.testing.assert_array_equal(backend.to_numpy(net.flat), backend.to_numpy(whole.flat))


def test_ctrl_c_leaves_a_handler_of_the_program_alone():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:

        def press(*_):
            signal.raise_signal(signal.SIGINT)

        accelnn.fit(new_net("numpy"), *data(), epochs=2, callbacks=[press], **options())
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1, 1]


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_ctrl_c_pressed_twice_does_not_wait(monkeypatch):
    net = new_net("numpy")

    def press(*_args, **_options):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.0)
        pytest.fail("it has waited")

    monkeypatch.setattr(type(net.engine), "train", press)
    with pytest.raises(KeyboardInterrupt):
        accelnn.fit(net, *data(), epochs=1, **options())


@POSIX
@pytest.mark.usefixtures("listens_to_ctrl_c")
@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_ctrl_c_while_batches_are_drawn_loses_none_of_them(nth, sampling):
    class Pressed(np.random.Generator):
        """Presses Ctrl-C once it has drawn for the nth time."""

        draws = 0

        def _pressed(self, drawn):
            self.draws += 1
            if self.draws == nth:
                signal.raise_signal(signal.SIGINT)
            return drawn

        def permutation(self, *given):
            return self._pressed(super().permutation(*given))

        def integers(self, *given, **named):
            return self._pressed(super().integers(*given, **named))

    whole, parts = new_net("numpy"), new_net("numpy")
    given = options(sampling=sampling)
    accelnn.fit(whole, *data(), epochs=3, rng=np.random.Generator(np.random.PCG64(4)), **given)
    with pytest.raises(KeyboardInterrupt) as caught:
        accelnn.fit(parts, *data(), epochs=3, rng=Pressed(np.random.PCG64(4)), **given)
    history = caught.value.history
    assert history.steps == (nth - 1) * PER_EPOCH
    left = 3 * PER_EPOCH - history.steps
    accelnn.fit(parts, *data(), iters=left, resume=history, **given)
    assert parts.flat.tobytes() == whole.flat.tobytes()


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_an_interrupt_between_any_two_lines_of_a_draw_loses_no_batch(sampling):
    """Python hears Ctrl-C between instructions; here it comes before each line in turn."""
    whole, given = new_net("numpy"), options(sampling=sampling)
    accelnn.fit(whole, *data(), epochs=2, rng=np.random.default_rng(4), **given)
    code = {Orders.__next__.__code__, Orders._draw_next.__code__}

    def interrupted(nth):
        """Return whether a run that is interrupted before its nth line there ends there."""
        seen = 0

        def trace(_frame, event, _argument):
            nonlocal seen
            seen += event == "line"
            if seen == nth:
                raise KeyboardInterrupt
            return trace

        net, draw, history = new_net("numpy"), np.random.default_rng(4), None
        before = sys.gettrace()
        sys.settrace(lambda frame, *_: trace if frame.f_code in code else None)
        try:
            accelnn.fit(net, *data(), epochs=2, rng=draw, **given)
        except KeyboardInterrupt as error:
            history = error.history
        finally:
            sys.settrace(before)
        if history is not None:
            assert history.steps in (0, PER_EPOCH, 2 * PER_EPOCH)
            left = 2 * PER_EPOCH - history.steps
            if left:
                accelnn.fit(net, *data(), iters=left, resume=history, **given)
        assert net.flat.tobytes() == whole.flat.tobytes()
        return history is not None

    lines = 1
    while interrupted(lines):
        lines += 1
    # Each line of two draws was one.
    assert lines > 2 * 15


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_ctrl_c_is_heard_at_once_in_a_callback():
    def press(_net, _history):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it has waited")

    press.every = 3
    with pytest.raises(KeyboardInterrupt) as caught:
        accelnn.fit(new_net("numpy"), *data(), epochs=2, callbacks=[press], **options())
    assert caught.value.history.steps == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_ctrl_c_waits_for_the_update_of_a_run_that_a_callback_starts(backend, monkeypatch):
    inner, whole = new_net(backend), new_net(backend)
    usual, calls, ended = type(inner.engine).train, [], []

    def pressed(self, state, *given, **named):
        found = usual(self, state, *given, **named)
        calls.extend([state] if state.params is inner.flat else [])
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return found

    def start(_net, _history):
        try:
            accelnn.fit(inner, *data(), epochs=9, rng=1, callbacks=[one_by_one], **options())
        except KeyboardInterrupt as error:
            ended.append(error.history.steps)
            raise

    with monkeypatch.context() as patched:
        patched.setattr(type(inner.engine), "train", pressed)
        with pytest.raises(KeyboardInterrupt) as caught:
            accelnn.fit(new_net(backend), *data(), epochs=2, callbacks=[start], **options())
    assert (ended, caught.value.history.steps) == ([2], PER_EPOCH)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    accelnn.fit(whole, *data(), iters=2, rng=1, **options())
    np.testing.assert_array_equal(backend.to_numpy(inner.flat), backend.to_numpy(whole.flat))


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_a_handler_that_a_callback_takes_stays():
    def own(*_):
        """A handler."""

    def take(_net, _history):
        signal.signal(signal.SIGINT, own)

    accelnn.fit(new_net("numpy"), *data(), epochs=2, callbacks=[take], **options())
    assert signal.getsignal(signal.SIGINT) is own


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_a_users_code_finds_python_s_own_handler():
    """It may be compared with it, as `asyncio.run` does, or be kept to be put back."""
    found = []

    class Looks:
        every = 2

        def __call__(self, *_):
            found.append(signal.getsignal(signal.SIGINT))

        on_start = on_evaluation = on_end = __call__

    def batches():
        for _ in range(3):
            found.append(signal.getsignal(signal.SIGINT))
            yield data()

    accelnn.fit(
        new_net("numpy"), *data(), validation=data(), epochs=2, callbacks=[Looks()], **options()
    )
    accelnn.fit(new_net("numpy"), batches, epochs=2, callbacks=[Looks()])
    assert len(found) > 12
    assert {*found} == {signal.default_int_handler}


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_asyncio_cancels_its_task_in_a_callback():
    ended = []

    async def sleep():
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    def run(_net, _history):
        asyncio.run(sleep())

    with pytest.raises(KeyboardInterrupt):
        accelnn.fit(new_net("numpy"), *data(), epochs=1, callbacks=[run], **options())
    assert ended == ["cancelled"]


@pytest.mark.usefixtures("listens_to_ctrl_c")
@pytest.mark.parametrize("at", [1, 3])
def test_a_run_that_was_torn_within_an_update_does_not_go_on(at):
    class Presses(Counts):
        def update(self, params, grads, *rest):
            super().update(params, grads, *rest)
            if self.done == at:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    net, given = new_net("numpy"), options(optimizer=Presses())
    with pytest.raises(KeyboardInterrupt) as caught:
        accelnn.fit(net, *data(), rng=1, iters=5, callbacks=[one_by_one], **given)
    history = caught.value.history
    assert history.steps == at - 1
    with pytest.raises(TypeError, match="holds no state" + (": if Ctrl-C" if at > 1 else "")):
        accelnn.fit(net, *data(), iters=5, resume=history, **given)
