"""Dropout and label smoothing against a handwritten loop around the reference net."""

from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend
from accelnn.testing._reference import (
    COEFFICIENTS,
    ReferenceNet,
    batches,
    dropped,
    reference_update,
)
from accelnn.testing._rounding import Move, assert_equal_but_for_rounding

SIZES, SAMPLES, BATCH, STEPS = (7, 6, 5, 4), 23, 5, 14
KEY = 0x0123_4567_89AB_CDEF, 3
# Dropout and label smoothing.
OPTIONS = [(0.4, 0.0), (0.0, 0.2), (0.4, 0.2)]
# A central difference is off by h²/6 = 2e-9 third derivatives, here of about ten.
BY_DIFFERENCES = 1e-6


def _data() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(8)
    return draw.normal(size=(SAMPLES, SIZES[0])), draw.integers(0, SIZES[-1], SAMPLES)


def _net(b: Any, dropout: float, label_smoothing: float, dtype: Any = "float64") -> accelnn.MLP:
    options: Any = {"dropout": dropout, "label_smoothing": label_smoothing, "dtype": dtype}
    return accelnn.MLP(SIZES, activation="tanh", rng=5, backend=b, **options)


def _targets(t: np.ndarray, smoothing: float) -> np.ndarray:
    rows: np.ndarray = np.eye(SIZES[-1])[t]
    return (1.0 - smoothing) * rows + smoothing / SIZES[-1]


def _reference(host: dict[str, np.ndarray], move: Move) -> ReferenceNet:
    moved = {key: move(value) for key, value in host.items()}
    return ReferenceNet(moved, "tanh", "cross_entropy")


class RegularizationConformance:
    """Nets with dropout and label smoothing."""

    @pytest.mark.parametrize(("dropout", "smoothing"), OPTIONS)
    def test_a_net_computes_with(self, b: Backend, dropout: float, smoothing: float) -> None:
        net, (x, t) = _net(b, dropout, smoothing), _data()
        host = {key: np.array(b.to_numpy(value)) for key, value in net.params.items()}
        here = b.asarray(x), b.asarray(t)
        found: list[Any] = [net.loss(*here, dropout_key=KEY)]
        found += map(b.to_numpy, net.gradient(*here, dropout_key=KEY).values())
        # Without a key nothing is dropped.
        found += [net.loss(*here)]
        found += map(b.to_numpy, net.gradient(*here).values())

        def reference(move: Move) -> list[Any]:
            same, xs, targets = _reference(host, move), move(x), _targets(t, smoothing)
            masks = dropped(dropout, *KEY, SAMPLES, SIZES[1:-1])
            results: list[Any] = []
            for extras in ({"masks": masks}, {}):
                results.append(same.loss(xs, targets, **extras))
                results += same.gradient(xs, targets, **extras).values()
            return results

        assert_equal_but_for_rounding(found, reference)

    @pytest.mark.parametrize("structured", [True, False])
    @pytest.mark.parametrize(("dropout", "smoothing"), OPTIONS)
    def test_differences_are_of_the_same_loss(
        self,
        b: Backend,
        structured: bool,  # noqa: FBT001 - a parameter of the test
        dropout: float,
        smoothing: float,
    ) -> None:
        net, (x, t) = _net(b, dropout, smoothing), _data()
        here = b.asarray(x), b.asarray(t)
        for key in (None, KEY):
            exact = net.gradient(*here, dropout_key=key)
            found = net.numerical_gradient(*here, structured=structured, dropout_key=key)
            for name, gradient in exact.items():
                expected = b.to_numpy(gradient)
                np.testing.assert_allclose(b.to_numpy(found[name]), expected, 0.0, BY_DIFFERENCES)
            assert net.check_gradient(*here, dropout_key=key).passed

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("dropout", "smoothing"), OPTIONS)
    def test_training_with(self, b: Backend, dropout: float, smoothing: float, dtype: Any) -> None:
        """Of the seed that is drawn first, and evaluated without either."""
        net, (x, t) = _net(b, dropout, smoothing, dtype), _data()
        host = {key: np.array(b.to_numpy(value)) for key, value in net.params.items()}
        rule = accelnn.SGD(COEFFICIENTS[0])
        options: Any = {"batch_size": BATCH, "iters": STEPS, "optimizer": rule}
        history = accelnn.fit(net, x, t, validation=(x, t), rng=1, **options)
        draw = np.random.default_rng(1)
        seed = int(draw.integers(2**64, dtype=np.uint64)) if dropout else None
        assert history.dropout_seed == seed
        orders = list(batches(SAMPLES, BATCH, STEPS, draw))

        def reference(move: Move) -> list[Any]:
            same, xs, numbers = _reference(host, move), move(x), move(COEFFICIENTS)
            losses, state = [], {}  # type: ignore[var-annotated]
            first = same.loss(xs, _targets(t, 0.0))
            for k, index in enumerate(orders):
                masks = dropped(dropout, seed or 0, k, len(index), SIZES[1:-1])
                batch = xs[index], _targets(t[index], smoothing)
                losses.append(same.loss(*batch, masks=masks))
                grads = same.gradient(*batch, masks=masks)
                reference_update("SGD", same.params, grads, state, k + 1, numbers)
            flat = np.concatenate([value.ravel() for value in same.params.values()])
            return [losses, flat, [first, same.loss(xs, _targets(t, 0.0))]]

        ends = [history.train_loss[0], history.train_loss[-1]]
        found = [history.loss, b.to_numpy(net.flat), ends]
        assert_equal_but_for_rounding(found, reference, dtype=dtype)
        assert history.test_loss == history.train_loss
        assert history.train_accuracy[-1] == net.accuracy(b.asarray(x, dtype), b.asarray(t))
