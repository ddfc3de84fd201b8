"""Nets and data for kernels, and what NumPy makes of them in float64."""

import itertools

import numpy as np

from accelnn.testing import assert_equal_but_for_rounding

ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity")
LOSSES = ("cross_entropy", "sum_squared_error")
OPTIMIZERS = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}
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


def state_of(params, slots, flags):
    """Return the arguments that updates change."""
    return [params, slots[0], slots[1], np.int32(params.size), flags]


def rule_of(optimizer, steps):
    """Return the arguments that describe a rule, at settings that no default hides."""
    k = np.arange(1, steps + 1)
    corrections = np.stack([0.1 / (1.0 - 0.8**k), np.sqrt(1.0 - 0.7**k)], axis=1)
    numbers = map(np.float64, (0.1, 0.8, 0.7, 1e-3))
    return [np.int32(OPTIMIZERS.index(optimizer)), *numbers, np.ascontiguousarray(corrections)]


def assert_trained(case, optimizer, losses, params, slots, batch=7):
    """Assert that a pass over the order has come to what NumPy comes to in float64."""

    def reference(move):
        wanted, expected = move(case.params.astype(float)), []
        wanted_slots = [np.zeros(wanted.size), np.zeros(wanted.size)]
        for step, start in enumerate(range(0, len(case.order), batch), start=1):
            loss, g, _ = case.reference(wanted, case.order[start : start + batch])
            expected.extend(loss)
            wanted = _update(optimizer, wanted, g, wanted_slots, step)
        return expected, wanted, *wanted_slots

    found = [losses, params, *slots]
    assert_equal_but_for_rounding(found, reference, dtype=case.variant.dtype)
