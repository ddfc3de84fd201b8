"""Nets against the reference net."""

import itertools
from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn.backends import Backend, dtype_name
from accelnn.errors import BackendMismatchError
from accelnn.formulas._table import ACTIVATIONS, LOSSES
from accelnn.testing._assertions import assert_close
from accelnn.testing._formulas import LOSS_ROWS
from accelnn.testing._reference import ReferenceNet
from accelnn.testing._rounding import Move, assert_equal_but_for_rounding

SIZES = ((5, 3), (7, 5, 4), (6, 4, 1), (4, 5, 3, 2))
METHODS = ("central", "forward", "backward")
KINDS = list(itertools.product(ACTIVATIONS, LOSSES))

_every_kind = pytest.mark.parametrize(("activation", "loss"), KINDS)
_both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def _sizes_for(loss: str) -> list[tuple[int, ...]]:
    """Return the sizes of nets for which a loss is defined."""
    return [sizes for sizes in SIZES if sizes[-1] >= LOSS_ROWS[loss].least_outputs]


def _data(sizes: tuple[int, ...], samples: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, and soft targets whose rows do not sum to one."""
    draw = np.random.default_rng(sum(sizes))
    return draw.normal(size=(samples, sizes[0])), draw.uniform(size=(samples, sizes[-1]))


def _net(b: Backend, sizes: tuple[int, ...], **options: Any) -> tuple[accelnn.MLP, ReferenceNet]:
    """Return a net with non-zero biases, and its reference."""
    net = accelnn.MLP(sizes, rng=3, backend=b, **options)
    draw = np.random.default_rng(4)
    for key in net.params:
        if key.startswith("b"):
            net.params[key] = b.asarray(draw.normal(size=net.params[key].shape))
    host = {key: b.to_numpy(value) for key, value in net.params.items()}
    return net, ReferenceNet(host, net.spec.activation, net.spec.loss.name)


class NetConformance:
    """Prediction, loss, gradients and parameters."""

    @_every_kind
    @_both_dtypes
    def test_agrees_with_the_reference(
        self, b: Backend, activation: str, loss: str, dtype: str
    ) -> None:
        for sizes in _sizes_for(loss):
            net, plain = _net(b, sizes, activation=activation, loss=loss, dtype=dtype)
            x, t = (a.astype(dtype) for a in _data(sizes))

            def reference(
                move: Move, params: Any = plain.params, x: Any = x, t: Any = t
            ) -> list[Any]:
                moved = ReferenceNet({k: move(v) for k, v in params.items()}, activation, loss)
                x, t = move(x), move(t)
                return [moved.predict(x), moved.loss(x, t), *moved.gradient(x, t).values()]

            on_device = b.asarray(x), b.asarray(t)
            outputs, gradient = net.predict(on_device[0]), net.gradient(*on_device)
            assert list(gradient) == list(net.params)
            for array in (outputs, *gradient.values()):
                assert b.owns(array)
                assert dtype_name(array.dtype) == dtype
            found = [b.to_numpy(outputs), net.loss(*on_device)]
            found += map(b.to_numpy, gradient.values())
            assert_equal_but_for_rounding(found, reference, dtype=dtype, terms=1.0)

    @_every_kind
    def test_structured_difference_is_the_black_box_difference(
        self, b: Backend, activation: str, loss: str
    ) -> None:
        # With the other activations, every architecture meets every method.
        turn = list(ACTIVATIONS).index(activation)
        for i, sizes in enumerate(_sizes_for(loss), start=turn):
            net, _ = _net(b, sizes, activation=activation, loss=loss, dtype="float64")
            x, t = (b.asarray(a) for a in _data(sizes, samples=3))
            backpropagated = net.gradient(x, t)
            options: Any = {"method": METHODS[i % len(METHODS)], "step": 0.5}
            structured = net.numerical_gradient(x, t, **options)
            black_box = net.numerical_gradient(x, t, structured=False, **options)
            for key, value in black_box.items():
                assert_close(structured[key], b.to_numpy(value), backend=b, rtol=1e-12, atol=1e-12)
            if options["method"] == "central":
                # Of a quadratic function, it is the derivative.
                continue
            truncation = max(
                float(np.abs(b.to_numpy(structured[k]) - b.to_numpy(backpropagated[k])).max())
                for k in structured
            )
            assert truncation > 1e-3, "a difference with a step of 0.5 is no derivative"

    @_every_kind
    @_both_dtypes
    def test_numerical_gradient_is_close_to_backpropagation(
        self, b: Backend, activation: str, loss: str, dtype: str
    ) -> None:
        net, reference = _net(b, (7, 5, 4), activation=activation, loss=loss, dtype=dtype)
        x, t = _data((7, 5, 4))
        x, t = x.astype(dtype), t.astype(dtype)
        gradient = net.numerical_gradient(b.asarray(x), b.asarray(t))
        # A kink where the slope changes by 1 within the step h causes an error of at most h x² / 2.
        bent = 0.0 if LOSS_ROWS[loss].is_smooth else 0.5e-4 * float((x**2).max())
        for key, expected in reference.gradient(x, t).items():
            assert_close(
                gradient[key], expected, backend=b, dtype="float64", rtol=1e-6, atol=1e-7 + bent
            )

    def test_labels_are_one_hot_targets(self, b: Backend) -> None:
        for loss in LOSSES:
            net, _ = _net(b, (7, 5, 4), loss=loss, dtype="float64")
            x = b.asarray(_data((7, 5, 4))[0])
            labels = np.array([0, 3, 1, 2, 3, 3, 0])
            one_hot = b.asarray(np.eye(4)[labels])
            for t in (b.asarray(labels), b.asarray(labels.astype(np.uint8))):
                assert net.loss(x, t) == net.loss(x, one_hot)
                for a, c in (
                    (net.gradient(x, t), net.gradient(x, one_hot)),
                    (net.numerical_gradient(x, t), net.numerical_gradient(x, one_hot)),
                ):
                    for key, value in a.items():
                        assert_close(value, b.to_numpy(c[key]), backend=b, rtol=0.0)

    def test_one_sample_is_a_batch_of_one(self, b: Backend) -> None:
        net, _ = _net(b, (7, 5, 4), dtype="float64")
        x, t = _data((7, 5, 4), samples=1)
        rows, row = (b.asarray(x), b.asarray(t)), (b.asarray(x[0]), b.asarray(t[0]))
        assert_close(net.predict(row[0]), b.to_numpy(net.predict(rows[0]))[0], backend=b, rtol=0.0)
        assert net.loss(*row) == net.loss(*rows)
        assert net.loss(row[0], 2) == net.loss(rows[0], [2])
        assert net.accuracy(row[0], int(np.argmax(b.to_numpy(net.predict(row[0]))))) == 1.0
        for method in ("gradient", "numerical_gradient"):
            of_row, of_rows = getattr(net, method)(*row), getattr(net, method)(*rows)
            for key, value in of_rows.items():
                assert_close(of_row[key], b.to_numpy(value), backend=b, rtol=0.0)

    def test_accuracy_by_hand(self, b: Backend) -> None:
        net, reference = _net(b, (7, 5, 4), dtype="float64")
        x, _ = _data((7, 5, 4), samples=50)
        best = reference.predict(x).argmax(axis=1)
        labels = np.where(np.arange(50) < 20, best, (best + 1) % 4)
        assert net.accuracy(b.asarray(x), b.asarray(labels)) == 0.4
        assert net.accuracy(b.asarray(x), b.asarray(np.eye(4)[labels])) == 0.4

    def test_accuracy_of_narrow_labels_and_of_nan(self, b: Backend) -> None:
        net = accelnn.MLP([4, 300], rng=0, backend=b)
        net.params["W1"] *= 0.0
        net.params["b1"][256] = 5.0
        x = b.asarray(np.zeros((2, 4), np.float32))
        assert net.accuracy(x, b.asarray(np.zeros(2, np.uint8))) == 0.0
        assert net.accuracy(x, b.asarray(np.full(2, 256))) == 1.0
        assert (
            net.accuracy(b.asarray(np.full((2, 4), np.nan)), b.asarray(np.zeros(2, np.int64)))
            == 0.0
        )

    def test_same_weights_everywhere(self, b: Backend) -> None:
        draw = np.random.default_rng(11)
        for dtype in ("float32", "float64"):
            net = accelnn.TwoLayerNet(6, 5, 4, rng=11, dtype=dtype, backend=b)
            draw = np.random.default_rng(11)
            for key, shape in (("W1", (6, 5)), ("W2", (5, 4))):
                expected = (0.01 * draw.standard_normal(shape)).astype(dtype)
                assert_close(net.params[key], expected, backend=b, rtol=0.0)
            assert_close(net.params["b1"], np.zeros(5, dtype), backend=b)

    def test_edits_of_parameters_are_seen(self, b: Backend) -> None:
        net, reference = _net(b, (7, 5, 4), dtype="float64")
        x, t = _data((7, 5, 4))
        on_device = b.asarray(x), b.asarray(t)
        net.loss(*on_device)
        view = net.params["W1"]
        net.params["W1"] *= 2.0
        reference.params["W1"] *= 2.0
        assert net.loss(*on_device) == pytest.approx(reference.loss(x, t), rel=1e-12)
        net.params["W1"] = b.asarray(np.full((7, 5), 0.1, np.float32))
        reference.params["W1"] = np.full((7, 5), 0.1, np.float32).astype(np.float64)
        assert view is net.params["W1"]
        assert net.loss(*on_device) == pytest.approx(reference.loss(x, t), rel=1e-12)
        view[0, 0] = 5.0
        reference.params["W1"][0, 0] = 5.0
        assert net.loss(*on_device) == pytest.approx(reference.loss(x, t), rel=1e-12)

    def test_simple_net_and_the_textbook_closure(self, b: Backend) -> None:
        net = accelnn.SimpleNet(dtype="float64", rng=0, backend=b)
        x, t = b.asarray([0.6, 0.9]), b.asarray(np.array([0, 0, 1]))
        scores = np.array([0.6, 0.9]) @ b.to_numpy(net.W)
        assert_close(net.predict(x), scores, backend=b, rtol=1e-12)
        expected = np.outer([0.6, 0.9], np.exp(scores) / np.exp(scores).sum() - [0, 0, 1])
        by_closure = accelnn.numerical_gradient(lambda _: net.loss(x, t), net.W, backend=b)
        assert_close(by_closure, expected, backend=b, rtol=1e-6, atol=1e-9)
        assert list(net.gradient(x, t)) == ["W"]
        assert_close(net.gradient(x, t)["W"], expected, backend=b, rtol=1e-12)

    def test_moving_a_net_keeps_its_numbers(self, b: Backend) -> None:
        net, reference = _net(b, (7, 5, 4), dtype="float64")
        moved = net.to("numpy")
        assert type(moved) is accelnn.MLP
        assert moved.backend.name == "numpy"
        x, t = _data((7, 5, 4))
        assert moved.loss(x, t) == pytest.approx(reference.loss(x, t), rel=1e-12)
        moved.params["W1"] *= 0.0
        back = moved.to(b)
        assert_close(back.params["W1"], np.zeros((7, 5)), backend=b)
        assert float(np.abs(b.to_numpy(net.params["W1"])).min()) > 0.0

    def test_inputs_are_cast_and_left_alone(self, b: Backend) -> None:
        net, reference = _net(b, (7, 5, 4), dtype="float64")
        x, t = _data((7, 5, 4))
        coarse = np.round(x * 2)
        for dtype in ("float32", "int64", "int8"):
            on_device = b.asarray(coarse.astype(dtype))
            assert net.loss(on_device, b.asarray(t)) == pytest.approx(
                reference.loss(coarse, t), rel=1e-12
            )
            assert_close(on_device, coarse.astype(dtype), backend=b, rtol=0.0)

    @pytest.mark.parametrize(
        ("x_shape", "t", "message"),
        [
            ((2, 8), [0, 1], r"x has shape \(2, 8\), but this net takes \(n, 7\), or \(7,\)"),
            ((2, 7, 1), [0, 1], r"flatten it with x.reshape\(2, 7\)"),
            ((), 0, r"x has shape \(\)"),
            ((0, 7), np.zeros(0, np.int64), r"the mean loss of no samples"),
            ((2, 7), [0, 4], r"holds the label 4, but outputs of shape \(2, 4\)"),
            ((2, 7), [0, -1], r"holds the label -1"),
            ((2, 7), [0, 1, 2], r"t has shape \(3,\) .* outputs of shape \(2, 4\)"),
            ((2, 7), np.zeros((2, 3)), r"t has shape \(2, 3\)"),
            ((2, 7), [0.0, 1.0], r"or integer class labels of shape \(2,\)"),
            ((7,), [0, 1], r"t has shape \(2,\) .* outputs of shape \(4,\)"),
        ],
    )
    def test_wrong_shapes_and_labels(
        self, b: Backend, x_shape: tuple[int, ...], t: Any, message: str
    ) -> None:
        net, _ = _net(b, (7, 5, 4))
        x = b.asarray(np.zeros(x_shape, np.float32))
        for method in (net.loss, net.gradient, net.accuracy, net.numerical_gradient):
            with pytest.raises(ValueError, match=message):
                method(x, b.asarray(t))

    def test_numbers_for_a_single_output_need_no_column_axis(self, b: Backend) -> None:
        net, _ = _net(b, (6, 4, 1), loss="sum_squared_error")
        x = b.asarray(np.ones((3, 6), np.float32))
        expected = net.loss(x, b.asarray(np.arange(3.0)[:, None]))
        for t in (np.arange(3), np.arange(3.0)):
            assert net.loss(x, b.asarray(t)) == expected
        for wrong in (np.zeros(4), np.zeros((1, 3)), np.zeros((3, 1, 1))):
            with pytest.raises(ValueError, match=r"pass targets of shape \(3, 1\)$"):
                net.loss(x, b.asarray(wrong))

    def test_nan_and_infinity_come_through(self, b: Backend) -> None:
        net, _ = _net(b, (7, 5, 4), dtype="float64")
        x = np.zeros((3, 7))
        x[1, 2] = np.nan
        y = b.to_numpy(net.predict(b.asarray(x)))
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()
        assert np.isnan(net.loss(b.asarray(x), [0, 1, 2]))

    def test_foreign_arrays_and_wrong_types(self, b: Backend) -> None:
        net, _ = _net(b, (7, 5, 4))
        x = b.asarray(np.zeros((2, 7), np.float32))

        class Foreign:
            __array_namespace__ = None

        foreign: Any = Foreign()
        with pytest.raises(BackendMismatchError, match=r"x is a .*Foreign"):
            net.predict(foreign)
        with pytest.raises(BackendMismatchError, match=r"t is a .*Foreign"):
            net.loss(x, foreign)
        with pytest.raises(TypeError, match="accuracy is defined for classifiers"):
            _net(b, (7, 5, 4), loss="sum_squared_error")[0].accuracy(x, [0, 1])
