"""Runs that go on where another one ended."""

import copy
import pickle

import numpy as np
import pytest
from small_runs import PER_EPOCH, N, data, new_net, options

import accelnn
from accelnn import optimizers
from accelnn.testing._rounding import assert_equal_but_for_rounding

RULES = [getattr(accelnn, name) for name in accelnn.optimizers.__all__ if name != "UpdateRule"]
RULES = [rule() for rule in RULES if rule is not optimizers.Rule]


def ids(rule):
    return type(rule).__name__


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


def _net(activation="sigmoid", loss="sum_squared_error", sizes=(4, 6, 2)):
    return accelnn.MLP(sizes, activation=activation, loss=loss, rng=0, backend="numpy")


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (_net("leaky_relu"), _net(accelnn.LeakyReLU(0.3)), r"leaky_relu, .* 4-6-2 \(LeakyReLU\("),
        (_net(accelnn.ELU(0.5)), _net(accelnn.ELU(2.0)), r"alpha=0.5.*alpha=2.0"),
        (_net(loss=accelnn.Huber(0.2)), _net(loss=accelnn.Huber(5.0)), r"0.2.*5.0"),
        (
            accelnn.MLP([4, 3], loss="cross_entropy", backend="numpy"),
            accelnn.SimpleNet(4, 3, backend="numpy"),
            r"net 4-3 \(cross_entropy\), and this call has 4-3 without biases",
        ),
    ],
    ids=["leaky_relu", "elu", "huber", "biases"],
)
def test_a_net_of_other_parameters_of_its_formulas_is_refused(before, now, message, tmp_path):
    x, t = data()
    t = t if before.spec.loss.classifies else np.eye(3)[t][:, :2]
    path = tmp_path / "run.safetensors"
    history = accelnn.fit(before, x, t, epochs=1, rng=1, checkpoint=path, **options())
    for resume, epochs in ((history, 1), (path, 2)):
        with pytest.raises(ValueError, match=message):
            accelnn.fit(now, x, t, epochs=epochs, resume=resume, **options())
    accelnn.fit(before, x, t, epochs=1, resume=history, **options())


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
