"""Nets and data for kernels, and what NumPy makes of them in float64."""

import itertools

import numpy as np

from accelnn.backends.cupy.dataset import NULL
from accelnn.backends.cupy.formulas import ACTIVATIONS, LOSSES, MOST_NUMBERS, RULES
from accelnn.backends.cupy.training import BY_SCHEDULE, dropout_arguments
from accelnn.testing import assert_equal_but_for_rounding
from accelnn.testing._formulas import ACTIVATION_ROWS, LOSS_ROWS

# Each with the decay of weights and that of biases.
OPTIMIZERS = {name: (name, 0.0, 0.0) for name in RULES} | {
    "AdamW of weights": ("AdamW", 0.3, 0.0),
    "AdamW of all": ("AdamW", 0.3, 0.2),
    "SGD of weights": ("SGD", 0.3, 0.0),
    "Momentum of all": ("Momentum", 0.3, 0.3),
    "RMSprop of weights": ("RMSprop", 0.3, 0.0),
}
# With a rate that changes from update to update.
CHANGING = "changing "
OPTIMIZERS |= {
    CHANGING + name: rule for name, rule in OPTIMIZERS.items() if "of weights" not in name
}
ROWS = 100


class Case:
    """A net, a data set of odd values, and what the kernels are told of both."""

    # By what the losses of samples are multiplied, if by anything.
    sample_weight = None

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

    def weigh(self):
        """Give samples weights, of which some are zero."""
        draw = np.random.default_rng(1)
        self.sample_weight = (draw.integers(0, 4, ROWS) * draw.random(ROWS)).astype(self.real)

    @property
    def weights(self):
        """Whether each parameter is a weight, or else a bias."""
        rows = [np.arange(a) < a - self.bias for a, _ in self.shapes]
        return np.concatenate(
            [np.repeat(r, b) for r, (_, b) in zip(rows, self.shapes, strict=True)]
        )

    @property
    def net(self):
        """The arguments that describe the net."""
        self.widths = np.array(self.sizes, np.int32)
        numbers = (len(self.sizes) - 1, self.bias, ACTIVATIONS.index(self.activation))
        return [*map(np.int32, (*numbers, LOSSES.index(self.loss))), self.widths]

    def rows(self, samples):
        """Return the arguments that describe a batch."""
        weights = NULL if self.sample_weight is None else self.sample_weight
        return [self.x, self.divisor, self.t, self.order, np.int32(samples), weights]

    @property
    def no_dropout(self):
        """The arguments that say that no unit is dropped."""
        return [*dropout_arguments(None, self.variant.dtype), NULL]

    @property
    def of_first_update(self):
        """The same for the kernel of an update's first half, of the first update."""
        return [*self.no_dropout, np.int64(0)]

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
        inputs, before, values = [], [], [x]
        activation, loss = ACTIVATION_ROWS[self.activation], LOSS_ROWS[self.loss]
        for i, layer in enumerate(layers):
            extended = np.hstack([values[-1], np.ones((len(x), 1))]) if self.bias else values[-1]
            inputs.append(extended)
            z = extended @ layer
            before.append(z)
            values.append(z if i == len(layers) - 1 else activation.value(z))
        scores = values[-1]
        t = np.eye(self.sizes[-1])[self.t[order]] if self.variant.has_labels else self.t[order]
        t = t.astype(float)
        losses, error = loss.value(scores, t), loss.error(scores, t) / len(x)
        if self.sample_weight is not None:
            weights = self.sample_weight[order].astype(float)
            losses, error = losses * weights, error * weights[:, None]
        gradient = []
        for i in reversed(range(len(layers))):
            gradient.append((inputs[i].T @ error).ravel())
            if i:
                back = error @ layers[i][: self.sizes[i]].T
                error = back * activation.slope(before[i - 1])
        return losses, np.concatenate(gradient[::-1]), scores


def _update(rule, rate, params, g, slots, step, weights):
    """Change parameters by the formulas of torch.optim, at settings that no default hides."""
    name, *decays = rule
    decay = np.where(weights, *decays)
    if name == "AdamW":
        params = params - rate * decay * params
    else:
        g = g + decay * params
    if name == "SGD":
        return params - rate * g
    if name in ("Momentum", "Nesterov"):
        slots[0] = 0.8 * slots[0] + g
        return params - rate * (g + 0.8 * slots[0] if name == "Nesterov" else slots[0])
    if name == "AdaGrad":
        slots[0] = slots[0] + g * g
        return params - rate * g / (np.sqrt(slots[0]) + 1e-3)
    if name == "RMSprop":
        slots[0] = 0.8 * slots[0] + 0.2 * g * g
        return params - rate * g / (np.sqrt(slots[0]) + 1e-3)
    slots[0] = 0.8 * slots[0] + 0.2 * g
    slots[1] = 0.7 * slots[1] + 0.3 * g * g
    mean, square = slots[0] / (1 - 0.8**step), slots[1] / (1 - 0.7**step)
    return params - rate * mean / (np.sqrt(square) + 1e-3)


def state_of(params, slots, flags):
    """Return the arguments that updates change."""
    return [params, slots[0], slots[1], np.int32(params.size), flags]


def _rates_of(optimizer, steps):
    """Return the learning rates of updates."""
    return 0.1 * (0.8 ** np.arange(steps) if optimizer.startswith(CHANGING) else np.ones(steps))


def rule_of(optimizer, steps):
    """Return the arguments that describe a rule, at settings that no default hides."""
    k, rates = np.arange(1, steps + 1), _rates_of(optimizer, steps)
    coefficients = np.stack([rates / (1.0 - 0.8**k), np.sqrt(1.0 - 0.7**k), rates], axis=1)
    name, *decays = OPTIMIZERS[optimizer]
    own = {
        "SGD": (),
        "Momentum": (0.8,),
        "Nesterov": (0.8,),
        "AdaGrad": (1e-3,),
        "RMSprop": (0.8, 1e-3),
        "Adam": (0.8, 0.7, 1e-3),
        "AdamW": (0.8, 0.7, 1e-3),
    }[name]
    unused = [np.nan] * (MOST_NUMBERS - len(own))
    rate = BY_SCHEDULE if optimizer.startswith(CHANGING) else 0.1
    numbers = map(np.float64, (rate, *own, *unused, *decays))
    return [np.int32(RULES.index(name)), *numbers, np.ascontiguousarray(coefficients)]


def assert_trained(case, optimizer, losses, params, slots, batch=7):
    """Assert that a pass over the order has come to what NumPy comes to in float64."""

    def reference(move):
        wanted, expected = move(case.params.astype(float)), []
        wanted_slots = [np.zeros(wanted.size), np.zeros(wanted.size)]
        rates = _rates_of(optimizer, len(case.order))
        for step, start in enumerate(range(0, len(case.order), batch), start=1):
            loss, g, _ = case.reference(wanted, case.order[start : start + batch])
            expected.extend(loss)
            told = OPTIMIZERS[optimizer], rates[step - 1]
            wanted = _update(*told, wanted, g, wanted_slots, step, case.weights)
        return expected, wanted, *wanted_slots

    found = [losses, params, *slots]
    assert_equal_but_for_rounding(found, reference, dtype=case.variant.dtype)
