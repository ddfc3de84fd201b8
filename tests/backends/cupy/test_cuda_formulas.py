"""The CUDA source of every formula, run on the CPU, against its reference row in long doubles.

Bounds are in units of machine epsilon, counted from the source: an operation is off by half a unit,
an elementary function of the C library by one or two. Half a unit of an argument changes an
exponential by half as many units as the argument is large.
"""

from fractions import Fraction

import numpy as np
import pytest
from cases import OPTIMIZERS, Case, rule_of, state_of
from on_cpu import Kernels, build

import accelnn
from accelnn.backends import Engine
from accelnn.backends.cupy import engine as engine_module
from accelnn.backends.cupy.dataset import NULL
from accelnn.backends.cupy.formulas import ACTIVATIONS, LOSSES, has_change, keeps_pre_activation
from accelnn.backends.cupy.launch import FLAGS
from accelnn.backends.cupy.source import Variant, kernel_source
from accelnn.testing import assert_equal_but_for_rounding
from accelnn.testing._formulas import ACTIVATION_ROWS, LOSS_ROWS, _integral, far_changes, far_moves

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
# Numbers that use the whole mantissa, so that their squares are rounded.
Z = np.random.default_rng(0).uniform(-9.0, 9.0, 500)
# Slopes found from values, as a (1 - a) and 1 - a², inherit the absolute rounding of a, which is up
# to one unit near 1, and twice that for a².
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
    """Assert that numbers are within this many multiples of epsilon of those that are wanted.

    What underflows may be off by the smallest normal number.
    """
    info = np.finfo(dtype)
    allowed = info.eps * (units + absolute) + info.tiny
    apart = np.abs(found.astype(np.longdouble) - wanted)
    assert (apart <= allowed).all(), float((apart / allowed).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes(probe_of, name, dtype):
    """No formula rounds by more than four units, or eight with the normal distribution.

    The longest, the slope of `silu`, takes an exponential (one), four operations to z e / (1 + e)²
    (two) and a sum (half a unit). The tail of a normal distribution takes up to five, and then a
    product and a sum; the reference of `gelu` calls it in double precision too, where its argument
    is rounded.
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
def test_infinities_are_exact_and_nan_stays(probe_of, name, dtype):
    """The limits are 0, ±1, ±inf or a constant of the formula: there is nothing to round."""
    ends = [-np.inf, np.inf, np.nan]
    values, slopes = (probe_of(dtype)(part, name, ends)[0] for part in ("activated", "slope"))
    (low, low_slope), (high, high_slope) = ACTIVATION_ROWS[name].at_ends
    np.testing.assert_array_equal(values, np.array([low, high, np.nan], dtype))
    np.testing.assert_array_equal(slopes[:2], np.array([low_slope, high_slope], dtype))


MOVES = np.array([1e-9, -1e-9, 1e-6, -1e-6, 1e-4, -1e-4, 0.009, -0.02, 0.3, -0.7, 3.0, -5.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_changes_do_not_cancel(probe_of, name, dtype):
    """Changes keep their digits however small the move is.

    A change takes at most three elementary functions and six operations, eight units with rounded
    arguments near 0. The rounding of z + d, half of |z| + |d| units, changes an exponential by as
    many, and a normal density by that times its own argument.
    """
    row, power = ACTIVATION_ROWS[name], 2 if name == "gelu" else 1
    z, d = (part.ravel() for part in np.meshgrid(np.linspace(-4.0, 4.0, 33), MOVES))
    found, z, d, _ = probe_of(dtype)("activation_change", name, z, d)
    wanted = row.change_of(z, d)
    size = np.abs(wanted) + row.size_of_change(z, d)
    _assert_within(found, wanted, 8.0 * (1.0 + np.abs(z) + np.abs(d)) ** power * size, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_long_moves_across_zero_do_not_cancel(probe_of, name, dtype):
    """A probability that is almost 0 is not computed as 1 less another; bounds are as above."""
    row, power = ACTIVATION_ROWS[name], 2 if name == "gelu" else 1
    z, part = (x.ravel() for x in np.meshgrid([5.0, -5.0, 20.0, -20.0, 30.0, -30.0], [0.7, 1, 1.3]))
    found, z, d, _ = probe_of(dtype)("activation_change", name, z, -z * part)
    # Without a bound on one side, values differ enough for the difference of two long doubles.
    wanted = row.change(z, d) if row.change else row.value(z + d) - row.value(z)
    size = np.abs(wanted) + row.size_of_change(z, d)
    _assert_within(found, wanted, 8.0 * (1.0 + np.abs(z) + np.abs(d)) ** power * size, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_changes_of_any_size(probe_of, name, dtype):
    x, d = far_moves(dtype)
    found = np.asarray(probe_of(dtype)("activation_change", name, x, d)[0])
    expected, allowed = far_changes(ACTIVATION_ROWS[name], x, d)
    wrong = ~(np.abs(found - expected) <= allowed)
    assert not wrong.any(), [a[wrong][:3] for a in (x, d, found, expected)]


def test_changes_between_saturated_values(probe_of):
    """A unit that is off is moved far up, and the reverse.

    All exponentials are 0 or lost beside 1: what is left to round is one product, by a slope, and
    one sum, half a unit of the change each.
    """
    z, d = [-800.0, 800.0, -800.0, 800.0], [1000.0, -1000.0, 0.5, -0.5]
    for name in ACTIVATIONS:
        row = ACTIVATION_ROWS[name]
        found, z_long, d_long, _ = probe_of("float64")("activation_change", name, z, d)
        wanted = row.value(z_long + d_long) - row.value(z_long)
        _assert_within(found, wanted, np.abs(wanted), "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_losses_of_one_output(probe_of, name, dtype):
    """The terms of a value are positive: none cancel, whatever their size.

    The longest value, of `binary_cross_entropy`, takes two elementary functions (two units) and
    four operations (two). Slopes are a probability (two units) or a itself less t: their rounding
    is relative to the larger of both.
    """
    row = LOSS_ROWS[name]
    a, t = (part.ravel() for part in np.meshgrid(Z, [0.0, 1.0, 0.25, 0.5]))
    for part, function in (("loss_value", row.value), ("loss_slope", row.error)):
        found, a_long, t_long, _ = probe_of(dtype)(part, name, a, t)
        wanted = function(a_long[:, None], t_long[:, None]).reshape(a.shape)
        size = np.abs(wanted) + (np.abs(t_long) if part == "loss_slope" else 0.0)
        _assert_within(found, wanted, 4.0 * size, dtype)


def _exact_change_of_huber(a, t, d):
    """Return the change of the one loss with a kink, a polynomial on either side of it."""

    def value(r):
        return r * r / 2 if abs(r) <= 1 else abs(r) - Fraction(1, 2)

    r = Fraction(a) - Fraction(t)
    return float(value(r + Fraction(d)) - value(r))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_changes_of_losses_do_not_cancel(probe_of, name, dtype):
    """Changes keep their digits however small the move d is.

    They are d times slopes whose terms are no larger than 1 + |a| + |d|. The longest, the change of
    `binary_cross_entropy`, takes three elementary functions and six operations, eight units with
    rounded arguments near 0.
    """
    row = LOSS_ROWS[name]
    grids = np.meshgrid(np.linspace(-4.0, 4.0, 33), [0.0, 1.0, 0.25], MOVES)
    found, a, t, d = probe_of(dtype)("loss_change", name, *(grid.ravel() for grid in grids))
    if row.is_smooth:
        wanted = _integral(lambda x: row.error(x[..., None], t[:, None, None])[..., 0], a, d)
    else:
        numbers = zip(*(map(float, part) for part in (a, t, d)), strict=True)
        wanted = np.array([_exact_change_of_huber(*each) for each in numbers])
    terms = np.abs(d) * (1.0 + np.abs(a) + np.abs(d))
    _assert_within(found, wanted, 8.0 * terms, dtype)


def test_formulas_chosen_by_the_compiler_override_the_arguments(tmp_path):
    """Kernels on a device are compiled for one activation, one loss, and with decay or without."""
    variant = NUMBERS._replace(activation="gelu", loss="huber", decays=True)
    kernels = Kernels(build(kernel_source(), variant.options, tmp_path))
    told_other = Case(variant, (5, 9, 4), 7, "relu", "cross_entropy")
    case = Case(variant, (5, 9, 4), 7, "gelu", "huber")
    flags, gradient = np.zeros(FLAGS, np.uint32), np.full(case.params.size, np.nan)
    told = told_other.told(7)
    kernels("batch_errors", 2, 7, [case.params, flags, *case.of_first_update, *told])
    kernels("batch_gradient", 2, 7, [gradient, np.int32(gradient.size), *told])
    found = [told_other.losses, gradient]
    assert_equal_but_for_rounding(
        found, lambda move: case.reference(move(case.params), case.order)[:2]
    )


@pytest.mark.parametrize("decays", [False, True])
def test_kernels_compiled_without_decay_ignore_it(tmp_path, decays):
    variant = NUMBERS._replace(activation="relu", loss="huber", decays=decays)
    kernels = Kernels(build(kernel_source(), variant.options, tmp_path))
    case = Case(variant, (5, 3), 7, "relu", "huber")
    params, slots = case.params.copy(), np.zeros((2, case.params.size))
    layers = [np.int32(1), np.int32(1), np.array(case.sizes, np.int32)]
    head = [*state_of(params, slots, np.zeros(FLAGS, np.uint32)), *rule_of("SGD of weights", 1)]
    unclipped = [np.float64(0.0), NULL, np.int32(0)]
    told = [*layers, np.int64(0), np.zeros(case.params.size), *unclipped]
    kernels("update_parameters", 2, 7, [*head, *told])
    _, decay, _ = OPTIMIZERS["SGD of weights"]
    taken = np.where(case.weights & decays, np.longdouble(0.1) * decay, 0.0)
    # Half a unit of the difference, and half a unit from each of two products that are a
    # thirty-third of it.
    wanted = case.params * (1 - taken)
    _assert_within(params, wanted, (0.5 + 2 * 0.5 / 33) * np.abs(wanted), "float64")


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


def test_the_portable_engine_stands_in_for_a_change_without_cuda_source(device, monkeypatch):
    monkeypatch.setattr(engine_module, "has_change", lambda name: name != "gelu")
    net = accelnn.MLP([4, 5, 2], activation="gelu", dtype="float64", backend=device)
    x, t = device.asarray(np.ones((3, 4))), device.asarray(np.array([0, 1, 1]))
    device.xp.events.clear()
    net.numerical_gradient(x, t)
    assert not any(getattr(event, "name", "") == "differences" for event in device.xp.events)


def test_every_formula_has_a_file_with_its_change():
    assert set(ACTIVATIONS) == set(ACTIVATION_ROWS)
    assert set(LOSSES) == set(LOSS_ROWS)
    assert all(has_change(name) for name in (*ACTIVATIONS, *LOSSES))
    kept = [name for name in ACTIVATIONS if keeps_pre_activation(name)]
    assert kept == ["elu", "gelu", "silu"]
