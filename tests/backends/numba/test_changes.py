"""Changes of activations and losses in the kernel of numerical gradients, at points of any size."""

import numpy as np
import pytest

import accelnn
from accelnn.testing._formulas import ACTIVATION_ROWS, far_changes, far_moves

SCALES = (1e-12, 1e-3, 1.0, 30.0, 1e3, 1e12)
STEPS = (1e-8, 1e-4, 0.5, 50.0)


@pytest.fixture(scope="module")
def changes():
    """Return a function of points and moves: the kernel's changes of an activation."""
    pytest.importorskip("numba")
    from accelnn.backends.numba._jit import uncached_loop
    from accelnn.backends.numba.kernels.activations import ACTIVATIONS
    from accelnn.backends.numba.kernels.changes import Codes, activation_change, units
    from accelnn.backends.numba.own import activation_change_code, parameter_of
    from accelnn.backends.numba.vectors import LANES, filled, store

    def loop(kind, codes, parameter, x, d, lane_values, found):
        for i in range(x.size):
            vector = filled(lane_values, x[i])
            _, s, rest = units(kind, codes, 0, vector, parameter, lane_values)
            store(lane_values, 0, s)
            first = lane_values[0]
            store(lane_values, 0, rest)
            second, moves = lane_values[0], filled(lane_values, d[i])
            moved = activation_change(
                kind, codes, 0, moves, x[i], parameter, first, second, lane_values
            )
            store(lane_values, 0, moved)
            found[i] = lane_values[0]

    compiled = uncached_loop(loop)

    def called(name, x, d):
        formula, found = accelnn.activations.ACTIVATIONS[name], np.empty(x.size)
        addresses = activation_change_code(formula)
        codes = Codes(*np.array([addresses]).T.copy(), 0) if any(addresses) else None
        lanes, kind = np.zeros(4 * LANES[np.float64]), ACTIVATIONS.index(name)
        compiled(kind, codes, parameter_of(formula), x, d, lanes, found)
        return found

    return called


@pytest.mark.parametrize("name", ACTIVATION_ROWS)
def test_changes_of_any_size(changes, name):
    x, d = far_moves("float64")
    expected, allowed = far_changes(ACTIVATION_ROWS[name], x, d)
    # Exponentials end at exp(-708), which is 1.5 times the smallest normal number.
    found = changes(name, x, d)
    allowed += 4.0 * np.finfo(float).tiny * (1.0 + np.abs(x) + np.abs(d))
    wrong = ~(np.abs(found - expected) <= allowed)
    assert not wrong.any(), [a[wrong][:3] for a in (x, d, found, expected)]


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "huber", 0.01])
@pytest.mark.parametrize("activation", [*ACTIVATION_ROWS, -0.3])
def test_portable_and_compiled_changes_agree_at_every_scale(compiled, activation, loss):
    loss = accelnn.losses.Huber(loss) if loss == 0.01 else loss
    activation = accelnn.LeakyReLU(activation) if activation == -0.3 else activation
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(5, 3)), draw.uniform(size=(5, 3))
    for scale in SCALES:
        for step in STEPS:
            gradients = []
            for backend in ("numpy", compiled):
                options = {"activation": activation, "loss": loss, "dtype": "float64", "rng": 1}
                net = accelnn.MLP([3, 4, 3], backend=backend, **options)
                gradients.append(net.numerical_gradient(x * scale, t, step=step))
            for key, portable in gradients[0].items():
                # An exponential in its range, |z| < 750, is off by 750 times the rounding of z;
                # eight of these meet in a change. Terms of the largest size may cancel. Below
                # 1e-300, results depend on what became of subnormal numbers.
                part = 8.0 * 750.0 * np.finfo(float).eps
                allowed = part * np.abs(portable).max() + 1e-300
                np.testing.assert_allclose(gradients[1][key], portable, rtol=part, atol=allowed)
