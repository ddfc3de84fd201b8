"""Formulas with parameters that are not the default, and update rules of one's own."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend
from accelnn.testing._formulas import ACTIVATION_ROWS, LOSS_ROWS, ActivationRow, LossRow
from accelnn.testing._reference import ReferenceNet, batches
from accelnn.testing._rounding import Move, assert_equal_but_for_rounding

SAMPLES, BATCH, UPDATES, RATE = 53, 10, 30, 0.05

# Another parameter of each activation, and of the loss, with what they are then.
ACTIVATIONS = {
    "leaky_relu": (
        accelnn.LeakyReLU(0.2),
        ActivationRow(
            lambda x: np.asarray(np.maximum(x, 0) + 0.2 * np.minimum(x, 0)),
            lambda x: np.asarray(0.2 + 0.8 * (x > 0)),
            ((-math.inf, 0.2), (math.inf, 1.0)),
        ),
    ),
    "leaky_relu that falls": (
        accelnn.LeakyReLU(-0.5),
        ActivationRow(
            lambda x: np.asarray(np.maximum(x, 0) - 0.5 * np.minimum(x, 0)),
            lambda x: np.asarray(1.5 * (x > 0) - 0.5),
            ((math.inf, -0.5), (math.inf, 1.0)),
        ),
    ),
    "elu": (
        accelnn.ELU(0.5),
        ActivationRow(
            lambda x: np.asarray(np.maximum(x, 0) + 0.5 * np.expm1(np.minimum(x, 0))),
            lambda x: np.asarray(np.where(x > 0, 1.0, 0.5 * np.exp(np.minimum(x, 0)))),
            ((-0.5, 0.0), (math.inf, 1.0)),
        ),
    ),
}
HUBER = (
    accelnn.Huber(0.3),
    LossRow(
        lambda a: a,
        lambda a, t: np.where(
            np.abs(a - t) <= 0.3, 0.5 * (a - t) ** 2, 0.3 * np.abs(a - t) - 0.045
        ).sum(axis=-1),
        lambda a, t: np.clip(a - t, -0.3, 0.3),
        is_smooth=False,
    ),
)
CASES = {
    **{name: (*case, "sum_squared_error", None) for name, case in ACTIVATIONS.items()},
    "huber": ("tanh", None, *HUBER),
    "elu and huber": (*ACTIVATIONS["elu"], *HUBER),
}


def _adamax(p: float, g: float, rate: float, k: float, m: float, u: float) -> tuple[float, ...]:
    m = 0.9 * m + 0.1 * g
    u = max(0.99 * u, abs(g) + 1e-8)
    return p - rate / (1.0 - 0.9**k) * m / u, m, u


def _bounded(p: float, g: float, rate: float, _k: float) -> float:
    return p - rate * (1.0 if g > 1.0 else g / (1.0 + 0.5 * g * g))


def _adamax_by_hand(p: Any, g: Any, rate: float, k: int, m: Any, u: Any) -> None:
    m += (g - m) / 10.0
    u[...] = np.where(0.99 * u > np.abs(g) + 1e-8, 0.99 * u, np.abs(g) + 1e-8)
    p -= rate * (m / (1.0 - 0.9**k)) / u


def _bounded_by_hand(p: Any, g: Any, rate: float, _k: int) -> None:
    p -= np.where(g > 1.0, rate, rate * g / (1.0 + g**2 / 2.0))


RULES: dict[str, tuple[accelnn.Rule, Callable[..., None]]] = {
    "adamax": (accelnn.Rule("adamax", _adamax, lr=0.01, state=("m", "u")), _adamax_by_hand),
    "bounded": (accelnn.Rule("bounded", _bounded, lr=RATE), _bounded_by_hand),
    "bounded that decays": (
        accelnn.Rule("bounded", _bounded, lr=RATE, weight_decay=0.1),
        _bounded_by_hand,
    ),
}


class FormulaConformance:
    """Nets and training with such formulas, against the reference net."""

    @pytest.mark.parametrize("name", RULES)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_update_rules_of_ones_own(self, b: Backend, name: str, dtype: Any) -> None:
        rule, by_hand = RULES[name]
        draw = np.random.default_rng(0)
        x, labels = draw.normal(size=(SAMPLES, 9)), draw.integers(0, 4, SAMPLES)
        net = accelnn.MLP([9, 6, 4], activation="tanh", rng=5, backend=b, dtype=dtype)
        host = {key: np.array(b.to_numpy(value)) for key, value in net.params.items()}
        options: Any = {"optimizer": rule, "batch_size": BATCH, "iters": UPDATES, "rng": 1}
        if b.memory() is not None:
            with pytest.raises(TypeError, match="is a function of plain numbers"):
                accelnn.fit(net, x, labels, **options)
            return
        history = accelnn.fit(net, x, labels, **options)

        def reference(move: Move) -> list[Any]:
            xs, t, rate = move(x.astype(dtype)), np.eye(4)[labels], move(rule.lr)
            moved = {key: move(value) for key, value in host.items()}
            plain, losses = ReferenceNet(moved, "tanh", "cross_entropy"), []
            state = {n: [np.zeros_like(p) for _ in rule.state] for n, p in plain.params.items()}
            order = batches(SAMPLES, BATCH, UPDATES, seed=1)
            for k, index in enumerate(order, start=1):
                losses.append(plain.loss(xs[index], t[index]))
                for key, g in plain.gradient(xs[index], t[index]).items():
                    p = plain.params[key]
                    decay = rule.weight_decay * (p.ndim > 1)
                    by_hand(p, g + decay * p, rate, k, *state[key])
            return [losses, np.concatenate([value.ravel() for value in plain.params.values()])]

        found = [history.loss, b.to_numpy(net.flat)]
        assert_equal_but_for_rounding(found, reference, dtype=dtype, terms=1.0)

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_parameters_that_are_not_the_default(self, b: Backend, case: Any, dtype: Any) -> None:
        activation, row, loss, loss_row = case
        draw = np.random.default_rng(0)
        x, t = draw.normal(size=(SAMPLES, 9)), draw.normal(size=(SAMPLES, 4))
        options: Any = {"activation": activation, "loss": loss, "dtype": dtype}
        net = accelnn.MLP([9, 6, 5, 4], rng=5, backend=b, **options)
        host = {key: np.array(b.to_numpy(value)) for key, value in net.params.items()}
        here = b.asarray(x, dtype), b.asarray(t, dtype)
        start = [net.predict(here[0]), *net.gradient(*here).values()]
        numerical = net.numerical_gradient(*here, step=1e-6)
        history = accelnn.fit(
            net, x, t, optimizer=accelnn.SGD(RATE), batch_size=BATCH, iters=UPDATES, rng=1
        )

        def reference(move: Move) -> list[Any]:
            xs, ts = move(x.astype(dtype)), move(t.astype(dtype))
            plain = ReferenceNet({k: move(v) for k, v in host.items()}, "identity", "huber")
            plain.row = row or ACTIVATION_ROWS[activation]
            plain.loss_row = loss_row or LOSS_ROWS[loss]
            found, losses = [plain.predict(xs), *plain.gradient(xs, ts).values()], []
            for index in batches(SAMPLES, BATCH, UPDATES, seed=1):
                losses.append(plain.loss(xs[index], ts[index]))
                for name, g in plain.gradient(xs[index], ts[index]).items():
                    plain.params[name] -= RATE * g
            flat = np.concatenate([value.ravel() for value in plain.params.values()])
            return [*found, losses, flat]

        found = [b.to_numpy(array) for array in start]
        # Where a kink lies within a step of 1e-6, a difference is off by some of it times x².
        for key, exact in zip(net.params, found[1:], strict=True):
            difference = b.to_numpy(numerical[key])
            np.testing.assert_allclose(difference, exact, rtol=0.0, atol=1e-4)
        found += [np.array(history.loss), b.to_numpy(net.flat)]
        assert_equal_but_for_rounding(found, reference, dtype=dtype, terms=1.0)
