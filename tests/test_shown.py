"""Messages show what was passed in a few words, and never the numbers of an array."""

import numpy as np
import pytest

import accelnn
from accelnn._shown import shown

X, T = np.random.default_rng(0).normal(size=(200, 4)), np.arange(200) % 3
WRONG = {"array": X, "list": X.tolist(), "dict": {"x": X}, "text": "a" * 1000, "labels": T}


def net(**given):
    return accelnn.MLP([4, 5, 3], rng=0, **given)


def fit(**given):
    return accelnn.fit(net(), X, T, **{"epochs": 1} | given)


DOORS = {
    **{
        f"fit {name}": lambda wrong, name=name: fit(**{name: wrong})
        for name in (
            *("optimizer", "gradient", "sampling", "clip_norm", "batch_size", "epochs"),
            *("validation", "checkpoint_every"),
        )
    },
    "fit sample_weight": lambda wrong: fit(sample_weight=wrong if wrong is not T else X),
    "fit epochs and iters": lambda wrong: fit(epochs=wrong, iters=wrong),
    "fit rng": lambda wrong: fit(rng=wrong if wrong is not T else X),
    "fit resume": lambda wrong: fit(resume=wrong if wrong is not WRONG["text"] else X),
    "fit net": lambda wrong: accelnn.fit(wrong, X, T, epochs=1),
    **{
        f"MLP {name}": lambda wrong, name=name: net(**{name: wrong})
        for name in ("activation", "loss", "init", "dropout", "label_smoothing", "dtype", "backend")
    },
    "MLP sizes": lambda wrong: accelnn.MLP(wrong if wrong is not T else X),
    "TwoLayerNet weight_init_std": lambda wrong: accelnn.TwoLayerNet(4, 5, 3, wrong),
    "SGD": accelnn.SGD,
    "Momentum": lambda wrong: accelnn.Momentum(0.1, momentum=wrong),
    "EarlyStopping": accelnn.callbacks.EarlyStopping,
    "EarlyStopping monitor": lambda wrong: accelnn.callbacks.EarlyStopping(monitor=wrong),
    "set_backend": accelnn.set_backend,
    "use_backend": lambda wrong: accelnn.use_backend(wrong).__enter__(),
    "split": lambda wrong: accelnn.train_validation_split(X, T, wrong),
    "load_mnist": lambda wrong: accelnn.load_mnist(subset=wrong),
    "numerical_gradient method": lambda wrong: accelnn.numerical_gradient(
        np.sum, X[0], method=wrong
    ),
    "numerical_gradient step": lambda wrong: net(dtype="float64").numerical_gradient(
        X, T, step=wrong
    ),
    "numerical_gradient workers": lambda wrong: accelnn.numerical_gradient(
        np.sum, X[0], workers=wrong
    ),
    "gradient_descent lr": lambda wrong: accelnn.gradient_descent(np.sum, X[0], lr=wrong),
    "gradient_descent step_num": lambda wrong: accelnn.gradient_descent(
        np.sum, X[0], step_num=wrong
    ),
    "load_state_dict": lambda wrong: net().load_state_dict({"0.weight": wrong}),
    "dropout_key": lambda wrong: net().loss(X, T, dropout_key=wrong),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_argument_is_not_printed(door, kind):
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        DOORS[door](WRONG[kind])
    message = str(caught.value)
    assert len(message) < 500
    # No number of theirs, nor NumPy's words on them.
    assert f"{X[0, 0]:.3f}" not in message
    assert "truth value" not in message
    assert "aaaa" * 30 not in message


def test_values_in_a_few_words():
    assert shown(np.zeros((3, 0))) == "an array of shape (3, 0)"
    assert shown(np.float32(0.5)) == shown(np.array([0.5])) == "0.5"
    assert shown([1, (2, 3)]) == "[1, (2, 3)]"
    assert shown([1, (2, X)]) == "a list of 2 elements"
    assert shown([[1] * 9]) == "a list of 1 element"
    assert shown({"a": 1}) == "{'a': 1}"
    assert shown("é" * 200) == "'" + "é" * 79
    assert shown(np.ndarray) == "<class 'numpy.ndarray'>"
