"""The optimisers: formulas by hand, and what they accept."""

import dataclasses
import math

import numpy as np
import pytest

import accelnn
from accelnn import optimizers
from accelnn.testing import assert_equal_but_for_rounding

NAMES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "AdamW")


def test_these_are_all():
    assert sorted(optimizers.__all__) == sorted((*NAMES, "Rule", "UpdateRule"))


def three_steps(rule, start=1.0, dtype=np.float64):
    """Minimise x², whose gradient is 2x, and return x after each of three updates."""
    x = np.array([start], dtype)
    slots = [np.zeros(1, dtype) for _ in range(rule.slots)]
    path = []
    for k in (1, 2, 3):
        rule.update(x, 2 * x, slots, k, np)
        path.append(float(x[0]))
    return path


# Below the last digit of what it is added to.
TINY = 1e-30

# x = 1 and its gradient 2x; each row is worked out with pencil and paper.
BY_HAND = {
    # 1 - 0.1·2 = 0.8; 0.8 - 0.1·1.6 = 0.64; 0.64 - 0.1·1.28 = 0.512.
    "SGD": (accelnn.SGD(0.1), [0.8, 0.64, 0.512]),
    # v = 2, 0.5·2 + 1.6 = 2.6, 0.5·2.6 + 1.08 = 2.38.
    "Momentum": (accelnn.Momentum(0.1, momentum=0.5), [0.8, 0.54, 0.302]),
    # v as above on another path: steps 2 + 0.5·2 = 3, then v = 1 + 1.4 = 2.4 and 1.4 + 1.2 = 2.6,
    # then v = 1.2 + 0.88 = 2.08 and 0.88 + 1.04 = 1.92.
    "Nesterov": (accelnn.Nesterov(0.1, momentum=0.5), [0.7, 0.44, 0.248]),
    # s = 4; then 4 + 1.8² = 7.24; then 7.24 + g².
    "AdaGrad": (
        accelnn.AdaGrad(0.1, eps=TINY),
        [0.9, 0.9 - 0.18 / math.sqrt(7.24), None],
    ),
    # s = 0.25·4 = 1, so a step of 0.1·2/1; then s = 0.75 + 0.25·1.6² = 1.39.
    "RMSprop": (
        accelnn.RMSprop(0.1, alpha=0.75, eps=TINY),
        [0.8, 0.8 - 0.16 / math.sqrt(1.39), None],
    ),
    # The first step of Adam is lr whatever the gradient. Then m = 0.5·1 + 0.5·1.8 = 1.4 over 0.75,
    # s = 0.75·1 + 0.25·3.24 = 1.56 over 0.4375.
    "Adam": (
        accelnn.Adam(0.1, betas=(0.5, 0.75), eps=TINY),
        [0.9, 0.9 - 0.1 * (1.4 / 0.75) / math.sqrt(1.56 / 0.4375), None],
    ),
    # A number is a bias, or what has no axes: nothing decays.
    "AdamW": (accelnn.AdamW(0.1, betas=(0.5, 0.75), eps=TINY, weight_decay=0.5), [0.9, None, None]),
}


@pytest.mark.parametrize("name", NAMES)
def test_by_hand(name):
    rule, expected = BY_HAND[name]
    path = three_steps(rule)
    for actual, value in zip(path, expected, strict=True):
        if value is not None:
            assert actual == pytest.approx(value, rel=1e-14)


def test_the_third_steps_by_hand():
    x = BY_HAND["AdaGrad"][1][1]
    expected = x - 0.1 * 2 * x / math.sqrt(7.24 + (2 * x) ** 2)
    assert three_steps(BY_HAND["AdaGrad"][0])[2] == pytest.approx(expected, rel=1e-14)
    x = BY_HAND["RMSprop"][1][1]
    expected = x - 0.1 * 2 * x / math.sqrt(0.75 * 1.39 + 0.25 * (2 * x) ** 2)
    assert three_steps(BY_HAND["RMSprop"][0])[2] == pytest.approx(expected, rel=1e-14)
    x = BY_HAND["Adam"][1][1]
    m = (0.5 * 1.4 + 0.5 * 2 * x) / (1 - 0.5**3)
    s = (0.75 * 1.56 + 0.25 * (2 * x) ** 2) / (1 - 0.75**3)
    assert three_steps(BY_HAND["Adam"][0])[2] == pytest.approx(
        x - 0.1 * m / math.sqrt(s), rel=1e-14
    )


@pytest.mark.parametrize("eps", [0.5, 3.0])
def test_eps_is_added_outside_the_root(eps):
    assert three_steps(accelnn.AdaGrad(0.1, eps=eps))[0] == pytest.approx(1 - 0.2 / (2 + eps))
    s = math.sqrt(0.01 * 4)
    assert three_steps(accelnn.RMSprop(0.1, eps=eps))[0] == pytest.approx(1 - 0.2 / (s + eps))
    assert three_steps(accelnn.Adam(0.1, eps=eps))[0] == pytest.approx(1 - 0.2 / (2 + eps))


@pytest.mark.parametrize("name", NAMES)
def test_every_one_of_them_finds_the_minimum(name):
    rule = getattr(accelnn, name)(0.05 if name != "AdaGrad" else 0.5)
    x = np.array([3.0, -2.0])
    slots = [np.zeros(2) for _ in range(rule.slots)]
    for k in range(1, 1001):
        rule.update(x, 2 * x * [1.0, 10.0], slots, k, np)
    assert np.abs(x).max() < 0.06


@pytest.mark.parametrize("name", NAMES)
def test_against_torch(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    made = {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
        "Momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        "Nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        "AdaGrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.05),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.0),
    }[name]
    theirs = torch.tensor([1.0, -3.0], dtype=torch.float64, requires_grad=True)
    optimizer = made([theirs])
    rule = getattr(accelnn, name)(0.05)
    ours, slots = np.array([1.0, -3.0]), [np.zeros(2) for _ in range(rule.slots)]
    for k in range(1, 21):
        optimizer.zero_grad()
        (theirs**2 * torch.tensor([1.0, 7.0])).sum().backward()
        optimizer.step()
        rule.update(ours, 2 * ours * [1.0, 7.0], slots, k, np)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12)


def test_defaults():
    assert repr(accelnn.SGD()) == "SGD(lr=0.001)"
    assert repr(accelnn.Momentum()) == "Momentum(lr=0.001, momentum=0.9)"
    assert repr(accelnn.Nesterov()) == "Nesterov(lr=0.001, momentum=0.9)"
    assert repr(accelnn.AdaGrad()) == "AdaGrad(lr=0.01, eps=1e-10)"
    assert repr(accelnn.RMSprop()) == "RMSprop(lr=0.01, alpha=0.99, eps=1e-08)"
    assert repr(accelnn.AdamW(weight_decay=0.1)) == (
        "AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.1)"
    )
    assert repr(accelnn.Adam()) == "Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08)"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lr", [0, 0.0, -0.1, math.inf, -math.inf, math.nan])
def test_a_learning_rate_out_of_range(name, lr):
    with pytest.raises(ValueError, match=f"lr must be positive and finite, got {lr}"):
        getattr(accelnn, name)(lr)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lr", ["0.1", None, True, [0.1], np.array([0.1, 0.2]), 0.1j])
def test_a_learning_rate_that_is_no_number(name, lr):
    with pytest.raises(TypeError, match=r"lr must be a number or a schedule, such as .*, got"):
        getattr(accelnn, name)(lr)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Momentum", {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ("Nesterov", {"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        ("RMSprop", {"alpha": 1.0}, r"alpha must be in \[0, 1\), got 1.0"),
        ("AdamW", {"eps": 0.0}, "eps must be positive and finite, got 0.0"),
        ("Adam", {"eps": 0}, "eps must be positive and finite, got 0"),
        ("RMSprop", {"eps": -1e-8}, "eps must be positive and finite, got -1e-08"),
        ("AdaGrad", {"eps": math.nan}, "eps must be positive and finite, got nan"),
        ("AdaGrad", {"eps": 0}, "eps must be positive and finite, got 0"),
        ("Adam", {"eps": math.inf}, "eps must be positive and finite, got inf"),
        ("Adam", {"betas": (1.0, 0.9)}, r"betas\[0\] must be in \[0, 1\), got 1.0"),
        ("Adam", {"betas": (0.9, -1)}, r"betas\[1\] must be in \[0, 1\), got -1"),
    ],
)
def test_other_values_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(accelnn, name)(0.1, **options)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999), 0.9, None, "ab"])
def test_betas_are_two_numbers(betas):
    with pytest.raises(TypeError, match=r"betas(\[0\])? must be"):
        accelnn.Adam(betas=betas)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_equal_and_hashable(name):
    kind = getattr(accelnn, name)
    rule, twin = kind(0.1), kind(lr=0.1)
    assert rule == twin
    assert hash(rule) == hash(twin)
    assert len({rule, twin, kind(0.2)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.lr = 0.5
    assert dataclasses.replace(rule, lr=0.3).lr == 0.3


def test_the_same_number_is_the_same_rule():
    assert accelnn.SGD(np.float64(0.1)) == accelnn.SGD(0.1)
    assert repr(accelnn.SGD(np.float32(0.5))) == "SGD(lr=0.5)"
    assert repr(accelnn.SGD(1)) == "SGD(lr=1.0)"
    assert hash(accelnn.Adam(betas=[0.9, 0.999])) == hash(accelnn.Adam())


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_of_numpy_trains_in_the_same_bits(name):
    """A float64 scalar of NumPy would promote float32 arrays."""
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(30, 4)), draw.integers(0, 3, 30)
    bits = []
    for lr in (0.1, np.float64(0.1)):
        net = accelnn.MLP([4, 5, 3], rng=0)
        accelnn.fit(net, x, t, optimizer=getattr(accelnn, name)(lr), batch_size=7, epochs=5, rng=0)
        bits.append(net.flat.tobytes())
    assert bits[0] == bits[1]


@pytest.mark.parametrize("name", NAMES)
def test_state_is_in_the_slots_alone(name):
    rule = getattr(accelnn, name)(0.1)
    assert three_steps(rule) == three_steps(rule)
    assert three_steps(rule, dtype=np.float32) == pytest.approx(
        three_steps(rule), rel=1e-5, abs=1e-7
    )


def _torch_rule(torch, name, params, decay):
    """Return torch's optimiser of the same numbers, with λ for all arrays."""
    made = {
        "SGD": (torch.optim.SGD, {}),
        "Momentum": (torch.optim.SGD, {"momentum": 0.8}),
        "Nesterov": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        "AdaGrad": (torch.optim.Adagrad, {"eps": 1e-6}),
        "RMSprop": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-6}),
        "Adam": (torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-6}),
        "AdamW": (torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-6}),
    }
    kind, options = made[name]
    ours = {key: value for key, value in options.items() if key != "nesterov"}
    rule = getattr(accelnn, name)(0.02, weight_decay=decay, decay_biases=True, **ours)
    return kind(params, lr=0.02, weight_decay=decay, **options), rule


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_three_hundred_updates_as_torch_does_them(name, decay):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    draw = np.random.default_rng(0)
    start = {"W": draw.normal(size=(4, 3)), "b": draw.normal(size=3)}
    x = draw.normal(size=(20, 4))

    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
    optimizer, rule = _torch_rule(torch, name, list(theirs.values()), decay)
    ours = {k: v.copy() for k, v in start.items()}
    state, bound = rule.init(ours), dict.fromkeys(ours, 0.0)
    for _ in range(300):
        optimizer.zero_grad()
        (torch.tanh(torch.tensor(x) @ theirs["W"] + theirs["b"]) ** 2).sum().backward()
        # Of the same numbers, so that only updates differ, and by rounding alone: on either side,
        # half a unit of each parameter, and of its move up to eight with what slots carry on.
        grads = {k: v.grad.numpy() for k, v in theirs.items()}
        before = {k: v.copy() for k, v in ours.items()}
        rule.update(ours, grads, state)
        optimizer.step()
        for k, v in ours.items():
            bound[k] += np.finfo(float).eps * (np.abs(v) + 16.0 * np.abs(v - before[k]))
    for k, value in theirs.items():
        assert (np.abs(ours[k] - value.detach().numpy()) <= bound[k]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_of_ones_own_is_that_of_fit(name):
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(40, 4)), draw.integers(0, 3, 40)
    rule = getattr(accelnn, name)(0.05, weight_decay=0.1)
    fitted = accelnn.MLP([4, 5, 3], rng=0, dtype="float64")
    accelnn.fit(fitted, x, t, optimizer=rule, batch_size=40, iters=5, rng=0)

    def by_hand(move):
        net = accelnn.MLP([4, 5, 3], rng=0, dtype="float64")
        net.flat[...] = move(net.flat.copy())
        order, state = np.random.default_rng(0), rule.init(net.params)
        for _ in range(5):
            index = order.permutation(40)
            rule.update(net.params, net.gradient(x[index], t[index]), state)
        assert state["updates"] == 5
        return [net.flat]

    assert_equal_but_for_rounding([fitted.flat], by_hand)


def test_weights_decay_and_biases_do_not_unless_told():
    for decay_biases in (False, True):
        rule = accelnn.SGD(0.1, weight_decay=0.5, decay_biases=decay_biases)
        params = {"W": np.ones((2, 2)), "b": np.ones(2)}
        rule.update(params, {"W": np.zeros((2, 2)), "b": np.zeros(2)}, rule.init(params))
        np.testing.assert_allclose(params["W"], 0.95)
        np.testing.assert_allclose(params["b"], 0.95 if decay_biases else 1.0)


def test_states_take_the_form_of_the_parameters():
    rule = accelnn.Adam(0.1)
    for params in (np.ones(3), [np.ones(3), np.ones((2, 2))], {"a": np.ones(3)}):
        state = rule.init(params)
        grads = state["first"]
        rule.update(params, grads, state)
        assert type(state["second"]) is type(params)


def test_a_state_or_gradients_that_do_not_fit():
    rule, params = accelnn.Adam(0.1), {"W": np.ones(2), "b": np.ones(1)}
    with pytest.raises(
        TypeError, match=r"state must be what Adam.init\(params\) returned, got dict"
    ):
        rule.update(params, params, accelnn.SGD(0.1).init(params))
    with pytest.raises(ValueError, match=r"gradients or state lack \['b'\]"):
        rule.update(params, {"W": np.ones(2)}, rule.init(params))
    with pytest.raises(ValueError, match="params are 1 arrays"):
        rule.update([np.ones(2)], [], rule.init([np.ones(2)]))


@pytest.mark.parametrize("options", [{"weight_decay": -0.1}, {"weight_decay": math.nan}])
def test_a_decay_out_of_range(options):
    with pytest.raises(ValueError, match="weight_decay must be non-negative and finite"):
        accelnn.SGD(0.1, **options)
    with pytest.raises(TypeError, match="decay_biases must be True or False, got 1"):
        accelnn.SGD(0.1, decay_biases=1)


def test_what_is_refused_changes_nothing():
    rule = accelnn.Adam(0.1)
    read_only = np.ones(2)
    read_only.flags.writeable = False
    for params, grads, error in (
        ({"W": np.ones((2, 2)), "b": np.ones(2)}, {"W": np.ones((2, 2))}, ValueError),
        ({"b": np.ones(2), "W": np.ones((2, 2))}, {"b": np.ones(2), "W": np.ones(2)}, ValueError),
        ({"b": np.ones(2), "W": read_only}, {"b": np.ones(2), "W": np.ones(2)}, ValueError),
        ([np.ones(2, int)], [np.ones(2)], TypeError),
        ([np.float64(1.0)], [np.float64(1.0)], TypeError),
    ):
        state = rule.init(params)
        before = [
            np.array(value) for value in (params.values() if isinstance(params, dict) else params)
        ]
        with pytest.raises(error, match="param"):
            rule.update(params, grads, state)
        assert state["updates"] == 0
        after = params.values() if isinstance(params, dict) else params
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)


def test_decay_has_no_part_in_an_update_of_ones_own():
    class Clipped(accelnn.Momentum):
        def update(self, params, grads, slots, step, xp):
            super().update(params, xp.clip(grads, -1.0, 1.0), slots, step, xp)

    x, t = np.ones((4, 3)), np.zeros(4, int)
    accelnn.fit(accelnn.MLP([3, 2], rng=0), x, t, optimizer=Clipped(0.1), epochs=1, rng=0)
    with pytest.raises(TypeError, match="weight_decay has no part in it"):
        accelnn.fit(
            accelnn.MLP([3, 2], rng=0), x, t, optimizer=Clipped(0.1, weight_decay=0.5), epochs=1
        )
