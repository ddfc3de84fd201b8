"""Every formula's CUDA source, run on the processor, against its reference row in long doubles."""

import numpy as np
import pytest
from cases import OPTIMIZERS, Case, rule_of, state_of
from on_cpu import Kernels, build

import accelnn
from accelnn.backends import Engine
from accelnn.backends.cupy import engine as engine_module
from accelnn.backends.cupy.formulas import ACTIVATIONS, LOSSES, has_change, keeps_pre_activation
from accelnn.backends.cupy.launch import FLAGS
from accelnn.backends.cupy.source import Variant, kernel_source
from accelnn.testing._formulas import ACTIVATION_ROWS, LOSS_ROWS, _integral

pytestmark = pytest.mark.cuda_on_cpu

PARTS = ("activated", "slope", "activation_change", "loss_value", "loss_slope", "loss_change")
PROBE = """
extern "C" __global__ void probe(
    int part, int kind, const REAL* x, const REAL* y, const REAL* z, REAL* out, int n) {
    FOR_EACH(i, n) {
        out[i] = part == 0   ? activated(kind, x[i])
                 : part == 1 ? slope(kind, x[i], activated(kind, x[i]))
                 : part == 2 ? activation_change(kind, x[i], y[i])
                 : part == 3 ? loss_value(kind, x[i], y[i])
                 : part == 4 ? loss_slope(kind, x[i], y[i])
                             : loss_change(kind, x[i], y[i], z[i]);
    }
}
"""
NUMBERS = Variant("float64", has_pixels=False, has_labels=False)
# Losses that are sums over outputs.
SUMS = [name for name in LOSSES if name != "cross_entropy"]
# With all digits, so that squares are rounded.
Z = np.random.default_rng(0).uniform(-9.0, 9.0, 500)
# Of the units in which slopes are told from values as 1 - a and 1 - a²: those round as 1 does.
FROM_VALUE = {"sigmoid": 1.0, "tanh": 2.0}


@pytest.fixture(scope="module")
def probe_of(tmp_path_factory):
    """Return ``probe(dtype)(part, name, x, y, z)``, which calls one function of a formula."""
    built = {}

    def probe_of(dtype):
        options = Variant(dtype, has_pixels=False, has_labels=False).options
        if dtype not in built:
            folder = tmp_path_factory.mktemp("probe")
            source = kernel_source("formulas.cuh") + PROBE
            built[dtype] = Kernels(build(source, options, folder, kernels=["probe"]))

        def call(part, name, x, y=None, z=None):
            arrays = [np.ascontiguousarray(x if a is None else a, dtype) for a in (x, y, z)]
            out = np.full(len(arrays[0]), np.nan, dtype)
            number = (LOSSES if part.startswith("loss") else ACTIVATIONS).index(name)
            numbers = [np.int32(PARTS.index(part)), np.int32(number)]
            built[dtype]("probe", 2, 3, [*numbers, *arrays, out, np.int32(len(out))])
            return out, *(a.astype(np.longdouble) for a in arrays)

        return call

    return probe_of


def _assert_within(found, wanted, units, dtype, absolute=0.0):
    """Assert that numbers are so many units in the last place from those wanted, or `absolute`."""
    info = np.finfo(dtype)
    allowed = info.eps * (units + absolute) + info.tiny
    apart = np.abs(found.astype(np.longdouble) - wanted)
    assert (apart <= allowed).all(), float((apart / allowed).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes(probe_of, name, dtype):
    """To a few units in the last place: of an exponential, a quotient and what is made of them.

    For `gelu`, the reference has the few of a normal distribution in double precision too.
    """
    row, units = ACTIVATION_ROWS[name], 8.0 if name == "gelu" else 4.0
    found, x, *_ = probe_of(dtype)("activated", name, Z)
    wanted = row.value(x)
    _assert_within(found, wanted, units * np.abs(wanted), dtype)
    found, x, *_ = probe_of(dtype)("slope", name, Z)
    size = np.maximum(np.abs(row.slope(x)), row.size_of_slope(x))
    _assert_within(found, row.slope(x), units * size, dtype, FROM_VALUE.get(name, 0.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_ends_and_what_is_no_number(probe_of, name, dtype):
    ends = [-np.inf, np.inf, np.nan]
    values, slopes = (probe_of(dtype)(part, name, ends)[0] for part in ("activated", "slope"))
    (low, low_slope), (high, high_slope) = ACTIVATION_ROWS[name].at_ends
    np.testing.assert_allclose(values, [low, high, np.nan], rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(slopes[:2], [low_slope, high_slope], rtol=1e-6, atol=1e-300)


MOVES = np.array([1e-9, -1e-9, 1e-6, -1e-6, 1e-4, -1e-4, 0.009, -0.02, 0.3, -0.7, 3.0, -5.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_changes_do_not_cancel(probe_of, name, dtype):
    """However small the move.

    The rounding of z + d is as large as that of z, and is multiplied by as much where a normal
    distribution follows: (1 + |z| + |d|)² units, of which a few functions take some each.
    """
    row = ACTIVATION_ROWS[name]
    z, d = (part.ravel() for part in np.meshgrid(np.linspace(-4.0, 4.0, 33), MOVES))
    found, z, d, _ = probe_of(dtype)("activation_change", name, z, d)
    wanted = row.change_of(z, d)
    size = np.abs(wanted) + row.size_of_change(z, d)
    _assert_within(found, wanted, 8.0 * (1.0 + np.abs(z) + np.abs(d)) ** 2 * size, dtype)


def test_changes_where_one_of_both_values_is_next_to_nothing(probe_of):
    """A unit that is off, and is moved far up; and the other way."""
    z, d = [-800.0, 800.0, -800.0, 800.0], [1000.0, -1000.0, 0.5, -0.5]
    for name in ACTIVATIONS:
        found, z_long, d_long, _ = probe_of("float64")("activation_change", name, z, d)
        values = [probe_of("float64")("activated", name, x)[0] for x in (z_long, z_long + d_long)]
        np.testing.assert_allclose(found, values[1] - values[0], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_losses_of_one_output(probe_of, name, dtype):
    """Relative to the larger of a and t, of which both have the rounding, and to the value."""
    row = LOSS_ROWS[name]
    a, t = (part.ravel() for part in np.meshgrid(Z, [0.0, 1.0, 0.25, 0.5]))
    for part, function in (("loss_value", row.value), ("loss_slope", row.error)):
        found, a_long, t_long, _ = probe_of(dtype)(part, name, a, t)
        wanted = function(a_long[:, None], t_long[:, None]).reshape(a.shape)
        size = np.abs(wanted) + np.abs(t_long)
        _assert_within(found, wanted, 4.0 * (1.0 + np.abs(a_long)) * size, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_changes_of_losses_do_not_cancel(probe_of, name, dtype):
    """However small the move d: it is d times a derivative with terms as large as |a| + 1."""
    row = LOSS_ROWS[name]
    grids = np.meshgrid(np.linspace(-4.0, 4.0, 33), [0.0, 1.0, 0.25], MOVES)
    found, a, t, d = probe_of(dtype)("loss_change", name, *(grid.ravel() for grid in grids))
    if row.is_smooth:
        wanted = _integral(lambda x: row.error(x[..., None], t[:, None, None])[..., 0], a, d)
    else:
        # In 64 bits of mantissa, moves of 1e-4 and more leave what float64 has.
        is_long = np.abs(d) >= 1e-4
        found, a, t, d = (part[is_long] for part in (found, a, t, d))
        wanted = row.value((a + d)[:, None], t[:, None]) - row.value(a[:, None], t[:, None])
    terms = np.abs(d) * (1.0 + np.abs(a) + np.abs(d))
    _assert_within(found, wanted, 8.0 * terms, dtype)


def test_what_is_said_beforehand_is_not_asked(tmp_path):
    """Kernels on a device have one activation, one loss and one answer about decay each."""
    variant = NUMBERS._replace(activation="gelu", loss="huber", decays=True)
    kernels = Kernels(build(kernel_source(), variant.options, tmp_path))
    told_other = Case(variant, (5, 9, 4), 7, "relu", "cross_entropy")
    case = Case(variant, (5, 9, 4), 7, "gelu", "huber")
    flags, gradient = np.zeros(FLAGS, np.uint32), np.full(case.params.size, np.nan)
    told = told_other.told(7)
    kernels("batch_errors", 2, 7, [case.params, flags, *told])
    kernels("batch_gradient", 2, 7, [gradient, np.int32(gradient.size), *told])
    losses, wanted, _ = case.reference(case.params, case.order)
    np.testing.assert_allclose(told_other.losses, losses, rtol=1e-13)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("decays", [False, True])
def test_decay_is_none_where_it_was_said_beforehand(tmp_path, decays):
    variant = NUMBERS._replace(activation="relu", loss="huber", decays=decays)
    kernels = Kernels(build(kernel_source(), variant.options, tmp_path))
    case = Case(variant, (5, 3), 7, "relu", "huber")
    params, slots = case.params.copy(), np.zeros((2, case.params.size))
    layers = [np.int32(1), np.int32(1), np.array(case.sizes, np.int32)]
    head = [*state_of(params, slots, np.zeros(FLAGS, np.uint32)), *rule_of("SGD of weights", 1)]
    kernels("update_parameters", 2, 7, [*head, *layers, np.int64(0), np.zeros(case.params.size)])
    _, decay, _ = OPTIMIZERS["SGD of weights"]
    kept = np.where(case.weights, 1.0 - 0.1 * decay, 1.0) if decays else 1.0
    np.testing.assert_allclose(params, case.params * kept, rtol=1e-15)


def test_which_formulas_run_portable(device):
    """Layers that differ, and a value that does not tell the slope."""
    for activations, expected in (
        ((accelnn.LeakyReLU(-0.2), ("relu", "gelu")), Engine),
        ((accelnn.LeakyReLU(0.2), accelnn.ELU(-0.5)), engine_module.CupyEngine),
    ):
        for activation in activations:
            loss = accelnn.losses.Huber(2.0)
            net = accelnn.MLP([4, 5, 3, 2], activation=activation, loss=loss, backend=device)
            assert type(net.engine) is expected


def test_what_a_file_has_not_the_portable_engine_does(device, monkeypatch):
    """Numerical gradients by changes that are not written for CUDA."""
    monkeypatch.setattr(engine_module, "has_change", lambda name: name != "gelu")
    net = accelnn.MLP([4, 5, 2], activation="gelu", dtype="float64", backend=device)
    x, t = device.asarray(np.ones((3, 4))), device.asarray(np.array([0, 1, 1]))
    device.xp.events.clear()
    net.numerical_gradient(x, t)
    assert not any(getattr(event, "name", "") == "differences" for event in device.xp.events)


def test_every_file_says_what_it_has():
    assert set(ACTIVATIONS) == set(ACTIVATION_ROWS)
    assert set(LOSSES) == set(LOSS_ROWS)
    assert all(has_change(name) for name in (*ACTIVATIONS, *LOSSES))
    kept = [name for name in ACTIVATIONS if keeps_pre_activation(name)]
    assert kept == ["elu", "gelu", "silu"]
