"""Data that is read from files, and batches that come one by one."""

import itertools
import tracemalloc

import numpy as np
import pytest

import accelnn
from accelnn.errors import DivergenceWarning
from accelnn.testing._rounding import assert_equal_but_for_rounding
from accelnn.training import _streams

N, BATCH = 53, 7


def data(n=N, dtype="float32"):
    draw = np.random.default_rng(8)
    x = draw.normal(size=(n, 4)) * (draw.random((n, 4)) < 0.7)
    return x.astype(dtype), (x[:, :3] + draw.normal(size=(n, 3))).argmax(1)


def new_net(backend="numpy", dtype="float64", **given):
    return accelnn.MLP([4, 6, 3], dtype=dtype, rng=0, backend=backend, **given)


def options(**changes):
    given = {"batch_size": BATCH, "optimizer": accelnn.Momentum(0.1), "rng": 1, "epochs": 4}
    return {**given, **changes}


def batches(x, t, size=BATCH):
    return ((x[i : i + size], t[i : i + size]) for i in range(0, len(x), size))


@pytest.fixture
def files(tmp_path):
    """The data set as memory-mapped files."""
    x, t = data()
    for name, array in (("x", x), ("t", t)):
        np.save(tmp_path / f"{name}.npy", array)
    return [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "t")]


class OfAFile:
    """What h5py allows: slices, and lists of increasing rows."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, rows):
        if isinstance(rows, np.ndarray):
            assert (np.diff(rows) > 0).all()
        return self._array[rows]


class TestStreams:
    @pytest.mark.parametrize("rows", [1, 20, 1000])
    @pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
    def test_they_are_as_good_as_arrays(self, backend, files, sampling, rows, monkeypatch):
        monkeypatch.setattr(_streams, "PIECE", rows * 4 * 8)
        x, t = data()
        weights, given = np.arange(N) / 20.0, {"sampling": sampling, "clip_norm": 0.5}
        given = options(sample_weight=weights, **given)
        net = new_net(backend, dropout=0.2, label_smoothing=0.1)
        stream = accelnn.prepare(*files, backend=backend, dtype="float64", stream=True)
        history = accelnn.fit(net, stream, validation=stream, **given)

        def as_arrays(move):
            other = new_net(dropout=0.2, label_smoothing=0.1)
            other.params = {key: move(value) for key, value in other.params.items()}
            found = accelnn.fit(other, move(x.astype(float)), t, validation=(x, t), **given)
            return [found.loss, found.train_loss, other.flat]

        flat = net.backend.to_numpy(net.flat)
        assert_equal_but_for_rounding([history.loss, history.train_loss, flat], as_arrays)
        assert history.test_loss == history.train_loss
        assert history.train_accuracy[-1] == net.accuracy(
            backend.asarray(x, "float64"), backend.asarray(t)
        )

    def test_rows_are_asked_for_as_h5py_needs_it(self):
        x, t = data()
        stream = accelnn.prepare(OfAFile(x), OfAFile(t), dtype="float64", stream=True)
        given = options(sampling="replacement")
        first, second = new_net(), new_net()
        history = accelnn.fit(first, stream, **given)
        assert history.loss == accelnn.fit(second, x, t, **given).loss
        assert first.flat.tobytes() == second.flat.tobytes()

    def test_they_can_be_resumed(self, files, tmp_path):
        stream = accelnn.prepare(*files, dtype="float64", stream=True)
        nets = new_net(), new_net()
        whole = accelnn.fit(nets[0], stream, **options())
        path = tmp_path / "run"
        for epochs in (1, 4):
            found = accelnn.fit(
                nets[1], stream, **options(epochs=epochs, checkpoint=path, resume=path)
            )
        assert found == whole
        assert nets[0].flat.tobytes() == nets[1].flat.tobytes()

    def test_each_batch_is_checked(self, files):
        x, t = (np.array(array) for array in files)
        x[40, 2] = np.nan
        stream = accelnn.prepare(x, t, dtype="float64", stream=True)
        with pytest.raises(ValueError, match=r"x must be finite, but x\[40, 2\]") as caught:
            accelnn.fit(new_net(), stream, **options())
        assert caught.value.history.steps < 8
        x[40, 2], t[3] = 0.0, 3
        with pytest.raises(ValueError, match="label 3, but outputs"):
            accelnn.fit(new_net(), stream, **options())

    def test_numbers_for_one_output(self, files):
        x, t = files
        net = accelnn.MLP([4, 1], loss="sum_squared_error", rng=0)
        stream = accelnn.prepare(x, t.astype(float), stream=True)
        other = net.to("numpy")
        found = accelnn.fit(net, stream, **options())
        assert found.loss == accelnn.fit(other, x, t.astype(float), **options()).loss

    @pytest.mark.parametrize(
        ("x", "t", "error", "message"),
        [
            ([[1.0]], np.zeros(1, int), TypeError, "x is of type list"),
            (np.zeros((3, 2)), [1, 2, 3], TypeError, "t is of type list"),
            (np.zeros((3, 2, 2)), np.zeros(3, int), ValueError, r"flatten it with x.reshape"),
            (np.zeros((0, 2)), np.zeros(0, int), ValueError, r"expected \(n, inputs\) with n > 0"),
            (np.zeros((3, 2)), np.zeros(4, int), ValueError, r"t has shape \(4,\)"),
        ],
    )
    def test_what_cannot_be_streamed_is_refused(self, x, t, error, message):
        with pytest.raises(error, match=message):
            accelnn.prepare(x, t, stream=True)

    def test_of_another_dtype_or_width_they_are_refused(self, files):
        stream = accelnn.prepare(*files, stream=True)
        assert repr(stream).startswith("<StreamedDataset of 53 samples with 4 inputs")
        with pytest.raises(TypeError, match=r"in float32, .* dtype='float64', stream=True"):
            accelnn.fit(new_net(), stream, **options())
        with pytest.raises(ValueError, match="has 4 inputs per sample, and this net takes 5"):
            accelnn.fit(accelnn.MLP([5, 3]), stream, **options())

    def test_memory_is_bounded(self, tmp_path):
        """A file of 400 MB in pieces of 32."""
        made = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (100_000, 1_000))
        del made
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
        stream = accelnn.prepare(x, np.arange(100_000) % 3, stream=True)
        net = accelnn.MLP([1_000, 4, 3], rng=0)
        tracemalloc.start()
        try:
            accelnn.fit(net, stream, iters=300, rng=0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * _streams.PIECE


class TestBatches:
    def test_a_bar_counts_what_has_no_known_end(self):
        history = accelnn.fit(new_net(), lambda: batches(*data()), epochs=2, progress=True)
        assert history.steps == 16

    @pytest.mark.parametrize("rule", [accelnn.SGD(0.1), accelnn.Adam(lambda k: 0.1 / (k + 1))])
    def test_they_are_trained_on_in_turn(self, backend, rule):
        x, t = data()
        net, alone = new_net(backend), new_net()
        history = accelnn.fit(net, lambda: batches(x, t), optimizer=rule, epochs=3)
        assert history.steps == 24
        assert history.batches_per_epoch == 8
        assert history.epochs == 3.0

        def by_hand(move):
            params = {key: move(value) for key, value in alone.params.items()}
            other, found = alone.to("numpy"), []
            other.params = params
            state = rule.init(other.params)
            for _, (xs, ts) in itertools.product(range(3), batches(move(x.astype(float)), t)):
                found.append(other.loss(xs, ts))
                rule.update(other.params, other.gradient(xs, ts), state)
            return [found, other.flat]

        assert_equal_but_for_rounding([history.loss, net.backend.to_numpy(net.flat)], by_hand)

    def test_an_iterator_is_one_pass(self):
        x, t = data()
        nets = new_net(), new_net()
        endless = itertools.cycle([(x[:5], t[:5]), (x[5:20], t[5:20])])
        one = accelnn.fit(nets[0], endless, iters=6)
        again = accelnn.fit(nets[1], lambda: iter([(x[:5], t[:5]), (x[5:20], t[5:20])]), epochs=3)
        assert one.loss == again.loss
        # No batch is read that is not used.
        assert next(endless)[0].shape == (5, 4)

    def test_memory_is_bounded(self):
        """Batches of 240 MB in all."""
        x, t = np.zeros((20, 1_000), "float32"), np.arange(20) % 3
        net = accelnn.MLP([1_000, 4, 3], rng=0)
        accelnn.fit(net, iter([(x, t)]), iters=1)
        tracemalloc.start()
        try:
            history = accelnn.fit(net, ((x + 1.0, t.copy()) for _ in range(3_000)), iters=3_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert history.steps == 3_000
        assert peak < 20 * x.nbytes

    def test_functions_are_called_again_for_more_updates(self):
        x, t = data()
        history = accelnn.fit(new_net(), lambda: batches(x, t), iters=19, validation=(x, t))
        assert history.steps == 19
        assert history.evaluated_at == [0, 8, 16, 19]
        assert history.train_loss == []
        assert len(history.test_loss) == 4

    def test_weights_of_each_batch(self, backend):
        x, t = data()
        weights, nets = np.arange(N) / 20.0, (new_net(backend), new_net(backend))
        one = accelnn.fit(nets[0], iter([(x, t, weights)] * 5), iters=5, clip_norm=0.3)
        many = []
        for _ in range(5):
            many += accelnn.fit(nets[1], iter([(x, t, weights)]), iters=1, clip_norm=0.3).loss
        assert one.loss == many

    def test_dropout_and_smoothing(self, backend):
        x, t = data()
        net = new_net(backend, dropout=0.4, label_smoothing=0.1)
        again = net.to(backend)
        history = accelnn.fit(net, lambda: batches(x, t), epochs=2, rng=3)
        steps = enumerate(itertools.chain(batches(x, t), batches(x, t)))
        for update, (xs, ts) in steps:
            key, here = (history.dropout_seed, update), (backend.asarray(xs), backend.asarray(ts))
            loss = again.loss(*here, dropout_key=key)
            assert history.loss[update] == pytest.approx(loss, rel=1e-10)
            for name, gradient in again.gradient(*here, dropout_key=key).items():
                again.params[name] -= 0.1 * gradient

    def test_callbacks(self):
        x, t = data()
        calls, every = [], []

        def count(_net, history):
            every.append(history.steps)

        count.every = 3
        stop = accelnn.callbacks.EarlyStopping(patience=2)
        history = accelnn.fit(
            new_net(),
            lambda: batches(x, t),
            epochs=100,
            optimizer=accelnn.Adam(0.1),
            validation=data(40),
            callbacks=[lambda _, h: calls.append(h.steps), count, stop],
        )
        assert calls == [8 * k for k in range(1, len(calls) + 1)]
        assert every == list(range(3, history.steps + 1, 3))
        assert history.epochs == stop.best_epoch + 2

    def test_a_partial_pass_is_no_epoch(self):
        x, t = data()
        calls = []
        accelnn.fit(
            new_net(),
            lambda: batches(x, t),
            iters=12,
            callbacks=[lambda _, h: calls.append(h.steps)],
        )
        assert calls == [8]

    def test_an_iterator_that_ends_early_is_told(self):
        x, t = data()
        with pytest.warns(RuntimeWarning, match="ended after 8 of 20 updates") as caught:
            history = accelnn.fit(new_net(), batches(x, t), iters=20)
        assert history.steps == 8
        assert caught[0].filename == __file__

    def test_ctrl_c_in_an_iterator_leaves_whole_updates(self):
        x, t = data()

        def pressed():
            yield x[:5], t[:5]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            accelnn.fit(new_net(), pressed(), iters=20)
        assert caught.value.history.steps == 1

    def test_divergence_ends_it(self):
        x, t = data()
        with np.errstate(all="ignore"), pytest.warns(DivergenceWarning):
            accelnn.fit(
                new_net(activation="relu"),
                lambda: batches(x, t),
                epochs=3,
                optimizer=accelnn.SGD(1e200),
            )

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            ({"t": [1]}, TypeError, "t and sample_weight are left out"),
            ({"sample_weight": [1.0]}, TypeError, "t and sample_weight are left out"),
            ({"batch_size": 5}, TypeError, "batch_size and sampling are left out where x is an"),
            ({"sampling": "replacement"}, TypeError, "batches are taken as they come"),
            ({"checkpoint": "a"}, TypeError, r"prepare\(x, t, stream=True\) reads from a file"),
            ({"resume": accelnn.History(3)}, TypeError, "holds no state"),
            ({"iters": 3}, TypeError, "exactly one of epochs and iters"),
            ({"epochs": None}, TypeError, "exactly one of epochs and iters"),
            ({"epochs": 0}, ValueError, "epochs must be at least 1"),
            ({"x": iter([])}, TypeError, "an iterator of batches can be read only once"),
            ({"x": lambda: iter([])}, ValueError, "the iterator over batches was empty"),
            ({"x": lambda: 3}, TypeError, "must return an iterator over tuples"),
            ({"x": lambda: iter([3])}, TypeError, "that of batch 1 is of type int"),
            ({"x": lambda: iter([(1, 2, 3, 4)])}, TypeError, "that of batch 1 is of type tup"),
            (
                {"x": lambda: iter([(np.full((2, 4), np.inf), [0, 1])])},
                ValueError,
                r"x of batch 1 must be finite, but x\[0, 0\] of batch 1 is inf",
            ),
            (
                {"x": lambda: iter([(np.zeros((2, 3)), [0, 1])])},
                ValueError,
                "x of batch 1 has 3 inputs per sample",
            ),
            (
                {"x": lambda: iter([(np.zeros((2, 4)), [0, 3])])},
                ValueError,
                "t of batch 1 of shape .* holds the label 3",
            ),
        ],
    )
    def test_wrong_calls(self, given, error, message):
        x, t = data()
        call = {"x": lambda: batches(x, t), "epochs": 2, **given}
        with pytest.raises(error, match=message):
            accelnn.fit(new_net(), call.pop("x"), call.pop("t", None), **call)
