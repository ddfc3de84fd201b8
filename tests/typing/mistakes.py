"""Sixteen mistakes of the kind that users make, each on a line of its own."""

import numpy as np
from numpy.typing import NDArray

import accelnn

(x, t), test = accelnn.load_mnist(subset="5k")
_, t_one_hot = accelnn.load_mnist(one_hot_label=True, subset="5k")[0]
net = accelnn.MLP([784, 50, 10], rng=0)
point = np.array([3.0, 4.0])
sizes = ["784", "50", "10"]


def square(p: NDArray[np.float64]) -> float:
    return float(np.sum(p**2))


def frequencies(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(labels)


def report(history: accelnn.History) -> None:
    print(history.steps)


accelnn.MLP([784, 50, 10], activation="rellu")  # mistake: the name of an activation
accelnn.MLP([784, 50, 10], loss="mse")  # mistake: the name of a loss
accelnn.MLP([784, 50, 10], dtype="float16")  # mistake: a dtype that nets do not compute in
accelnn.numerical_gradient(square, point, method="centre")  # mistake: the name of a method
accelnn.numerical_gradient(square, point).error  # mistake: without full_output
accelnn.MLP(sizes)  # mistake: texts for numbers
accelnn.softmax(np.exp)  # mistake: a function for an array
accelnn.fit(x, net, t, epochs=1)  # mistake: arguments in the wrong order
accelnn.fit(net, x, t, epochs=1, callbacks=[report])  # mistake: a callback of one argument
accelnn.fit(net, x, t, epochs=1, batchsize=100)  # mistake: a keyword
accelnn.fit(net, x, t, epochs=1, optimizer=accelnn.Adam)  # mistake: a class for an object
accelnn.fit(net, x, t, epochs=1).test_acc  # mistake: an attribute of a History
frequencies(t_one_hot)  # mistake: one-hot rows for labels
accelnn.MLP([784, 50, 10], backend=1)  # mistake: a number for a backend
accelnn.fit(net, x, t, epochs=1, batch_size="100")  # mistake: a text for a number
accelnn.SGD(accelnn.schedules.cosine)  # mistake: a class for a schedule
