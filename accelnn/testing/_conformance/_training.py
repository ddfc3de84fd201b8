"""The training loop against a handwritten loop around the reference net."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend
from accelnn.backends._training import TrainingState
from accelnn.errors import DivergenceWarning
from accelnn.formulas._dropout import Dropout
from accelnn.formulas._table import ACTIVATIONS, LOSSES, RULES
from accelnn.testing._reference import (
    COEFFICIENTS,
    ReferenceNet,
    batches,
    dropped,
    reference_update,
)
from accelnn.testing._rounding import Move, assert_equal_but_for_rounding

SIZES = (9, 6, 4)
SAMPLES = 53
BATCH = 10
# The options of `Engine.train`, one at a time and together.
OPTIONS: list[tuple[str, ...]] = [("rates",), ("weights",), ("clip",), ("dropout",)]
OPTIONS.append(("rates", "weights", "clip", "dropout"))
# A central difference is off by h²/6 = 2e-9 third derivatives, here of about ten; there are 20
# updates at most, of rates up to one.
BY_DIFFERENCES = 1e-6
# About half of the gradients have a larger norm.
CLIP, SEED = 0.5, 0x0123_4567_89AB_CDEF


def _blobs(samples: int = SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of classes that a small net can learn."""
    draw = np.random.default_rng(8)
    labels = draw.integers(0, SIZES[-1], size=samples)
    centres = draw.normal(scale=2.0, size=(SIZES[-1], SIZES[0]))
    return centres[labels] + draw.normal(size=(samples, SIZES[0])), labels


def _net(b: Backend, **options: Any) -> accelnn.MLP:
    return accelnn.MLP(SIZES, rng=5, backend=b, **{"dtype": "float64", **options})


def _reference_run(
    net: accelnn.MLP, optimizer: str, steps: int, sampling: str = "shuffle"
) -> Callable[[Move], list[Any]]:
    """Return a function that trains the reference from the net's current parameters.

    It returns the losses of all batches and the parameters, flattened as those of the net.
    """
    host = {key: np.array(net.backend.to_numpy(value)) for key, value in net.params.items()}

    def run(move: Move) -> list[Any]:
        moved = {key: move(value) for key, value in host.items()}
        reference = ReferenceNet(moved, net.spec.activation, net.spec.loss.name)
        x, labels = _blobs()
        x, targets, numbers = move(x), np.eye(SIZES[-1])[labels], move(COEFFICIENTS)
        losses, state = [], {}  # type: ignore[var-annotated]
        order = batches(SAMPLES, BATCH, steps, seed=1, sampling=sampling)
        for k, index in enumerate(order, start=1):
            losses.append(reference.loss(x[index], targets[index]))
            grads = reference.gradient(x[index], targets[index])
            reference_update(optimizer, reference.params, grads, state, k, numbers)
        # In one array, because the moves may by chance hardly change a bias of four numbers.
        return [losses, np.concatenate([value.ravel() for value in reference.params.values()])]

    return run


class TrainingConformance:
    """`fit`, and the engine's training."""

    @pytest.mark.parametrize("optimizer", RULES)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_follows_the_reference_loop(self, b: Backend, optimizer: str, dtype: str) -> None:
        net = _net(b, dtype=dtype)
        reference = _reference_run(net, optimizer, 40)
        rule = getattr(accelnn, optimizer)(COEFFICIENTS[0])
        x, t = _blobs()
        history = accelnn.fit(net, x, t, optimizer=rule, batch_size=BATCH, iters=40, rng=1)
        found = [history.loss, b.to_numpy(net.flat)]
        assert_equal_but_for_rounding(found, reference, dtype=dtype)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
    def test_follows_it_for_every_kind_of_net(
        self, b: Backend, sampling: Any, activation: str, loss: str
    ) -> None:
        net = _net(b, activation=activation, loss=loss)
        reference = _reference_run(net, "SGD", 30, sampling)
        data = accelnn.prepare(*_blobs(), backend=b, dtype="float64")
        history = accelnn.fit(
            net,
            data,
            optimizer=accelnn.SGD(0.05),
            batch_size=BATCH,
            iters=30,
            sampling=sampling,
            rng=1,
        )
        assert_equal_but_for_rounding(
            [history.loss], lambda move: reference(move)[:1], dtype="float64"
        )

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("names", OPTIONS, ids="-".join)
    def test_an_engine_trains_with(self, b: Backend, names: tuple[str, ...], dtype: Any) -> None:
        """Rates, sample weights, clipping and dropout, each alone and all together."""
        net = accelnn.MLP([9, 6, 5, 4], activation="tanh", rng=5, backend=b, dtype=dtype)
        host = {key: np.array(b.to_numpy(value)) for key, value in net.params.items()}
        x, labels = _blobs()
        draw = np.random.default_rng(3)
        order = draw.integers(0, SAMPLES, size=397)
        pieces = np.split(order, range(BATCH, order.size, BATCH))
        rates = 0.05 * draw.uniform(size=40)
        weights = draw.integers(0, 4, size=SAMPLES).astype(float)
        options: Any = {"rates": rates, "clip": CLIP, "dropout": Dropout(0.4, SEED)}
        options["weights"] = b.asarray(weights, dtype)
        data = accelnn.prepare(x, labels, backend=b, dtype=dtype)
        state = TrainingState(net.flat, accelnn.Adam(COEFFICIENTS[0]), "analytic", b)
        chosen = {name: options[name] for name in names}
        losses = net.engine.train(state, data, order, BATCH, **chosen)
        assert state.step == len(losses) == 40

        def reference(move: Move) -> list[Any]:
            moved = ReferenceNet(
                {key: move(value) for key, value in host.items()}, "tanh", "cross_entropy"
            )
            xs, targets, numbers = move(x), np.eye(SIZES[-1])[labels], move(COEFFICIENTS)
            found, slots = [], {}  # type: ignore[var-annotated]
            for k, index in enumerate(pieces, start=1):
                extras: Any = {}
                if "weights" in names:
                    extras["weights"] = weights[index]
                if "dropout" in names:
                    extras["masks"] = dropped(0.4, SEED, k - 1, len(index), (6, 5))
                found.append(moved.loss(xs[index], targets[index], **extras))
                grads = moved.gradient(xs[index], targets[index], **extras)
                if "clip" in names:
                    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
                    # As in torch.nn.utils.clip_grad_norm_.
                    grads = {n: g * min(1.0, CLIP / (norm + 1e-6)) for n, g in grads.items()}
                rate = rates[k - 1] if "rates" in names else numbers[0]
                numbers_now = (rate, *numbers[1:])
                reference_update("Adam", moved.params, grads, slots, k, numbers_now)
            flat = np.concatenate([value.ravel() for value in moved.params.values()])
            return [found, flat]

        assert_equal_but_for_rounding([losses, b.to_numpy(net.flat)], reference, dtype=dtype)

    @pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
    def test_a_schedule_is_the_rates_that_it_returns(self, b: Backend, optimizer: str) -> None:
        """An engine finds them if it is not told them, as `fit` does."""
        x, labels = _blobs()
        data = accelnn.prepare(x, labels, backend=b, dtype="float64")
        schedule = accelnn.schedules.warm_up(3, accelnn.schedules.cosine(0.1, 8))
        rates = np.array([schedule(k) for k in range(11)])
        found = []
        for lr, told in ((schedule, False), (schedule, True), (0.7, True)):
            net = _net(b)
            state = TrainingState(net.flat, getattr(accelnn, optimizer)(lr), "analytic", b)
            losses: list[float] = []
            for done, end in ((0, 5), (5, 11)):
                options: Any = {"rates": rates[done:end]} if told else {}
                order = np.arange(done * 4, end * 4)
                losses += net.engine.train(state, data, order, 4, **options).tolist()
            found.append((losses, b.to_numpy(net.flat).tobytes()))
        assert found[0] == found[1] == found[2]

    @pytest.mark.parametrize("names", OPTIONS, ids="-".join)
    def test_an_engine_trains_by_differences_with(self, b: Backend, names: tuple[str, ...]) -> None:
        x, labels = _blobs()
        draw = np.random.default_rng(3)
        options: Any = {"rates": draw.uniform(size=12), "clip": CLIP, "dropout": Dropout(0.4, SEED)}
        options["weights"] = b.asarray(draw.uniform(size=SAMPLES), "float64")
        data = accelnn.prepare(x, labels, backend=b, dtype="float64")
        curves = []
        for gradient in ("analytic", "numerical"):
            net = accelnn.MLP([9, 6, 5, 4], activation="tanh", rng=5, backend=b, dtype="float64")
            state = TrainingState(net.flat, accelnn.SGD(0.1), gradient, b)
            chosen = {name: options[name] for name in names}
            curves.append(net.engine.train(state, data, np.arange(12 * 4), 4, **chosen))
        np.testing.assert_allclose(curves[1], curves[0], rtol=BY_DIFFERENCES)
        assert (curves[1] != curves[0]).any(), "a finite difference is no derivative"

    def test_numerical_training_follows_the_analytic_curve(self, b: Backend) -> None:
        x, t = _blobs()
        curves = [
            accelnn.fit(_net(b), x, t, batch_size=BATCH, iters=20, gradient=gradient, rng=1).loss
            for gradient in ("analytic", "numerical")
        ]
        np.testing.assert_allclose(curves[1], curves[0], rtol=BY_DIFFERENCES)
        assert curves[1] != curves[0], "a finite difference is no derivative"

    def test_numerical_training_in_single_precision(self, b: Backend) -> None:
        x, t = _blobs()
        net = _net(b, dtype="float32")
        loss = accelnn.fit(net, x, t, batch_size=BATCH, iters=30, gradient="numerical", rng=1).loss
        assert loss[-1] < 0.8 * loss[0]
        assert net.params["W1"].dtype == b.dtype("float32")

    def test_same_seed_same_bits(self, b: Backend) -> None:
        x, t = _blobs()
        runs = []
        for _ in range(2):
            net = _net(b, dtype="float32")
            history = accelnn.fit(
                net, x, t, optimizer=accelnn.Adam(), batch_size=BATCH, epochs=4, rng=9
            )
            runs.append((history.loss, b.to_numpy(net.flat).tobytes()))
        assert runs[0] == runs[1]

    def test_handwritten_loop(self, b: Backend) -> None:
        net = _net(b, dtype="float32")
        reference = _reference_run(net, "SGD", 40)
        x, t = (b.asarray(a) for a in _blobs())
        by_hand = []
        for index in batches(SAMPLES, BATCH, 40, seed=1):
            chosen = b.asarray(index)
            x_batch, t_batch = b.xp.take(x, chosen, axis=0), b.xp.take(t, chosen, axis=0)
            by_hand.append(net.loss(x_batch, t_batch))
            grads = net.gradient(x_batch, t_batch)
            for key in net.params:
                net.params[key] -= 0.05 * grads[key]
        assert_equal_but_for_rounding([by_hand], lambda move: reference(move)[:1], dtype="float32")

    def test_history_with_validation(self, b: Backend) -> None:
        x, t = _blobs()
        net = _net(b)
        start = net.accuracy(b.asarray(x), b.asarray(t))
        history = accelnn.fit(
            net, x[:45], t[:45], validation=(x[45:], t[45:]), batch_size=BATCH, iters=12, rng=1
        )
        assert history.batches_per_epoch == 5
        assert history.evaluated_at == [0, 5, 10, 12]
        assert len(history.test_accuracy) == len(history.train_accuracy) == 4
        assert history.test_accuracy[-1] == net.accuracy(b.asarray(x[45:]), b.asarray(t[45:]))
        assert history.train_loss[-1] == pytest.approx(
            net.loss(b.asarray(x[:45]), b.asarray(t[:45]))
        )
        assert start < history.train_accuracy[-1]

    def test_the_best_parameters_are_restored(self, b: Backend) -> None:
        x, t = _blobs()
        net = _net(b)
        keep, seen = accelnn.callbacks.BestWeights(), []

        def look(net: accelnn.Net, _history: accelnn.History) -> None:
            seen.append(np.array(b.to_numpy(net.flat)))

        # Of a class that the samples never have, so that every update makes it worse.
        history = accelnn.fit(
            net,
            x,
            t % 3,
            validation=(x, np.full(SAMPLES, 3)),
            batch_size=BATCH,
            epochs=3,
            rng=1,
            callbacks=[keep, look],
        )
        assert keep.best == history.test_loss[0] < min(history.test_loss[1:])
        np.testing.assert_array_equal(b.to_numpy(net.flat), b.to_numpy(_net(b).flat))
        assert (seen[-1] != b.to_numpy(net.flat)).any()

    def test_divergence_is_reported(self, b: Backend) -> None:
        x, t = _blobs()
        net = _net(b, loss="sum_squared_error", activation="relu", dtype="float32")
        rule = accelnn.SGD(1e6)
        with (
            np.errstate(all="ignore"),
            pytest.warns(DivergenceWarning, match=r"SGD\(lr=1000000.0\)"),
        ):
            history = accelnn.fit(net, x, t, optimizer=rule, batch_size=BATCH, epochs=20, rng=1)
        assert np.isfinite(history.loss[:-1]).all()
        assert not np.isfinite(history.loss[-1])

    def test_divergence_leaves_the_last_net_whatever_the_callbacks(self, b: Backend) -> None:
        x, _ = _blobs(600)
        nets = []

        def nothing(_net: accelnn.Net, _history: accelnn.History) -> None:
            """Only splits the run into chunks."""

        nothing.every = 1  # type: ignore[attr-defined]
        for callbacks in ((), (nothing,)):
            net = accelnn.MLP([9, 2], loss="sum_squared_error", rng=0, backend=b)
            with np.errstate(all="ignore"), pytest.warns(DivergenceWarning):
                history = accelnn.fit(
                    net,
                    x,
                    x[:, :2],
                    batch_size=1,
                    epochs=1,
                    optimizer=accelnn.SGD(2.0),
                    rng=0,
                    callbacks=callbacks,
                )
            nets.append((history.loss[:-1], b.to_numpy(net.flat).tobytes()))
        assert nets[0] == nets[1]

    def test_prepared_data_is_a_copy(self, b: Backend) -> None:
        x, t = _blobs()
        x = x.astype(np.float32)
        data = accelnn.prepare(x, t, backend=b)
        x[...], t[...] = np.nan, 0
        assert np.isfinite(b.to_numpy(data.x)).all()
        assert b.to_numpy(data.t).any()

    def test_wrong_types_are_refused_alike(self, b: Backend) -> None:
        x, t = _blobs()
        for wrong in (x.astype(str), x.astype(object), x.astype(complex)):
            with pytest.raises(TypeError, match="x must hold real numbers, got dtype"):
                accelnn.fit(_net(b), wrong, t, epochs=1)
        losses = [
            accelnn.fit(_net(b), x.round().astype(dtype), t, iters=3, rng=0).loss
            for dtype in (np.float64, np.float16, np.int8, ">f8")
        ]
        assert losses[1:] == losses[:1] * 3
        assert accelnn.fit(_net(b), x > 0, t, iters=3, rng=0).steps == 3

    def test_data_that_is_not_finite_is_refused(self, b: Backend) -> None:
        x, t = _blobs()
        x[4, 2] = np.nan
        with pytest.raises(ValueError, match=r"x must be finite, but x\[4, 2\] is nan; 1 of 477"):
            accelnn.fit(_net(b), x, t, epochs=1)

    def test_what_the_caller_owns_is_unchanged(self, b: Backend) -> None:
        x, t = _blobs()
        x.flags.writeable = t.flags.writeable = False
        before = x.copy(), t.copy()
        accelnn.fit(_net(b), x, t, validation=(x, t), batch_size=BATCH, epochs=1, rng=1)
        np.testing.assert_array_equal(x, before[0])
        np.testing.assert_array_equal(t, before[1])
