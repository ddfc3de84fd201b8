"""What is not finite gives the same on every backend: numbers in the same places, or one error.

docs/data.md has it as a table.
"""

import numpy as np
import pytest

import accelnn

X = np.array([[1.0, 0.0, -1.0, 2.0], [0.5, 0.0, 1.0, 1.0], [-1.0, 0.0, 0.3, 0.2]])
LABELS = np.array([0, 1, 2])
# None of the class whose score is not finite, which is the last one.
OTHERS = np.array([0, 1, 0])
NETS = [
    ("sigmoid", "cross_entropy"),
    ("relu", "cross_entropy"),
    ("sigmoid", "binary_cross_entropy"),
    ("tanh", "sum_squared_error"),
    ("sigmoid", "huber"),
]
BAD = ("nan", "inf", "-inf")
# Where it is: of weights, row 1 is under inputs that are zero.
PLACES = ("x", "W1[0]", "W1[1]", "b1", "W2", "t", "large t", "sample_weight")
PLACES += ("score", "score of one-hot")


def told(call):
    """Return where a result is NaN or infinite, or the error."""
    try:
        with np.errstate(all="ignore"):
            found = call()
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)
    numbers = np.concatenate([np.ravel(np.asarray(part, float)) for part in found])
    # The sign of NaN is nobody's business.
    numbers = np.where(np.isnan(numbers), np.nan, np.where(np.isfinite(numbers), 0.0, numbers))
    return numbers.tobytes()


def everything(backend, activation, loss, dtype, place, bad):
    net = accelnn.MLP([4, 5, 3], activation=activation, loss=loss, dtype=dtype, rng=0)
    x, given = X.copy(), {}
    labels = OTHERS if "score" in place else LABELS
    t = labels if loss == "cross_entropy" and "t" not in place else np.eye(3)[labels]
    if place == "x":
        x[1, 0] = bad
    elif place == "t":
        t[1, 1] = bad
    elif place == "large t":
        t[1, 1] = 1e30
    elif place == "sample_weight":
        given["sample_weight"] = np.array([1.0, bad, 1.0])
    elif "score" in place:
        net.params["b2"][..., 2] = bad
    else:
        name, _, row = place.partition("[")
        net.params[name].reshape(net.params[name].shape[0], -1)[
            int(row[:-1] or 0) if row else 0
        ] = bad
    net = net.to(backend)
    b = net.backend
    x, t = b.asarray(x), b.asarray(t)
    given = {name: b.asarray(value) for name, value in given.items()}

    def host(values):
        return [b.to_numpy(value) for value in values]

    def fit():
        new = net.to(b)
        options = {"iters": 3, "batch_size": 3, "rng": 0}
        if place not in ("x", "t"):
            options["validation"] = x, t
        history = accelnn.fit(new, x, t, **options, **given)
        return [history.loss, history.test_loss, *host([new.flat])]

    return {
        "predict": told(lambda: host([net.predict(x)])),
        "loss": told(lambda: [net.loss(x, t, **given)]),
        "accuracy": told(lambda: [net.accuracy(x, t, **given)]),
        "gradient": told(lambda: host(net.gradient(x, t, **given).values())),
        "numerical": told(lambda: host(net.numerical_gradient(x, t, **given).values())),
        "fit": told(fit),
    }


@pytest.mark.filterwarnings("ignore::accelnn.errors.DivergenceWarning", "ignore:invalid value")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("activation", "loss"), NETS)
def test_all_backends_agree(backend, activation, loss, place, dtype):
    for bad in BAD[:1] if place == "large t" else BAD:
        case = activation, loss, dtype, place, float(bad)
        assert everything(backend, *case) == everything("numpy", *case)


@pytest.mark.parametrize("place", ["x", "t", "sample_weight"])
def test_fit_refuses_what_is_given_to_it(backend, place):
    for bad in BAD:
        kind, message = everything(
            backend, "relu", "sum_squared_error", "float32", place, float(bad)
        )["fit"]
        assert kind == "ValueError"
        assert message.startswith(f"{place} must be finite, but {place}[1")


@pytest.mark.filterwarnings("ignore::accelnn.errors.DivergenceWarning", "ignore:invalid value")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_class_that_no_sample_can_have_is_no_obstacle_to_labels(backend, dtype):
    """With one-hot targets it is 0 · inf, and no update is done."""
    for place, updates in (("score", 3), ("score of one-hot", 0)):
        found = everything(backend, "sigmoid", "cross_entropy", dtype, place, -np.inf)
        found = {part: np.isfinite(np.frombuffer(numbers)) for part, numbers in found.items()}
        assert found["predict"].all()
        assert found["loss"] == (updates > 0)
        assert found["gradient"].all()
        assert found["numerical"].all()
        losses = found["fit"][: max(updates, 1)]
        assert losses.sum() == updates


def test_differences_of_a_target_that_is_not_finite_are_nan(backend):
    for bad in BAD[:2]:
        found = everything(backend, "tanh", "huber", "float64", "t", float(bad))["numerical"]
        assert np.isnan(np.frombuffer(found)).all()
