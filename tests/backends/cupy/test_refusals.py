"""What kernels find wrong with a call is said in the words of the net, as on every backend."""

import numpy as np
import pytest

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.cuda_on_cpu

DOORS = ("loss", "accuracy", "gradient", "numerical_gradient")
LABELS = np.array([0, 2, 1, 2])
TARGETS = np.eye(3)[LABELS]


def _with(targets, value):
    changed = targets.copy()
    changed[-1] = value
    return changed


WRONG = {
    "a label too large": _with(LABELS, 3),
    "a negative label": _with(LABELS, -1),
    "two wrong labels": np.array([5, -2, 1, 0]),
    "a label of a byte": _with(LABELS.astype(np.int8), -1),
    "an unsigned label": _with(LABELS.astype(np.uint16), 60_000),
    "a label that 32 bits would make one": _with(LABELS, 2**32 + 1),
    "an unsigned one": _with(LABELS.astype(np.uint64), 2**63 + 1),
    "a negative target": _with(TARGETS, -0.5),
    "a target that is not a number": _with(TARGETS, np.nan),
    "an infinite target": _with(TARGETS, -np.inf),
    "labels in a list": [0, 1, 2, 7],
    "too many labels": np.zeros(5, np.int64),
}
RIGHT = {
    "labels": LABELS,
    "every other label": np.repeat(LABELS, 2)[::2],
    "labels of a byte": LABELS.astype(np.uint8),
    "targets": TARGETS,
    "transposed targets": np.asfortranarray(TARGETS),
    "targets that are rounded": TARGETS - 1e-17,
    "large targets": 1e3 * TARGETS,
}


def _call(net, door, x, t, **options):
    """Return what a call gives, on the host, or its exception in words."""
    backend = net.backend
    if not isinstance(t, list):
        t = backend.asarray(t)
    try:
        found = getattr(net, door)(backend.asarray(x), t, **options)
    except (TypeError, ValueError) as error:
        # That of the net, as if there had been no other before it.
        if error.__context__ is not None:
            raise
        return f"{type(error).__name__}: {error}"
    if isinstance(found, dict):
        return {name: backend.to_numpy(array) for name, array in found.items()}
    return {"": found}


def _nets(device, sizes=(4, 6, 3), **options):
    return [accelnn.MLP(sizes, rng=0, backend=backend, **options) for backend in ("numpy", device)]


X = np.random.default_rng(0).random((4, 4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", WRONG)
def test_wrong_targets(device, case, door, dtype):
    numpy, cupy = (_call(net, door, X, WRONG[case]) for net in _nets(device, dtype=dtype))
    assert isinstance(numpy, str)
    assert cupy == numpy


@pytest.mark.parametrize("door", DOORS)
def test_one_sample_with_a_wrong_label(device, door):
    numpy, cupy = (_call(net, door, X[0], np.array(3)) for net in _nets(device))
    assert "of shape ()" in numpy
    assert cupy == numpy


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [-1e-9, 1.001, np.nan])
@pytest.mark.parametrize("outputs", [1, 3])
def test_bits_out_of_range(device, outputs, value, door):
    t = np.zeros((4, outputs))
    t[2] = value
    nets = _nets(device, (4, 6, outputs), loss="binary_cross_entropy", dtype="float64")
    numpy, cupy = (_call(net, door, X, t) for net in nets)
    assert isinstance(numpy, str)
    assert cupy == numpy


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", RIGHT)
def test_right_targets(device, case, door):
    numpy, cupy = _nets(device, dtype="float64")
    found, start = _call(cupy, door, X, RIGHT[case]), numpy.flat.copy()

    def reference(move):
        numpy.flat[:] = move(start)
        wanted = _call(numpy, door, move(X), RIGHT[case])
        assert wanted.keys() == found.keys()
        return list(wanted.values())

    assert_equal_but_for_rounding(list(found.values()), reference)


@pytest.mark.parametrize("door", ["loss", "gradient", "numerical_gradient"])
@pytest.mark.parametrize("loss", ["sum_squared_error", "huber"])
@pytest.mark.parametrize("value", [-1e3, np.inf, np.nan])
def test_other_losses_take_any_numbers(device, door, loss, value):
    t = np.array([[value, 0.0, 1e3]] * 4)
    with np.errstate(all="ignore"):
        found = [_call(net, door, X, t) for net in _nets(device, loss=loss, dtype="float64")]
    for name, wanted in found[0].items():
        np.testing.assert_array_equal(np.isnan(found[1][name]), np.isnan(wanted))


def test_a_mean_loss_beyond_float32_is_infinite(device):
    _, net = _nets(device, (1, 3), loss="sum_squared_error", dtype="float32")
    found = _call(net, "loss", np.ones((4, 1)), np.full((4, 3), 2.2e19, np.float32))
    assert found[""] == np.inf


@pytest.mark.parametrize("parameter", [0.5, 1e20, np.nan, np.inf])
@pytest.mark.parametrize("step", [1e-4, 1e-17, 0.0, -1.0, np.nan, 1e-300, 1.0, 7, "1e-4", True])
def test_steps(device, step, parameter):
    found = []
    for net in _nets(device, dtype="float64"):
        net.params["W1"][1, 1] = parameter
        with np.errstate(all="ignore"):
            found.append(_call(net, "numerical_gradient", X, LABELS, step=step))
    assert isinstance(found[0], str) == isinstance(found[1], str)
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        for name, wanted in found[0].items():
            np.testing.assert_array_equal(np.isfinite(found[1][name]), np.isfinite(wanted))


@pytest.mark.parametrize("options", [{"method": "sideways"}, {"step": "1"}, {"structured": False}])
def test_labels_are_looked_at_before_what_else_is_wrong(device, options):
    numpy, cupy = (
        _call(net, "numerical_gradient", X, _with(LABELS, 3), **options) for net in _nets(device)
    )
    assert "holds the label 3" in numpy
    assert cupy == numpy
