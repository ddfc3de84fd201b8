"""Kernels run on the processor, compared with NumPy in float64."""

import itertools

import numpy as np
import pytest

from accelnn.backends.cupy.launch import FLAGS
from accelnn.backends.cupy.source import Variant
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.cuda_on_cpu

ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity")
LOSSES = ("cross_entropy", "sum_squared_error")
OPTIMIZERS = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
VARIANTS = list(Variant.all())
GRIDS = [(1, 1), (3, 33), (4, 64)]
ROWS = 100


class Case:
    """A net, a data set of odd values, and what the kernels are told of both."""

    def __init__(self, variant, sizes, batch, activation="sigmoid", loss="cross_entropy", bias=1):
        self.variant, self.sizes, self.bias = variant, sizes, bias
        self.activation, self.loss, self.batch = activation, loss, batch
        draw = np.random.default_rng(0)
        self.real = np.dtype(variant.dtype).type
        self.shapes = [(a + bias, b) for a, b in itertools.pairwise(sizes)]
        size = sum(a * b for a, b in self.shapes)
        self.params = (draw.normal(size=size) / np.sqrt(max(sizes[:-1]))).astype(self.real)
        kept = draw.random((ROWS, sizes[0])) < 0.5
        if variant.has_pixels:
            self.x = (draw.integers(1, 256, kept.shape) * kept).astype(np.uint8)
        else:
            self.x = (draw.normal(size=kept.shape) * kept).astype(self.real)
        self.divisor = self.real(255 if variant.has_pixels else 1)
        if variant.has_labels:
            self.t = draw.integers(0, sizes[-1], ROWS).astype(np.int32)
        else:
            self.t = draw.random((ROWS, sizes[-1])).astype(self.real)
        self.order = draw.permutation(ROWS).astype(np.int64)[:batch]

    @property
    def net(self):
        """The arguments that describe the net."""
        self.widths = np.array(self.sizes, np.int32)
        numbers = (len(self.sizes) - 1, self.bias, ACTIVATIONS.index(self.activation))
        return [*map(np.int32, (*numbers, LOSSES.index(self.loss))), self.widths]

    def rows(self, samples):
        """Return the arguments that describe a batch."""
        return [self.x, self.divisor, self.t, self.order, np.int32(samples)]

    def told(self, samples, total=None):
        """Return the arguments that most kernels have; what they write to is poisoned."""
        units = sum(self.sizes[1:])
        self.values, self.errors = np.full((2, samples, units), np.nan, self.real)
        self.losses = np.full(total or samples, np.nan)
        trace = [np.int32(units), self.values, self.errors, self.losses]
        return [*self.net, *self.rows(samples), *trace]

    def reference(self, params, order):
        """Return losses, the gradient of their mean and the scores, in float64."""
        layers, start = [], 0
        for shape in self.shapes:
            stop = start + shape[0] * shape[1]
            layers.append(params[start:stop].astype(float).reshape(shape))
            start = stop
        x = self.x[order].astype(float) / float(self.divisor)
        inputs, values = [], [x]
        for i, layer in enumerate(layers):
            extended = np.hstack([values[-1], np.ones((len(x), 1))]) if self.bias else values[-1]
            inputs.append(extended)
            z = extended @ layer
            values.append(z if i == len(layers) - 1 else _activation(self.activation, z))
        scores = values[-1]
        t = np.eye(self.sizes[-1])[self.t[order]] if self.variant.has_labels else self.t[order]
        t = t.astype(float)
        if self.loss == "cross_entropy":
            top = scores.max(axis=1, keepdims=True)
            logs = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
            total = t.sum(axis=1, keepdims=True)
            losses = (total * logs - (t * scores).sum(axis=1, keepdims=True))[:, 0]
            error = (total * np.exp(scores - logs) - t) / len(x)
        else:
            losses = 0.5 * ((scores - t) ** 2).sum(axis=1)
            error = (scores - t) / len(x)
        gradient = []
        for i in reversed(range(len(layers))):
            gradient.append((inputs[i].T @ error).ravel())
            if i:
                back = error @ layers[i][: self.sizes[i]].T
                error = back * _slope(self.activation, values[i])
        return losses, np.concatenate(gradient[::-1]), scores


def _activation(name, z):
    return {
        "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0.0),
        "identity": lambda z: z,
    }[name](z)


def _slope(name, a):
    return {
        "sigmoid": lambda a: a * (1.0 - a),
        "tanh": lambda a: 1.0 - a**2,
        "relu": lambda a: (a > 0.0).astype(float),
        "identity": np.ones_like,
    }[name](a)


def _update(name, params, g, slots, step):
    """Change parameters by the formulas of torch.optim, at settings that no default hides."""
    if name == "SGD":
        return params - 0.1 * g
    if name in ("Momentum", "Nesterov"):
        slots[0] = 0.8 * slots[0] + g
        return params - 0.1 * (g + 0.8 * slots[0] if name == "Nesterov" else slots[0])
    if name == "AdaGrad":
        slots[0] = slots[0] + g * g
        return params - 0.1 * g / (np.sqrt(slots[0]) + 1e-3)
    if name == "RMSprop":
        slots[0] = 0.8 * slots[0] + 0.2 * g * g
        return params - 0.1 * g / (np.sqrt(slots[0]) + 1e-3)
    slots[0] = 0.8 * slots[0] + 0.2 * g
    slots[1] = 0.7 * slots[1] + 0.3 * g * g
    mean, square = slots[0] / (1 - 0.8**step), slots[1] / (1 - 0.7**step)
    return params - 0.1 * mean / (np.sqrt(square) + 1e-3)


def _gradient(kernels, case, blocks, threads):
    told = case.told(len(case.order))
    gradient, flags = np.full(case.params.size, np.nan, case.real), np.zeros(FLAGS, np.uint32)
    kernels("batch_errors", blocks, threads, [case.params, flags, *told])
    kernels("batch_gradient", blocks, threads, [gradient, np.int32(gradient.size), *told])
    assert flags.tolist() == [0] * FLAGS
    return gradient


def _assert_gradient(kernels, case, grid):
    gradient = _gradient(kernels, case, *grid)
    _assert_close(
        case,
        [case.losses, gradient],
        lambda move: case.reference(move(case.params), case.order)[:2],
    )


def _assert_close(case, found, reference):
    assert_equal_but_for_rounding(found, reference, dtype=case.variant.dtype)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("sizes", [(1, 1), (31, 33, 3), (785, 7, 31, 10)], ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v)))
def test_gradients_of_odd_shapes(kernels_for, variant, sizes, batch):
    _assert_gradient(kernels_for(variant), Case(variant, sizes, batch), (3, 33))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("bias", [0, 1])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_all_activations_and_losses(kernels_for, activation, loss, bias, grid):
    variant = Variant("float64", has_pixels=False, has_labels=False)
    case = Case(variant, (5, 9, 4), 7, activation, loss, bias)
    _assert_gradient(kernels_for(variant), case, grid)


def test_the_gradient_is_the_same_to_the_bit_in_every_run(kernels_for):
    variant = Variant("float32", has_pixels=True, has_labels=True)
    case = Case(variant, (31, 33, 10), 100)
    first, second = (_gradient(kernels_for(variant), case, 4, 64) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training(kernels_for, dtype, optimizer, grid):
    """Seven batches, of which the last is short, in one launch."""
    variant = Variant(dtype, has_pixels=True, has_labels=True)
    case = Case(variant, (31, 9, 10), 45)
    found = _train(kernels_for(variant), case, optimizer, grid, batch=7)
    _assert_trained(case, optimizer, *found)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_by_two_launches_a_step(kernels_for, optimizer, grid):
    variant = Variant("float64", has_pixels=True, has_labels=True)
    case, kernels = Case(variant, (31, 9, 10), 45), kernels_for(variant)
    params, slots, order = case.params.copy(), np.zeros((2, case.params.size)), case.order
    flags = np.zeros(FLAGS, np.uint32)
    state, rule = _state(params, slots, flags), _rule(optimizer, 7)
    losses = []
    for step, start in enumerate(range(0, 45, 7)):
        case.order = order[start : start + 7]
        told = case.told(len(case.order))
        kernels("batch_errors", *grid, [params, flags, *told])
        kernels("batch_update", *grid, [*state, *rule, np.int64(step), *told])
        losses.extend(case.losses)
    case.order = order
    _assert_trained(case, optimizer, losses, params, slots)


def _assert_trained(case, optimizer, losses, params, slots):
    def reference(move):
        wanted, expected = move(case.params.astype(float)), []
        wanted_slots = [np.zeros(wanted.size), np.zeros(wanted.size)]
        for step, start in enumerate(range(0, 45, 7), start=1):
            loss, g, _ = case.reference(wanted, case.order[start : start + 7])
            expected.extend(loss)
            wanted = _update(optimizer, wanted, g, wanted_slots, step)
        return expected, wanted, *wanted_slots

    _assert_close(case, [losses, params, *slots], reference)


def test_training_ends_before_the_update_of_a_loss_that_is_not_finite(kernels_for):
    variant = Variant("float64", has_pixels=False, has_labels=True)
    case = Case(variant, (5, 9, 4), 30)
    # The third batch of ten; the first is one step of the training.
    case.x[case.order[20]] = np.nan
    losses, params, _ = _train(kernels_for(variant), case, "SGD", (3, 33), batch=10)
    assert np.isfinite(losses[:20]).all()
    assert np.isnan(losses[20])
    assert np.isfinite(params).all()
    case.order = case.order[:20]
    wanted = _train(kernels_for(variant), case, "SGD", (3, 33), batch=10)[1]
    np.testing.assert_array_equal(params, wanted)


def test_a_loss_beyond_the_range_of_the_nets_numbers_is_not_finite(kernels_for):
    """In float32, though losses are summed in float64."""
    variant = Variant("float32", has_pixels=False, has_labels=False)
    case = Case(variant, (3, 2), 4, loss="sum_squared_error")
    case.params[:] = 1e20
    losses, params, _ = _train(kernels_for(variant), case, "SGD", (2, 7), batch=4)
    assert np.isposinf(losses).any()
    np.testing.assert_array_equal(params, case.params)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_mean_loss_of_each_step(kernels_for, grid):
    losses, means = np.random.default_rng(0).random(45), np.full(4, np.nan)
    variant = Variant("float32", has_pixels=False, has_labels=False)
    arguments = [losses, np.int64(45), np.int32(14), means]
    kernels_for(variant)("mean_losses", *grid, arguments)
    wanted = [losses[start : start + 14].mean() for start in range(0, 45, 14)]
    np.testing.assert_allclose(means, wanted, rtol=1e-14)


METHODS = {
    "central": ((1.0, 0.5), (-1.0, -0.5)),
    "forward": ((1.0, 1.0), (0.0, 0.0)),
    "backward": ((-1.0, -1.0), (0.0, 0.0)),
}


def _differences(kernels, case, grid, method, step):
    told = case.told(len(case.order))
    flags = np.zeros(FLAGS, np.uint32)
    kernels("batch_values", *grid, [case.params, flags, *told])
    gradient = np.full(case.params.size, np.nan, case.real)
    widest = max(case.sizes[2:-1], default=0)
    far = sum(a * b for a, b in case.shapes[:-2])
    work = np.full(2 * widest * grid[0], np.nan, case.real)
    moves = [np.float64(number) for move in METHODS[method] for number in move]
    sizes = [np.int32(gradient.size), np.int32(far)]
    arguments = [case.params, flags, gradient, *sizes, np.float64(step)]
    kernels("differences", *grid, [*arguments, *moves, work, np.int32(widest), *told])
    return gradient


def _black_box_differences(case, method, step):
    """Move one parameter after the other, and evaluate the whole net again."""
    found, base = np.zeros(case.params.size), case.reference(case.params, case.order)[0].mean()
    for i in range(found.size):
        for sign, weight in METHODS[method]:
            moved = case.params.astype(float)
            moved[i] += sign * step
            change = case.reference(moved, case.order)[0].mean() - base
            found[i] += weight * change / step
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("sizes", "bias", "grid"),
    [((5, 4), 1, (1, 1)), ((5, 7, 3), 0, (3, 33)), ((3, 4, 5, 3, 2), 1, (2, 7))],
    ids=str,
)
def test_structured_differences(kernels_for, sizes, bias, grid, activation, loss, method):
    """At a step of a half nothing cancels, neither in a black box nor here."""
    variant = Variant("float64", has_pixels=False, has_labels=False)
    case = Case(variant, sizes, 7, activation, loss, bias)
    found = _differences(kernels_for(variant), case, grid, method, 0.5)
    wanted = _black_box_differences(case, method, 0.5)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_differences_lose_nothing_to_small_steps(kernels_for, activation, step):
    """What is left is truncation, which ends at the rounding of the gradient."""
    variant = Variant("float64", has_pixels=True, has_labels=True)
    case = Case(variant, (31, 9, 6, 10), 7, activation)
    found = _differences(kernels_for(variant), case, (2, 7), "central", step)
    wanted = case.reference(case.params, case.order)[1]
    np.testing.assert_allclose(found, wanted, atol=max(1e-14, step**2))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v)))
def test_evaluation(kernels_for, variant):
    case = Case(variant, (31, 9, 10), 100)
    hits = np.full(100, -1, np.int32)
    flags = np.zeros(FLAGS, np.uint32)
    kernels_for(variant)("evaluate", 3, 33, [case.params, flags, hits, *case.told(100)])
    scores = case.reference(case.params, case.order)[2]
    t = case.t[case.order]
    labels = t if variant.has_labels else t.argmax(axis=1)
    np.testing.assert_array_equal(hits, scores.argmax(axis=1) == labels)
    _assert_close(
        case, [case.losses], lambda move: case.reference(move(case.params), case.order)[:1]
    )


def test_a_score_that_is_no_number_is_no_hit(kernels_for):
    variant = Variant("float64", has_pixels=False, has_labels=True)
    case = Case(variant, (5, 4), 6)
    case.x[case.order[2]] = np.nan
    hits = np.full(6, -1, np.int32)
    flags = np.zeros(FLAGS, np.uint32)
    kernels_for(variant)("evaluate", 2, 7, [case.params, flags, hits, *case.told(6)])
    assert hits[2] == 0
    assert set(hits) <= {0, 1}


def _train(kernels, case, optimizer, grid, *, batch):
    """Return losses of samples, parameters and slots after one pass over the order."""
    total = len(case.order)
    params, slots = case.params.copy(), np.zeros((2, case.params.size), case.real)
    flags = np.zeros(FLAGS, np.uint32)
    state, rule = _state(params, slots, flags), _rule(optimizer, -(-total // batch))
    arguments = [*state, *rule, np.int64(total), *case.told(batch, total)]
    kernels("train", *grid, arguments)
    return case.losses, params, slots


def _state(params, slots, flags):
    return [params, slots[0], slots[1], np.int32(params.size), flags]


def _rule(optimizer, steps):
    k = np.arange(1, steps + 1)
    corrections = np.stack([0.1 / (1.0 - 0.8**k), np.sqrt(1.0 - 0.7**k)], axis=1)
    numbers = map(np.float64, (0.1, 0.8, 0.7, 1e-3))
    return [np.int32(OPTIMIZERS.index(optimizer)), *numbers, np.ascontiguousarray(corrections)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_divided_as_numpy_divides(kernels_for, dtype):
    """Every byte, to the bit: a data set is kept as bytes where nothing is lost by it."""
    variant = Variant(dtype, has_pixels=True, has_labels=True)
    case, rows = Case(variant, (256, 1), 1), np.full(256, np.nan, dtype)
    case.x[:] = np.arange(256)
    kernels_for(variant)("gather_rows", 2, 33, [np.int32(256), *case.rows(1), rows])
    np.testing.assert_array_equal(rows, np.arange(256, dtype=dtype) / np.array(255, dtype))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_weight_that_is_not_finite_is_met_under_a_zero_input(kernels_for, value):
    """As NumPy meets it, for which 0 times infinity is not a number."""
    variant = Variant("float64", has_pixels=True, has_labels=True)
    case, flags = Case(variant, (5, 4, 3), 2), np.zeros(FLAGS, np.uint32)
    case.x[case.order[0], 2], case.x[case.order[1], 2] = 0, 7
    case.params[2 * 4] = value
    size = np.int32(case.params.size)
    kernels_for(variant)("check_parameters", 2, 7, [case.params, size, flags])
    kernels_for(variant)("batch_errors", 2, 7, [case.params, flags, *case.told(2)])
    assert np.isnan(case.losses[0])
    case.params[2 * 4] = 1.0
    flags[:] = 0
    kernels_for(variant)("check_parameters", 2, 7, [case.params, size, flags])
    assert flags.tolist() == [0] * FLAGS


def test_training_notes_that_a_weight_has_overflowed(kernels_for):
    variant = Variant("float32", has_pixels=False, has_labels=False)
    case = Case(variant, (3, 2), 1, loss="sum_squared_error")
    # The output is 1e18, half of its square is a number, and what the weight is moved by is not.
    case.x[case.order], case.params[:] = [4e21, 0.0, 0.0], 2.5e-4
    flags, params = np.zeros(FLAGS, np.uint32), case.params.copy()
    state, rule = _state(params, np.zeros((2, 8), np.float32), flags), _rule("SGD", 1)
    kernels_for(variant)("train", 2, 7, [*state, *rule, np.int64(1), *case.told(1)])
    assert np.isfinite(case.losses).all()
    assert not np.isfinite(params).all()
    assert flags[1] == 1
