"""What users write, and type checkers have nothing to say about."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import accelnn
from accelnn.activations import ACTIVATIONS
from accelnn.errors import GradientCheckError
from accelnn.losses import LOSSES

Floats = NDArray[np.floating[Any]]

# Data.
(x, t), test = accelnn.load_mnist(subset="5k")
assert_type(x, NDArray[np.float32])
assert_type(t, NDArray[np.int64])
(pixels, rows), _ = accelnn.load_mnist(False, one_hot_label=True, subset="5k")
assert_type(pixels, NDArray[np.uint8])
assert_type(rows, NDArray[np.float32])
positional = accelnn.load_mnist(True, True, True, subset="5k", progress=False)
(x_train, t_train), validation = accelnn.train_validation_split(x, t, rng=0)
assert_type(t_train, NDArray[np.int64])

# Nets.
net = accelnn.MLP([x.shape[1], 50, 10], activation="relu", loss="cross_entropy", rng=0)
deep = accelnn.MLP((784, 50, 20, 10), activation=["relu", accelnn.LeakyReLU(0.2)], init="he")
own = accelnn.Activation("twice", lambda z: 2 * z, lambda _: 2.0)
accelnn.MLP([4, 3, 2], activation=own, loss=accelnn.Huber(2.0), dtype=np.float64, init=0.1)
mine = accelnn.Rule("sgd", lambda p, g, rate, _: p - rate * g, lr=0.1, weight_decay=0.01)
accelnn.MLP([4, 3, 1], loss="binary_cross_entropy", dtype=np.dtype("float64"), rng=None)
accelnn.MLP([4, 3, 1], loss=accelnn.losses.get_loss("huber"), dtype=net.dtype)
simple = accelnn.SimpleNet(rng=np.random.default_rng(0), backend="numba")
simple.W = np.zeros((2, 3))
two = accelnn.TwoLayerNet(784, 50, 10, 0.01, dtype="float64", backend=accelnn.get_backend("numpy"))
probabilities = net.predict(x[0])
mean, share = net.loss(x, t), net.accuracy(x, rows)
assert_type(mean, float)
net.loss([[0.0] * 784], [3])
net.loss(x[0], 3)
net.loss(x[0], t[0])
for key, gradient in net.gradient(x, t).items():
    net.params[key] -= 0.1 * gradient
net.params["b1"] = 0.0 * net.params["b1"]
net.numerical_gradient(x[:2], t[:2], method="forward", structured=False)
moved = net.to("numpy")
moved.save("net.safetensors")
accelnn.load(Path("net.safetensors")).predict(x)
assert_type(moved, accelnn.MLP)


# Training.
def stop(trained: accelnn.MLP, history: accelnn.History) -> bool:
    """Call a method that only a subclass has."""
    return history.test_accuracy[-1] > 0.9 and trained.spec.bias


class Every:
    """A callback that says how often."""

    every = 10

    def __call__(self, _net: accelnn.Net, history: accelnn.History) -> None:
        print(history.loss[-1])


class SignDescent:
    """An optimiser of one's own."""

    slots = 0

    def update(self, params: Any, grads: Any, slots: list[Any], step: int, xp: Any) -> None:
        """Move against the sign."""
        params -= 0.01 * xp.sign(grads)


history = accelnn.fit(net, x, t, validation=test, epochs=1, callbacks=[stop, Every()], rng=0)
assert_type(history.loss, list[float])
assert_type(history + history, accelnn.History)
best = accelnn.callbacks.BestWeights("test_accuracy", path="best.safetensors")
early = accelnn.callbacks.EarlyStopping(5, monitor="train_loss", restore_best=False, min_delta=1e-3)
log = accelnn.callbacks.CSVLog(Path("log.csv"), append=True)
accelnn.fit(net, x, t, validation=test, epochs=1, callbacks=[early, best, log, stop])
print(early.stopped, best.best, best.best_epoch, history.updates)
history.to_csv("history.csv")
for optimizer in (accelnn.SGD(0.1), accelnn.Adam(1e-3, betas=(0.9, 0.99)), accelnn.AdamW()):
    accelnn.fit(net, x, t, iters=3, optimizer=optimizer, sampling="replacement")
accelnn.fit(net, x, t, iters=3, optimizer=accelnn.AdamW(lambda k: 1e-3 / (k + 1)))
accelnn.Rule("sgd", lambda p, g, rate, _: p - rate * g, lr=accelnn.schedules.step(0.1, 2, 0.5))
scheduled = accelnn.SGD(accelnn.schedules.warm_up(5, accelnn.schedules.one_cycle(0.1, 100)))
print(scheduled.rates(0, 10).max())
accelnn.fit(net, x.tolist(), t.tolist(), iters=1, optimizer=SignDescent(), gradient="numerical")
data = accelnn.prepare(x, t, dtype="float32", backend="numpy")
accelnn.fit(net, data, validation=data, iters=1, callbacks=(lambda _net, h: h.steps > 1,))
rule = accelnn.Momentum(0.1, weight_decay=1e-4)
state = rule.init(net.params)
rule.update(net.params, net.gradient(x, t), state)


# Functions and derivatives.
def f(p: Floats) -> Any:
    """Take an array and return a number."""
    return np.sum(p**2)


def both(p: Floats) -> tuple[Any, Floats]:
    """Return value and gradient."""
    return np.sum(p**2), 2 * p


point = np.array([3.0, 4.0])
precise: NDArray[np.float64] = point
assert_type(accelnn.numerical_gradient(f, precise), NDArray[np.float64])
assert_type(accelnn.numerical_hessian(f, precise, diagonal=True), NDArray[np.float64])
assert_type(accelnn.numerical_jvp(f, precise, [1.0, 0.0]), NDArray[np.float64])
assert_type(accelnn.numerical_jacobian(f, np.ones((2, 3))), NDArray[np.float64])
assert_type(
    accelnn.numerical_diff(np.sin, np.ones(3)), np.ndarray[tuple[int], np.dtype[np.float64]]
)
accelnn.numerical_gradient(f, point, method="complex", step=1e-50).round(6)
accelnn.numerical_gradient(
    f, point, step=[1e-4, 1e-5], bounds=(0.0, None), workers=ThreadPoolExecutor(2)
)
accelnn.numerical_gradient(f, point, workers=map, batched=False, progress=False, backend="numpy")
found = accelnn.numerical_gradient(f, point, full_output=True, args=(), kwargs={})
print(found.error, found.nfev, found.flags.sum())
trees: dict[str, Any] = accelnn.numerical_gradient(lambda p: p["a"] * p["b"], {"a": 2.0, "b": 5.0})
accelnn.numerical_gradient(lambda p: f(p[0]) + p[1], [point, 2.0])
accelnn.numerical_gradient(lambda _: simple.loss(point, 0), simple.W, in_place=True)
float(accelnn.numerical_diff(lambda z: z**2, 5.0, order=2, method="richardson"))
accelnn.numerical_diff(np.sin, point, full_output=True).error.max()
accelnn.numerical_jacobian(lambda p: p**3, point, full_output=False)
accelnn.numerical_jacobian(lambda p: p**2, point, sparsity=np.eye(2)).T
turned = accelnn.numerical_jacobian(lambda p: p**2, point, rel_step=1e-6, chunk_size=10).T
accelnn.numerical_hvp(f, point, point, grad=lambda p: 2 * p)
for chosen in (True, False):
    accelnn.numerical_gradient(f, point, full_output=chosen)
try:
    accelnn.check_gradient(both, True, point, mode="full").passed
except GradientCheckError as error:
    print(error)
accelnn.check_gradient(lambda _: net.loss(x, t), net.gradient(x, t), net.params, raises=False)
lowest = accelnn.gradient_descent(f, [3.0, 4.0], lr=0.1, method="central4")
print(accelnn.gradient_descent(f, point, full_output=True).trajectory.shape)
curve: Callable[[Floats], Floats] = accelnn.sigmoid
assert_type(
    accelnn.softmax(np.ones((2, 3), np.float32)), np.ndarray[tuple[int, int], np.dtype[np.float32]]
)
accelnn.relu([-1, 2.0]).sum()
accelnn.cross_entropy_error([[0.1, 0.9]], [1], eps=0.0)
accelnn.sum_squared_error(point, point, backend="numpy")

# Names, from the lists.
for activation in ACTIVATIONS.values():
    accelnn.MLP([4, 3, 2], activation=activation)
for loss in LOSSES.values():
    accelnn.MLP([4, 3, 2], loss=loss)
with accelnn.use_backend("numpy") as backend:
    backend.asarray(point, dtype="float32")
