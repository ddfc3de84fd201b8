"""Runs that go on where another one ended."""

import copy
import os
import pickle
import signal
import sys
import threading
import time

import numpy as np
import pytest

import accelnn
from accelnn import optimizers
from accelnn.testing._rounding import assert_equal_but_for_rounding
from accelnn.training._plan import Orders

N, BATCH, PER_EPOCH = 23, 5, 5
RULES = [getattr(accelnn, name) for name in accelnn.optimizers.__all__ if name != "UpdateRule"]
RULES = [rule() for rule in RULES if rule is not optimizers.Rule]
POSIX = pytest.mark.skipif(os.name != "posix", reason="no process can send Ctrl-C to itself")


def data(n=N):
    draw = np.random.default_rng(8)
    return draw.normal(size=(n, 4)), draw.integers(0, 3, n)


def new_net(backend, dtype="float64", seed=0, **given):
    return accelnn.MLP([4, 6, 3], dtype=dtype, rng=seed, backend=backend, **given)


def options(**changes):
    return {"batch_size": BATCH, "optimizer": accelnn.Momentum(0.1), **changes}


def ids(rule):
    return type(rule).__name__


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


@pytest.fixture
def listens_to_ctrl_c():
    """What a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_several_runs_are_one_to_the_bit(backend, rule, dtype):
    whole, parts = new_net(backend, dtype), new_net(backend, dtype)
    at_once = accelnn.fit(whole, *data(), epochs=4, rng=1, **options(optimizer=rule))
    history, losses = None, []
    for _ in range(4):
        seed = {} if history else {"rng": 1}
        history = accelnn.fit(
            parts, *data(), epochs=1, resume=history, **seed, **options(optimizer=rule)
        )
        losses += history.loss
    assert losses == at_once.loss
    np.testing.assert_array_equal(backend.to_numpy(parts.flat), backend.to_numpy(whole.flat))


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
@pytest.mark.parametrize("lengths", [(1, 16), (3, 4, 10), (5, 12), (7, 1, 1, 8), (13, 4)])
def test_a_run_goes_on_within_an_epoch(lengths, sampling):
    """With callbacks at the ends of the epochs as they are, not as the parts are."""
    whole, parts = new_net("numpy"), new_net("numpy")
    given = options(sampling=sampling, clip_norm=0.5)
    expected, found = [], []
    at_once = accelnn.fit(
        whole,
        *data(),
        iters=sum(lengths),
        rng=1,
        callbacks=[lambda net, _: expected.append(net.flat.tobytes())],
        **given,
    )
    history, losses = None, []
    for length in lengths:
        seed = {} if history else {"rng": 1}
        history = accelnn.fit(
            parts,
            *data(),
            iters=length,
            resume=history,
            callbacks=[lambda net, _: found.append(net.flat.tobytes())],
            **seed,
            **given,
        )
        losses += history.loss
    assert losses == at_once.loss
    assert found == expected
    assert len(found) == sum(lengths) // PER_EPOCH


def test_it_goes_on_as_often_as_one_likes():
    """From one history, with a generator of the caller's that is left alone."""
    net, draw = new_net("numpy"), np.random.default_rng(3)
    history = accelnn.fit(net, *data(), iters=7, rng=draw, **options())
    copied = pickle.loads(pickle.dumps(history))  # noqa: S301 - its own
    state, nets = draw.bit_generator.state, [copy.copy(net) for _ in range(3)]
    for again in nets:
        kept = copied if again is nets[2] else history
        accelnn.fit(again, *data(), epochs=2, resume=kept, **options())
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes() == nets[2].flat.tobytes()
    assert draw.bit_generator.state == state


def test_joined_histories_go_on_where_the_second_ended():
    whole, parts = new_net("numpy"), new_net("numpy")
    at_once = accelnn.fit(whole, *data(), iters=12, rng=1, **options())
    joined = accelnn.fit(parts, *data(), iters=4, rng=1, **options())
    joined += accelnn.fit(parts, *data(), iters=3, resume=joined, **options())
    joined += accelnn.fit(parts, *data(), iters=5, resume=joined, **options())
    assert joined == at_once
    assert parts.flat.tobytes() == whole.flat.tobytes()


@pytest.mark.parametrize("rate", [accelnn.schedules.cosine(0.1, 12), lambda k: 0.1 / (k + 1)])
def test_a_schedule_goes_on(backend, rate):
    whole, parts = new_net(backend), new_net(backend)
    rule = accelnn.Momentum(rate)
    accelnn.fit(whole, *data(), iters=12, rng=1, **options(optimizer=rule))
    history = accelnn.fit(parts, *data(), iters=7, rng=1, **options(optimizer=rule))
    accelnn.fit(parts, *data(), iters=5, resume=history, **options(optimizer=rule))
    np.testing.assert_array_equal(*(backend.to_numpy(net.flat) for net in (parts, whole)))


def test_it_goes_on_elsewhere(backend):
    """On another backend, or after a history has been on disk."""
    parts, rule = new_net(backend), {"optimizer": accelnn.Adam()}

    def whole(move):
        (x, t), net = data(), new_net("numpy")
        net.flat[...] = move(net.flat)
        moved = options(optimizer=move(rule["optimizer"]))
        accelnn.fit(net, move(x), t, iters=12, rng=1, **moved)
        return [net.flat]

    history = accelnn.fit(parts, *data(), iters=7, rng=1, **options(**rule))
    copied = pickle.loads(pickle.dumps(history))  # noqa: S301 - its own
    for kept in (history, copied):
        moved = parts.to("numpy")
        accelnn.fit(moved, *data(), iters=5, resume=kept, **options(**rule))
        assert_equal_but_for_rounding([moved.flat], whole)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_any_bit_generator(bits):
    whole, parts = new_net("numpy"), new_net("numpy")
    accelnn.fit(whole, *data(), epochs=2, rng=np.random.Generator(bits(4)), **options())
    first = accelnn.fit(parts, *data(), iters=4, rng=np.random.Generator(bits(4)), **options())
    accelnn.fit(parts, *data(), iters=6, resume=first, **options())
    assert parts.flat.tobytes() == whole.flat.tobytes()


def test_a_callback_stops_a_run_that_goes_on():
    def stop(_net, history):
        return history.steps == 3

    stop.every = 1
    whole, parts = new_net("numpy"), new_net("numpy")
    accelnn.fit(whole, *data(), iters=9, rng=1, **options())
    first = accelnn.fit(parts, *data(), epochs=9, rng=1, callbacks=[stop], **options())
    accelnn.fit(parts, *data(), iters=6, resume=first, **options())
    assert parts.flat.tobytes() == whole.flat.tobytes()


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
    usual, calls = type(net.engine)._numerical_gradient_in_double, []

    def pressed(self, *args):
        found = usual(self, *args)
        calls.append(self)
        if len(calls) == done + 1:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it has waited")
        return found

    def one_by_one(*_):
        pass

    one_by_one.every = 1
    with monkeypatch.context() as patched:
        patched.setattr(type(net.engine), "_numerical_gradient_in_double", pressed)
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


class Own:
    """An optimiser of a user's, without equality, and with what cannot be pickled."""

    slots = 1

    def __init__(self, lr=0.1):
        self.lr = lr
        self.scale = lambda g: lr * g

    def update(self, params, grads, slots, step, xp):
        del step, xp
        slots[0] *= 0.9
        slots[0] += grads
        params -= self.scale(slots[0])


@pytest.mark.parametrize(
    "rule",
    [
        Own,
        lambda: accelnn.SGD(lambda k: 0.1 / (k + 1)),
        lambda: accelnn.Rule("mine", lambda p, g, lr, _: p - lr * g, lr=0.1),
    ],
    ids=["own", "schedule", "rule"],
)
def test_optimisers_that_cannot_be_pickled_go_on(rule):
    whole, parts = new_net("numpy"), new_net("numpy")
    accelnn.fit(whole, *data(), iters=9, rng=1, **options(optimizer=rule()))
    history = accelnn.fit(parts, *data(), iters=4, rng=1, **options(optimizer=rule()))
    copied = pickle.loads(pickle.dumps(history))  # noqa: S301 - its own
    accelnn.fit(parts, *data(), iters=5, resume=copied, **options(optimizer=rule()))
    assert parts.flat.tobytes() == whole.flat.tobytes()


def test_another_optimiser_of_the_same_class_is_refused():
    net = new_net("numpy")
    history = accelnn.fit(net, *data(), iters=4, rng=1, **options(optimizer=Own()))
    with pytest.raises(ValueError, match=r"optimizer Own\(lr=0.1, .*this call has Own\(lr=0.2"):
        accelnn.fit(net, *data(), iters=4, resume=history, **options(optimizer=Own(0.2)))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 4}, "with batch_size 5, and this call has 4"),
        ({"sampling": "replacement"}, "with sampling shuffle, and this call has replacement"),
        (
            {"optimizer": accelnn.Momentum(0.2)},
            r"with optimizer Momentum\(lr=0.1, .*this call has Momentum\(lr=0.2",
        ),
        ({"gradient": "numerical"}, "with gradient analytic, and this call has numerical"),
        ({"rng": 1}, "rng must be left out beside resume"),
    ],
    ids=["batch_size", "sampling", "optimizer", "gradient", "rng"],
)
def test_another_run_is_refused(changes, message):
    net = new_net("numpy")
    history = accelnn.fit(net, *data(), epochs=1, rng=1, **options())
    before = net.flat.tobytes()
    with pytest.raises(ValueError, match=message):
        accelnn.fit(net, *data(), epochs=1, resume=history, **options(**changes))
    assert net.flat.tobytes() == before


def test_another_net_or_data_set_is_refused():
    history = accelnn.fit(new_net("numpy"), *data(), epochs=1, rng=1, **options())
    for net, n, message in (
        (accelnn.MLP([4, 7, 3], dtype="float64"), N, r"with the net 4-6-3 \(sigmoid, cross_ent"),
        (accelnn.MLP([4, 6, 3]), N, "with dtype float64, and this call has float32"),
        (new_net("numpy"), N - 1, "with a data set of 23 samples, and this call has 22 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            accelnn.fit(net, *data(n), epochs=1, resume=history, **options())


@pytest.mark.parametrize("wrong", [b"history.csv", 3, accelnn.History(5)])
def test_what_resumes_is_a_history_that_fit_returned(wrong):
    with pytest.raises(TypeError, match=r"the History that fit returned, or .* holds no state"):
        accelnn.fit(new_net("numpy"), *data(), epochs=1, resume=wrong, **options())


def test_the_ending_is_no_part_of_a_history_s_equality_or_name():
    first, second = (
        accelnn.fit(new_net("numpy"), *data(), epochs=1, rng=1, **options()) for _ in range(2)
    )
    assert first == second
    assert "ending" not in repr(first)
