"""A reader's own net, layers, optimisers and trainer beside ours: the same numbers.

They are written here, with the names and calls that readers know, from the formulas alone.
"""

import math

import numpy as np
import pytest

import accelnn
from accelnn.plotting import smooth_curve

(X, T), (X_TEST, T_TEST) = accelnn.load_mnist(subset="5k")
ONE_HOT = np.eye(10)[T]
HIDDEN = 16


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class Sigmoid:
    def forward(self, x):
        self.out = accelnn.sigmoid(x)
        return self.out

    def backward(self, dout):
        return dout * self.out * (1.0 - self.out)


class Relu:
    def forward(self, x):
        self.mask = accelnn.step_function(x)
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.y, self.t = accelnn.softmax(x), t
        return accelnn.cross_entropy_error(self.y, t)

    def backward(self, dout=1.0):
        return dout * (self.y - self.t) / len(self.t)


class TwoLayerNet:
    """A reader's: parameters in a dictionary, layers in order."""

    def __init__(self, params, activation):
        self.params = {key: value.copy() for key, value in params.items()}
        self.layers = [
            Affine(self.params["W1"], self.params["b1"]),
            activation(),
            Affine(self.params["W2"], self.params["b2"]),
        ]
        self.last = SoftmaxWithLoss()

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        return self.last.forward(self.predict(x), t)

    def accuracy(self, x, t):
        return np.mean(self.predict(x).argmax(axis=1) == t.argmax(axis=1))

    def numerical_gradient(self, x, t):
        return {
            key: accelnn.numerical_gradient(lambda _: self.loss(x, t), array)
            for key, array in self.params.items()
        }

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        first, _, second = self.layers
        return {"W1": first.dW, "b1": first.db, "W2": second.dW, "b2": second.db}


class SGD:
    def __init__(self, lr):
        self.lr = lr

    def update(self, params, grads):
        for key in params:
            params[key] -= self.lr * grads[key]


class Remembering(SGD):
    """One array, or two, for each parameter."""

    memory = None

    def update(self, params, grads):
        if self.memory is None:
            self.memory = {key: np.zeros((2, *p.shape)) for key, p in params.items()}
            self.updates = 0
        self.updates += 1
        for key, p in params.items():
            self.step(p, grads[key], self.memory[key])


class Momentum(Remembering):
    def step(self, p, g, v):
        v[0] = 0.9 * v[0] - self.lr * g
        p += v[0]


class Nesterov(Remembering):
    def step(self, p, g, v):
        p += 0.9 * 0.9 * v[0] - 1.9 * self.lr * g
        v[0] = 0.9 * v[0] - self.lr * g


class AdaGrad(Remembering):
    def step(self, p, g, h):
        h[0] += g * g
        p -= self.lr * g / (np.sqrt(h[0]) + 1e-7)


class RMSprop(Remembering):
    def step(self, p, g, h):
        h[0] = 0.99 * h[0] + 0.01 * g * g
        p -= self.lr * g / (np.sqrt(h[0]) + 1e-7)


class Adam(Remembering):
    def step(self, p, g, moments):
        m, v = moments
        m += 0.1 * (g - m)
        v += 0.001 * (g * g - v)
        k = self.updates
        rate = self.lr * math.sqrt(1.0 - 0.999**k) / (1.0 - 0.9**k)
        p -= rate * m / (np.sqrt(v) + 1e-7)


class Trainer:
    """A reader's: batches with replacement, accuracies once an epoch."""

    def __init__(self, network, optimizer, epochs, batch_size, rng):
        self.network, self.optimizer = network, optimizer
        self.epochs, self.batch_size, self.draw = epochs, batch_size, np.random.default_rng(rng)
        self.train_loss_list, self.train_acc_list, self.test_acc_list = [], [], []

    def train(self):
        net, test = self.network, np.eye(10)[T_TEST]
        for _ in range(self.epochs):
            per_epoch = len(X) // self.batch_size
            order = self.draw.integers(0, len(X), size=per_epoch * self.batch_size)
            for mask in order.reshape(per_epoch, self.batch_size):
                self.train_loss_list.append(net.loss(X[mask], ONE_HOT[mask]))
                self.optimizer.update(net.params, net.gradient(X[mask], ONE_HOT[mask]))
            self.train_acc_list.append(net.accuracy(X, ONE_HOT))
            self.test_acc_list.append(net.accuracy(X_TEST, test))


ACTIVATIONS = {"sigmoid": Sigmoid, "relu": Relu}
RULES = {
    "SGD": (SGD(0.1), accelnn.SGD(0.1)),
    "Momentum": (Momentum(0.01), accelnn.Momentum(0.01)),
    "Nesterov": (Nesterov(0.01), accelnn.Nesterov(0.01)),
    "AdaGrad": (AdaGrad(0.01), accelnn.AdaGrad(0.01, eps=1e-7)),
    "RMSprop": (RMSprop(0.01), accelnn.RMSprop(0.01, eps=1e-7)),
    "Adam": (Adam(0.001), accelnn.Adam(0.001, eps=1e-7)),
}


def both(activation="sigmoid", backend="numpy"):
    """Return our net and a reader's with the same weights."""
    ours = accelnn.MLP(
        [784, HIDDEN, 10], activation=activation, dtype="float64", rng=0, backend=backend
    )
    return ours, TwoLayerNet(ours.params, ACTIVATIONS[activation])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_net(activation, backend):
    ours, theirs = both(activation, backend)
    x, t = X[:50].astype(np.float64), ONE_HOT[:50]
    np.testing.assert_allclose(ours.predict(x), accelnn.softmax(theirs.predict(x)), rtol=1e-12)
    # Theirs has an eps of 1e-7 in the logarithm, which changes it by eps / p.
    rightly = (theirs.last.forward(theirs.predict(x), t), accelnn.softmax(theirs.predict(x)))
    bound = 1e-7 / rightly[1][t > 0].min()
    assert ours.loss(x, t) == pytest.approx(rightly[0], abs=bound)
    assert ours.accuracy(x, t) == theirs.accuracy(x, t)
    for key, expected in theirs.gradient(x, t).items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            ours.gradient(x, t)[key], expected, rtol=1e-9, atol=1e-13 * scale
        )


def test_the_numerical_gradient_of_a_small_one():
    ours, _ = both()
    small = accelnn.TwoLayerNet(6, 4, 3, weight_init_std=0.5, dtype="float64", rng=0)
    theirs = TwoLayerNet(small.params, Sigmoid)
    draw = np.random.default_rng(1)
    x, t = draw.normal(size=(7, 6)), np.eye(3)[draw.integers(0, 3, 7)]
    found, numerical = small.numerical_gradient(x, t), theirs.numerical_gradient(x, t)
    for key, expected in theirs.gradient(x, t).items():
        np.testing.assert_allclose(numerical[key], expected, atol=3e-6)
        np.testing.assert_allclose(found[key], expected, atol=1e-8)
    assert list(found) == list(ours.params)


@pytest.mark.parametrize("name", RULES)
def test_the_six_optimisers(name):
    theirs, ours = RULES[name]
    draw = np.random.default_rng(2)
    params = {"W": draw.normal(size=(3, 4)), "b": draw.normal(size=4)}
    copies = {key: value.copy() for key, value in params.items()}
    state = ours.init(copies)
    steps, least = 60, 0.2
    for _ in range(steps):
        grads = {
            k: draw.choice([-1, 1], p.shape) * draw.uniform(least, 1.0, p.shape)
            for k, p in params.items()
        }
        theirs.update(params, grads)
        ours.update(copies, grads, state)
    # Adam's eps counts √(1 - β₂ᵏ) times as much here as there: that is eps / √v of a step, where
    # √v is at least that of the first gradient, and a step at most lr / √(1 - β₂).
    smallest = least * math.sqrt(0.001)
    bound = steps * theirs.lr / math.sqrt(0.001) * 1e-7 / smallest if name == "Adam" else 0.0
    for key, expected in params.items():
        np.testing.assert_allclose(copies[key], expected, rtol=1e-12, atol=max(bound, 1e-13))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", ["SGD", "Momentum"])
def test_a_trainer(name, backend):
    ours, theirs = both("relu", backend)
    _, rule = RULES[name]
    reader = type(RULES[name][0])(rule.lr)
    trainer = Trainer(theirs, reader, epochs=3, batch_size=100, rng=5)
    trainer.train()
    history = accelnn.fit(
        ours,
        X,
        T,
        validation=(X_TEST, T_TEST),
        optimizer=rule,
        epochs=3,
        batch_size=100,
        sampling="replacement",
        rng=5,
    )
    np.testing.assert_allclose(history.loss, trainer.train_loss_list, rtol=1e-5)
    assert history.train_accuracy[1:] == pytest.approx(trainer.train_acc_list, abs=2 / len(X))
    assert history.test_accuracy[1:] == pytest.approx(trainer.test_acc_list, abs=2 / len(X_TEST))
    assert trainer.test_acc_list[-1] > 0.6


def test_half_the_sum_of_squares_has_two_names():
    y = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
    t = np.eye(10)[2]
    for error in (accelnn.sum_squared_error, accelnn.mean_squared_error):
        assert float(error(y, t)) == pytest.approx(0.0975, rel=1e-12)


def test_shuffled_data_keep_their_pairs():
    x, t = accelnn.shuffle_dataset(X.reshape(-1, 1, 28, 28), T, rng=3)
    assert x.shape == (len(X), 1, 28, 28)
    assert not np.array_equal(t, T)
    again, labels = accelnn.shuffle_dataset(X, T, 3)
    np.testing.assert_array_equal(x.reshape(len(X), -1), again)
    np.testing.assert_array_equal(t, labels)
    places = {row.tobytes(): label for row, label in zip(X, T, strict=True)}
    assert all(places[row.tobytes()] == label for row, label in zip(again, t, strict=True))
    for wrong in ((X, T[:-1]), (1.0, T), (X, 3)):
        with pytest.raises(ValueError, match="must hold as many samples"):
            accelnn.shuffle_dataset(*wrong)


def test_a_smooth_curve():
    losses = np.random.default_rng(4).normal(size=40)
    window = np.kaiser(11, 2.0)
    mirrored = [*losses[10:0:-1], *losses, *losses[:-11:-1]]
    expected = [np.dot(window, mirrored[k + 5 : k + 16]) / window.sum() for k in range(len(losses))]
    np.testing.assert_allclose(smooth_curve(losses), expected, rtol=1e-12, atol=1e-14)
    history = accelnn.History(10, loss=losses.tolist())
    np.testing.assert_array_equal(accelnn.smooth_curve(history), smooth_curve(losses))
    with pytest.raises(ValueError, match="at least one number"):
        accelnn.smooth_curve([])
